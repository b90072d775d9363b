"""What a node of a run makes durable: a plain list, or the real log and guard on a faulty disk.

Knows: what was synced, what a crash leaves. Must not know: what a record says.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, Protocol, final

from prsm.consensus.pbft.records import mark_of
from prsm.node.chain.signfiles import Place, open_signfiles
from prsm.storage.errors import Full, StoreUnavailable
from prsm.testnet.sim.disk import FaultyDisk, PowerCut
from prsm.testnet.sim.plan import LEDGER

_FOLDER: Final = Path("data")
LOST: Final = "the ledger was damaged"  # why the next start is an observer's
_CUTS: Final = 0.3  # of the rare writes that end or begin a time of silence
_FORBIDS: Final = 5  # operations of the disk that one of them takes, at most
_RENEWS: Final = 9


@dataclass(frozen=True, slots=True)
class Found:
    """What a start finds.

    Attributes:
        records: in the order they were written.
        observer: why the node must be one, None if it need not.
        spoken_of: the highest height that ledger, log or guard speak of.
    """

    records: tuple[bytes, ...]
    observer: str | None
    spoken_of: int


class Log(Protocol):
    """A consensus log that survives crashes."""

    def open(self, height: int, lost: str | None = None) -> Found:
        """Return what is durable.

        Args:
            height: of the ledger as found.
            lost: why that ledger was begun afresh, None if it was not.
        """
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

    def rotate_cut(self, low: int, records: tuple[bytes, ...]) -> None:
        """Begin to, and be cut off; `crash` follows."""
        ...

    def renew(self, low: int, records: tuple[bytes, ...]) -> None:
        """Begin afresh: an observer signs again above `low`."""
        ...

    @property
    def is_blank(self) -> bool:
        """Has it never held a vote?"""
        ...

    @property
    def is_silent(self) -> bool:
        """Was it told to sign nothing any more, durably, and not yet renewed?"""
        ...

    @property
    def is_observer(self) -> bool:
        """Does it take no votes?"""
        ...

    @property
    def is_renewed(self) -> bool:
        """Was it begun afresh, behind all that was forgotten, on a disk that keeps its word?"""
        ...

    def forbid_if_blank(self) -> str | None:
        """Sign nothing any more, and say why, if it has never held a vote."""
        ...

    def forbid(self, why: str) -> None:
        """Sign nothing any more: nobody knows what was signed before."""
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
        self.is_blank = True
        self.is_silent = self.is_observer = self.is_renewed = False

    def open(self, height: int, lost: str | None = None) -> Found:
        """Return what is durable."""
        assert lost is None, "a plain log is beside a ledger that is never lost"
        return Found(tuple(self._records), None, _highest(self._records, height))

    def append(self, records: tuple[bytes, ...]) -> None:
        """Make records durable together."""
        self._records.extend(records)
        self.is_blank = False

    def append_cut(self, records: tuple[bytes, ...]) -> None:
        """Keep a first part of them: weaker than the real log, which keeps all or none."""
        self._records.extend(records[: self._dice.randint(0, len(records))])

    def rotate(self, low: int, records: tuple[bytes, ...]) -> None:
        """Drop everything but these, whose first says `low`."""
        assert low >= 0
        self._records = list(records)

    def rotate_cut(self, low: int, records: tuple[bytes, ...]) -> None:
        """Have one segment or the other."""
        if self._dice.random() < 0.5:
            self.rotate(low, records)

    def renew(self, low: int, records: tuple[bytes, ...]) -> None:
        """Drop everything but these."""
        self.rotate(low, records)

    def forbid_if_blank(self) -> str | None:
        """Nobody loses such a log."""
        assert not self.is_blank, "a plain log is never lost"
        return None

    def forbid(self, why: str) -> None:
        """Nobody loses such a log: the checker has said so already."""

    def crash(self) -> None:
        """Lose nothing: all of it was synced."""


@final
class DiskLog:
    """node/chain/signfiles, unchanged, on a disk that loses what was not synced."""

    def __init__(self, seed: int) -> None:
        self._disk = FaultyDisk(seed)
        self._dice = Random(seed)
        self._place = Place(self._disk, _FOLDER)
        self._files = open_signfiles(self._disk, _FOLDER, ledger_height=0).files
        self._files.close()
        self.is_silent = self.is_renewed = self._is_mended = False
        self._backup: dict[str, bytes] = {}

    def open(self, height: int, lost: str | None = None) -> Found:
        """Open both and compare them."""
        opened = open_signfiles(self._disk, _FOLDER, ledger_height=height, ledger_lost=lost)
        self._files = opened.files
        return Found(opened.records, opened.observer, opened.spoken_of)

    def append(self, records: tuple[bytes, ...]) -> None:
        """One write, one sync, then the guard."""
        self._files.append(records)

    def append_cut(self, records: tuple[bytes, ...]) -> None:
        """Lose power in one of the next operations of the disk."""
        self._cut(partial(self.append, records), 3)

    def rotate_cut(self, low: int, records: tuple[bytes, ...]) -> None:
        """Lose power in one of the next operations of the disk."""
        self._cut(partial(self.rotate, low, records), 6)

    def _cut(self, write: Callable[[], object], operations: int) -> None:
        self._disk.cut_at = self._disk.operations + self._dice.randint(1, operations)
        try:
            write()
        except (PowerCut, Full, StoreUnavailable):
            return
        self._disk.cut_at = None

    def rotate(self, low: int, records: tuple[bytes, ...]) -> None:
        """Begin a new segment; an observer's files stay as they were found."""
        self._files.forget(low, records)

    def renew(self, low: int, records: tuple[bytes, ...]) -> None:
        """Begin both files afresh: an observer signs again above `low`."""
        self._perhaps_cut(partial(self._files.renew, low + 1, records), _RENEWS)
        self.is_silent, self.is_renewed = False, not self._disk.is_lying

    @property
    def is_blank(self) -> bool:
        """Has the guard never moved?"""
        return self._files.is_blank

    @property
    def is_observer(self) -> bool:
        """Does a start, or what was shown since, keep it from votes?"""
        return self._files.is_observer

    def forbid_if_blank(self) -> str | None:
        """Leave a guard that never opens."""
        if self._files.is_blank:
            self._perhaps_cut(self._files.forbid_if_blank, _FORBIDS)
            self.is_silent = not self._disk.is_lying
        return self._files.forbid_if_blank()

    def forbid(self, why: str) -> None:
        """Leave a guard that never opens, whatever the log holds."""
        self._perhaps_cut(partial(self._files.forbid, why), _FORBIDS)
        self.is_silent = not self._disk.is_lying

    def _perhaps_cut(self, write: Callable[[], object], operations: int) -> None:
        """Write, or lose power in one of the operations that it takes; `crash` follows.

        Raises:
            Full, StoreUnavailable: it is not done; the process ends.
        """
        if self._is_mended or self._dice.random() >= _CUTS:
            write()
            return
        self._cut(write, operations)
        if self._disk.cut_at is not None:
            raise StoreUnavailable("the power goes")

    def crash(self) -> None:
        """Kill the process, or cut the power of its machine."""
        if self._disk.cut_at is not None or self._dice.random() < 0.7:
            self._disk.power_cut()
        else:
            self._disk.kill()

    def refuse(self) -> None:
        """Let one of the next operations of the disk fail."""
        at = self._disk.operations + self._dice.randint(1, 6)
        self._disk.fail_at[at] = self._dice.choice((Full, StoreUnavailable))

    def mend(self) -> None:
        """Refuse nothing any more, and lose no power."""
        self._disk.fail_at.clear()
        self._is_mended = True

    def harm(self, how: str) -> None:
        """Harm the files of a node that is down."""
        self._disk.fail_at.clear()
        paths = [path for path in (self._place.log, self._place.guard) if self._disk.exists(path)]
        match how:
            case "flip":
                for path in paths[: self._dice.randint(1, 2)]:
                    size = len(self._disk.contents(path))
                    self._disk.flip(path, self._dice.randrange(max(1, size * 8)))
            case "guard":
                self._disk.remove(self._place.guard)
                self._disk.sync_folder(self._place.guard)
            case "lie":
                self._disk.power_cut()
                self._disk.is_lying = False
            case "wipe":
                for path in paths:
                    self._disk.remove(path)
                self._disk.sync_folder(self._place.log)
                self.is_silent = self.is_renewed = False  # who has nothing left is told again
            case "backup":
                for path, content in self._backup.items():
                    self._disk.put_back(path, content)
            case _:
                assert how == LEDGER, how  # another file's harm: these two stay as they are

    def lie(self) -> None:
        """Make nothing durable from here on, and say that it is."""
        self._disk.is_lying, self.is_renewed = True, False

    def back_up(self) -> None:
        """Copy both files somewhere else."""
        self._backup = {
            path: self._disk.contents(path)
            for path in (self._place.log, self._place.guard)
            if self._disk.exists(path)
        }


def _highest(records: Iterable[bytes], height: int) -> int:
    """The highest height that a vote in the log is of, or this one."""
    marks = [mark for record in records if (mark := mark_of(record)) is not None]
    return max([height, *(mark.height for mark in marks)])
