"""Frames of the kept streams and of the worker pipe: lengths, a msgpack head, a raw tail.

Frame = u32 total length | u32 head length | head | tail, big-endian; the total counts what
follows it. Knows lengths and heads; must not know sockets: a reader takes 8 bytes, asks
`parse_lengths` what follows, then reads exactly that.
"""

import struct
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import U32, UInt
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX, TEXT_BYTES_MAX

PROTOCOL_VERSION: Final = 1
PREFIX_BYTES: Final = 8
_PREFIX: Final = struct.Struct(">II")


class Flow(IntEnum):
    """What a frame is in a conversation."""

    ONE_WAY = 0  # no answer
    CALL = 1  # one REPLY or ERROR with the same request id follows
    REPLY = 2
    ERROR = 3  # the body is a `Refusal`


class Head(Record, frozen=True):
    """Head of a frame; unsigned, since the stream is authenticated by Noise."""

    version: U32
    flow: Flow
    kind: U32  # number of the body's record in protocol/messages
    request_id: UInt  # 0 for ONE_WAY
    trace: Annotated[bytes, msgspec.Meta(max_length=16)]  # trace id of the job, or empty
    body: bytes  # canonical encoding of the record of that kind


class Refusal(Record, frozen=True):
    """Body of an ERROR frame: a typed error on its way back to the caller."""

    reason: Annotated[str, msgspec.Meta(max_length=64)]
    what: Annotated[str, msgspec.Meta(max_length=TEXT_BYTES_MAX)]
    retry_after_ms: UInt


def encode_frame(head: Head, tail_bytes: int = 0) -> bytes:
    """Return prefix and head of a frame whose raw tail of `tail_bytes` the caller sends next."""
    raw = encode(head)
    return _PREFIX.pack(4 + len(raw) + tail_bytes, len(raw)) + raw


def parse_lengths(prefix: bytes, *, frame_bytes_max: int) -> tuple[int, int]:
    """Read the 8 bytes before a frame.

    Args:
        prefix: exactly `PREFIX_BYTES` bytes.
        frame_bytes_max: cap of this stream, prefix included.

    Returns:
        Bytes of the head and bytes of the tail that follow.

    Raises:
        WireError: a length over the cap, or a head longer than its frame.
    """
    total, head_bytes = _PREFIX.unpack(prefix)
    if total + 4 > frame_bytes_max:
        raise WireError(f"frame of {total + 4} bytes, at most {frame_bytes_max}", penalty=100)
    if head_bytes == 0 or head_bytes > min(total - 4, FRAME_HEAD_BYTES_MAX):
        raise WireError(f"head of {head_bytes} bytes in a frame of {total + 4}", penalty=100)
    return head_bytes, total - 4 - head_bytes


def read_head(raw: bytes | memoryview) -> Head:
    """Read a frame's head of any version: its layout never changes.

    Raises:
        WireError: not canonical; 100 points, since no version writes it so.
    """
    try:
        return decode(raw, Head, size_max=FRAME_HEAD_BYTES_MAX)
    except WireError as error:
        error.penalty = 100
        raise


def decode_head(raw: bytes | memoryview) -> Head:
    """Read a frame's head.

    Raises:
        WireError: not canonical, or of a version this node does not speak.
    """
    head = read_head(raw)
    if head.version != PROTOCOL_VERSION:
        raise WireError(f"frame version {head.version}, this node speaks {PROTOCOL_VERSION}")
    return head
