"""A backup: named parts in one file, sealed under a password, chunk by chunk.

Knows: the sealed format, names and sizes of parts. Must not know: what the parts are, or which
of a home's files may leave it (`node/archive` does). Synchronous: call it in a thread.
Source: docs/spec/storage.md, "Backup".

Invariants: every chunk is bound to the head, to its place and to whether it is the last one, so
nothing can be exchanged, moved, repeated or cut off; no byte is given out before it is authentic.
"""

import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.storage.errors import WrongPassword
from prsm.storage.keystore import Box, Cost
from prsm.storage.wholefile import new_file, refused

MAGIC: Final = b"prsmbak1"
CHUNK_BYTES: Final = 1024 * 1024
PARTS_MAX: Final = 1024
_HEAD_BYTES_MAX: Final = 256
_MANIFEST_BYTES_MAX: Final = 256 * 1024
_TAG_BYTES: Final = 16
_PREFIX_BYTES: Final = 7
_LENGTH: Final = struct.Struct(">I")


class BadBackup(LocalError):
    """A file that is no backup, or whose content does not hold."""

    reason = "bad_backup"


class _Head(Record, frozen=True):
    """Readable without the password, authenticated by every chunk."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    cost: Annotated[str, msgspec.Meta(max_length=16)]  # name of a `Cost`: no figures from a file
    salt: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    prefix: Annotated[bytes, msgspec.Meta(min_length=_PREFIX_BYTES, max_length=_PREFIX_BYTES)]


class Part(Record, frozen=True):
    """One file of a backup."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    size: UInt


