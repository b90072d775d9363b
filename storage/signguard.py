"""The last thing this validator signed, outside the log, so that a lost log is noticed.

Knows: two alternating slots in one file, its lock, its own inode. Must not know: votes.
Format and rules: docs/spec/storage.md, "Sign guard".

Invariants: the guard is advanced only after the log is durable, so a guard ahead of the log
proves that the log lost a promise; it never goes back, and never stands for two digests of the
same (epoch, height, view, kind). It is synced only with a new log segment: after a power cut it
may trail, which is harmless.
"""

import zlib
from dataclasses import dataclass
from struct import Struct
from typing import Final

from prsm.storage.disk import Disk, DiskFile
from prsm.storage.errors import Conflict, Corrupt

_SLOT: Final = Struct(">8sQQQQ32sQQ")  # magic, epoch, height, view, kind, digest, counter, inode
_CRC: Final = Struct(">I")
_MAGIC: Final = b"prsmgrd1"
_SLOT_BYTES: Final = 128
# Slots stand in different pages: a torn page harms one of them only.
_OFFSETS: Final = (0, 4096)
_FILE_BYTES: Final = 4096 + _SLOT_BYTES

assert _SLOT.size + _CRC.size <= _SLOT_BYTES


@dataclass(frozen=True, slots=True)
class Mark:
    """What was signed last: kinds are numbered in the order they follow within a view."""

    epoch: int = 0
    height: int = 0
    view: int = 0
    kind: int = 0
    digest: bytes = bytes(32)

    @property
    def position(self) -> tuple[int, int, int, int]:
        """The part that only grows: epoch, height, view, kind."""
        return self.epoch, self.height, self.view, self.kind


class SignGuard:
    """The guard of one validator, locked for as long as it is open."""

    def __init__(self, file: DiskFile, mark: Mark, counter: int) -> None:
        """Wrap an open, locked file; `open` and `create` are the ways in."""
        self._file = file
        self._mark = mark
        self._counter = counter
        self._is_half = False  # a slot may be half written, in the cache or on the disk

    @classmethod
    def create(
        cls, disk: Disk, path: str, *, mark: Mark | None = None, replace: bool = False
    ) -> "SignGuard":
        """Make the guard of a new validator, durable when this returns.

        Args:
            disk: where.
            path: the guard's file.
            mark: where to begin; an observer that signs again begins at what it has seen.
            replace: put it in the place of a missing, damaged or foreign one.

        Raises:
            Conflict: there is one already, or another process has it.
            StoreUnavailable: the disk refused.
        """
        if not replace and disk.exists(path):
            raise Conflict(f"{path} exists: a second guard would forget what was signed")
        fresh = path + ".new"
        disk.remove(fresh)
        file = disk.create(fresh)
        try:
            guard = cls(_lock(file, path), mark or Mark(), 0)
            file.pwrite(_FILE_BYTES - 1, b"\0")
            # Both slots: later ones are synced rarely, so a power cut that tears one of them may
            # find the other as it is left here.
            for counter in (0, 1):
                guard._counter = counter
                guard._write()
            guard.sync()
            disk.rename(fresh, path)
            disk.sync_folder(path)
        except BaseException:
            file.close()
            raise
        return guard

    @classmethod
    def open(cls, disk: Disk, path: str) -> "SignGuard":
        """Read and lock the guard.

        Raises:
            NotFound: there is none.
            Conflict: another process has it.
            Corrupt: no slot is readable, or the file is a copy (its inode is not the noted one).
        """
        file = disk.open(path)
        try:
            counter, mark = _newest(_lock(file, path), path)
            guard = cls(file, mark, counter)
            if None in [_read(file, offset) for offset in _OFFSETS]:
                guard._mend()
            disk.sync_folder(path)  # the rename that made it may be in the cache only
        except BaseException:
            file.close()
            raise
        return guard

    def latest(self) -> Mark:
        """Return what was signed last."""
        return self._mark

    def advance(self, epoch: int, height: int, view: int, kind: int, digest: bytes) -> None:
        """Note what is about to be signed, once the log holds it durably.

        The same mark again is allowed: a message may be sent twice.

        Raises:
            Conflict: it lies before the latest mark, or has another digest at the same place.
            StoreUnavailable: the disk refused; nothing may be signed.
        """
        mark = Mark(epoch, height, view, kind, digest)
        if mark == self._mark:
            return
        if mark.position <= self._mark.position:
            raise Conflict(
                f"signing (epoch, height, view, kind) {mark.position} {digest.hex()[:16]} after "
                f"{self._mark.position} {self._mark.digest.hex()[:16]}"
            )
        before, self._mark = self._mark, mark
        self._counter += 1
        try:
            self._write()
        except BaseException:
            # The slot just tried is the one to try again; the other one still holds `before`.
            self._mark = before
            self._counter -= 1
            self._is_half = True
            raise
        if self._is_half:
            self.sync()
            self._is_half = False

    def sync(self) -> None:
        """Make the latest mark durable; called with each new log segment.

        Raises:
            StoreUnavailable: the disk refused.
        """
        self._file.fdatasync()

    def close(self) -> None:
        """Give file and lock back."""
        self._file.close()

    def _mend(self) -> None:
        """Write the slot that is not readable anew: the next power cut may tear the other one."""
        self._counter += 1
        self._write()
        self.sync()

    def _write(self) -> None:
        mark = self._mark
        body = _SLOT.pack(
            _MAGIC, *mark.position, mark.digest, self._counter, self._file.inode
        ).ljust(_SLOT_BYTES - _CRC.size, b"\0")
        slot = body + _CRC.pack(zlib.crc32(body))
        self._file.pwrite(_OFFSETS[self._counter % 2], slot)


def _lock(file: DiskFile, path: str) -> DiskFile:
    if not file.lock_nowait():
        raise Conflict(
            f"{path} is in use by another process",
            hint="one validator key runs in one daemon; stop the other one",
        )
    return file


def _newest(file: DiskFile, path: str) -> tuple[int, Mark]:
    slots = [slot for offset in _OFFSETS if (slot := _read(file, offset)) is not None]
    if not slots:
        raise Corrupt(f"{path}: no slot is readable")
    counter, inode, mark = max(slots, key=lambda slot: slot[0])
    if inode != file.inode:
        raise Corrupt(
            f"{path} was made as file {inode} and is file {file.inode}: a copy or a backup"
        )
    return counter, mark


def _read(file: DiskFile, offset: int) -> tuple[int, int, Mark] | None:
    """Return counter, inode and mark of a slot, or None if it is not whole."""
    slot = file.read(offset, _SLOT_BYTES)
    if len(slot) != _SLOT_BYTES:
        return None
    body, checksum = slot[: -_CRC.size], slot[-_CRC.size :]
    if checksum != _CRC.pack(zlib.crc32(body)):
        return None
    magic, epoch, height, view, kind, digest, counter, inode = _SLOT.unpack_from(body)
    if magic != _MAGIC:
        return None
    return counter, inode, Mark(epoch, height, view, kind, digest)
