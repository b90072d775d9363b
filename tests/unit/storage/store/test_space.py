"""The budget: what goes to make room, what never goes, and figures where nothing can."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.storage.cid import Cid, hash_block
from prsm.storage.diskguard import DiskGuard
from prsm.storage.errors import Conflict, Full, NotFound
from prsm.storage.store.eviction import PARTIAL_IDLE_MS
from prsm.storage.store.model_store import ModelStore
from tests.tools.stores import MIB, Wall, names

QUOTA = 10_000


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def store(tmp_path: Path, wall: Wall) -> AsyncIterator[ModelStore]:
    opened = await ModelStore.open(tmp_path / "store", quota=QUOTA, now_ms=wall)
    yield opened
    await opened.close()


async def add(store: ModelStore, folder: Path, number: int, size: int = 1000) -> Cid:
    path = folder / "f"
    path.write_bytes(b"%d" % number + bytes(size - len(b"%d" % number)))
    return (await store.add_file(path)).root


async def test_least_used_go_to_make_room(store: ModelStore, tmp_path: Path) -> None:
    roots = [await add(store, tmp_path, number) for number in range(9)]
    for root in roots[:2]:
        await store.path(root)
    assert await store.used_bytes() == 9000
    new = await add(store, tmp_path, 9)  # 10,000 would pass 90 %: down to 8,000 with it
    here = [file.root for file in await store.list()]
    assert here == [*roots[:2], *roots[4:], new]
    assert await store.used_bytes() == 8000
    assert len(names(tmp_path / "store" / "files")) == 8


async def test_pinned_leased_and_fetched_never_go(store: ModelStore, tmp_path: Path) -> None:
    pinned, leased, number_leased = [await add(store, tmp_path, n, 2000) for n in range(3)]
    await store.pin(pinned, "mine")
    lease = store.leases.grant(number_leased, holder="client", purpose="open")
    partial = await store.begin_fetch(hash_block(b"?" * 1500), 1500)
    cached = await add(store, tmp_path, 3)
    async with store.lease(leased, holder="job 7", purpose="run") as path:
        with pytest.raises(Full, match="2600 bytes do not fit: 8500 of 10000") as caught:
            await add(store, tmp_path, 4, 2600)
        assert "2000 of them pinned, 4000 in use, 1500 on their way" in caught.value.what
        assert await store.has(cached)  # nothing was removed in vain
        told = await store.gc(dry_run=True)
        assert {one.key: one.why for one in told.kept} == {
            pinned: "pinned as mine",
            leased: "in use: job 7, run",
            number_leased: "in use: client, open",
            partial.root: "being fetched",
        }
        assert [one.key for one in told.gone] == [cached]
        assert told.gone[0].why
        assert await store.has(cached)
        await add(store, tmp_path, 5, 2000)
        assert not await store.has(cached)
        assert path.is_file()
        with pytest.raises(Conflict, match="in use: job 7"):
            await store.remove(leased)
    store.leases.release(lease.number)
    await store.end_fetch(partial)
    await store.remove(leased)


async def test_collection_goes_down_to_the_lower_mark(store: ModelStore, tmp_path: Path) -> None:
    for number in range(9):
        await add(store, tmp_path, number)
    told = await store.gc(dry_run=True)
    done = await store.gc()
    assert [one.key for one in told.gone] == [one.key for one in done.gone]
    assert (told.freed_bytes, told.used_bytes) == (1000, 9000)
    assert (done.freed_bytes, done.used_bytes, done.quota_bytes) == (1000, 8000, QUOTA)
    assert not (await store.gc()).gone


async def test_file_used_after_the_look_stays(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use the coldest file between the look and the removal, as another task would."""
    roots = [await add(store, tmp_path, number) for number in range(9)]
    remove = store._space._remove

    async def used_first(*args: object) -> object:
        await store.path(roots[0])
        return await remove(*args)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(store._space, "_remove", used_first)
    done = await store.gc()
    assert not done.gone
    assert await store.has(roots[0])


async def test_partial_dies_after_seven_idle_days(
    store: ModelStore, tmp_path: Path, wall: Wall
) -> None:
    roots = [hash_block(b"%d" % number * 100) for number in range(3)]
    for root in roots:
        await store.end_fetch(await store.begin_fetch(root, 100))
    await store.pin(roots[2], "wanted")
    wall.ms += PARTIAL_IDLE_MS - 1
    active = await store.begin_fetch(roots[0], 100)
    assert not (await store.gc()).gone
    wall.ms += 1
    assert [one.key for one in (await store.gc(dry_run=True)).gone] == [roots[1]]
    await store._space.drop_idle()
    assert [file.root for file in await store.list()] == [roots[0], roots[2]]
    await store.end_fetch(active)
    gone = (await store.gc(partials=True)).gone
    assert [(one.key, one.why) for one in gone] == [(roots[0], "on its way, and nobody fetches it")]
    assert names(tmp_path / "store" / "partial") == [str(roots[2])]


