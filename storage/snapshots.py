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
from typing import BinaryIO, Final, final

from prsm.storage.disk import PosixDisk
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.wholefile import refused

_META: Final = "meta"
_CRC_BYTES: Final = 4
_SUMMED_MAX: Final = 8  # large chunks whose parts are being read


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
        # Of a chunk of several parts that was read through: their sums. A root has one content.
        self._sums: dict[tuple[bytes, int], list[int]] = {}

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

    def part(self, height: int, root: bytes, *, at: int, size_max: int) -> bytes:
        """The next bytes of a chunk; what is before and behind them is not held in memory.

        Args:
            height: of the snapshot.
            root: of the chunk.
            at: where they begin, a multiple of `size_max`.
            size_max: so many, fewer at the end.

        Raises:
            NotFound: no such snapshot or chunk, or no part begins there.
            Corrupt: damaged.
        """
        if at % size_max:
            raise NotFound(f"no part begins at {at}, each takes {size_max} bytes")
        path = self._folder / str(height) / root.hex()
        with refused(path):
            size = path.stat().st_size - _CRC_BYTES
        if size <= size_max:
            return _read(path)[at:]
        with refused(path), path.open("rb") as file:
            sums = self._sums.get((root, size_max))
            if sums is None:
                sums = _sums(file, path, size_max)
                kept = list(self._sums.items())[1 - _SUMMED_MAX :]
                self._sums = {**dict(kept), (root, size_max): sums}
            file.seek(_CRC_BYTES + at)
            raw = file.read(size_max)
        place = at // size_max
        if sums[place : place + 1] != ([zlib.crc32(raw)] if raw else []):
            raise _damaged(path)
        return raw

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
        raise _damaged(path)
    return raw


def _sums(file: BinaryIO, path: Path, size: int) -> list[int]:
    """Read a file through and check it; a sum for each of its parts."""
    whole, found, sums = file.read(_CRC_BYTES), 0, list[int]()
    while raw := file.read(size):
        found = zlib.crc32(raw, found)
        sums.append(zlib.crc32(raw))
    if found.to_bytes(_CRC_BYTES, "big") != whole:
        raise _damaged(path)
    return sums


def _damaged(path: Path) -> Corrupt:
    return Corrupt(f"{path} is damaged", hint="it is made anew with the next snapshot")
