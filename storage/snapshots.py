"""Snapshots as files: one folder for each height, one file for each chunk, named by its root.

A folder is filled beside the others and renamed when all of it is there, so a folder with a
number is whole. Every file begins with a checksum of the rest: a torn or rotten one is never
shown to a peer. Knows: names and bytes. Must not know: what a chunk proves. Calls block: use a
thread. Source: docs/spec/storage.md, "Snapshots".
"""

import shutil
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final, final

from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.wholefile import refused

_META: Final = "meta"
_CRC_BYTES: Final = 4


@final
class Staging:
    """A snapshot on its way: chunks arrive in any order and survive a restart."""

    def __init__(self, folder: Path, name: str) -> None:
        """Use `folder/name`; nothing is made until the first chunk is put."""
        self._files = folder
        self.folder = folder / name

    def put(self, root: bytes, raw: bytes) -> None:
        """Keep a chunk; whether it is the right one is the caller's matter.

        Raises:
            Full, StoreUnavailable: the disk refused.
        """
        with refused(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self.folder / root.hex(), raw)

    def get(self, root: bytes) -> bytes | None:
        """A chunk that was put earlier, None if it is not here or damaged."""
        try:
            return _read(self.folder / root.hex())
        except (NotFound, Corrupt):
            return None

    def publish(self, height: int, meta: bytes, roots: Collection[bytes]) -> None:
        """Make it the snapshot of a height; all its chunks were put.

        Raises:
            Full, StoreUnavailable: the disk refused; it can be tried again.
        """
        names = {root.hex() for root in roots}
        with refused(self.folder):
            for path in self.folder.iterdir():
                if path.name not in names:
                    path.unlink()  # of an earlier try
            _write(self.folder / _META, meta)
            target = self._files / str(height)
            if target.exists():
                shutil.rmtree(target)
            disk = PosixDisk()
            disk.sync_folder(str(self.folder / _META))
            self.folder.replace(target)
            disk.sync_folder(str(target))

    def discard(self) -> None:
        """Forget what is here."""
        shutil.rmtree(self.folder, ignore_errors=True)


@final
class SnapshotFiles:
    """The snapshots of one node, each whole."""

    def __init__(self, folder: Path) -> None:
        """Use a folder; it is made with the first snapshot."""
        self._folder = folder

    def staging(self, name: str) -> Staging:
        """A place to fill; a name that is no number."""
        assert not name.isdigit()
        return Staging(self._folder, name)

    def heights(self) -> list[int]:
        """Heights of whole snapshots, ascending.

        Raises:
            StoreUnavailable: the disk refused.
        """
        if not self._folder.exists():
            return []
        with refused(self._folder):
            return sorted(int(path.name) for path in self._folder.iterdir() if _is_whole(path))

    def meta(self, height: int) -> bytes:
        """What proves the snapshot of a height.

        Raises:
            NotFound: no such snapshot.
            Corrupt: damaged.
        """
        return _read(self._folder / str(height) / _META)

    def chunk(self, height: int, root: bytes) -> bytes:
        """One chunk of a snapshot.

        Raises:
            NotFound: no such snapshot or chunk.
            Corrupt: damaged.
        """
        return _read(self._folder / str(height) / root.hex())

    def drop(self, height: int) -> None:
        """Forget a snapshot."""
        shutil.rmtree(self._folder / str(height), ignore_errors=True)


def _is_whole(path: Path) -> bool:
    return path.name.isdigit() and (path / _META).exists()


def _write(path: Path, raw: bytes) -> None:
    new = path.with_name(path.name + ".new")
    with refused(path):
        new.write_bytes(zlib.crc32(raw).to_bytes(_CRC_BYTES, "big") + raw)
        new.replace(path)


def _read(path: Path) -> bytes:
    with refused(path):
        found = path.read_bytes()
    raw = found[_CRC_BYTES:]
    if zlib.crc32(raw).to_bytes(_CRC_BYTES, "big") != found[:_CRC_BYTES]:
        raise Corrupt(f"{path} is damaged", hint="it is made anew with the next snapshot")
    return raw
