"""Fetched files: resumed, refused, sealed; wrong bytes never reach the disk."""

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from prsm.storage.cid import Cid, hash_block
from prsm.storage.errors import Conflict, Full, NotFound, SourceCorrupt, StoreUnavailable
from prsm.storage.interfaces import Leaf
from prsm.storage.store import sealed
from prsm.storage.store.index import State
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.resume import Partial
from prsm.storage.store.sealed import AddedFile
from tests.tools.stores import CHUNKS, DATA, MIB, SIZE, names


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
    await partial.write_run((leaves[0],), (CHUNKS[0],))
    await partial.write_run((leaves[1],), (CHUNKS[1],))
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
    monkeypatch.setattr("prsm.storage.store.resume.FLUSH_BYTES", MIB)
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await started(store, elsewhere, source)
    leaves = partial.missing()
    await partial.write_run((leaves[0],), (CHUNKS[0],))
    await partial.write_run((leaves[3],), (CHUNKS[3],))
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
    await partial.write_run((partial.missing()[0],), (CHUNKS[0],))
    await store.add_file(source)
    await partial.flush()
    await partial.write_run(partial.missing(), CHUNKS[1:])
    await store.end_fetch(partial)
    await store.verify(partial.root)
    assert names(tmp_path / "store" / "partial") == []


async def test_leaf_that_the_disk_cannot_read_is_a_typed_error(
    store: ModelStore, elsewhere: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = await started(store, elsewhere, source)
    leaf = partial.missing()[0]
    await partial.write_run((leaf,), (CHUNKS[0],))

    def broken(*_args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        await store.read_leaves(partial.root, 0, 1)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        await store.blocks.get(leaf.digest)
    monkeypatch.undo()
    assert await store.blocks.get(leaf.digest) == CHUNKS[0]
    await store.end_fetch(partial)


async def test_begin_fetch_refuses_a_root_that_cannot_be(store: ModelStore) -> None:
    with pytest.raises(Exception, match="at this place stands"):
        await store.begin_fetch(hash_block(b"raw"), 2 * MIB)
    assert not await store.list()


async def test_leaf_written_twice_is_harmless(
    store: ModelStore, elsewhere: ModelStore, source: Path
) -> None:
    partial = await started(store, elsewhere, source)
    leaf: Leaf = partial.missing()[0]
    await partial.write_run((leaf,), (CHUNKS[0],))
    await partial.write_run((leaf,), (CHUNKS[0],))
    assert partial.verified_bytes == MIB
    await store.end_fetch(partial)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
async def test_full_disk_leaves_a_fetch_that_goes_on(
    tmp_path: Path, elsewhere: ModelStore, source: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two leaves are flushed; the disk is full at the third, and has room after a restart."""
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await started(store, elsewhere, source)
    await partial.write_run(partial.missing()[:2], CHUNKS[:2])
    await partial.flush()

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    if call == "pwrite":
        with pytest.raises(Full):
            await partial.write_run(partial.missing(), CHUNKS[2:])
        await store.end_fetch(partial)
    else:
        await partial.write_run(partial.missing(), CHUNKS[2:])
        with pytest.raises(Full):
            await store.end_fetch(partial)
    monkeypatch.undo()
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    partial = await store.begin_fetch(partial.root, SIZE)
    assert [leaf.index for leaf in partial.missing()] == [2, 3]
    await partial.write_run(partial.missing(), CHUNKS[2:])
    await store.end_fetch(partial)
    assert (await store.path(partial.root)).read_bytes() == DATA
    await store.close()
