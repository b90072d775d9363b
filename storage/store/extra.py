"""A second store beside our own, shared and read-only: another node's, or a lab's common disk.

Knows: where another store keeps its sealed files and its index. Must not know: who fills it. It is
never written, and nothing of it is believed: a file is hashed as a whole before its path is given
out, and again when its stamp has changed; a block is hashed each time. Synchronous: call it in a
thread. Source: docs/spec/storage.md, "Extra stores".
"""

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from prsm.storage.cid import Cid
from prsm.storage.store.sealed import stamp

_READ_BYTES: Final = 1024 * 1024
_BUSY_SECONDS: Final = 0.2  # another node writes there: its index is a shortcut, no more


class ExtraStore:
    """One folder in the form of a model store."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it need not be there now."""
        self.folder = folder
        self._good: dict[Cid, str] = {}  # stamps of files whose hash was right

    def find_file(self, root: Cid, size: int, sha256: bytes) -> Path | None:
        """The path of a file that is here and right; hashes it the first time, O(size).

        Args:
            root: of the file.
            size: bytes, as the manifest says.
            sha256: of the whole file, as the manifest says.
        """
        path = self.folder / "files" / str(root)
        try:
            seen = stamp(path)
            if not seen or path.stat().st_size != size or not path.is_file():
                return None
            if self._good.get(root) == seen:
                return path
            if _sha256(path) != sha256 or stamp(path) != seen:
                return None
        except OSError:  # the disk is somebody else's: gone, closed to us, or broken
            return None
        self._good[root] = seen
        return path

    def has_file(self, root: Cid, size: int) -> bool:
        """Whether a file of that name and size is here; its bytes are not looked at."""
        try:
            return (self.folder / "files" / str(root)).stat().st_size == size
        except OSError:
            return False

    def find_block(self, digest: bytes) -> bytes | None:
        """An interior node or manifest of that sha2-256; None if it is not to be had here."""
        index = self.folder / "index.db"
        if not os.access(index, os.R_OK):
            return None
        # immutable: nothing is written there, not even a lock; a torn read is caught by the hash.
        place = f"file:{quote(str(index))}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(place, uri=True, timeout=_BUSY_SECONDS)) as db:
                row = db.execute("SELECT bytes FROM block WHERE digest=?", (digest,)).fetchone()
        except sqlite3.Error:
            return None
        raw = None if row is None else bytes(row[0])
        return raw if raw is not None and hashlib.sha256(raw).digest() == digest else None


def _sha256(path: Path) -> bytes:
    whole = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            whole.update(data)
    return whole.digest()