class Manifest(Record, frozen=True):
    """What a backup holds; its parts follow in this order."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    schema: U32  # of the home it was taken from
    made_ms: UInt
    genesis: Bytes32  # digest of the network's first document
    height: UInt  # of the ledger
    head: Bytes32  # hash of its last block; the genesis digest at height 0
    parts: Annotated[tuple[Part, ...], msgspec.Meta(max_length=PARTS_MAX)]


def write_backup(
    path: Path, manifest: Manifest, parts: Sequence[BinaryIO], *, password: str, cost: Cost
) -> None:
    """Seal parts into a new file.

    Args:
        path: the new file.
        manifest: names and sizes of the parts.
        parts: open files of those sizes, in the manifest's order.
        password: of a person, not empty.
        cost: of guessing it.

    Raises:
        LocalError: an empty password.
        Conflict: the file exists.
        BadBackup: a part is not as long as the manifest says: it changed meanwhile.
        NotFound, Full, StoreUnavailable: the disk refused.
    """
    if not password:
        raise LocalError("an empty password protects nothing", hint="choose a password")
    with new_file(path) as file:
        sink = _Sealing.begin(file, password, cost)
        raw = encode(manifest)
        sink.write(_LENGTH.pack(len(raw)) + raw)
        for part, source in zip(manifest.parts, parts, strict=True):
            left = part.size
            while left and (data := source.read(min(left, CHUNK_BYTES))):
                sink.write(data)
                left -= len(data)
            if left or source.read(1):
                raise BadBackup(f"{part.name} changed its size while it was read", hint="try again")
        sink.finish()


@dataclass(frozen=True, slots=True)
class Backup:
    """An open backup whose first chunk was authentic."""

    manifest: Manifest
    _source: "_Opening"

    def parts(self) -> Iterator[tuple[Part, Iterator[bytes]]]:
        """Each part with its bytes, in order; the bytes of one are taken before the next.

        Raises:
            BadBackup: cut off or changed; nothing given out before was.
        """
        for part in self.manifest.parts:
            yield part, self._source.take(part.size)
        self._source.require_end()


@contextmanager
def open_backup(path: Path, *, password: str) -> Iterator[Backup]:
    """Open a backup and read its manifest.

    Raises:
        NotFound, StoreUnavailable: the file cannot be read.
        BadBackup: no backup.
        WrongPassword: wrong password, or its first bytes were changed; nobody can tell which.
    """
    with refused(path), path.open("rb") as file:
        source = _Opening.begin(file, path, password)
        size = _LENGTH.unpack(b"".join(source.take(_LENGTH.size)))[0]
        if size > _MANIFEST_BYTES_MAX:
            raise BadBackup(f"{path}: a manifest of {size} bytes, at most {_MANIFEST_BYTES_MAX}")
        try:
            raw = b"".join(source.take(size))
            manifest = decode(raw, Manifest, size_max=_MANIFEST_BYTES_MAX)
        except WireError as error:
            raise BadBackup(f"{path}: its manifest does not hold: {error.what}") from error
        yield Backup(manifest, source)


@dataclass(slots=True)
class _Sealing:
    """Cuts what is written into chunks and seals each (the STREAM construction)."""

    file: BinaryIO
    box: Box
    prefix: bytes
    bound: bytes
    place: int = 0
    waiting: bytearray = field(default_factory=bytearray)

    @classmethod
    def begin(cls, file: BinaryIO, password: str, cost: Cost) -> "_Sealing":
        salt, prefix = secrets.token_bytes(16), secrets.token_bytes(_PREFIX_BYTES)
        raw = encode(_Head(version=1, cost=cost.name.lower(), salt=salt, prefix=prefix))
        bound = MAGIC + _LENGTH.pack(len(raw)) + raw
        file.write(bound)
        return cls(file, Box(password, salt, cost), prefix, bound)

    def write(self, data: bytes) -> None:
        self.waiting += data
        # A full chunk waits until more comes: only then it is known not to be the last one.
        while len(self.waiting) > CHUNK_BYTES:
            self._seal(bytes(self.waiting[:CHUNK_BYTES]), is_last=False)
            del self.waiting[:CHUNK_BYTES]

    def finish(self) -> None:
        self._seal(bytes(self.waiting), is_last=True)

    def _seal(self, chunk: bytes, *, is_last: bool) -> None:
        nonce = _nonce(self.prefix, self.place, is_last=is_last)
        self.file.write(self.box.seal(nonce, chunk, bound=self.bound))
        self.place += 1


@dataclass(slots=True)
class _Opening:
    """Opens one chunk after the other; holds at most one."""

    file: BinaryIO
    path: Path
    box: Box
    prefix: bytes
    bound: bytes
    ahead: bytes
    place: int = 0
    chunk: bytes = b""
    is_last: bool = False

    @classmethod
    def begin(cls, file: BinaryIO, path: Path, password: str) -> "_Opening":
        start = file.read(len(MAGIC) + _LENGTH.size)
        size = _LENGTH.unpack(start[len(MAGIC) :])[0] if len(start) == len(MAGIC) + 4 else 0
        if not start.startswith(MAGIC) or not 0 < size <= _HEAD_BYTES_MAX:
            raise _no_backup(path, "other first bytes than one has")
        raw = file.read(size)
        try:
            head = decode(raw, _Head, size_max=_HEAD_BYTES_MAX)
            cost = Cost[head.cost.upper()]
        except (WireError, KeyError) as error:
            raise _no_backup(path, f"its head does not hold: {error}") from error
        box = Box(password, head.salt, cost)
        return cls(file, path, box, head.prefix, start + raw, file.read(CHUNK_BYTES + _TAG_BYTES))

    def take(self, count: int) -> Iterator[bytes]:
        """Give out exactly that many bytes."""
        while count:
            if not self.chunk:
                self._open_next()
            data, self.chunk = self.chunk[:count], self.chunk[count:]
            count -= len(data)
            yield data

    def require_end(self) -> None:
        if self.chunk or not self.is_last:
            raise BadBackup(f"{self.path} holds more bytes than its manifest names")

    def _open_next(self) -> None:
        if self.is_last:
            raise BadBackup(f"{self.path} ends before its last part does")
        sealed, self.ahead = self.ahead, self.file.read(CHUNK_BYTES + _TAG_BYTES)
        self.is_last = not self.ahead
        nonce = _nonce(self.prefix, self.place, is_last=self.is_last)
        chunk = self.box.open(nonce, sealed, bound=self.bound)
        if chunk is None and not self.place:
            raise WrongPassword(
                f"{self.path} does not open: wrong password, or the file was changed",
                hint="type the password again, or take another copy of the file",
            )
        if not chunk:
            raise BadBackup(
                f"{self.path} is damaged or cut off behind byte {self.place * CHUNK_BYTES}",
                hint="take another copy of the file, or another backup",
            )
        self.chunk = chunk
        self.place += 1


def _nonce(prefix: bytes, place: int, *, is_last: bool) -> bytes:
    return prefix + place.to_bytes(4, "big") + bytes([is_last])


def _no_backup(path: Path, why: str) -> BadBackup:
    return BadBackup(f"{path} is no backup: {why}", hint="make one: prsm backup FILE")
