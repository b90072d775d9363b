"""What a validator must not forget: its consensus log and its sign guard, opened as one.

Knows: what is found at start and what follows from it (docs/spec/pbft.md, "Start"). Anything that
shows the log lost a promise makes the node an observer: it follows and serves, and signs nothing.
Must not know: why a record is written; threads (node/chain/signlog), so that the simulator runs
this very code.

Invariants: the guard trails the durable log, so a guard ahead of the log proves a loss; what
makes an observer is found again at every start, until `renew` begins both files afresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prsm.consensus.pbft.records import (
    Entered,
    LogRecord,
    LowMark,
    highest_mark,
    low_mark,
    mark_of,
    pack,
    unpack,
)
from prsm.protocol.errors import WireError
from prsm.storage.disk import Disk, PosixDisk
from prsm.storage.errors import Conflict, Corrupt
from prsm.storage.signguard import Mark, SignGuard
from prsm.storage.wal import Wal

_LOG_NAME: Final = "consensus.wal"
_GUARD_NAME: Final = "signguard"
_FROM_PEERS: Final = "the state came from peers, and the consensus log has never held a vote"


@dataclass(frozen=True, slots=True)
class Opened:
    """The files of this start: what they remember, and why nothing may be signed (None: may).

    `settled` is the highest height at which these files rule out or cannot bind a vote: of the
    ledger, of the low mark, and of a guard that is ahead of the log. `spoken_of` is the highest
    one that any of these files speaks of at all.
    """

    files: "SignFiles"
    records: tuple[bytes, ...]
    observer: str | None
    settled: int
    spoken_of: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where log and guard lie."""

    disk: Disk
    folder: Path

    @property
    def log(self) -> str:
        """Path of the consensus log."""
        return str(self.folder / _LOG_NAME)

    @property
    def guard(self) -> str:
        """Path of the sign guard."""
        return str(self.folder / _GUARD_NAME)


class SignFiles:
    """Log and guard; used by one task at a time. Each method waits for the disk."""

    def __init__(
        self, place: Place, wal: Wal, guard: SignGuard | None, *, observer: str | None, lasts: bool
    ) -> None:
        """Wrap open files; `open_signfiles` is the way in."""
        self._place = place
        self._wal = wal
        self._guard = guard
        self.is_observer = observer is not None
        self._lasts = lasts  # will the next start find an observer, too?
        self._forbidden: str | None = None  # why, since this start

    @property
    def size(self) -> int:
        """Bytes in the segment."""
        return self._wal.size

    @property
    def is_blank(self) -> bool:
        """Has the guard never moved? Where it is gone or unreadable this is an observer already."""
        return self._guard is not None and self._guard.latest().position == Mark().position

    def append(self, records: tuple[bytes, ...]) -> None:
        """Make records durable by one write and one fdatasync, then move the guard.

        A damaged log takes nothing, nor does that of an observer that the next start finds again:
        it signs nothing that would have to be remembered, and begins no new segment.

        Raises:
            StoreUnavailable, Full: the disk refused; nothing may be signed.
            Conflict: the guard has seen a later vote, or the log takes none: nothing may be signed.
        """
        if self._wal.damaged is not None or self._lasts:
            if any(map(mark_of, records)):
                raise Conflict(f"{self._place.log} is that of an observer and takes no vote")
            return
        self._wal.append(records)
        if self._guard is not None:
            for record in records:
                mark = mark_of(record)
                if mark is not None:
                    self._guard.advance(*mark.position, mark.block_hash)

    def forget(self, height: int, keep: Sequence[bytes]) -> None:
        """Drop the records of heights that are in the ledger: begin a new segment.

        An observer's log stays as it was found: it is the evidence.

        Args:
            height: of the ledger; records of it and below are dropped.
            keep: records that still bind: a low mark above the ledger, the height at work.
        """
        if self.is_observer:
            return
        self._wal.rotate(height, keep)
        if self._guard is not None:
            self._guard.sync()

    def renew(self, height: int, keep: Sequence[bytes] = ()) -> tuple[str, ...]:
        """Begin log and guard afresh: from here on nothing is signed below `height`.

        The end of the observer's state; the caller answers for it that no vote of this key is at
        `height` or above. The old files are kept beside the new ones. A crash in between leaves an
        observer, or the whole of it.

        Args:
            height: the first one at which this node may sign, at least 1.
            keep: records of that height or above that are known all the same.

        Returns:
            Paths of the files that were put aside.

        Raises:
            StoreUnavailable, Full: the disk refused; open the log again.
        """
        assert height >= 1
        place, low = self._place, height - 1
        aside = [_aside(place.disk, place.log)]
        self._wal.rotate(low, (pack(LowMark(low, None)), *keep), aside=aside[0])
        # The log goes first: it holds a record, so a guard that is gone makes an observer.
        if self._guard is not None:
            self._guard.close()
        if place.disk.exists(place.guard):
            aside.append(_aside(place.disk, place.guard))
            place.disk.rename(place.guard, aside[1])
        self._guard = SignGuard.create(place.disk, place.guard, mark=Mark(height=low))
        self.is_observer, self._lasts, self._forbidden = False, False, None
        return tuple(aside)

    def forbid_if_blank(self) -> str | None:
        """Sign nothing any more if this log has never held a vote; returns why, None if it has.

        For a state that came from peers: a node that lost its disk and one that is new look
        alike, and only an old log says what was signed before. Whoever asks again, because that
        state was not installed at once, hears the same until `renew`.

        Raises:
            StoreUnavailable, Full: the disk refused; part of it is done, so nothing may be signed.
        """
        if self.is_blank:
            self.forbid(_FROM_PEERS)
        return self._forbidden

    def forbid(self, why: str) -> None:
        """Sign nothing any more, nor after the next start, until `renew`.

        Where that is so already, the files stay: a guard ahead of its log is evidence.

        Raises:
            StoreUnavailable, Full: the disk refused; part of it is done, so nothing may be signed.
        """
        if not self._lasts:
            self.is_observer = True  # the log as it is now is evidence
            _spoil(self._place, self._guard)
            self._guard, self._lasts = None, True
        self._forbidden = why

    def close(self) -> None:
        """Close both files."""
        self._wal.close()
        if self._guard is not None:
            self._guard.close()


