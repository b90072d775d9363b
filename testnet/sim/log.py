"""What a node of a run makes durable: a plain list, or the real log and guard on a faulty disk.

Knows: what was synced, what a crash leaves. Must not know: what a record says.
"""

from random import Random
from typing import Final, Protocol, final

from prsm.consensus.pbft.records import highest_mark, mark_of
from prsm.storage.signguard import SignGuard
from prsm.storage.wal import Wal
from prsm.testnet.sim.disk import FaultyDisk, PowerCut

_WAL: Final = "consensus.wal"
_GUARD: Final = "consensus.guard"


class Log(Protocol):
    """A consensus log that survives crashes."""

    def open(self) -> tuple[tuple[bytes, ...], str | None]:
        """Return what is durable, and why the node must be an observer, if it must."""
        ...

    def append(self, records: tuple[bytes, ...]) -> None:
        """Make records durable together."""
        ...

    def append_cut(self, records: tuple[bytes, ...]) -> None:
        """Begin to, and be cut off; `crash` follows."""
        ...

    def rotate(self, low: int, records: tuple[bytes, ...]) -> None:
        """Drop everything but these."""
        ...

    def crash(self) -> None:
        """The process or the machine stops."""
        ...


@final
class ListLog:
    """Records that are there or not; a cut keeps some of a group."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._records: list[bytes] = []

    def open(self) -> tuple[tuple[bytes, ...], str | None]:
        """Return what is durable."""
        return tuple(self._records), None

    def append(self, records: tuple[bytes, ...]) -> None:
        """Make records durable together."""
        self._records.extend(records)

    def append_cut(self, records: tuple[bytes, ...]) -> None:
        """Keep a first part of them: weaker than the real log, which keeps all or none."""
        self._records.extend(records[: self._dice.randint(0, len(records))])

    def rotate(self, low: int, records: tuple[bytes, ...]) -> None:
        """Drop everything but these, whose first says `low`."""
        assert low >= 0
        self._records = list(records)

    def crash(self) -> None:
        """Lose nothing: all of it was synced."""


@final
class DiskLog:
    """storage/wal and storage/signguard, unchanged, on a disk that loses what was not synced."""

    def __init__(self, seed: int) -> None:
        self._disk = FaultyDisk(seed)
        self._dice = Random(seed)
        SignGuard.create(self._disk, _GUARD).close()
        Wal.open(self._disk, _WAL)[0].close()
        self._wal: Wal | None = None
        self._guard: SignGuard | None = None

    def open(self) -> tuple[tuple[bytes, ...], str | None]:
        """Open both as the driver does, and compare them."""
        self._guard = SignGuard.open(self._disk, _GUARD)
        self._wal, replay = Wal.open(self._disk, _WAL)
        guard, highest = self._guard.latest(), highest_mark(replay.records)
        behind = highest is None or highest.position < guard.position
        reason = replay.damaged
        if reason is None and behind and guard.height > replay.low_mark:
            reason = "the sign guard is ahead of the log"
        return replay.records, reason

    def append(self, records: tuple[bytes, ...]) -> None:
        """One write, one sync, then the guard."""
        assert self._wal is not None
        assert self._guard is not None
        self._wal.append(records)
        for record in records:
            mark = mark_of(record)
            if mark is not None:
                self._guard.advance(mark.epoch, mark.height, mark.view, mark.step, mark.block_hash)

    def append_cut(self, records: tuple[bytes, ...]) -> None:
        """Lose power in one of the next operations of the disk."""
        self._disk.cut_at = self._disk.operations + self._dice.randint(1, 3)
        try:
            self.append(records)
        except PowerCut:
            return
        self._disk.cut_at = None

    def rotate(self, low: int, records: tuple[bytes, ...]) -> None:
        """Begin a new segment."""
        assert self._wal is not None
        assert self._guard is not None
        self._wal.rotate(low, records)
        self._guard.sync()

    def crash(self) -> None:
        """Kill the process, or cut the power of its machine."""
        if self._disk.cut_at is not None or self._dice.random() < 0.7:
            self._disk.power_cut()
        else:
            self._disk.kill()
