"""The few synchronous disk operations that consensus safety stands on, behind one port.

Knows: POSIX calls, and which of their errors mean "full" and which "do not trust this disk".
Must not know: what is written. `testnet/sim/disk` is the other implementation: it loses and
tears what was not synced, fills up, and flips bits, from a seed.

Paths are strings, so that a simulated disk needs no file system.
"""

import errno
import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from typing_extensions import override

from prsm.storage.errors import Conflict, Full, NotFound, StoreUnavailable

_MODE: Final = 0o600
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class DiskFile(Protocol):
    """One open file. Nothing is durable before `fdatasync` has returned."""

    @property
    def inode(self) -> int:
        """Number of the file itself: a copy of it has another one."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`; fewer only at the end of the file."""
        ...

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`; after an error any part of it may be there.

        Raises:
            Full: no room.
            StoreUnavailable: the disk refused.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes; durable after the next `fdatasync`."""
        ...

    def fdatasync(self) -> None:
        """Return when everything written to this file is durable.

        Raises:
            Full: no room. What was written is in doubt and must be read again after `open`.
            StoreUnavailable: the disk refused; likewise.
        """
        ...

    def lock_nowait(self) -> bool:
        """Take the file for this process until it is closed; False if another one has it."""
        ...

    def close(self) -> None:
        """Give the file and its lock back."""
        ...


class Disk(Protocol):
    """A file system, as far as the consensus log and the sign guard need one."""

    def open(self, path: str) -> DiskFile:
        """Open an existing file for reading and writing.

        Raises:
            NotFound: there is none.
        """
        ...

    def create(self, path: str) -> DiskFile:
        """Make an empty file, readable by its owner only.

        Raises:
            Conflict: it exists.
        """
        ...

    def exists(self, path: str) -> bool:
        """Say whether a file of that name is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing what has it; durable after `sync_folder`."""
        ...

    def remove(self, path: str) -> None:
        """Remove a name; nothing happens if it is not there."""
        ...

    def sync_folder(self, path: str) -> None:
        """Return when the names in the folder of `path` are durable."""
        ...

    def nonce(self) -> int:
        """Return 64 bits that nobody can guess."""
        ...


class PosixFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path

    @property
    def inode(self) -> int:
        """Number of the file itself."""
        return os.fstat(self._open).st_ino

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._open).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        parts = []
        try:
            while count > 0 and (part := os.pread(self._open, count, offset)):
                parts.append(part)
                offset += len(part)
                count -= len(part)
        except OSError as error:
            raise disk_error(error, self._path) from error
        return b"".join(parts)

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._open, rest, offset)
                offset += written
                rest = rest[written:]
        except OSError as error:
            raise disk_error(error, self._path) from error

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        try:
            os.ftruncate(self._open, size)
        except OSError as error:
            raise disk_error(error, self._path) from error

    def fdatasync(self) -> None:
        """Return when everything written is durable."""
        try:
            os.fdatasync(self._open)
        except OSError as error:
            raise disk_error(error, self._path) from error

    def lock_nowait(self) -> bool:
        """Take the file for this process."""
        try:
            fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Give the file and its lock back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _open(self) -> int:
        if self._descriptor < 0:
            raise StoreUnavailable(f"{self._path} is closed")
        return self._descriptor


class PosixDisk:
    """The file system of this machine."""

    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        return _open(path, os.O_RDWR)

    def create(self, path: str) -> DiskFile:
        """Make an empty file of mode 0600."""
        return _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def exists(self, path: str) -> bool:
        """Say whether a file of that name is there."""
        return os.path.lexists(path)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        try:
            os.replace(old, new)  # noqa: PTH105 - paths of this port are strings
        except OSError as error:
            raise disk_error(error, old) from error

    def remove(self, path: str) -> None:
        """Remove a name."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - paths of this port are strings
        except OSError as error:
            raise disk_error(error, path) from error

    def sync_folder(self, path: str) -> None:
        """Return when the names beside `path` are durable."""
        folder = os.path.dirname(path) or "."  # noqa: PTH120 - paths of this port are strings
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, folder) from error

    def nonce(self) -> int:
        """Return 64 bits of the system's dice."""
        return secrets.randbits(64)

    @override
    def __repr__(self) -> str:
        return "PosixDisk()"


def sync_file(path: Path) -> None:
    """Return when what anybody wrote to a file is durable.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error(error, str(path)) from error


def disk_error(error: OSError, path: str) -> Full | StoreUnavailable | NotFound | Conflict:
    """Say what an error of the operating system means for the caller."""
    if error.errno in _FULL:
        return Full(f"{path}: {error.strerror}", hint="free some space; the node goes on by itself")
    if error.errno == errno.ENOENT:
        return NotFound(f"{path} does not exist")
    if error.errno == errno.EEXIST:
        return Conflict(f"{path} exists already")
    if error.errno == errno.EROFS:
        return StoreUnavailable(
            f"{path}: the disk is mounted read-only",
            hint="look why (dmesg), and mount it read-write again",
        )
    return StoreUnavailable(
        f"{path}: {error.strerror or type(error).__name__}",
        hint="look at the disk and its rights (dmesg, df, mount)",
    )


def _open(path: str, flags: int) -> DiskFile:
    try:
        return PosixFile(os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE), path)
    except OSError as error:
        raise disk_error(error, path) from error
