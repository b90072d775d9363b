"""Checks and repair by leaf: a flipped bit is found, the rest stays, only it is fetched again."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
import trio.testing

from prsm.storage.cid import Cid
from prsm.storage.dag import hashing
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.store import sealed
from prsm.storage.store.index import State
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.scrub import PERIOD_MS, Damage
from tests.tools.stores import CHUNKS, DATA, MIB, SIZE, Wall, names


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def store(tmp_path: Path, wall: Wall) -> AsyncIterator[ModelStore]:
    (tmp_path / "model").write_bytes(DATA)
    opened = await ModelStore.open(tmp_path / "store", quota=100 * MIB, now_ms=wall)
    yield opened
    await opened.close()


@pytest.fixture
async def root(store: ModelStore, tmp_path: Path) -> Cid:
    return (await store.add_file(tmp_path / "model")).root


async def flip(store: ModelStore, root: Cid, offset: int) -> None:
    """Change a bit as a bad disk does: without a trace in the file's times."""
    path = store._folders.file(root)
    path.chmod(0o600)
    with path.open("rb+") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    path.chmod(0o444)
    row = await store._index.get_root(root)
    assert row is not None
    stamp = await store._shelf.hop(lambda: hashing_stamp(path))
    await store._index.put_root(type(row)(root, row.size, row.state, stamp))


def hashing_stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


async def repair(store: ModelStore, root: Cid) -> list[int]:
    """Fetch what is missing from memory, as the exchange would; returns which leaves that was."""
    partial = await store.begin_fetch(root, SIZE)
    missing = partial.missing()
    await partial.write_run(missing, [CHUNKS[leaf.index] for leaf in missing])
    await store.end_fetch(partial)
    return [leaf.index for leaf in missing]


