"""The model store: what is served is what was added, after crashes, meddling and full disks too."""

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest, Shard
from prsm.storage import sealed
from prsm.storage.blockstore import BlockIndex, RootRow, State
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound, SourceCorrupt
from prsm.storage.interfaces import Leaf
from prsm.storage.model_store import ModelStore
from prsm.storage.resume import Partial
from prsm.storage.sealed import AddedFile

MIB = 1 << 20
SIZE = 3 * MIB + 17
DATA = Random(1).randbytes(SIZE)
CHUNKS = [DATA[i : i + MIB] for i in range(0, SIZE, MIB)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    return path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    yield opened
    await opened.close()


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[ModelStore]:
    """Open the store of another node."""
    opened = await ModelStore.open(tmp_path / "elsewhere", quota=100 * MIB)
    yield opened
    await opened.close()


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


async def test_added_file_is_served_whole_and_by_leaf(
    store: ModelStore, source: Path, tmp_path: Path
) -> None:
    added = await store.add_file(source)
    assert added.size == SIZE
    assert added.sha256 == hashlib.sha256(DATA).digest()
    assert await store.has(added.root)
    path = await store.path(added.root)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o444
    assert list(await store.read_leaves(added.root, 0, 16)) == CHUNKS
    assert list(await store.read_leaves(added.root, 2, 1)) == CHUNKS[2:3]
    have = await store.have(added.root)
    assert (have.size, have.leaves, have.bitset) == (SIZE, 4, b"\x0f")
    node = await store.get_block(added.root.digest)
    assert hash_block(node, Codec.DAG_PB) == added.root
    assert await store.used_bytes() == SIZE + len(node)
    await store.verify(added.root)
    again = await store.add_file(source)
    assert again == added
    assert [(f.root, f.state) for f in await store.list()] == [(added.root, State.SEALED)]
    assert not list((tmp_path / "store" / "fresh").iterdir())


async def test_small_and_empty_files_are_their_own_leaf(store: ModelStore, tmp_path: Path) -> None:
    for data in (b"", b"x", bytes(MIB)):
        (tmp_path / "f").write_bytes(data)
        added = await store.add_file(tmp_path / "f")
        assert added.root == hash_block(data)
        assert list(await store.read_leaves(added.root, 0, 3)) == [data]
        with pytest.raises(NotFound):
            await store.read_leaves(added.root, 1, 1)


async def test_store_is_the_same_after_a_restart(tmp_path: Path, source: Path) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    added = await store.add_file(source)
    with pytest.raises(Conflict):
        await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert list(await store.read_leaves(added.root, 0, 4)) == CHUNKS
    await store.close()


async def test_what_is_not_here_is_not_found(store: ModelStore) -> None:
    root = hash_block(b"nowhere")
    assert not await store.has(root)
    for call in (store.path, store.have, store.verify, store.remove, store.load_manifest):
        with pytest.raises(NotFound):
            await call(root)
    with pytest.raises(NotFound):
        await store.read_leaves(root, 0, 1)
    with pytest.raises(NotFound):
        await store.get_block(root.digest)
    with pytest.raises(NotFound):
        await store.unpin(root, "x")
    with pytest.raises(NotFound):
        await store.remove_manifest(root)


async def test_what_is_no_file_is_refused(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await store.add_file(tmp_path / "missing")
    with pytest.raises(LocalError, match="regular"):
        await store.add_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalError, match="regular"):
        await store.add_file(tmp_path / "pipe")


async def test_quota_is_refused_with_figures(tmp_path: Path, source: Path) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=SIZE + 1000)
    added = await store.add_file(source)
    (tmp_path / "other").write_bytes(bytes(2000))
    with pytest.raises(Full, match=f"2000 bytes do not fit.* of {SIZE + 1000} bytes"):
        await store.add_file(tmp_path / "other")
    with pytest.raises(Full):
        await store.begin_fetch(hash_block(b"small"), 2000)
    await store.remove(added.root)
    await store.add_file(tmp_path / "other")
    assert await store.used_bytes() == 2000
    await store.close()


