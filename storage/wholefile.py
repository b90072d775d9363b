"""Files that are there whole or not at all: written beside their name, synced, then renamed.

Knows: modes, fsync, rename. Must not know: what is in the file. Loads no event loop, so that the
client may use it.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from prsm.protocol.errors import LocalError
from prsm.storage.disk import PosixDisk, disk_error
from prsm.storage.errors import Conflict

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Of file systems without hard links.
_NO_LINKS: Final = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS))


@contextmanager
def new_file(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Write a file; an error inside the block leaves nothing behind.

    Args:
        path: its name, not taken yet; the folder exists.
        mode: of the file, less what this process masks.

    Raises:
        Conflict: a file of that name exists, or came meanwhile; nothing is overwritten.
        NotFound: there is no such folder.
        Full, StoreUnavailable: the disk refused.
    """
    if os.path.lexists(path):
        raise _taken(path)
    # A name of this write alone: two of one path must not share a part. Short, as `path` may be
    # as long as names get.
    fresh = path.with_name(f".{PosixDisk().nonce():016x}.part")
    with _beside(path, fresh, _name_new, mode=mode) as file:
        yield file


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file of mode 0600 in the place of an older one, durable on return.

    Raises:
        NotFound: there is no such folder.
        Full, StoreUnavailable: the disk refused; the older one stays.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    PosixDisk().remove(str(fresh))
    with _beside(path, fresh, os.replace, mode=0o600) as file:
        file.write(content)


def regular_size(path: Path) -> int:
    """Return the size of a regular file.

    Raises:
        NotFound: there is none.
        LocalError: a folder, a pipe or a device.
    """
    with refused(path):
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise LocalError(f"{path} is no regular file", hint="name one file")
    return found.st_size


@contextmanager
def _beside(
    path: Path, fresh: Path, name: Callable[[Path, Path], None], *, mode: int
) -> Iterator[BinaryIO]:
    disk = PosixDisk()
    try:
        descriptor = os.open(fresh, _FLAGS, mode)
    except FileNotFoundError as error:
        raise disk_error(error, str(path.parent)) from error
    except OSError as error:
        raise disk_error(error, str(path)) from error
    try:
        with refused(path):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
            name(fresh, path)
        disk.sync_folder(str(path))
    finally:
        disk.remove(str(fresh))


def _name_new(fresh: Path, path: Path) -> None:
    """Give a file its name, unless another one has it: a rename would take that one's place."""
    try:
        os.link(fresh, path)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise _taken(path) from error
        fresh.replace(path)


def _taken(path: Path) -> Conflict:
    return Conflict(f"{path} exists already", hint="choose another name, or remove it first")


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into typed errors that name the file."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, str(error.filename or path)) from error
