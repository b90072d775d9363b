"""The disk guard: low, read-only and silent disks, and a reserve that is given up first."""

import os
from pathlib import Path

import pytest

from prsm.storage.disk import PosixDisk
from prsm.storage.diskguard import FREE_BYTES_MIN, DiskGuard, DiskState
from prsm.storage.errors import Full, StoreUnavailable

GIB = 1 << 30


class Disk:
    """A disk that says what a test wants."""

    def __init__(self, total: int, free: int) -> None:
        self.total, self.free, self.flags, self.error = total, free, 0, 0

    def __call__(self, _path: Path) -> os.statvfs_result:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        blocks, free = self.total // 4096, self.free // 4096
        return os.statvfs_result((4096, 4096, blocks, free + 99, free, 0, 0, 0, self.flags, 255))


def guard_of(folder: Path, disk: Disk) -> DiskGuard:
    return DiskGuard(folder, reserve_bytes=8192, stat=disk)


@pytest.mark.parametrize(
    ("total", "free", "state"),
    [
        (20 * GIB, 2 * GIB, DiskState.OK),
        (20 * GIB, 2 * GIB - 4096, DiskState.LOW),  # 2 GiB count on a small disk
        (200 * GIB, 10 * GIB, DiskState.OK),
        (200 * GIB, 10 * GIB - 4096, DiskState.LOW),  # 5 % on a large one
    ],
)
def test_disk_is_low_below_both_marks(
    total: int, free: int, state: DiskState, tmp_path: Path
) -> None:
    guard = guard_of(tmp_path, Disk(total, free))
    report = guard.report()
    assert (report.state, report.total_bytes, report.free_bytes) == (state, total, free)
    assert guard.is_low == (state is DiskState.LOW)


def test_what_would_leave_the_disk_low_is_refused_with_figures(tmp_path: Path) -> None:
    disk = Disk(20 * GIB, 3 * GIB)
    guard = guard_of(tmp_path, disk)
    guard.check(GIB)
    with pytest.raises(Full, match=rf"{GIB + 4096} bytes do not fit.*{3 * GIB} of {20 * GIB}"):
        guard.check(GIB + 4096)
    disk.free = FREE_BYTES_MIN - 4096
    with pytest.raises(Full, match="kept for the ledger"):
        guard.check(0)


def test_read_only_disk_is_named(tmp_path: Path) -> None:
    disk = Disk(20 * GIB, 9 * GIB)
    disk.flags = os.ST_RDONLY
    guard = guard_of(tmp_path, disk)
    assert guard.tend().state is DiskState.READ_ONLY
    with pytest.raises(StoreUnavailable, match=f"{tmp_path} is mounted read-only"):
        guard.check(1)
    assert not list(tmp_path.iterdir())


def test_disk_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    disk = Disk(20 * GIB, 9 * GIB)
    disk.error = 5
    with pytest.raises(StoreUnavailable, match="Input/output"):
        guard_of(tmp_path, disk).check(1)


def test_reserve_is_made_given_up_and_made_again(tmp_path: Path) -> None:
    disk = Disk(20 * GIB, 9 * GIB)
    guard = guard_of(tmp_path, disk)
    guard.tend()
    assert guard.report().reserve_bytes == (tmp_path / "reserve").stat().st_size == 8192
    disk.free = GIB
    guard.tend()
    assert guard.report().reserve_bytes == 8192  # low, and there is still room for the ledger
    disk.free = 1 << 20
    guard.tend()
    assert guard.report().reserve_bytes == 0
    assert not guard.free_reserve()
    disk.free = 9 * GIB
    guard.tend()
    assert guard.free_reserve()


def test_reserve_that_finds_no_room_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    guard = guard_of(tmp_path, Disk(20 * GIB, 9 * GIB))
    guard.tend()
    assert guard.report().reserve_bytes == 0


def test_read_only_file_system_is_named_by_every_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreUnavailable, match="mounted read-only"):
        PosixDisk().create(str(tmp_path / "x"))