def open_signfiles(
    disk: Disk, folder: Path, *, ledger_height: int, ledger_lost: str | None = None
) -> Opened:
    """Open or make log and guard of a validator.

    Args:
        disk: where.
        folder: holds `consensus.wal` and `signguard`.
        ledger_height: of the ledger as found.
        ledger_lost: why a new ledger was begun; it makes an observer until the next start.

    Raises:
        Conflict: another process holds the guard.
        StoreUnavailable, Full: the disk refused.
    """
    place = Place(disk, folder)
    guard, bad_guard = _open_guard(place)
    reason: str | None = None
    try:
        if not disk.exists(place.log) and (ledger_height or guard is not None):
            rest = f"ledger has {ledger_height} blocks" if ledger_height else "sign guard is not"
            reason = f"the consensus log is gone while the {rest}"
            _spoil(place, guard)  # the next start finds a log
            guard = None
        wal, replay = Wal.open(disk, place.log)
        if guard is None and bad_guard is None and reason is None:
            if ledger_height or replay.records:
                bad_guard = "the sign guard is gone while the log or the ledger is not"
            elif disk.exists(_kept(place.guard, 1)):
                bad_guard = "the sign guard was put aside, and no other is in its place"
            else:
                guard = SignGuard.create(disk, place.guard)
    except BaseException:
        if guard is not None:
            guard.close()
        raise
    reason = replay.damaged or reason or bad_guard
    seen = Mark() if guard is None else guard.latest()
    low = low_mark(replay.records, replay.low_mark)
    loss = _loss(replay.records, low, seen)
    lasting = reason or loss
    reason = lasting or ledger_lost
    files = SignFiles(place, wal, guard, observer=reason, lasts=lasting is not None)
    settled = max(ledger_height, low, seen.height if loss else 0)
    heights = [_height_of(unpack(raw)) for raw in records_from(replay.records, 0)]
    spoken_of = max(settled, seen.height, *heights)
    return Opened(files, replay.records, reason, settled, spoken_of)


def forbid_signing(folder: Path) -> None:
    """Leave a guard that never opens: whoever brings a key to this folder is an observer.

    For a restored home, also one whose backup is older than its first block: what the key signed
    since is known to no file here.

    Raises:
        StoreUnavailable, Full, Conflict: the disk refused, or there is a guard.
    """
    place = Place(PosixDisk(), folder)
    _forbid(place, b"restored from a backup: what was signed before is not known here\n")


def _forbid(place: Place, why: bytes) -> None:
    file = place.disk.create(place.guard)
    try:
        file.pwrite(0, why)
        file.fdatasync()
    finally:
        file.close()
    place.disk.sync_folder(place.guard)


def _spoil(place: Place, guard: SignGuard | None) -> None:
    """Put a good guard aside for one that never opens."""
    if guard is not None:
        guard.close()
        if place.disk.exists(place.guard):  # else an earlier try was cut off behind this
            place.disk.rename(place.guard, _aside(place.disk, place.guard))
        _forbid(place, b"the consensus log was gone: what was signed before is not known here\n")


def _open_guard(place: Place) -> tuple[SignGuard | None, str | None]:
    """The guard, if there is a good one; else what is wrong with it, None if it is absent."""
    if not place.disk.exists(place.guard):
        return None, None
    try:
        return SignGuard.open(place.disk, place.guard), None
    except Corrupt as error:
        return None, error.what


def _aside(disk: Disk, path: str) -> str:
    """A name for a file that is kept for inspection."""
    number = 1
    while disk.exists(_kept(path, number)):
        number += 1
    return _kept(path, number)


def _kept(path: str, number: int) -> str:
    return f"{path}.kept-{number}"


def records_from(records: Sequence[bytes], height: int) -> tuple[bytes, ...]:
    """The records that speak of this height or a higher one, as far as they can be read."""
    kept = []
    for raw in records:
        try:
            record = unpack(raw)
        except WireError:
            break
        if _height_of(record) >= height:
            kept.append(raw)
    return tuple(kept)


def _height_of(record: LogRecord) -> int:
    return record.new_view.height if isinstance(record, Entered) else record.height


def _loss(records: tuple[bytes, ...], low: int, seen: Mark) -> str | None:
    """Why the log cannot be whole, if the guard has seen more than it holds."""
    try:
        highest = highest_mark(records)
    except WireError as error:
        return f"the consensus log holds what this version cannot read: {error.what}"
    last = (0, 0, 0, 0) if highest is None else highest.position
    if seen.position > last and seen.height > low:
        return f"the guard saw a vote at {seen.position}, the log ends at {last}"
    return None
