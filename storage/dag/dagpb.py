"""dag-pb bytes of UnixFS files and directories, written and read in exactly one spelling.

Knows: protobuf as far as dag-pb and UnixFS use it. Must not know: profiles, shapes of DAGs.
`version` is always that of the CIDs inside a node: 1, or 0 as old daemons wrote them.
A decoded node is encoded again and compared, so unknown fields, other orders, padded varints and
bytes left over are refused. Source: dag-pb and UnixFS specifications of IPLD and IPFS.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from prsm.protocol.errors import LocalError, Unsupported, WireError
from prsm.protocol.limits import BLOCK_BYTES_MAX, INT_MAX, KIB
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import BadDag

ENTRIES_MAX: Final = 4096
DIRECTORY_BYTES_MAX: Final = 256 * KIB
_NAME_BYTES_MAX: Final = 255
_DIRECTORY: Final = 1
_FILE: Final = 2
_KINDS: Final = {0: "a wrapped raw leaf", 3: "metadata", 4: "a symbolic link", 5: "a HAMT"}
_LINKS_MAX: Final = 65_536
_CID_V0_BYTES: Final = 34
_FRAME_BYTES_MAX: Final = 4 + 3 * 5  # four keys, three numbers below 2^32


class Sort(Enum):
    """What a dag-pb node is, as far as it is read here."""

    FILE = "interior node of a file"
    LEAF = "leaf of a file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class PbLink:
    """A link to a child: bytes of the file below it, and bytes of all blocks below it."""

    cid: Cid
    size: int
    tsize: int


@dataclass(frozen=True, slots=True)
class File:
    """An interior node of a file."""

    links: tuple[PbLink, ...]


def encode_file(node: File, *, version: int) -> bytes:
    """Write an interior node of a file; `version` is that of the CIDs inside."""
    data = _number(1, _FILE) + _number(3, sum(link.size for link in node.links))
    data += b"".join(_number(4, link.size) for link in node.links)
    links = b"".join(_link(link.cid, b"", link.tsize, version) for link in node.links)
    return links + _field(1, data)


def encode_wrapped_leaf(data: bytes) -> bytes:
    """Write a leaf of the legacy profile: the bytes inside a UnixFS file node."""
    before, behind = leaf_frame(len(data))
    return before + data + behind


def leaf_frame(size: int) -> tuple[bytes, bytes]:
    """Return what stands before and behind the `size` bytes of a wrapped leaf."""
    body = b"\x12" + _write_varint(size) if size else b""
    before, behind = _number(1, _FILE) + body, _number(3, size)
    return b"\x0a" + _write_varint(len(before) + size + len(behind)) + before, behind


def decode_wrapped_leaf(raw: bytes) -> memoryview:
    """Return the bytes inside a wrapped leaf, without copying them.

    Raises:
        BadDag: any other bytes than `encode_wrapped_leaf` writes.
    """
    if len(raw) > BLOCK_BYTES_MAX:
        raise BadDag(f"a block of {len(raw)} bytes, at most {BLOCK_BYTES_MAX}")
    # The frame grows with the size, in at most four numbers of one to four bytes.
    for size in range(max(0, len(raw) - _FRAME_BYTES_MAX), len(raw)):
        before, behind = leaf_frame(size)
        if len(before) + size + len(behind) == len(raw):
            if raw.startswith(before) and raw.endswith(behind):
                return memoryview(raw)[len(before) : len(before) + size]
            break
    raise BadDag("no wrapped leaf of a file in its one spelling")


def sort_of(raw: bytes) -> Sort:
    """Say what a node is, so that the right decoder can be called.

    Raises:
        BadDag: no dag-pb, or no UnixFS.
        Unsupported: a well-known kind that is not read here, such as a HAMT directory.
    """
    kind, _, links = _decode(raw)
    if kind == _DIRECTORY:
        return Sort.DIRECTORY
    if kind != _FILE:
        raise BadDag(f"UnixFS type {kind}, known are file and directory")
    return Sort.FILE if links else Sort.LEAF


def version_of(raw: bytes) -> int:
    """Return the version of the CIDs inside a node, by its first link; 1 if it has none.

    Raises:
        BadDag: no dag-pb.
    """
    for number, value in _fields(raw):
        if number == 2 and isinstance(value, bytes):
            for inner, cid in _fields(value):
                if inner == 1 and isinstance(cid, bytes):
                    return 0 if len(cid) == _CID_V0_BYTES else 1
    return 1


def decode_file(raw: bytes, *, version: int = 1) -> File:
    """Read an interior node of a file.

    Raises:
        BadDag: any other bytes than `encode_file` writes.
        Unsupported: a well-known kind that is not read here, such as a HAMT directory.
    """
    kind, sizes, links = _decode(raw)
    if kind != _FILE:
        raise BadDag(f"UnixFS type {kind} is no file")
    if not links or len(links) != len(sizes):
        raise BadDag(f"{len(links)} links and {len(sizes)} sizes in a node of a file")
    node = File(
        tuple(PbLink(cid, size, tsize) for (cid, _, tsize), size in zip(links, sizes, strict=True))
    )
    if sum(sizes) > INT_MAX or encode_file(node, version=version) != raw:
        raise BadDag("a node of a file in another spelling than the canonical one")
    return node


def encode_directory(entries: Mapping[str, PbLink], *, version: int = 1) -> bytes:
    """Write a flat directory, sorted by the bytes of the names.

    Raises:
        Unsupported: too many entries or too large: others would make a HAMT of it.
        LocalError: a name that is no plain file name.
    """
    if len(entries) > ENTRIES_MAX:
        raise Unsupported(
            f"{len(entries)} directory entries, at most {ENTRIES_MAX}: more need a HAMT",
            hint="split it into several directories",
        )
    named = sorted((_name(name), link) for name, link in entries.items())
    links = b"".join(_link(link.cid, name, link.tsize, version) for name, link in named)
    raw = links + _field(1, _number(1, _DIRECTORY))
    if len(raw) > DIRECTORY_BYTES_MAX:
        raise Unsupported(
            f"a directory of {len(raw)} bytes, at most {DIRECTORY_BYTES_MAX}: more need a HAMT",
            hint="split it into several directories, or use shorter names",
        )
    return raw


def decode_directory(raw: bytes, *, version: int = 1) -> dict[str, PbLink]:
    """Read a flat directory; sizes of its links are unknown (0), Tsizes are the writer's claim.

    Raises:
        BadDag: any other bytes than `encode_directory` writes.
        Unsupported: a HAMT directory.
    """
    kind, _, links = _decode(raw)
    if kind != _DIRECTORY:
        raise BadDag(f"UnixFS type {kind} is no directory")
    try:
        entries = {name.decode(): PbLink(cid, 0, tsize) for cid, name, tsize in links}
        again = encode_directory(entries, version=version)
    except (LocalError, UnicodeDecodeError) as error:
        raise BadDag(f"a directory that is refused: {error}") from error
    if again != raw:
        raise BadDag("a directory in another spelling than the canonical one")
    return entries


def _decode(raw: bytes) -> tuple[int, list[int], list[tuple[Cid, bytes, int]]]:
    """Return UnixFS type, block sizes and links, leniently: the caller compares spellings."""
    if len(raw) > BLOCK_BYTES_MAX:
        raise BadDag(f"a block of {len(raw)} bytes, at most {BLOCK_BYTES_MAX}")
    links: list[tuple[Cid, bytes, int]] = []
    data = b""
    for number, value in _fields(raw):
        if number == 2 and isinstance(value, bytes) and len(links) < _LINKS_MAX:
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes):
            data = value
        else:
            raise BadDag(f"field {number} in a dag-pb node")
    kind, sizes = -1, []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
        elif number > 12:
            raise BadDag(f"field {number} in UnixFS data")
    if kind in _KINDS:
        raise Unsupported(
            f"this node is {_KINDS[kind]} of UnixFS, which is not read",
            hint="add the files again with prsm model add",
        )
    return kind, sizes, links


def _decode_link(raw: bytes) -> tuple[Cid, bytes, int]:
    cid, name, tsize = b"", b"", 0
    for number, value in _fields(raw):
        match number, value:
            case 1, bytes():
                cid = value
            case 2, bytes():
                name = value
            case 3, int():
                tsize = value
            case _:
                raise BadDag(f"field {number} in a dag-pb link")
    try:
        return decode_cid(cid), name, tsize
    except WireError as error:
        raise BadDag(f"a link to {error.what}") from error


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0
    while offset < len(raw):
        key, offset = _varint(raw, offset)
        value, offset = _varint(raw, offset)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2 and offset + value <= len(raw):
            yield key >> 3, raw[offset : offset + value]
            offset += value
        else:
            raise BadDag(f"protobuf key {key} at byte {offset}")


def _varint(raw: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while offset < len(raw) and shift < 63:
        byte = raw[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset
    raise BadDag("a number that does not end, or is 2^63 or more")


def _link(cid: Cid, name: bytes, tsize: int, version: int) -> bytes:
    raw = cid.raw if version else cid.raw[2:]
    return _field(2, _field(1, raw) + _field(2, name) + _number(3, tsize))


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _write_varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return bytes((number << 3,)) + _write_varint(value)


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _name(name: str) -> bytes:
    raw = name.encode(errors="replace")
    if raw.decode() != name:
        raise LocalError(f"{name[:80]!r} is no UTF-8")
    if name in {"", ".", ".."} or "/" in name or "\0" in name or len(raw) > _NAME_BYTES_MAX:
        raise LocalError(f"{name[:80]!r} is no name of a file in a directory")
    return raw
