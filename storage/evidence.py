"""What a job may be checked by: named pieces of bytes, one growing file for each unit of a job.

Knows: files of frames, their bound, and that a frame cut off by a crash is none. Must not know
what a piece means. Pieces are dropped all at once with their unit; they are not synced, since
what a power cut loses here costs a check, not money that is settled.

A frame is u32 length of the name | u64 length of the data | name | data.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from prsm.storage.disk import disk_error
from prsm.storage.errors import Full

_SUFFIX: Final = ".evidence"
_FRAME: Final = struct.Struct(">IQ")
_NAME_BYTES_MAX: Final = 4096
BYTES_MAX: Final = 1024 * 1024 * 1024

UnitKey = tuple[bytes, int]


@dataclass(slots=True)
class _Log:
    path: Path
    size: int = 0
    pieces: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # name -> offset, length


class EvidenceFiles:
    """Pieces by unit, in one folder which this node alone uses.

    Invariant: a name is written once; `size` is the sum of all files.
    """

    def __init__(self, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        """Use a folder; it is made when missing, and what an earlier process kept is found.

        Raises:
            Conflict: a file is in the place of the folder.
            Full, StoreUnavailable: the disk refused.
        """
        self._folder, self._bytes_max = folder, bytes_max
        self._logs: dict[UnitKey, _Log] = {}
        self._writing = trio.Lock()
        self.size = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in sorted(folder.glob(f"*{_SUFFIX}")):
                self._take_up(path)
        except OSError as error:
            raise disk_error(error, str(folder)) from error

    def units(self) -> tuple[UnitKey, ...]:
        """Units of which something is kept."""
        return tuple(self._logs)

    def names(self, job: bytes, unit: int) -> tuple[bytes, ...]:
        """Names of the pieces of a unit, in the order they were kept."""
        log = self._logs.get((job, unit))
        return () if log is None else tuple(log.pieces)

    def has(self, job: bytes, unit: int, name: bytes) -> bool:
        """Is there a piece of that name?"""
        log = self._logs.get((job, unit))
        return log is not None and name in log.pieces

    async def keep(self, job: bytes, unit: int, name: bytes, data: bytes) -> None:
        """Keep a piece; one that is there already stays as it is.

        Raises:
            Full, StoreUnavailable: as `keep_all`.
        """
        await self.keep_all(job, unit, ((name, data),))

    async def keep_all(self, job: bytes, unit: int, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep named pieces, in this order, by one write; those that are there stay.

        Raises:
            Full: over the bound, or the disk has no room; none of them is kept.
            StoreUnavailable: the disk refused.
        """
        async with self._writing:
            fresh = [(n, data) for n, data in pieces if not self.has(job, unit, n)]
            due = sum(_FRAME.size + len(name) + len(data) for name, data in fresh)
            if not fresh:
                return
            if self.size + due > self._bytes_max:
                raise Full(f"{self.size + due} bytes kept for checks, at most {self._bytes_max}")
            log = self._logs.get((job, unit)) or _Log(self._path(job, unit))
            await trio.to_thread.run_sync(_append, log, [_frame(*piece) for piece in fresh])
            self._logs[job, unit] = log
            for name, data in fresh:
                log.size += _FRAME.size + len(name) + len(data)
                log.pieces[name] = (log.size - len(data), len(data))
            self.size += due

    async def read(
        self, job: bytes, unit: int, name: bytes, *, start: int = 0, size: int | None = None
    ) -> bytes | None:
        """A piece or a part of it, or None.

        Args:
            job: of the unit.
            unit: its index.
            name: of the piece.
            start: first byte of the part.
            size: of the part, None for all that follows; fewer where the piece ends.

        Raises:
            StoreUnavailable: the disk refused.
        """
        log = self._logs.get((job, unit))
        if log is None or name not in log.pieces:
            await trio.lowlevel.checkpoint()
            return None
        offset, length = log.pieces[name]
        part = max(0, length - start if size is None else min(size, length - start))
        return await trio.to_thread.run_sync(_read, log.path, offset + start, part)

    async def drop(self, job: bytes, unit: int) -> None:
        """Forget all pieces of a unit.

        Raises:
            StoreUnavailable: the disk refused.
        """
        async with self._writing:
            log = self._logs.pop((job, unit), None)
            if log is not None:
                self.size -= log.size
                await trio.to_thread.run_sync(_remove, log.path)

    def _path(self, job: bytes, unit: int) -> Path:
        return self._folder / f"{job.hex()}-{unit}{_SUFFIX}"

    def _take_up(self, path: Path) -> None:
        job, _, unit = path.stem.partition("-")
        try:
            key = (bytes.fromhex(job), int(unit))
        except ValueError:
            return  # not ours: left alone
        log = _Log(path)
        end = path.stat().st_size
        with path.open("rb") as file:
            while head := file.read(_FRAME.size):
                if len(head) < _FRAME.size:
                    break
                name_bytes, data_bytes = _FRAME.unpack(head)
                after = log.size + _FRAME.size + name_bytes + data_bytes
                if name_bytes > _NAME_BYTES_MAX or after > end:
                    break
                log.pieces[file.read(name_bytes)] = (after - data_bytes, data_bytes)
                log.size = after
                file.seek(after)
        os.truncate(path, log.size)
        self._logs[key] = log
        self.size += log.size


def _frame(name: bytes, data: bytes) -> bytes:
    assert len(name) <= _NAME_BYTES_MAX
    return b"".join((_FRAME.pack(len(name), len(data)), name, data))


def _append(log: _Log, frames: Sequence[bytes]) -> None:
    # At the known end: what a failed attempt left there is written over.
    try:
        fd = os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor with mode and place of its own
            file.seek(log.size)
            file.writelines(frames)
    except OSError as error:
        raise disk_error(error, str(log.path)) from error


def _read(path: Path, offset: int, length: int) -> bytes | None:
    """Read a part of a piece; None if its unit was dropped meanwhile."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, str(path)) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, str(path)) from error
