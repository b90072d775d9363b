"""Messages of bitswap 1.1 and 1.2 as bytes: pure, and bounded before anything is built of them.

Knows protobuf's wire form as far as these messages use it. Must not know peers, streams or
stores. The generated classes are not used for what peers send: 2 MB of empty entries became 55 MB
of objects there. Source: https://specs.ipfs.tech/bitswap-protocol/, docs/spec/storage.md,
"Bitswap".

Invariants: a decoded message has at most `ITEMS_MAX` entries, blocks and presences each; blocks
are views of the bytes handed in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from prsm.protocol.errors import WireError
from prsm.protocol.limits import BLOCK_BYTES_MAX, KIB, MIB
from prsm.storage.cid import Cid

PROTOCOLS: Final = ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0")  # 1.0.0: blocks without prefix
MESSAGE_BYTES_MAX: Final = 4 * MIB
LENGTH_BYTES_MAX: Final = 4  # of the varint before a message: 2^28 - 1 is above the cap
ITEMS_MAX: Final = 4_096
CID_BYTES_MAX: Final = 128  # longer ones exist (identity), and name nothing that is kept here
PRIORITY: Final = 1
# What Kubo writes at most into one message of wants; more is no honest wantlist.
QUIET_BYTES_MAX: Final = 512 * KIB
PREFIX_BYTES: Final = 4

_T = TypeVar("_T")
_VARINT_BYTES_MAX: Final = 10
_FIELDS_MAX: Final = 16  # of one item; an entry has five
_LISTED_MAX: Final = 3 * ITEMS_MAX + _FIELDS_MAX  # of a message or wantlist: its items, and some
_HASH: Final = b"\x12\x20"  # sha2-256, 32 bytes

assert BLOCK_BYTES_MAX + 64 < MESSAGE_BYTES_MAX < 1 << 7 * LENGTH_BYTES_MAX


class Presence(IntEnum):
    """What a peer says of a block it does not send."""

    HAVE = 0
    DONT_HAVE = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a wantlist.

    Attributes:
        cid: as the peer wrote it; answers repeat it.
        is_cancel: it is wanted no more.
        is_have: only whether it is here, not the block.
        send_dont_have: an answer is wanted in any case.
    """

    cid: bytes
    is_cancel: bool = False
    is_have: bool = False
    send_dont_have: bool = False


@dataclass(slots=True)
class Message:
    """What one message holds.

    Attributes:
        entries: of the wantlist.
        is_full: the wantlist replaces all before it.
        blocks: prefix and bytes of each, views of what was read.
        presences: CID and what is said of it.
        bare_blocks: of version 1.0.0, whose CIDs nobody knows; dropped.
    """

    entries: list[Entry] = field(default_factory=list)
    is_full: bool = False
    blocks: list[tuple[memoryview, memoryview]] = field(default_factory=list)
    presences: list[tuple[bytes, Presence]] = field(default_factory=list)
    bare_blocks: int = 0


def digest_of(cid: bytes) -> bytes | None:
    """The sha2-256 digest in the bytes of a CID, of any codec; None for another hash."""
    if len(cid) == 34 and cid.startswith(_HASH):
        return cid[2:]
    # Version 1, a codec of one or two bytes, sha2-256, 32 bytes.
    if 36 <= len(cid) <= 37 and cid[0] == 1 and cid[-34:-32] == _HASH:
        return cid[-32:]
    return None


def prefix_of(cid: bytes) -> bytes:
    """What stands before a block in place of its CID: version, codec, hash, length."""
    return b"\x00\x70" + _HASH if len(cid) == 34 else cid[:-32]


def is_sha256(prefix: bytes | memoryview) -> bool:
    """Whether a block's prefix says sha2-256; any other hash was never asked for."""
    return PREFIX_BYTES <= len(prefix) <= PREFIX_BYTES + 1 and bytes(prefix[-2:]) == _HASH


def encode_wants(cids: Sequence[Cid], *, cancel: bool = False, want_have: bool = False) -> bytes:
    """A message that asks for blocks, or no longer; an answer is wanted in any case.

    Args:
        cids: at most `ITEMS_MAX`.
        cancel: they are wanted no more.
        want_have: ask whether they are there, not for their bytes.
    """
    assert len(cids) <= ITEMS_MAX
    parts = []
    for cid in cids:
        entry = b"\x0a" + _sized(cid.raw) + b"\x10" + bytes((PRIORITY,))
        if cancel:
            entry += b"\x18\x01"
        else:
            entry += (b"\x20\x01" if want_have else b"") + b"\x28\x01"
        parts.append(b"\x0a" + _sized(entry))
    return framed(b"\x0a" + _sized(b"".join(parts)))


