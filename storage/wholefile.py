"""Files that are there whole or not at all: written beside their name, synced, then renamed.

Knows: modes, fsync, rename. Must not know: what is in the file. Loads no event loop, so that the
client may use it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from prsm.protocol.errors import LocalError
from prsm.storage.disk import PosixDisk, disk_error
from prsm.storage.errors import Conflict


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file of mode 0600; an error inside the block leaves nothing behind.

    Args:
        path: its name, not taken yet; the folder exists.

    Raises:
        Conflict: a file of that name exists; nothing is overwritten.
        NotFound: there is no such folder.
        Full, StoreUnavailable: the disk refused.
    """
    if os.path.lexists(path):
        raise Conflict(f"{path} exists already", hint="choose another name, or remove it first")
    with _beside(path) as file:
        yield file


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file of mode 0600 in the place of an older one, durable on return.

    Raises:
        NotFound: there is no such folder.
        Full, StoreUnavailable: the disk refused; the older one stays.
    """
    with _beside(path) as file:
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
def _beside(path: Path) -> Iterator[BinaryIO]:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    disk = PosixDisk()
    disk.remove(str(fresh))
    with refused(fresh):
        descriptor = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    try:
        with refused(fresh), os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        disk.rename(str(fresh), str(path))
        disk.sync_folder(str(path))
    finally:
        disk.remove(str(fresh))


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into typed errors that name the file."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, str(error.filename or path)) from error
