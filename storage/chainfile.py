"""A file of committed blocks: a small head, one frame for each height, a checksum.

Knows: heights, lengths, opaque records. Must not know: what a block is, or whether it holds
(`node/archive` judges). Loads no event loop: the client writes such files too.
Source: docs/spec/storage.md, "Chain file".
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Protocol

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.ids import Bytes32
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, INT_MAX
from prsm.storage.wholefile import new_file, refused

MAGIC: Final = b"prsmchn1"
_HEAD_BYTES_MAX: Final = 128
_CHECKSUM_BYTES: Final = 32
_LENGTH: Final = struct.Struct(">I")

_Height = Annotated[int, msgspec.Meta(ge=1, le=INT_MAX)]


class BadChainFile(LocalError):
    """A file that is no chain file, or not the one that was written."""

    reason = "bad_chain_file"


class ChainHead(Record, frozen=True):
    """What a chain file holds."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    genesis: Bytes32  # digest of the network's first document
    first: _Height
    last: _Height  # included


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class ChainWriter:
    """Takes the records of a new file, in the order of their heights."""

    def __init__(self, file: BinaryIO, head: ChainHead) -> None:
        """Begin the file; `write_chain` is the way in."""
        self._file = file
        self._hash: _Hash = hashlib.sha256()
        self._last = head.last
        self.size_bytes = 0
        self.next_height: int = head.first
        raw = encode(head)
        self._write(MAGIC + _LENGTH.pack(len(raw)) + raw)

    def add(self, record: bytes) -> None:
        """Append the record of `next_height`."""
        assert self.next_height <= self._last
        assert 0 < len(record) <= BULK_FRAME_BYTES_MAX
        self._write(_LENGTH.pack(len(record)) + record)
        self.next_height += 1

    def finish(self) -> None:
        """Append the checksum, once the last record is there."""
        assert self.next_height == self._last + 1, "a chain file with a hole"
        self._write(self._hash.digest())

    def _write(self, raw: bytes) -> None:
        self._hash.update(raw)
        self._file.write(raw)
        self.size_bytes += len(raw)


@contextmanager
def write_chain(path: Path, head: ChainHead) -> Iterator[ChainWriter]:
    """Write a new chain file; an error inside the block leaves none.

    Raises:
        Conflict: the file exists.
        NotFound, Full, StoreUnavailable: the disk refused.
    """
    assert head.first <= head.last
    with new_file(path) as file:
        writer = ChainWriter(file, head)
        yield writer
        writer.finish()


@dataclass(frozen=True, slots=True)
class ChainFile:
    """A chain file that was opened: its head is read, its records are not."""

    path: Path
    head: ChainHead

    @classmethod
    def open(cls, path: Path) -> "ChainFile":
        """Read the head.

        Raises:
            NotFound, StoreUnavailable: the file cannot be read.
            BadChainFile: no chain file.
        """
        with refused(path), path.open("rb") as file:
            return cls(path, _read_head(file, path, hashlib.sha256()))

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Heights and records in order; whether the checksum holds is said at the end.

        Raises:
            BadChainFile: cut off, a frame of impossible length, or a checksum that does not hold.
        """
        checksum = hashlib.sha256()
        with refused(self.path), self.path.open("rb") as file:
            head = _read_head(file, self.path, checksum)
            for height in range(head.first, head.last + 1):
                yield height, self._record(file, height, checksum)
            found = file.read(_CHECKSUM_BYTES + 1)
        if found != checksum.digest():
            raise BadChainFile(
                f"{self.path}: the checksum at its end does not hold, it was changed or cut off",
                hint="copy the file again, or export it again",
            )

    def _record(self, file: BinaryIO, height: int, checksum: _Hash) -> bytes:
        prefix = file.read(_LENGTH.size)
        size = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 0
        record = file.read(size) if 0 < size <= BULK_FRAME_BYTES_MAX else b""
        if not record or len(record) != size:
            raise BadChainFile(
                f"{self.path} is damaged at height {height}: {len(record)} bytes where its frame "
                f"says {size}, at most {BULK_FRAME_BYTES_MAX}",
                hint="copy the file again, or export it again",
            )
        checksum.update(prefix + record)
        return record


def _read_head(file: BinaryIO, path: Path, checksum: _Hash) -> ChainHead:
    start = file.read(len(MAGIC) + _LENGTH.size)
    size = _LENGTH.unpack(start[len(MAGIC) :])[0] if len(start) == len(MAGIC) + 4 else 0
    if not start.startswith(MAGIC) or not 0 < size <= _HEAD_BYTES_MAX:
        raise _no_chain_file(path, "other first bytes than one has")
    raw = file.read(size)
    try:
        head = decode(raw, ChainHead, size_max=_HEAD_BYTES_MAX)
    except WireError as error:
        raise _no_chain_file(path, error.what) from error
    if head.first > head.last:
        raise _no_chain_file(path, f"heights {head.first} to {head.last}")
    checksum.update(start + raw)
    return head


def _no_chain_file(path: Path, why: str) -> BadChainFile:
    return BadChainFile(f"{path} is no chain file: {why}", hint="write one: prsm chain export FILE")