def encode_block(cid: bytes, data: bytes) -> tuple[bytes, bytes]:
    """A message with one block, as what stands before its bytes, and the bytes.

    Args:
        cid: as the peer wrote it.
        data: at most `BLOCK_BYTES_MAX`.
    """
    assert len(data) <= BLOCK_BYTES_MAX
    head = b"\x0a" + _sized(prefix_of(cid)) + b"\x12" + _varint(len(data))
    head = b"\x1a" + _varint(len(head) + len(data)) + head
    return _varint(len(head) + len(data)) + head, data


def encode_presences(presences: Sequence[tuple[bytes, Presence]]) -> bytes:
    """A message that says of CIDs whether they are here; at most `ITEMS_MAX`."""
    assert len(presences) <= ITEMS_MAX
    parts = []
    for cid, presence in presences:
        told = b"\x0a" + _sized(cid) + b"\x10" + bytes((presence,))
        parts.append(b"\x22" + _sized(told))
    return framed(b"".join(parts))


def framed(message: bytes) -> bytes:
    """A message with its length before it."""
    return _sized(message)


def decode_message(raw: bytes) -> Message:
    """Read a message without its length; unknown fields are passed over.

    Raises:
        WireError: torn, or with more items than any honest peer puts into one.
    """
    message = Message()
    for number, value in _fields(memoryview(raw), _LISTED_MAX):
        match number, value:
            case 1, memoryview():
                _read_wantlist(value, message)
            case 2, memoryview():
                message.bare_blocks += 1
            case 3, memoryview():
                _append(message.blocks, _read_block(value))
            case 4, memoryview():
                _append(message.presences, _read_presence(value))
            case _:
                pass  # pending bytes, and whatever later versions add
    return message


def _append(items: list[_T], item: _T) -> None:
    if len(items) >= ITEMS_MAX:
        raise WireError(f"a bitswap message of more than {ITEMS_MAX} items", penalty=25)
    items.append(item)


def _read_wantlist(raw: memoryview, message: Message) -> None:
    for number, value in _fields(raw, _LISTED_MAX):
        match number, value:
            case 1, memoryview():
                _append(message.entries, _read_entry(value))
            case 2, int():
                message.is_full = bool(value)
            case _:
                pass


def _read_entry(raw: memoryview) -> Entry:
    cid, flags = b"", {3: False, 4: False, 5: False}
    for number, value in _fields(raw):
        match number, value:
            case 1, memoryview():
                cid = _read_cid(value)
            case ((3 | 4 | 5), int()):
                flags[number] = bool(value)
            case _:
                pass
    return Entry(cid, is_cancel=flags[3], is_have=flags[4], send_dont_have=flags[5])


def _read_block(raw: memoryview) -> tuple[memoryview, memoryview]:
    prefix = data = raw[:0]
    for number, value in _fields(raw):
        match number, value:
            case 1, memoryview():
                prefix = value
            case 2, memoryview():
                data = value
            case _:
                pass
    return prefix, data


def _read_presence(raw: memoryview) -> tuple[bytes, Presence]:
    cid, kind = b"", 0
    for number, value in _fields(raw):
        match number, value:
            case 1, memoryview():
                cid = _read_cid(value)
            case 2, int():
                kind = value
            case _:
                pass
    return cid, Presence.DONT_HAVE if kind else Presence.HAVE


def _read_cid(raw: memoryview) -> bytes:
    if len(raw) > CID_BYTES_MAX:
        raise WireError(f"a CID of {len(raw)} bytes, at most {CID_BYTES_MAX}", penalty=25)
    return bytes(raw)


def _fields(raw: memoryview, most: int = _FIELDS_MAX) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message, of at most so many."""
    at = 0
    while at < len(raw):
        most -= 1
        if most < 0:
            raise WireError("a bitswap message of more fields than its items have", penalty=25)
        tag, at = read_varint(raw, at)
        match tag & 7:
            case 0:
                number, at = read_varint(raw, at)
                yield tag >> 3, number
            case 2:
                size, at = read_varint(raw, at)
                if size > len(raw) - at:
                    raise WireError("a torn bitswap message", penalty=25)
                yield tag >> 3, raw[at : at + size]
                at += size
            case 1 | 5 as kind:
                at += 8 if kind == 1 else 4
                if at > len(raw):
                    raise WireError("a torn bitswap message", penalty=25)
            case kind:
                raise WireError(f"a bitswap message with wire type {kind}", penalty=25)


def read_varint(raw: memoryview | bytes | bytearray, at: int) -> tuple[int, int]:
    """A varint, and where it ends.

    Raises:
        WireError: torn, or of more than ten bytes.
    """
    value = shift = 0
    for byte in raw[at : at + _VARINT_BYTES_MAX]:
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    raise WireError("a torn varint in a bitswap message", penalty=25)


def _varint(value: int) -> bytes:
    raw = bytearray()
    while value > 0x7F:
        raw.append(value & 0x7F | 0x80)
        value >>= 7
    raw.append(value)
    return bytes(raw)


def _sized(raw: bytes) -> bytes:
    return _varint(len(raw)) + raw