@pytest.mark.parametrize("offset", [0, MIB + 5, 3 * MIB, SIZE - 1])
async def test_flipped_bit_is_found_and_only_its_leaf_is_fetched_again(
    store: ModelStore, root: Cid, offset: int
) -> None:
    await flip(store, root, offset)
    found = await store.scrub()
    assert found.damaged == [Damage(root, (offset // MIB,))]
    assert not await store.has(root)
    (file,) = await store.list()
    lost = min(MIB, SIZE - offset // MIB * MIB)
    assert (file.state, file.verified_bytes) == (State.BAD, SIZE - lost)
    assert await store.used_bytes() > SIZE  # its room is still taken
    assert await repair(store, root) == [offset // MIB]
    assert (await store.path(root)).read_bytes() == DATA
    assert (await store.path(root)).stat().st_mode & 0o777 == 0o444
    assert not (await store.scrub()).damaged


async def test_several_damaged_leaves_are_named(store: ModelStore, root: Cid) -> None:
    await flip(store, root, 7)
    await flip(store, root, 2 * MIB)
    with pytest.raises(Corrupt, match=r"leaves 0, 2 \(2\) of 4 have changed"):
        await store.verify(root)
    with pytest.raises(NotFound):
        await store.path(root)
    assert await repair(store, root) == [0, 2]


@pytest.mark.parametrize("harm", ["short", "long", "gone", "unreadable"])
async def test_harmed_file_keeps_what_is_good_of_it(
    store: ModelStore, root: Cid, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await store.path(root)
    path.chmod(0o600)
    match harm:
        case "short":
            os.truncate(path, 2 * MIB + 1)
        case "long":
            path.write_bytes(DATA + b"x")
        case "gone":
            path.unlink()
        case _:
            monkeypatch.setattr(hashing, "_fill_at", eio_in_leaf_one)
    with pytest.raises(Corrupt):
        await store.verify(root)
    monkeypatch.undo()
    lost = {"short": [2, 3], "long": [3], "gone": [0, 1, 2, 3], "unreadable": [1]}[harm]
    assert await repair(store, root) == lost
    assert (await store.path(root)).read_bytes() == DATA
    assert await store.used_bytes() == SIZE + len(await store.get_block(root.digest))


def eio_in_leaf_one(descriptor: int, buffer: memoryview, offset: int) -> int:
    if offset == MIB:
        raise OSError(5, "Input/output error")
    return os.preadv(descriptor, [buffer], offset)


async def test_damaged_file_survives_a_restart_and_a_crash_while_it_is_reopened(
    tmp_path: Path, store: ModelStore, root: Cid
) -> None:
    await flip(store, root, MIB)
    await store.scrub()
    assert store._folders.reopen(root, SIZE)  # the process ends behind this, before its row
    await store.close()
    again = await ModelStore.open(tmp_path / "store", quota=100 * MIB)
    assert [file.state for file in await again.list()] == [State.BAD]
    assert await repair(again, root) == [1]
    await again.close()


async def test_damaged_node_is_fetched_again(store: ModelStore, root: Cid) -> None:
    """Spoil the interior node in the index: nobody can say which leaves are good."""
    node = await store.get_block(root.digest)
    await store._index._database.write(  # type: ignore[attr-defined]  # the one in SQLite
        lambda db: db.execute("UPDATE block SET bytes=x'00' WHERE digest=?", (root.digest,))
    )
    store._shelf.forget(root)
    with pytest.raises(Corrupt):
        await store.verify(root)
    partial = await store.begin_fetch(root, SIZE)
    assert list(partial.wanted_nodes()) == [root.digest]
    await partial.put_node(node)
    assert len(partial.missing()) == 4
    await partial.write_run(partial.missing(), CHUNKS)
    await store.end_fetch(partial)
    await store.verify(root)


@pytest.mark.parametrize("harm", ["changed", "gone"])
async def test_scrub_counts_a_file_whose_node_is_lost(
    store: ModelStore, root: Cid, harm: str, tmp_path: Path
) -> None:
    (tmp_path / "tiny").write_bytes(b"tiny")
    await store.add_file(tmp_path / "tiny")
    if harm == "gone":
        await store._index.drop_blocks(root.raw, [root.digest])
    else:
        await store._index._database.write(  # type: ignore[attr-defined]  # the one in SQLite
            lambda db: db.execute("UPDATE block SET bytes=x'00' WHERE digest=?", (root.digest,))
        )
    done = await store.scrub()
    assert done.damaged == [Damage(root, (0, 1, 2, 3))]
    assert (done.files, done.checked_bytes) == (2, 4)


async def test_file_that_is_removed_before_it_is_checked_is_not_found(
    store: ModelStore, tmp_path: Path
) -> None:
    (tmp_path / "tiny").write_bytes(b"tiny")
    root = (await store.add_file(tmp_path / "tiny")).root

    async def verify() -> None:
        with pytest.raises(NotFound):
            await store.verify(root)

    async with trio.open_nursery() as nursery:
        with store.leases.claim(root):  # as `remove` does
            nursery.start_soon(verify)
            await trio.testing.wait_all_tasks_blocked()
            await store._index.remove_root(root)
            store._folders.remove(root)
    assert not await store.list()


@pytest.mark.parametrize("found", [(), (0,)], ids=["good", "bad"])
async def test_check_that_ends_when_the_file_is_fetched_again_changes_nothing(
    store: ModelStore, root: Cid, found: tuple[int, ...]
) -> None:
    """Let one check hash for long; another finds damage meanwhile, and the fetch has begun."""
    looked, go = trio.Event(), trio.Event()

    def late(*_args: object, **_named: object) -> tuple[int, ...]:
        trio.from_thread.run_sync(looked.set)
        trio.from_thread.run(go.wait)
        return found

    async def verify() -> None:
        with pytest.raises((NotFound, Corrupt)):
            await store.verify(root)

    async with trio.open_nursery() as nursery:
        with patch.object(sealed, "damaged", late):
            nursery.start_soon(verify)
            await looked.wait()
        await flip(store, root, MIB)
        await store.scrub()
        partial = await store.begin_fetch(root, SIZE)
        go.set()
    assert [(file.state, file.verified_bytes) for file in await store.list()] == [
        (State.PARTIAL, SIZE - MIB)
    ]
    await store.end_fetch(partial)
    assert await repair(store, root) == [1]
    assert (await store.path(root)).read_bytes() == DATA


async def test_scrub_goes_on_where_it_stopped(store: ModelStore, root: Cid, wall: Wall) -> None:
    assert await store.has(root)
    for _ in range(3):
        assert (await store.scrub(MIB)).checked_bytes == MIB
        assert (await store.list())[0].scrubbed_ms == 0
    assert (await store.scrub(1)).checked_bytes == 17
    assert (await store.list())[0].scrubbed_ms == wall.ms
    seen: list[int] = []
    done = await store.scrub(None, seen.append)
    assert (done.checked_bytes, done.files, seen) == (SIZE, 1, [SIZE])


async def test_scrub_takes_what_was_longest_unchecked(
    store: ModelStore, root: Cid, tmp_path: Path, wall: Wall
) -> None:
    (tmp_path / "tiny").write_bytes(b"tiny")
    tiny = (await store.add_file(tmp_path / "tiny")).root
    await store.verify(root)
    wall.ms += 1
    assert (await store.scrub(1)).checked_bytes == 4
    wall.ms += 1
    assert (await store.scrub(1)).checked_bytes == MIB
    assert (await store.scrub(1)).checked_bytes == MIB  # a file begun is ended first
    assert tiny != root


async def test_upkeep_reads_every_leaf_once_in_thirty_days(
    store: ModelStore, root: Cid, wall: Wall
) -> None:
    """Tend the store as if six hours had passed each time, for thirty days."""
    assert await store.has(root)
    checked = 0
    for _ in range(30 * 4):
        checked += (await store._upkeep.once(6 * 3600)).checked_bytes
        wall.ms += 6 * 3_600_000
    assert SIZE - MIB <= checked <= SIZE + MIB
    assert wall.ms - (await store.list())[0].scrubbed_ms <= PERIOD_MS


async def test_progress_is_told_while_it_hashes(
    store: ModelStore, tmp_path: Path, root: Cid
) -> None:
    seen: list[int] = []
    await store.verify(root, seen.append)
    assert seen[-1] == SIZE
    assert seen == sorted(seen)
    adding: list[int] = []
    (tmp_path / "other").write_bytes(DATA[:-1] + b"?")
    await store.add_file(tmp_path / "other", on_progress=adding.append)
    assert adding[-1] == SIZE


async def test_scrub_of_nothing_finds_nothing(tmp_path: Path) -> None:
    store = await ModelStore.open(tmp_path / "empty", quota=MIB)
    assert (await store.scrub()).checked_bytes == 0
    assert (await store._upkeep.once(1e9)).checked_bytes == 0
    await store.close()
    assert names(tmp_path / "empty" / "files") == []
