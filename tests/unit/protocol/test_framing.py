"""Frames: the eight bytes before them, and their heads."""

import struct

import pytest

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.framing import (
    PREFIX_BYTES,
    PROTOCOL_VERSION,
    Flow,
    Head,
    Refusal,
    decode_head,
    encode_frame,
    parse_lengths,
)
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX, FRAME_HEAD_BYTES_MAX

HEAD = Head(PROTOCOL_VERSION, Flow.CALL, 50, 9, b"trace", b"body")


def test_encode_frame_is_read_back_by_parse_lengths_and_decode_head() -> None:
    raw = encode_frame(HEAD, tail_bytes=100)
    head_bytes, tail_bytes = parse_lengths(raw[:PREFIX_BYTES], frame_bytes_max=1000)
    assert (head_bytes, tail_bytes) == (len(raw) - PREFIX_BYTES, 100)
    assert decode_head(raw[PREFIX_BYTES:]) == HEAD


def test_encode_frame_writes_the_bytes_of_the_specification() -> None:
    """Golden bytes: total 20 + tail 2, head 16, then the array of six."""
    raw = encode_frame(HEAD, tail_bytes=2)
    head = "9601013209c4057472616365c404626f6479"
    assert raw.hex() == f"{4 + len(head) // 2 + 2:08x}{len(head) // 2:08x}{head}"


def test_parse_lengths_accepts_a_frame_of_exactly_the_cap() -> None:
    prefix = struct.pack(">II", 996, 10)
    assert parse_lengths(prefix, frame_bytes_max=1000) == (10, 982)


@pytest.mark.parametrize(
    ("total", "head"),
    [
        (997, 10),  # one byte over the cap
        (2**32 - 1, 10),
        (100, 0),  # no head
        (100, 97),  # the head is longer than its frame
        (3, 1),  # shorter than its own length field
        (0, 0),
        (4, 0),
    ],
)
def test_parse_lengths_refuses_wrong_lengths(total: int, head: int) -> None:
    with pytest.raises(WireError) as caught:
        parse_lengths(struct.pack(">II", total, head), frame_bytes_max=1000)
    assert caught.value.penalty == 100


def test_parse_lengths_bounds_the_head_apart_from_the_frame() -> None:
    prefix = struct.pack(">II", FRAME_HEAD_BYTES_MAX + 100, FRAME_HEAD_BYTES_MAX + 1)
    with pytest.raises(WireError, match="head of"):
        parse_lengths(prefix, frame_bytes_max=4 * CTL_FRAME_BYTES_MAX)


def test_decode_head_refuses_another_version() -> None:
    head = Head(PROTOCOL_VERSION + 1, Flow.CALL, 50, 9, b"", b"")
    with pytest.raises(WireError, match=f"frame version {PROTOCOL_VERSION + 1}"):
        decode_head(encode(head))


@pytest.mark.parametrize(
    "value",
    [
        (PROTOCOL_VERSION, 4, 50, 9, b"", b""),  # no such flow
        (PROTOCOL_VERSION, Flow.CALL, 2**32, 9, b"", b""),
        (PROTOCOL_VERSION, Flow.CALL, 50, -1, b"", b""),
        (PROTOCOL_VERSION, Flow.CALL, 50, 9, b"x" * 17, b""),
        (PROTOCOL_VERSION, Flow.CALL, 50, 9, b"", "body"),
        (PROTOCOL_VERSION, Flow.CALL, 50, 9, b""),
    ],
)
def test_decode_head_refuses_fields_out_of_bounds(value: tuple[object, ...]) -> None:
    with pytest.raises(WireError, match="no Head"):
        decode_head(encode(value))


def test_refusal_survives_the_wire_with_its_reason() -> None:
    refusal = Refusal("rate_limited", "42 calls in flight, at most 32", 250)
    assert decode(encode(refusal), Refusal, size_max=200) == refusal
