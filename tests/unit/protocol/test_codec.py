"""Canonical bounded msgpack: what is read, and what each hostile spelling gets."""

from typing import Annotated

import msgpack
import msgspec
import pytest

from prsm.protocol.codec import Record, decode, decode_value, encode, shape_value
from prsm.protocol.errors import WireError
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.limits import ARRAY_LENGTH_MAX, ARRAYS_TOTAL_MAX, INT_MAX, NESTING_MAX


class Inner(Record, frozen=True):
    """A record inside a record."""

    digest: Bytes32


class Sample(Record, frozen=True):
    """One field of each kind the wire knows."""

    count: UInt
    text: Annotated[str, msgspec.Meta(max_length=4)]
    inner: Inner
    items: Annotated[tuple[UInt, ...], msgspec.Meta(max_length=2)]
    note: bytes | None
    flag: bool


SAMPLE = Sample(7, "ab", Inner(b"\x01" * 32), (1, 300), None, True)


def test_decode_returns_the_record_that_was_encoded() -> None:
    assert decode(encode(SAMPLE), Sample, size_max=100) == SAMPLE


def test_encode_writes_the_bytes_of_the_specification() -> None:
    """Golden bytes: an array of six, 7, "ab", [bin 32], [1, 300], nil, true."""
    expected = "9607a2616291c420" + "01" * 32 + "9201cd012cc0c3"
    assert encode(SAMPLE).hex() == expected


def test_decode_accepts_a_memoryview() -> None:
    assert decode(memoryview(encode(SAMPLE)), Sample, size_max=100) == SAMPLE


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "nothing"),
        (b"\xcc\x07", "7 in two bytes"),
        (b"\xd9\x01a", "a short string with a long head"),
        (b"\xc5\x00\x01a", "short bytes with a long head"),
        (b"\xdc\x00\x01\x01", "an array of one with a long head"),
        (b"\x80", "an empty map"),
        (b"\x81\x01\x01", "a map"),
        (b"\xca\x3f\x80\x00\x00", "a float of 32 bits"),
        (b"\xcb" + b"\x00" * 8, "a float of 64 bits"),
        (b"\xcb\x7f\xf8" + b"\x00" * 6, "not a number"),
        (b"\xd4\x05\x00", "an extension"),
        (b"\xc7\x00\x05", "an empty extension"),
        (b"\xd6\xff\x00\x00\x00\x00", "a timestamp"),
        (b"\xc1", "the byte nobody uses"),
        (b"\x07\x07", "two values"),
        (b"\x92\x01", "an array cut short"),
        (b"\xa2\xff\xfe", "a string that is no UTF-8"),
        (b"\xdd\xff\xff\xff\xff", "an array of 2^32 - 1 announced in 5 bytes"),
        (b"\xc6\xff\xff\xff\xff", "4 GiB of bytes announced in 5 bytes"),
    ],
)
def test_decode_value_refuses_other_spellings(raw: bytes, why: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_value(raw, size_max=100)
    assert caught.value.what, why
    assert caught.value.penalty > 0, why


def test_decode_value_refuses_one_byte_over_the_limit() -> None:
    raw = encode(b"x" * 98)
    assert len(raw) == 100
    assert decode_value(raw, size_max=100) == b"x" * 98
    with pytest.raises(WireError, match="100 bytes, at most 99"):
        decode_value(raw, size_max=99)


def test_decode_value_refuses_one_array_too_long() -> None:
    assert len(_tuple_of(decode_value(encode((0,) * ARRAY_LENGTH_MAX), size_max=10_000))) == (
        ARRAY_LENGTH_MAX
    )
    with pytest.raises(WireError, match="max_array_len"):
        decode_value(encode((0,) * (ARRAY_LENGTH_MAX + 1)), size_max=10_000)


def test_decode_value_counts_arrays_over_the_whole_value() -> None:
    """A bomb of small arrays, each within its own bound, is refused by their sum."""
    inner = ((),) * (ARRAY_LENGTH_MAX - 1)
    within = (inner,) * (ARRAYS_TOTAL_MAX // ARRAY_LENGTH_MAX - 1)
    decode_value(encode(within), size_max=100_000)
    bomb = (inner,) * (ARRAYS_TOTAL_MAX // ARRAY_LENGTH_MAX + 1)
    with pytest.raises(WireError, match=f"more than {ARRAYS_TOTAL_MAX} arrays"):
        decode_value(encode(bomb), size_max=100_000)


def test_decode_value_refuses_one_level_too_deep() -> None:
    decode_value(b"\x91" * (NESTING_MAX - 1) + b"\x07", size_max=100)
    with pytest.raises(WireError, match=f"deeper than {NESTING_MAX}"):
        decode_value(b"\x91" * NESTING_MAX + b"\x07", size_max=100)


def test_decode_value_refuses_nesting_beyond_the_stack() -> None:
    with pytest.raises(WireError):
        decode_value(b"\x91" * 100_000 + b"\x07", size_max=200_000)


@pytest.mark.parametrize(
    "value",
    [
        (7, "ab", (b"\x01" * 32,), (1, 300), None),  # a field is missing
        (7, "ab", (b"\x01" * 32,), (1, 300), None, True, 0),  # one too many
        (-1, "ab", (b"\x01" * 32,), (1, 300), None, True),
        (INT_MAX + 1, "ab", (b"\x01" * 32,), (1, 300), None, True),
        (True, "ab", (b"\x01" * 32,), (1, 300), None, True),  # a bool is no count
        ("7", "ab", (b"\x01" * 32,), (1, 300), None, True),
        (7, b"ab", (b"\x01" * 32,), (1, 300), None, True),  # bytes are no text
        (7, "abcde", (b"\x01" * 32,), (1, 300), None, True),
        (7, "ab", (b"\x01" * 31,), (1, 300), None, True),
        (7, "ab", b"\x01" * 32, (1, 300), None, True),
        (7, "ab", (b"\x01" * 32,), (1, 2, 3), None, True),
        (7, "ab", (b"\x01" * 32,), (1, 300), "note", True),
        (7, "ab", (b"\x01" * 32,), (1, 300), None, 1),  # a number is no bool
        7,
        None,
    ],
)
def test_decode_refuses_a_value_of_another_shape(value: object) -> None:
    with pytest.raises(WireError, match="no Sample"):
        decode(msgpack.packb(value), Sample, size_max=200)


class Short(Record, frozen=True):
    """A record whose last field has a default."""

    count: UInt
    more: UInt = 0


def test_decode_refuses_a_default_left_out() -> None:
    """The same record must not have two byte strings, else a signature covers one of them only."""
    assert decode(encode(Short(7)), Short, size_max=10) == Short(7)
    with pytest.raises(WireError, match="another spelling of Short"):
        decode(encode((7,)), Short, size_max=10)


def test_decode_never_reads_text_as_bytes() -> None:
    """The text AAAA is base64 of three zero bytes; on the wire it is a text and nothing else."""
    with pytest.raises(WireError, match="Expected `bytes`"):
        decode(encode(("AAAA",)), tuple[bytes], size_max=10)


def test_shape_value_names_the_field_and_keeps_the_cause() -> None:
    with pytest.raises(WireError, match=r"\$\[0\]") as caught:
        shape_value((-1, "ab", (b"\x01" * 32,), (), None, True), Sample)
    assert isinstance(caught.value.__cause__, msgspec.ValidationError)


def test_shape_value_reads_plain_types_too() -> None:
    assert shape_value((1, 2), tuple[int, ...]) == (1, 2)


def _tuple_of(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value
