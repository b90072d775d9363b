"""What a validator must not forget: its consensus log and its sign guard, opened as one.

Knows: what is found at start and what follows from it (docs/spec/pbft.md, "Start"). Must not
know: why a record is written. Anything that shows the log lost a promise makes the node an
observer: it follows and serves, and signs nothing.

Invariant: the guard trails the durable log, so a guard ahead of the log proves a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.consensus.pbft.records import highest_mark, mark_of
from prsm.node import logs
from prsm.protocol.errors import WireError
from prsm.storage.disk import Disk, PosixDisk
from prsm.storage.errors import Conflict, Corrupt
from prsm.storage.signguard import Mark, SignGuard
from prsm.storage.wal import Wal

log = logs.get("signlog")

# A new segment costs two fsyncs and a rename, so records of past heights wait for this many bytes.
SEGMENT_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """The log of this start: what it remembers, and why nothing may be signed (None: may)."""

    signlog: "SignLog"
    records: tuple[bytes, ...]
    observer: str | None


class SignLog:
    """Appends the records of a replica; used by the driver's task only."""

    def __init__(self, wal: Wal, guard: SignGuard | None) -> None:
        """Wrap an open log; `open_signlog` is the way in."""
        self._wal = wal
        self._guard = guard

    async def append(self, records: tuple[bytes, ...]) -> None:
        """Make records durable by one write and one fdatasync, then move the guard.

        Raises:
            StoreUnavailable, Full: the disk refused; nothing may be signed.
            Conflict: the guard has seen a later vote; nothing may be signed.
        """
        await trio.to_thread.run_sync(self._append, records)

    async def forget(self, height: int, keep: Sequence[bytes]) -> None:
        """Drop the records of heights that are in the ledger, once they fill a segment.

        Args:
            height: of the ledger; records of it and below are dropped.
            keep: records that still bind: a low mark above the ledger.
        """
        if self._wal.size > SEGMENT_BYTES:
            await trio.to_thread.run_sync(self._rotate, height, keep)

    def close(self) -> None:
        """Close both files."""
        self._wal.close()
        if self._guard is not None:
            self._guard.close()

    def _append(self, records: tuple[bytes, ...]) -> None:
        self._wal.append(records)
        if self._guard is not None:
            for record in records:
                mark = mark_of(record)
                if mark is not None:
                    self._guard.advance(*mark.position, mark.block_hash)

    def _rotate(self, height: int, keep: Sequence[bytes]) -> None:
        self._wal.rotate(height, keep)
        if self._guard is not None:
            self._guard.sync()


def open_signlog(disk: Disk, folder: Path, *, ledger_height: int) -> Opened:
    """Open or make log and guard of a validator.

    Args:
        disk: where.
        folder: holds `consensus.wal` and `signguard`.
        ledger_height: of the ledger as found.

    Raises:
        Conflict: another process holds the guard.
        StoreUnavailable, Full: the disk refused.
    """
    wal, replay = Wal.open(disk, str(folder / "consensus.wal"))
    guard_path = str(folder / "signguard")
    reason = replay.damaged
    if replay.created and ledger_height:
        reason = f"the consensus log is gone while the ledger has {ledger_height} blocks"
    guard: SignGuard | None = None
    try:
        if disk.exists(guard_path):
            guard = SignGuard.open(disk, guard_path)
        elif ledger_height or replay.records:
            reason = reason or "the sign guard is gone while the log or the ledger is not"
        else:
            guard = SignGuard.create(disk, guard_path)
    except Corrupt as error:
        reason = reason or error.what
    except Conflict:
        wal.close()
        raise
    if guard is not None and reason is None:
        reason = _loss(replay.records, replay.low_mark, guard.latest())
    if reason is not None:
        log.error("observer: this node signs nothing", why=reason)
    return Opened(SignLog(wal, guard), replay.records, reason)


def forbid_signing(folder: Path) -> None:
    """Leave a guard that never opens: whoever brings a key to this folder is an observer.

    For a restored home, also one whose backup is older than its first block: what the key signed
    since is known to no file here.

    Raises:
        StoreUnavailable, Full, Conflict: the disk refused, or there is a guard.
    """
    disk = PosixDisk()
    path = str(folder / "signguard")
    file = disk.create(path)
    try:
        file.pwrite(0, b"restored from a backup: what was signed before is not known here\n")
        file.fdatasync()
    finally:
        file.close()
    disk.sync_folder(path)


def _loss(records: tuple[bytes, ...], low_mark: int, seen: Mark) -> str | None:
    """Why the log cannot be whole, if the guard has seen more than it holds."""
    try:
        highest = highest_mark(records)
    except WireError as error:
        return f"the consensus log holds what this version cannot read: {error.what}"
    last = (0, 0, 0, 0) if highest is None else highest.position
    if seen.position > last and seen.height > low_mark:
        return f"the guard saw a vote at {seen.position}, the log ends at {last}"
    return None
