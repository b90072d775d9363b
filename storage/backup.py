"""A backup: named parts in one file, sealed under a password, chunk by chunk.

Knows: the sealed format, names and sizes of parts. Must not know: what the parts are, or which
of a home's files may leave it (`node/archive` does). Synchronous: call it in a thread.
Source: docs/spec/storage.md, "Backup".

Invariant: no byte is given out before it is authentic (`sealedchunks`).
"""

import functools
import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.storage.errors import WrongPassword
from prsm.storage.keystore import Box, Cost
from prsm.storage.sealedchunks import PREFIX_BYTES, Opening, Sealer, Sealing
from prsm.storage.wholefile import new_file, refused

MAGIC: Final = b"prsmbak1"
CHUNK_BYTES: Final = 1024 * 1024
PARTS_MAX: Final = 1024
_HEAD_BYTES_MAX: Final = 256
_MANIFEST_BYTES_MAX: Final = 256 * 1024
_LENGTH: Final = struct.Struct(">I")


class BadBackup(LocalError):
    """A file that is no backup, or whose content does not hold."""

    reason = "bad_backup"


class _Head(Record, frozen=True):
    """Readable without the password, authenticated by every chunk."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    cost: Annotated[str, msgspec.Meta(max_length=16)]  # name of a `Cost`: no figures from a file
    salt: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    prefix: Annotated[bytes, msgspec.Meta(min_length=PREFIX_BYTES, max_length=PREFIX_BYTES)]


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
        BadBackup: more parts than there may be, or one that is not as long as the manifest says:
            it changed meanwhile.
        NotFound, Full, StoreUnavailable: the disk refused.
    """
    if not password:
        raise LocalError("an empty password protects nothing", hint="choose a password")
    raw = encode(manifest)
    # Nobody could read it again: encoding checks no lengths.
    if (count := len(manifest.parts)) > PARTS_MAX or len(raw) > _MANIFEST_BYTES_MAX:
        raise BadBackup(
            f"{count} files in {len(raw)} bytes of names, at most {PARTS_MAX} in "
            f"{_MANIFEST_BYTES_MAX}",
            hint="move the oldest segments of the audit log (data/audit-*.log) elsewhere",
        )
    with new_file(path) as file:
        sink = _begin(file, password, cost)
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
    _source: "_Source"

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
        source = _Source.begin(file, path, password)
        size = _LENGTH.unpack(b"".join(source.take(_LENGTH.size)))[0]
        if size > _MANIFEST_BYTES_MAX:
            raise BadBackup(f"{path}: a manifest of {size} bytes, at most {_MANIFEST_BYTES_MAX}")
        try:
            raw = b"".join(source.take(size))
            manifest = decode(raw, Manifest, size_max=_MANIFEST_BYTES_MAX)
        except WireError as error:
            raise BadBackup(f"{path}: its manifest does not hold: {error.what}") from error
        yield Backup(manifest, source)


def _begin(file: BinaryIO, password: str, cost: Cost) -> Sealing:
    salt, prefix = secrets.token_bytes(16), secrets.token_bytes(PREFIX_BYTES)
    raw = encode(_Head(version=1, cost=cost.name.lower(), salt=salt, prefix=prefix))
    bound = MAGIC + _LENGTH.pack(len(raw)) + raw
    file.write(bound)
    return Sealing(file, Sealer(Box(password, salt, cost), prefix, bound, CHUNK_BYTES))


@dataclass(slots=True)
class _Source:
    """The plain bytes of an open backup, part after part."""

    path: Path
    opening: Opening
    chunk: bytes = b""

    @classmethod
    def begin(cls, file: BinaryIO, path: Path, password: str) -> "_Source":
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
        sealer = Sealer(Box(password, head.salt, cost), head.prefix, start + raw, CHUNK_BYTES)
        return cls(path, Opening(file, sealer, functools.partial(_refusal, path)))

    def take(self, count: int) -> Iterator[bytes]:
        """Give out exactly that many bytes."""
        while count:
            if not self.chunk:
                if self.opening.is_last:
                    raise BadBackup(f"{self.path} ends before its last part does")
                self.chunk = self.opening.next_chunk()
            data, self.chunk = self.chunk[:count], self.chunk[count:]
            count -= len(data)
            yield data

    def require_end(self) -> None:
        if self.chunk or not self.opening.is_last:
            raise BadBackup(f"{self.path} holds more bytes than its manifest names")


def _refusal(path: Path, place: int) -> LocalError:
    if not place:
        return WrongPassword(
            f"{path} does not open: wrong password, or the file was changed",
            hint="type the password again, or take another copy of the file",
        )
    return BadBackup(
        f"{path} is damaged or cut off behind byte {place * CHUNK_BYTES}",
        hint="take another copy of the file, or another backup",
    )


def _no_backup(path: Path, why: str) -> BadBackup:
    return BadBackup(f"{path} is no backup: {why}", hint="make one: prsm backup FILE")
