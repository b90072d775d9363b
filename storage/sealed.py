"""Files of the model store on disk: taken in, given their name, read, and checked.

Knows: folders, modes, stamps, hashing a file. Must not know: the index, loops; every function
here runs in a worker thread.
"""

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import trio

from prsm.protocol.errors import LocalError
from prsm.storage.blockstore import RootRow, State
from prsm.storage.cid import Cid
from prsm.storage.disk import PosixDisk, disk_error
from prsm.storage.errors import Corrupt, Full
from prsm.storage.interfaces import Leaf
from prsm.storage.unixfs import UNIXFS_V1_2025, Importer

_FICLONE: Final = 0x40049409  # Linux: share the blocks of another file until one is written


# Which synced bytes a row in state `sealing` speaks of; in place of a stamp.
FROM_FRESH: Final = "fresh"
FROM_PARTIAL: Final = "partial"


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that is in the store now: what a manifest says of it."""

    root: Cid
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class FreshFile:
    """A synced copy without a name yet, and its interior nodes."""

    path: Path
    added: AddedFile
    nodes: tuple[bytes, ...]


class Folders:
    """Where the files of a store are: `files/CID`, `partial/CID`, `fresh/*`."""

    def __init__(self, folder: Path) -> None:
        """Name the folders; `make` makes them."""
        self._folder = folder

    def make(self) -> None:
        """Make what is missing.

        Raises:
            StoreUnavailable: the disk refused.
        """
        for name in ("files", "partial", "fresh"):
            with refused(self._folder / name):
                (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def file(self, root: Cid) -> Path:
        """Return where a sealed file is."""
        return self._folder / "files" / str(root)

    def partial(self, root: Cid) -> Path:
        """Return where a file on its way is."""
        return self._folder / "partial" / str(root)

    def fresh(self) -> Path:
        """Return a new name for a copy."""
        return self._folder / "fresh" / secrets.token_hex(8)

    def seal(self, fresh: Path, root: Cid) -> str:
        """Give a synced file its name, read-only, and return its stamp."""
        path = self.file(root)
        with refused(path):
            fresh.replace(path)
        return self.reseal(root)

    def reseal(self, root: Cid) -> str:
        """Make a named file read-only and its name durable, and return its stamp."""
        path = self.file(root)
        with refused(path):
            if not path.exists():
                self.partial(root).replace(path)
            path.chmod(0o444)
        PosixDisk().sync_folder(str(path))
        return stamp(path)

    def remove(self, root: Cid) -> None:
        """Delete the bytes of a root."""
        for path in (self.file(root), self.partial(root)):
            with refused(path):
                path.unlink(missing_ok=True)

    def remove_partial(self, root: Cid) -> None:
        """Delete what is left of a fetch."""
        with refused(self.partial(root)):
            self.partial(root).unlink(missing_ok=True)

    def found(self, row: RootRow) -> State | None:
        """Say in which state a file really is; None if it never came to be."""
        is_whole = self.file(row.root).is_file() and self.file(row.root).stat().st_size == row.size
        match row.state:
            case State.SEALED | State.BAD:
                return row.state if is_whole else State.BAD
            case State.SEALING:
                # The bytes were synced before the row. A copy in the fresh folder lost its name.
                from_partial = row.stamp == FROM_PARTIAL and self.partial(row.root).is_file()
                return State.SEALED if is_whole or from_partial else None
            case State.PARTIAL:
                return State.PARTIAL if self.partial(row.root).is_file() else None

    def sweep(self, known: Collection[Cid]) -> None:
        """Delete copies that were never finished, and files without a row."""
        names = {str(root) for root in known}
        for path in (self._folder / "fresh").iterdir():
            path.unlink()
        for folder in ("files", "partial"):
            for path in (self._folder / folder).iterdir():
                if path.name not in names:
                    path.unlink()


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


def take(source: Path, target: Path, size: int) -> FreshFile:
    """Copy a file, hash what was copied, and sync it; a failure or cancellation removes it.

    Args:
        source: the file; if it grows beyond `size` meanwhile it is refused.
        target: a new name in the store.
        size: bytes that were reserved.

    Raises:
        Full: no room, or more bytes than reserved.
        StoreUnavailable: the disk refused.
    """
    try:
        with refused(target), source.open("rb") as old, target.open("xb+") as new:
            return _copy(old, new, target, size)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _copy(old: BinaryIO, new: BinaryIO, target: Path, size: int) -> FreshFile:
    nodes: list[bytes] = []
    importer = Importer(UNIXFS_V1_2025, lambda _cid, raw: nodes.append(raw))
    whole = hashlib.sha256()
    # A clone is hashed itself: the original may change at any time.
    is_clone = _clone(old, new)
    read = 0
    while chunk := (new if is_clone else old).read(UNIXFS_V1_2025.chunk):
        trio.from_thread.check_cancelled()
        read += len(chunk)
        if read > size:
            raise Full(f"the file has grown beyond the {size} bytes it had")
        importer.add(chunk)
        whole.update(chunk)
        if not is_clone:
            new.write(chunk)
    new.flush()
    os.fdatasync(new.fileno())
    dag = importer.finish()
    return FreshFile(target, AddedFile(dag.root, dag.size, whole.digest()), tuple(nodes))


def read(path: Path, leaves: Sequence[Leaf], expected: str) -> list[bytes] | None:
    """Return leaves of a sealed file; None if its stamp is not the expected one."""
    if stamp(path) != expected:
        return None
    with refused(path), path.open("rb", buffering=0) as file:
        chunk = UNIXFS_V1_2025.chunk
        blocks = [os.pread(file.fileno(), leaf.size, leaf.index * chunk) for leaf in leaves]
    if [len(block) for block in blocks] != [leaf.size for leaf in leaves]:
        raise Corrupt(f"{path.name} is shorter than it was")
    return blocks


def first_bad(path: Path, leaves: Sequence[Leaf]) -> int | None:
    """Hash a file and return the first leaf that is not what it was, or None."""
    if not path.is_file():
        return 0
    with refused(path), path.open("rb") as file:
        for leaf in leaves:
            trio.from_thread.check_cancelled()
            if hashlib.sha256(file.read(leaf.size)).digest() != leaf.digest:
                return leaf.index
        return len(leaves) if file.read(1) else None


def stamp(path: Path) -> str:
    """Return what changes when somebody touches a file; empty if it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def full_bitmap(leaves: int) -> bytes:
    """Return a bitset with all leaves set."""
    return ((1 << leaves) - 1).to_bytes((leaves + 7) // 8, "little")


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into typed errors."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, str(error.filename or path)) from error


def _clone(old: BinaryIO, new: BinaryIO) -> bool:
    try:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        return False
    return True
