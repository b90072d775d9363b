"""What a store does by itself: it looks at the disk often, and a refusal does not end it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.storage.diskguard import DiskGuard
from prsm.storage.errors import StoreUnavailable
from prsm.storage.store.model_store import ModelStore
from tests.tools.stores import MIB

GIB = 1 << 30


class Disk:
    """A disk that somebody else fills."""

    def __init__(self) -> None:
        self.free, self.looks = 9 * GIB, 0

    def __call__(self, _path: Path) -> os.statvfs_result:
        self.looks += 1
        free = self.free // 4096
        return os.statvfs_result((4096, 4096, 20 * GIB // 4096, free, free, 0, 0, 0, 0, 255))


async def until(condition: Callable[[], bool]) -> None:
    """Let threads and tasks run until something holds; the clock stands still meanwhile."""
    while not condition():
        await trio.to_thread.run_sync(lambda: None)


async def test_reserve_is_given_up_within_ten_seconds_of_a_full_disk(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    disk, reserve = Disk(), tmp_path / "reserve"
    guard = DiskGuard(tmp_path, reserve_bytes=8192, stat=disk)
    store = await ModelStore.open(tmp_path / "store", quota=MIB, guard=guard)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await until(reserve.is_file)
        await trio.testing.wait_all_tasks_blocked()
        disk.free = MIB
        await until(lambda: _jump(mock_clock) and not reserve.exists())
        disk.free = 9 * GIB
        await until(lambda: _jump(mock_clock) and reserve.is_file())
        nursery.cancel_scope.cancel()
    await store.close()


async def test_disk_that_refuses_does_not_end_the_upkeep(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await ModelStore.open(tmp_path / "store", quota=MIB)

    async def refuse() -> None:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable("the disk refused")

    async with trio.open_nursery() as nursery:
        monkeypatch.setattr(store._index, "tidy", refuse)
        await nursery.start(store.run)
        await until(lambda: store._upkeep.trouble == "the disk refused")
        monkeypatch.undo()
        await until(lambda: _jump(mock_clock) and not store._upkeep.trouble)
        nursery.cancel_scope.cancel()
    await store.close()


def _jump(clock: MockClock) -> bool:
    clock.jump(10)
    return True
