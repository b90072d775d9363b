"""The model store: what is served is what was added, after crashes, meddling and full disks too."""

import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from prsm.protocol.errors import LocalError
from prsm.storage.cid import Codec, hash_block
from prsm.storage.database import snapshot_path
from prsm.storage.errors import Conflict, Corrupt, Full, NotFound
from prsm.storage.store import sealed
from prsm.storage.store.blockstore import BlockIndex
from prsm.storage.store.index import RootRow, State
from prsm.storage.store.model_store import ModelStore
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
    await store.pin(added.root, "kept")
    (tmp_path / "other").write_bytes(bytes(2000))
    with pytest.raises(Full, match=f"2000 bytes do not fit.* of {SIZE + 1000} bytes"):
        await store.add_file(tmp_path / "other")
    with pytest.raises(Full):
        await store.begin_fetch(hash_block(b"small"), 2000)
    await store.unpin(added.root, "kept")
    await store.remove(added.root)
    await store.add_file(tmp_path / "other")
    assert await store.used_bytes() == 2000
    await store.close()


async def test_quota_holds_against_many_at_once(store: ModelStore) -> None:
    refused = 0

    async def begin(number: int) -> None:
        nonlocal refused
        try:
            await store.begin_fetch(hash_block(b"%d" % number), MIB)
        except Full:
            refused += 1

    store._space.quota = 3 * MIB
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(begin, number)
    assert refused == 7
    assert await store.used_bytes() == 3 * MIB


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
        await index.put_root(RootRow(root, 1, State.SEALED), (b"shared", root.digest), ())
    await index.remove_root(one)
    assert await index.get_block(hashlib.sha256(b"shared").digest()) == b"shared"
    with pytest.raises(NotFound):
        await index.get_block(hashlib.sha256(one.digest).digest())
    await index.close()


async def test_store_of_the_first_schema_is_upgraded(tmp_path: Path, source: Path) -> None:
    """Take the columns and tables of schema 2 away, as if an older program had written it."""
    folder = tmp_path / "store"
    store = await ModelStore.open(folder, quota=100 * MIB)
    added = await store.add_file(source)
    await store.pin(added.root, "kept")
    await store.close()
    await trio.to_thread.run_sync(downgrade, folder / "index.db")
    store = await ModelStore.open(folder, quota=100 * MIB)
    assert snapshot_path(folder / "index.db", 1).is_file()
    assert [file.pins for file in await store.list()] == [("kept",)]
    assert list(await store.read_leaves(added.root, 0, 4)) == CHUNKS
    assert await store.blocks.get(hashlib.sha256(CHUNKS[1]).digest()) == CHUNKS[1]
    await store.close()


def downgrade(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        for table in ("leaf", "block_use"):
            db.execute(f"DROP TABLE {table}")
        db.execute("DROP INDEX block_size")
        for table, columns in {
            "root": ("heat", "used_ms", "scrub_next", "scrubbed_ms"),
            "pin": ("owner", "why"),
        }.items():
            for column in columns:
                db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("PRAGMA user_version=1")