async def test_full_disk_leaves_nothing_behind(
    store: ModelStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fdatasync", "posix_fallocate"):
        monkeypatch.setattr(os, name, full)
    with pytest.raises(Full, match="No space"):
        await store.add_file(source)
    with pytest.raises(Full, match="No space"):
        await store.begin_fetch(hash_block(b"x" * 500), 500)
    assert await store.used_bytes() == 0
    assert names(tmp_path / "store" / "fresh") == names(tmp_path / "store" / "partial") == []


async def test_file_that_grows_while_it_is_added_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(Full, match="grown"):
        await trio.to_thread.run_sync(sealed.take, source, tmp_path / "t", SIZE - 1)
    assert not (tmp_path / "t").exists()


async def test_cancelled_add_leaves_nothing_behind(
    store: ModelStore, source: Path, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.add_file(source)
    assert scope.cancelled_caught
    assert await store.used_bytes() == 0
    assert not list((tmp_path / "store" / "fresh").iterdir())


async def test_touched_file_is_hashed_before_it_is_served(store: ModelStore, source: Path) -> None:
    added = await store.add_file(source)
    path = await store.path(added.root)
    os.utime(path)
    assert list(await store.read_leaves(added.root, 0, 4)) == CHUNKS  # touched, yet the same
    path.chmod(0o644)
    with path.open("rb+") as file:
        file.seek(2 * MIB)
        file.write(b"!")
    with pytest.raises(Corrupt, match="leaf 2 of 4"):
        await store.read_leaves(added.root, 0, 1)
    assert not await store.has(added.root)
    with pytest.raises(NotFound):
        await store.have(added.root)
    await store.add_file(source)
    assert list(await store.read_leaves(added.root, 0, 4)) == CHUNKS


@pytest.mark.parametrize("harm", ["short", "long", "gone"])
async def test_harmed_file_is_bad(store: ModelStore, source: Path, harm: str) -> None:
    added = await store.add_file(source)
    path = await store.path(added.root)
    path.chmod(0o644)
    match harm:
        case "short":
            os.truncate(path, SIZE - 1)
        case "long":
            path.write_bytes(DATA + b"x")
        case _:
            path.unlink()
    with pytest.raises(Corrupt):
        await store.path(added.root)
    assert [file.state for file in await store.list()] == [State.BAD]


async def test_start_finds_what_is_missing_or_surplus(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "store"
    store = await ModelStore.open(folder, quota=100 * MIB)
    added = await store.add_file(source)
    await store.close()
    (folder / "files" / str(added.root)).unlink()
    for name in ("files/stray", "partial/stray", "fresh/stray"):
        (folder / name).write_bytes(b"?")
    store = await ModelStore.open(folder, quota=100 * MIB)
    assert [file.state for file in await store.list()] == [State.BAD]
    assert not [name for name in names(folder) if "stray" in name]
    await store.close()


async def test_pins_keep_a_file(store: ModelStore, source: Path) -> None:
    added = await store.add_file(source)
    await store.pin(added.root, "a")
    await store.pin(added.root, "a")
    await store.pin(added.root, "b")
    assert [file.pins for file in await store.list()] == [("a", "b")]
    with pytest.raises(Conflict, match="pinned as a, b"):
        await store.remove(added.root)
    await store.unpin(added.root, "a")
    await store.unpin(added.root, "b")
    await store.remove(added.root)
    assert not await store.list()
    assert await store.used_bytes() == 0


async def test_shared_nodes_outlive_one_of_their_files(tmp_path: Path) -> None:
    index = await BlockIndex.open(tmp_path / "i.db")
    one, two = hash_block(b"1"), hash_block(b"2")
    for root in (one, two):
        await index.put_root(RootRow(root, 1, State.SEALED), (b"shared", root.digest))
    await index.remove_root(one)
    assert await index.get_block(hashlib.sha256(b"shared").digest()) == b"shared"
    with pytest.raises(NotFound):
        await index.get_block(hashlib.sha256(one.digest).digest())
    await index.close()


# Fetching


async def leaves_of(store: ModelStore, added: AddedFile) -> tuple[Sequence[bytes], bytes]:
    return await store.read_leaves(added.root, 0, 4), await store.get_block(added.root.digest)


async def started(store: ModelStore, elsewhere: ModelStore, source: Path) -> Partial:
    added = await elsewhere.add_file(source)
    partial = await store.begin_fetch(added.root, added.size)
    assert list(partial.wanted_nodes()) == [added.root.digest]
    await partial.put_node(await elsewhere.get_block(added.root.digest))
    assert not partial.wanted_nodes()
    return partial


async def test_fetched_file_is_sealed(
    store: ModelStore, elsewhere: ModelStore, source: Path
) -> None:
    partial = await started(store, elsewhere, source)
    leaves = partial.missing()
    await partial.write_run(leaves[2:], CHUNKS[2:])
    assert partial.verified_bytes == MIB + 17
    assert partial.bitmap == b"\x0c"
    assert (await store.have(partial.root)).bitset == b"\x0c"
    assert list(await store.read_leaves(partial.root, 3, 1)) == CHUNKS[3:]
    with pytest.raises(NotFound):
        await store.read_leaves(partial.root, 0, 1)
    with pytest.raises(NotFound):
        await store.read_leaves(partial.root, 3, 2)
    assert [leaf.index for leaf in partial.missing()] == [0, 1]
    await partial.write_leaf(leaves[0], CHUNKS[0])
    await partial.write_leaf(leaves[1], CHUNKS[1])
    await store.end_fetch(partial)
    assert (await store.path(partial.root)).read_bytes() == DATA
    with pytest.raises(Conflict, match="here already"):
        await store.begin_fetch(partial.root, SIZE)


async def test_wrong_bytes_never_reach_the_disk(
    store: ModelStore, elsewhere: ModelStore, source: Path, tmp_path: Path
) -> None:
    partial = await started(store, elsewhere, source)
    leaves = partial.missing()
    path = tmp_path / "store" / "partial" / str(partial.root)
    for wrong in (
        [CHUNKS[1]],
        [CHUNKS[0][:-1]],
        [CHUNKS[0] + b"\0"],
        [b""],
        [bytes(MIB)],
        [*CHUNKS, b"surplus"],
    ):
        with pytest.raises(SourceCorrupt):
            await partial.write_run(leaves, wrong)
        assert path.read_bytes() == bytes(SIZE)
        assert partial.verified_bytes == 0
    with pytest.raises(SourceCorrupt, match="leaf 1") as caught:
        await partial.write_run(leaves, [CHUNKS[0], b"evil", CHUNKS[2]])
    assert hashlib.sha256(b"evil").hexdigest() in caught.value.what
    assert caught.value.penalty == 100
    assert path.read_bytes() == CHUNKS[0] + bytes(SIZE - MIB)
    await store.end_fetch(partial)
    assert not await store.has(partial.root)


async def test_fetch_goes_on_after_a_restart(
    tmp_path: Path, elsewhere: ModelStore, source: Path
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await started(store, elsewhere, source)
    await partial.write_run(partial.missing()[1:3], CHUNKS[1:3])
    with pytest.raises(Conflict, match="being fetched"):
        await store.begin_fetch(partial.root, SIZE)
    with pytest.raises(Conflict, match="being fetched"):
        await store.remove(partial.root)
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert [file.state for file in await store.list()] == [State.PARTIAL]
    partial = await store.begin_fetch(partial.root, SIZE)
    assert [leaf.index for leaf in partial.missing()] == [0, 3]
    assert await store.used_bytes() > SIZE
    await partial.write_run(partial.missing(), [CHUNKS[0], CHUNKS[3]])
    await store.end_fetch(partial)
    await store.verify(partial.root)
    await store.close()


async def test_killed_fetch_forgets_only_what_was_not_synced(
    tmp_path: Path, elsewhere: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prsm.storage.resume.FLUSH_BYTES", MIB)
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await started(store, elsewhere, source)
    leaves = partial.missing()
    await partial.write_leaf(leaves[0], CHUNKS[0])
    await partial.write_leaf(leaves[3], CHUNKS[3])
    await store._index.close()  # the process ends here
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await store.begin_fetch(partial.root, SIZE)
    assert [leaf.index for leaf in partial.missing()] == [1, 2, 3]
    await store.close()


@pytest.mark.parametrize("stage", ["row", "name", "sealed"])
async def test_crash_while_sealing_is_put_right(
    tmp_path: Path, elsewhere: ModelStore, source: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop after the row was written, after the file got its name, and after it was sealed."""
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await started(store, elsewhere, source)
    await partial.write_run(partial.missing(), CHUNKS)

    class Crash(Exception):
        pass

    def crash(*_args: object) -> str:
        raise Crash

    def crash_behind(self: sealed.Folders, fresh: Path, root: Cid) -> str:
        fresh.replace(self.file(root))
        raise Crash

    match stage:
        case "row":
            monkeypatch.setattr(sealed.Folders, "seal", crash)
        case "name":
            monkeypatch.setattr(sealed.Folders, "seal", crash_behind)
        case _:
            monkeypatch.setattr(sealed.Folders, "remove_partial", crash)
    with pytest.raises(Crash):
        await store.end_fetch(partial)
    monkeypatch.undo()
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert (await store.path(partial.root)).read_bytes() == DATA
    assert (await store.path(partial.root)).stat().st_mode & 0o777 == 0o444
    await store.verify(partial.root)
    await store.close()


async def test_crash_while_sealing_an_added_file_leaves_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)

    def crash(*_args: object) -> str:
        raise KeyError

    monkeypatch.setattr(sealed.Folders, "seal", crash)
    with pytest.raises(KeyError):
        await store.add_file(source)
    monkeypatch.undo()
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert not await store.list()
    assert await store.used_bytes() == 0
    await store.close()


async def test_added_while_it_is_fetched_ends_whole(
    store: ModelStore, elsewhere: ModelStore, source: Path, tmp_path: Path
) -> None:
    partial = await started(store, elsewhere, source)
    await partial.write_leaf(partial.missing()[0], CHUNKS[0])
    await store.add_file(source)
    await partial.flush()
    await partial.write_run(partial.missing(), CHUNKS[1:])
    await store.end_fetch(partial)
    await store.verify(partial.root)
    assert names(tmp_path / "store" / "partial") == []


async def test_begin_fetch_refuses_a_root_that_cannot_be(store: ModelStore) -> None:
    with pytest.raises(Exception, match="at this place stands"):
        await store.begin_fetch(hash_block(b"raw"), 2 * MIB)
    assert not await store.list()


async def test_leaf_written_twice_is_harmless(
    store: ModelStore, elsewhere: ModelStore, source: Path
) -> None:
    partial = await started(store, elsewhere, source)
    leaf: Leaf = partial.missing()[0]
    await partial.write_leaf(leaf, CHUNKS[0])
    await partial.write_leaf(leaf, CHUNKS[0])
    assert partial.verified_bytes == MIB
    await store.end_fetch(partial)


# Manifests


def manifest(**changes: object) -> ModelManifest:
    root = hash_block(b"x").raw
    fields: dict[str, object] = {
        "version": 1,
        "name": "minilm",
        "semver": "1.0.0",
        "kind": "onnx",
        "profile": "unixfs-v1-2025",
        "files": (ManifestFile("a/model.onnx", root, 1, bytes(32)),),
        "shards": (Shard(1, 0, 0, 0, (), (), 1, 1),),
        "tokenizer": None,
        "compute": Compute("onnxruntime", "", root, bytes(32)),
        "licence": "MIT",
        "publisher": bytes(32),
        "parents": (),
        "created_ms": 0,
    }
    return ModelManifest(**{**fields, **changes})  # type: ignore[arg-type]  # built by name


async def test_manifest_is_kept_and_listed(store: ModelStore, tmp_path: Path) -> None:
    cid = await store.save_manifest(manifest())
    assert cid.codec is Codec.RAW
    assert hash_block(await store.get_block(cid.digest)) == cid
    assert await store.save_manifest(manifest()) == cid
    other = await store.save_manifest(manifest(name="other"))
    assert await store.load_manifest(cid) == manifest()
    assert {c: m.name for c, m in await store.models()} == {cid: "minilm", other: "other"}
    assert not await store.has_model(manifest())
    (tmp_path / "x").write_bytes(b"x")
    await store.add_file(tmp_path / "x")
    assert await store.has_model(manifest())
    await store.remove_manifest(cid)
    assert [c for c, _ in await store.models()] == [other]


def renamed(path: str) -> dict[str, object]:
    return {"files": (ManifestFile(path, hash_block(b"x").raw, 1, bytes(32)),)}


@pytest.mark.parametrize(
    "changes",
    [
        *(
            renamed(path)
            for path in (
                "/etc/passwd",
                "../x",
                "a/../b",
                "a//b",
                "",
                ".",
                "a\\b",
                "C:x",
                "a\nb",
                "nul.txt",
                "e\u0301",
            )
        ),
        {
            "files": (
                *manifest().files,
                ManifestFile("A/Model.onnx", hash_block(b"").raw, 0, bytes(32)),
            )
        },
        {"files": (ManifestFile("x", hash_block(b"x").raw, 2 * MIB, bytes(32)),)},
        {"files": (ManifestFile("x", b"\x02" + bytes(35), 1, bytes(32)),)},
        {"files": (ManifestFile("x", hash_block(b"x").raw, 2**62, bytes(32)),)},
        {"profile": "legacy"},
        {"tokenizer": 1},
        {"tokenizer": -1},
        {"shards": (Shard(1, 1, 0, 0, (), (), 1, 1),)},
        {"shards": (Shard(1, 0, 1, 0, (), (), 1, 1),)},
        {"shards": (Shard(1, 0, 0, 1, (), (), 1, 1),)},
    ],
)
async def test_manifest_that_is_wrong_is_refused(
    store: ModelStore, changes: dict[str, object]
) -> None:
    with pytest.raises(LocalError, match="manifest of minilm"):
        await store.save_manifest(manifest(**changes))
