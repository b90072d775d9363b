"""CARv1: a root and the blocks below it in one file, written and read as a stream.

Knows: header, records, varints. Must not know: what the blocks mean (`assembly`), files on disk.
Every block is hashed before it is handed on, and before it is written; one record is in memory.
Source: IPLD "Content Addressable aRchives v1"; docs/spec/storage.md, "CAR".
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from prsm.protocol.errors import RemoteError, Unsupported, WireError
from prsm.protocol.limits import BLOCK_BYTES_MAX
from prsm.storage.cid import Cid, Codec, decode_cid
from prsm.storage.errors import Corrupt

_CID_BYTES: Final = 36
_CID_V0_BYTES: Final = 34
_RECORD_BYTES_MAX: Final = BLOCK_BYTES_MAX + _CID_BYTES
_VARINT_BYTES_MAX: Final = 4  # 2^28 - 1, above any record
_HEADER_BYTES_MAX: Final = 1024  # one root takes 58; longer ones have more roots
# The one canonical dag-cbor of {"roots": [CID], "version": 1}, up to the length of the CID.
_ROOTS: Final = b"\xa2\x65roots"
_VERSION: Final = b"\x67version\x01"
_HEAD_V2: Final = b"\xa1\x67version\x02"

assert _RECORD_BYTES_MAX < 1 << 7 * _VARINT_BYTES_MAX

Block = tuple[Cid, bytes]


class BadCar(RemoteError):
    """A file that is no CAR, or one whose blocks are not what it says."""

    reason = "bad_encoding"


class CarWriter:
    """Writes a CAR: the header first, then each block once, hashed before it goes out."""

    def __init__(self, out: BinaryIO, root: Cid, *, version: int = 1) -> None:
        """Write the header.

        Args:
            out: taken as it comes, never sought; the caller closes it.
            root: the one root.
            version: of the CIDs in the file: 1, or 0 for a DAG of the legacy profile.
        """
        self._out = out
        self._version = version
        self._seen: set[bytes] = set()
        self.blocks = 0
        self.bytes = 0
        self._write(encode_header(root, version=version))

    def has(self, cid: Cid) -> bool:
        """Say whether a block was written: its bytes need not be read again."""
        return cid.digest in self._seen

    def add(self, cid: Cid, block: bytes | memoryview) -> None:
        """Write a block, unless it was.

        Raises:
            Corrupt: bytes of another hash: what was read is not what was stored.
        """
        if self.has(cid):
            return
        if hashlib.sha256(block).digest() != cid.digest:
            raise Corrupt(f"the bytes of {cid} are not what they were")
        name = _cid_bytes(cid, self._version)
        self._write(_varint(len(name) + len(block)) + name)
        self._write(block)
        self._seen.add(cid.digest)
        self.blocks += 1

    def _write(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self.bytes += len(data)


class CarReader:
    """Reads a CAR: its root, then each block as it comes, verified."""

    def __init__(self, source: BinaryIO) -> None:
        """Read the header.

        Raises:
            BadCar: no CARv1.
            Unsupported: a CARv2, or no or several roots.
        """
        self._source = source
        self._at = 0
        self.root = self._header()

    def __iter__(self) -> Iterator[Block]:
        """Yield each block with its CID; the end of the file may stand behind a record only.

        Raises:
            BadCar: cut off, too large, a varint that is not minimal, an identity CID, an unknown
                hash or codec, or bytes of another hash than the CID's.
        """
        while (length := self._varint()) is not None:
            if not _CID_V0_BYTES <= length <= _RECORD_BYTES_MAX:
                raise BadCar(
                    f"a record of {length} bytes at byte {self._at}, "
                    f"{_CID_V0_BYTES} to {_RECORD_BYTES_MAX} are read"
                )
            name = self._read(_CID_V0_BYTES)
            if not name.startswith(b"\x12\x20"):
                name += self._read(min(_CID_BYTES, length) - _CID_V0_BYTES)
            try:
                cid = decode_cid(name)
            except WireError as error:
                raise BadCar(f"a block named by {error.what}") from error
            size = length - len(name)
            if size > BLOCK_BYTES_MAX:
                raise BadCar(f"block {cid} of {size} bytes, at most {BLOCK_BYTES_MAX}")
            block = self._read(size)
            if hashlib.sha256(block).digest() != cid.digest:
                raise BadCar(f"block {cid} has other bytes than its name says", penalty=100)
            yield cid, block

    def _header(self) -> Cid:
        length = self._varint()
        if length is None:
            raise BadCar("an empty file is no CAR")
        if length > _HEADER_BYTES_MAX:
            raise BadCar(f"a header of {length} bytes, at most {_HEADER_BYTES_MAX}")
        raw = self._read(length)
        if raw.startswith(_HEAD_V2):
            raise Unsupported("this is a CARv2", hint="ipfs dag export writes CARv1")
        if not raw.startswith(_ROOTS) or not raw.endswith(_VERSION):
            raise BadCar("no header of a CARv1")
        roots = raw[len(_ROOTS) : -len(_VERSION)]
        if not roots.startswith(b"\x81"):
            count = f"{roots[0] & 0x1F}" if 0x80 <= roots[0] <= 0x97 else "many"
            raise Unsupported(f"a CAR of {count} roots, one is read", hint="export each by itself")
        name = roots[6:]
        try:
            root = decode_cid(name)
        except WireError as error:
            raise BadCar(f"its root is {error.what}") from error
        if raw != encode_header(root, version=0 if len(name) == _CID_V0_BYTES else 1)[1:]:
            raise BadCar("a header in another spelling than the canonical one")
        return root

    def _varint(self) -> int | None:
        """Read a number; None at the end of the file."""
        value = shift = 0
        while True:
            byte = self._source.read(1)
            if not byte and not shift:
                return None
            if not byte or shift >= 7 * _VARINT_BYTES_MAX:
                raise BadCar(f"a length at byte {self._at} that does not end, or is too large")
            self._at += 1
            value |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        if byte[0] == 0 and shift > 7:
            raise BadCar(f"a length at byte {self._at} in more bytes than it needs")
        return value

    def _read(self, size: int) -> bytes:
        parts = []
        left = size
        while left:
            part = self._source.read(left)
            if not part:
                raise BadCar(f"it ends {left} bytes before the record at byte {self._at} does")
            parts.append(part)
            left -= len(part)
        self._at += size
        return parts[0] if len(parts) == 1 else b"".join(parts)


def write_car(out: BinaryIO, root: Cid, blocks: Iterable[Block], *, version: int = 1) -> int:
    """Write a whole CAR and return its bytes.

    Raises:
        Corrupt: a block of another hash than its CID's.
    """
    writer = CarWriter(out, root, version=version)
    for cid, block in blocks:
        writer.add(cid, block)
    return writer.bytes


def encode_header(root: Cid, *, version: int = 1) -> bytes:
    """Return the header of a CAR with one root, its length before it."""
    name = b"\0" + _cid_bytes(root, version)  # multibase identity, as dag-cbor writes links
    body = _ROOTS + b"\x81\xd8\x2a\x58" + bytes((len(name),)) + name + _VERSION
    return _varint(len(body)) + body


def _cid_bytes(cid: Cid, version: int) -> bytes:
    # A raw block has no version 0; old exporters write it as version 1 among others.
    return cid.raw if version or cid.codec is Codec.RAW else cid.raw[2:]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