async def test_uses_outlive_a_restart(tmp_path: Path) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=QUOTA)
    roots = [await add(store, tmp_path, number) for number in range(9)]
    await store.path(roots[0])
    await store.close()
    store = await ModelStore.open(tmp_path / "store", quota=QUOTA)
    assert (await store.list())[0].used_ms > 0
    assert [one.key for one in (await store.gc()).gone] == [roots[1]]
    await store.close()


async def test_report_says_where_the_bytes_are(store: ModelStore, tmp_path: Path) -> None:
    root = await add(store, tmp_path, 1, 1500)
    await store.pin(root, "a")
    await store.blocks.put_many([b"block"])
    partial = await store.begin_fetch(hash_block(b"x" * 70), 70)
    report = await store.space()
    assert (report.quota_bytes, report.used_bytes, report.pinned_bytes) == (QUOTA, 1575, 1500)
    assert (report.used.files, report.used.partial, report.used.blocks) == (1500, 70, 5)
    await store.end_fetch(partial)


async def test_low_disk_takes_nothing_new(tmp_path: Path) -> None:
    low = os.statvfs_result((4096, 4096, 1 << 20, 99, 99, 0, 0, 0, 0, 255))
    guard = DiskGuard(tmp_path, stat=lambda _path: low)
    (tmp_path / "f").write_bytes(b"x")
    store = await ModelStore.open(tmp_path / "store", quota=QUOTA, guard=guard)
    with pytest.raises(Full, match="kept for the ledger"):
        await store.add_file(tmp_path / "f")
    with pytest.raises(Full, match="kept for the ledger"):
        await store.begin_fetch(hash_block(b"x"), 1)
    with pytest.raises(Full, match="kept for the ledger"):
        await store.blocks.put_many([b"x"])
    assert await store.used_bytes() == 0
    await store.close()


async def test_quota_is_never_passed_by_many_at_once(store: ModelStore, tmp_path: Path) -> None:
    """Twenty adds and fetches of 900 bytes: what is used stays within the quota at each step."""
    most = 0

    async def one(number: int) -> None:
        nonlocal most
        path = tmp_path / f"f{number}"
        path.write_bytes(b"%d" % number * 450)
        try:
            if number % 2:
                await store.add_file(path)
            else:
                await store.end_fetch(await store.begin_fetch(hash_block(b"%d" % number), 900))
        except Full:
            pass
        most = max(most, (await store._index.used()).total)

    async with trio.open_nursery() as nursery:
        for number in range(10, 30):
            nursery.start_soon(one, number)
    assert 5000 < most <= QUOTA


async def test_removed_while_it_is_waited_for_is_not_found(
    store: ModelStore, tmp_path: Path
) -> None:
    root = await add(store, tmp_path, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.remove, root)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NotFound):
            async with store.lease(root, holder="", purpose="run"):
                pass


@pytest.mark.long
async def test_disk_never_holds_more_than_the_quota(tmp_path: Path) -> None:
    """Add five quotas of files and blocks, pin and lease at random; count blocks of the disk."""
    dice, quota, most, added = Random(4), 256 * MIB, 0, 0
    store = await ModelStore.open(tmp_path / "store", quota=quota)
    pinned: list[Cid] = []
    while added < 5 * quota:
        size = dice.randrange(MIB, 24 * MIB)
        (tmp_path / "f").write_bytes(dice.randbytes(16) + bytes(size - 16))
        root = (await store.add_file(tmp_path / "f")).root
        await store.blocks.put_many([dice.randbytes(65_536) for _ in range(4)])
        added += size
        if dice.random() < 0.1 and len(pinned) < 4:
            await store.pin(root, "kept")
            pinned.append(root)
        leased = dice.choice([file.root for file in await store.list()])
        lease = store.leases.grant(leased, holder="test", purpose="open")
        await store.gc()
        assert await store.has(leased)
        store.leases.release(lease.number)
        files = [path.stat() for path in (tmp_path / "store").glob("*/*")]
        blocks = (await store._index.used()).blocks
        most = max(most, sum(file.st_blocks * 512 for file in files) + blocks)
        for one in pinned:
            assert (await store.path(one)).is_file()
    assert 0.7 * quota < most <= quota
    await store.close()
