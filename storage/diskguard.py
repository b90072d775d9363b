"""Watches how full a disk is, and keeps a reserve that is given up first.

Knows: free bytes, thresholds, the reserve file. Must not know: quotas (`space`), who stops doing
what. The node takes no shard, fetch or work while the disk is low, so that the ledger, which
nobody may refuse, still has room.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from prsm.protocol.limits import MIB
from prsm.storage.disk import disk_error
from prsm.storage.errors import Full, StoreUnavailable

FREE_BYTES_MIN: Final = 2048 * MIB
FREE_PERCENT_MIN: Final = 5
RESERVE_BYTES: Final = 64 * MIB
# The reserve is given up while the ledger can still write some blocks without it.
_RELEASE_BELOW: Final = 64 * MIB

assert FREE_BYTES_MIN > 4 * RESERVE_BYTES


class DiskState(Enum):
    """What a disk allows."""

    OK = "ok"
    LOW = "low"  # no new shard, no fetch, no work
    READ_ONLY = "read_only"


@dataclass(frozen=True, slots=True)
class DiskReport:
    """A disk at one moment; bytes as an ordinary user may use them."""

    path: Path
    total_bytes: int
    free_bytes: int
    state: DiskState
    reserve_bytes: int


class DiskGuard:
    """The guard of the file system a folder is on. Every call takes microseconds, none waits."""

    def __init__(
        self,
        folder: Path,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        stat: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        """Watch a folder that exists.

        Args:
            folder: where the reserve file is, on the disk that is watched.
            reserve_bytes: of that file; 0: none.
            stat: asks the operating system.
        """
        self._folder = folder
        self._reserve = folder / "reserve"
        self._reserve_bytes = reserve_bytes
        self._stat = stat

    def report(self) -> DiskReport:
        """Look now.

        Raises:
            StoreUnavailable, NotFound: the disk does not answer.
        """
        try:
            found = self._stat(self._folder)
        except OSError as error:
            raise disk_error(error, str(self._folder)) from error
        total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        reserve = self._reserve.stat().st_size if self._reserve.exists() else 0
        if found.f_flag & os.ST_RDONLY:
            state = DiskState.READ_ONLY
        elif free < self._free_min(total):
            state = DiskState.LOW
        else:
            state = DiskState.OK
        return DiskReport(self._folder, total, free, state, reserve)

    @property
    def is_low(self) -> bool:
        """Whether no new work, shard or fetch may begin."""
        return self.report().state is not DiskState.OK

    def check(self, size: int) -> None:
        """Refuse what would leave the disk low.

        Args:
            size: bytes about to be written.

        Raises:
            Full: it would.
            StoreUnavailable: the disk is read-only, or does not answer.
        """
        report = self.report()
        if report.state is DiskState.READ_ONLY:
            raise StoreUnavailable(
                f"the disk of {self._folder} is mounted read-only",
                hint=f"look why (dmesg; df {self._folder}), and mount it read-write again",
            )
        kept = self._free_min(report.total_bytes)
        if report.free_bytes - size < kept:
            raise Full(
                f"{size} bytes do not fit: the disk of {self._folder} has {report.free_bytes} of "
                f"{report.total_bytes} bytes free, and {kept} are kept for the ledger",
                hint="free some space on the disk; the node goes on by itself",
            )

    def tend(self) -> DiskReport:
        """Make the reserve where there is room for it, give it up where there is none."""
        report = self.report()
        if report.state is DiskState.OK and report.reserve_bytes < self._reserve_bytes:
            self._make_reserve()
        elif report.state is DiskState.LOW and report.free_bytes < _RELEASE_BELOW:
            self.free_reserve()
        return report

    def free_reserve(self) -> bool:
        """Give the reserve up; says whether there was one."""
        with suppress(OSError):  # a disk that refuses even this is told by whoever needs the room
            self._reserve.unlink()
            return True
        return False

    def _free_min(self, total: int) -> int:
        return max(FREE_BYTES_MIN, total * FREE_PERCENT_MIN // 100)

    def _make_reserve(self) -> None:
        """Take the room; a disk that refuses leaves none, which `report` says."""
        try:
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, self._reserve_bytes)
        except OSError:
            self.free_reserve()
        finally:
            os.close(descriptor)
