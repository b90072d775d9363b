"""Properties of the codec: one value has one byte string, and hostile bytes get one error."""

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.codec import Record, decode, decode_value, encode
from prsm.protocol.errors import WireError
from prsm.protocol.framing import PREFIX_BYTES, Head, Refusal, decode_head, parse_lengths
from prsm.protocol.limits import INT_MAX, NESTING_MAX
from prsm.protocol.messages.table import MESSAGES
from prsm.protocol.tensors import TensorHead

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=300)
    | st.sampled_from(["AAAA", "", 0, 1, 2**32, 2**63])  # near the bounds of fields
)
VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=20).map(tuple), max_leaves=30)
RECORDS: list[type[Record]] = [Head, Refusal, TensorHead, *(cls for _, cls in MESSAGES.items())]


@given(VALUES)
def test_decode_value_returns_what_was_encoded(value: object) -> None:
    assert _same(decode_value(encode(value), size_max=100_000), value)


@given(VALUES)
def test_two_packers_write_one_byte_string(value: object) -> None:
    """Goal: no value has two signatures. Method: msgspec's packer against msgpack's."""
    assert encode(value) == msgpack.packb(value)


@given(st.binary(max_size=200))
def test_decode_value_reads_canonical_bytes_or_raises_wire_error(raw: bytes) -> None:
    try:
        value = decode_value(raw, size_max=150)
    except WireError:
        return
    assert encode(value) == msgpack.packb(value) == raw


@given(VALUES, st.integers(min_value=0), st.integers(min_value=0, max_value=255))
def test_decode_value_of_damaged_bytes_never_gives_the_same_value(
    value: object, position: int, byte: int
) -> None:
    """Goal: canonical means injective. Method: damage one byte of a true encoding."""
    raw = bytearray(encode(value))
    position %= len(raw)
    if raw[position] == byte:
        return
    raw[position] = byte
    try:
        found = decode_value(bytes(raw), size_max=100_000)
    except WireError:
        return
    assert not _same(found, value)


@given(st.sampled_from(RECORDS), VALUES)
def test_decode_of_any_value_raises_wire_error_or_gives_the_record(
    cls: type[Record], value: object
) -> None:
    """Every message of the table is fed values that are no such message."""
    raw = encode(value)
    try:
        record = decode(raw, cls, size_max=100_000)
    except WireError:
        return
    assert encode(record) == raw


@given(st.binary(max_size=100))
def test_decode_head_raises_nothing_but_wire_error(raw: bytes) -> None:
    try:
        decode_head(raw)
    except WireError:
        return


@given(st.binary(min_size=PREFIX_BYTES, max_size=PREFIX_BYTES), st.integers(8, 2**22))
def test_parse_lengths_never_announces_more_than_the_cap(prefix: bytes, cap: int) -> None:
    try:
        head, tail = parse_lengths(prefix, frame_bytes_max=cap)
    except WireError:
        return
    assert head > 0
    assert tail >= 0
    assert PREFIX_BYTES + head + tail <= cap


@pytest.mark.parametrize("unit", [b"\x90", b"\x91", b"\x80", b"\xa0", b"\xc0", b"\x92\x90"])
def test_decode_value_of_a_bomb_stays_within_memory(unit: bytes) -> None:
    """1 MiB of the smallest items must not become tens of MiB of objects."""
    bomb = b"\xdd\x00\x0f\xff\xff" + unit * (2**20 // len(unit))
    nested = (b"\xdc\x08\x00" + unit * 2048) * (2**20 // (2048 * len(unit)))
    for raw in (bomb, nested, b"\xdc\x01\x00" + nested, unit * 2**20):
        tracemalloc.start()
        with pytest.raises(WireError):
            decode_value(raw, size_max=4 * 2**20)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 2**20


def test_bounds_of_the_strategies_cover_the_wire() -> None:
    """The values above hold the largest integer and stay below the deepest nesting."""
    assert encode(INT_MAX) == msgpack.packb(INT_MAX)
    assert NESTING_MAX > 5


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other
