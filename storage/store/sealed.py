"""Files of the model store on disk: taken in, given their name, read, and checked.

Knows: folders, modes, stamps, hashing a file. Must not know: the index, loops; every function
here runs in a worker thread.
"""

import fcntl
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from prsm.storage.cid import Cid
from prsm.storage.dag.hashing import Hashed, Progress, bad_leaves, take_in
from prsm.storage.dag.unixfs import UNIXFS_V1_2025
from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Corrupt
from prsm.storage.interfaces import Leaf
from prsm.storage.store.index import RootRow, State
from prsm.storage.wholefile import refused

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
    """A synced copy without a name yet, its interior nodes, and the digests of its leaves."""

    path: Path
    added: AddedFile
    nodes: tuple[bytes, ...]
    leaves: tuple[bytes, ...]


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

    def reopen(self, root: Cid, size: int) -> bool:
        """Make a damaged file one on its way again; says whether any of it is there.

        Done again after a crash in between it ends the same.
        """
        file, partial = self.file(root), self.partial(root)
        with refused(file):
            if file.exists():
                file.chmod(0o600)
                file.replace(partial)
                PosixDisk().sync_folder(str(partial))
                PosixDisk().sync_folder(str(file))
            if partial.exists() and partial.stat().st_size > size:
                os.truncate(partial, size)
            return partial.exists()

    def remove(self, root: Cid) -> None:
        """Delete the bytes of a root."""
        for path in (self.file(root), self.partial(root)):
            drop(path)

    def remove_partial(self, root: Cid) -> None:
        """Delete what is left of a fetch."""
        drop(self.partial(root))

    def found(self, row: RootRow) -> State | None:
        """Say in which state a file really is; None if it never came to be."""
        is_whole = self.file(row.root).is_file() and self.file(row.root).stat().st_size == row.size
        match row.state:
            case State.SEALED:
                return State.SEALED if is_whole else State.BAD
            case State.BAD:
                return State.BAD
            case State.SEALING:
                # The bytes were synced before the row. A copy in the fresh folder lost its name.
                from_partial = row.stamp == FROM_PARTIAL and self.partial(row.root).is_file()
                return State.SEALED if is_whole or from_partial else None
            case State.PARTIAL:
                return State.PARTIAL if self.partial(row.root).is_file() else None

    def named(self) -> Sequence[Path]:
        """Return all files that have a name, in its order."""
        return sorted((self._folder / "files").iterdir())

    def sweep(self, known: Mapping[Cid, State]) -> None:
        """Delete copies that were never finished, and bytes that no row speaks of.

        A damaged file may have been cut off while it became one on its way: it is in either place.
        """
        files = {str(root) for root in known}
        partial = {str(root) for root, state in known.items() if state is not State.SEALED}
        for folder, kept in (("fresh", set[str]()), ("files", files), ("partial", partial)):
            for path in (self._folder / folder).iterdir():
                if path.name not in kept:
                    path.unlink()


def drop(path: Path) -> None:
    """Delete a name; it may be gone already.

    Raises:
        StoreUnavailable: the disk refused.
    """
    with refused(path):
        path.unlink(missing_ok=True)


def take(
    source: Path, target: Path, size: int, *, move: bool = False, progress: Progress | None = None
) -> FreshFile:
    """Copy a file, hash what was copied, and sync it; a failure or cancellation removes the copy.

    Args:
        source: the file; if it grows beyond `size` meanwhile it is refused.
        target: a new name in the store.
        size: bytes that were reserved.
        move: give the file itself another name instead, where both are on one file system; its
            first name stays until the caller removes it.
        progress: called with the bytes so far, in this thread.

    Raises:
        Full: no room, or more bytes than reserved.
        StoreUnavailable: the disk refused.
    """
    try:
        with refused(target):
            if move and _link(source, target):
                with target.open("rb", buffering=0) as file:
                    found = take_in(file.fileno(), None, size=size, progress=progress)
                    os.fdatasync(file.fileno())
            else:
                found = _copy(source, target, size, progress)
        added = AddedFile(found.dag.root, found.dag.size, found.sha256)
        return FreshFile(target, added, found.nodes, found.leaves)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def look_at(path: Path) -> FreshFile:
    """Hash a file where it lies.

    Raises:
        StoreUnavailable: the disk refused.
    """
    with refused(path), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        found = take_in(file.fileno(), None, size=size)
    added = AddedFile(found.dag.root, found.dag.size, found.sha256)
    return FreshFile(path, added, found.nodes, found.leaves)


def _copy(source: Path, target: Path, size: int, progress: Progress | None) -> Hashed:
    with source.open("rb", buffering=0) as old, target.open("xb+", buffering=0) as new:
        if _clone(old, new):
            # A clone is hashed itself: the original may change at any time.
            found = take_in(new.fileno(), None, size=size, progress=progress)
            os.fdatasync(new.fileno())
            return found
        if size:
            os.posix_fallocate(new.fileno(), 0, size)
        return take_in(old.fileno(), new.fileno(), size=size, progress=progress)


def _link(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:
        return False
    return True


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


def read_one(path: Path, leaf: Leaf) -> bytes:
    """Return what stands in place of a leaf now, unchecked."""
    with refused(path), path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), leaf.size, leaf.index * UNIXFS_V1_2025.chunk)


def damaged(
    path: Path, leaves: Sequence[Leaf], size: int, *, progress: Progress | None = None
) -> tuple[int, ...]:
    """Hash leaves of a file and return those that are not what they were.

    Args:
        path: the file; if it is gone all are damaged.
        leaves: some of its leaves, in order.
        size: of the whole file; if it has become longer, the last of `leaves` is damaged.
        progress: called with the bytes so far, in this thread.

    Raises:
        StoreUnavailable: the disk refused.
    """
    if not path.is_file():
        return tuple(leaf.index for leaf in leaves)
    with refused(path), path.open("rb", buffering=0) as file:
        bad = bad_leaves(file.fileno(), leaves, progress=progress)
        is_longer = os.fstat(file.fileno()).st_size > size
        last = leaves[-1].index
        return (*bad, last) if is_longer and last not in bad else bad


def stamp(path: Path) -> str:
    """Return what changes when somebody touches a file; empty if it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ""
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def bitmap_without(leaves: int, bad: Sequence[int]) -> bytes:
    """Return a bitset with all leaves set but the damaged ones."""
    bits = (1 << leaves) - 1
    for place in bad:
        bits &= ~(1 << place)
    return bits.to_bytes((leaves + 7) // 8, "little")


def bytes_of(row: RootRow) -> int:
    """Return how many bytes of a file are here and right."""
    if row.state is State.SEALED:
        return row.size
    chunk = UNIXFS_V1_2025.chunk
    last = max(1, -(-row.size // chunk)) - 1
    count = sum(bits.bit_count() for bits in row.bitmap) * chunk
    if last < 8 * len(row.bitmap) and row.bitmap[last // 8] >> last % 8 & 1:
        count -= (last + 1) * chunk - row.size
    return count


def full_bitmap(leaves: int) -> bytes:
    """Return a bitset with all leaves set."""
    return ((1 << leaves) - 1).to_bytes((leaves + 7) // 8, "little")


def _clone(old: BinaryIO, new: BinaryIO) -> bool:
    try:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
    except OSError:
        return False
    return True
