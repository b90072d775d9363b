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

_FOLDER: Final = Path("data")


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

    def open(self, height: int) -> Found:
        """Return what is durable.

        Args:
            height: of the ledger as found.
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

    def open(self, height: int) -> Found:
        """Return what is durable."""
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
        self._backup: dict[str, bytes] = {}

    def open(self, height: int) -> Found:
        """Open both and compare them."""
        opened = open_signfiles(self._disk, _FOLDER, ledger_height=height)
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

    def _cut(self, write: Callable[[], None], operations: int) -> None:
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
        self._files.renew(low + 1, records)

    @property
    def is_blank(self) -> bool:
        """Has the guard never moved?"""
        return self._files.is_blank

    def forbid_if_blank(self) -> str | None:
        """Leave a guard that never opens."""
        return self._files.forbid_if_blank()

    def forbid(self, why: str) -> None:
        """Leave a guard that never opens, whatever the log holds."""
        self._files.forbid(why)

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
        """Refuse nothing any more."""
        self._disk.fail_at.clear()

    def harm(self, how: str) -> None:
        """Harm the files of a node that is down."""
        self.mend()
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
            case _:
                for path, content in self._backup.items():
                    self._disk.put_back(path, content)

    def lie(self) -> None:
        """Make nothing durable from here on, and say that it is."""
        self._disk.is_lying = True

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
