"""Hello, heartbeat and gossip envelope: bounds, signed bytes."""

import pytest

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX, HELLO_BYTES_MAX
from prsm.protocol.messages.net import (
    ENVELOPE_BYTES_MAX,
    KINDS,
    GossipRecord,
    Heartbeat,
    Hello,
    decode_gossip,
)
from prsm.protocol.signing import RECORD_TAG

HELLO = Hello(
    protocol=1, schema=1, chain=b"testnet1", genesis=b"g" * 32, agent="prsm", addresses=("/a",)
)
RECORD = GossipRecord(
    chain=b"testnet1", topic="t", author=b"a" * 32, made_ms=5, body=b"hint", signature=b"s" * 64
)


# The wire: changing one of these is a protocol change. Quoted in docs/spec/wire.md.
HELLO_BYTES = (
    "960101c408746573746e657431c420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "aa7072736d2f302e312e3091b72f6970342f3132372e302e302e312f7463702f34303031"
)
HEARTBEAT_FRAME = "000000110000000d9601015b07c400c40491cd012c"
RECORD_BYTES = "96c408746573746e657431a174c420" + "61" * 32 + "05c40468696e74c440" + "73" * 64


def test_bytes_on_the_wire_are_the_golden_ones() -> None:
    hello = Hello(
        protocol=1,
        schema=1,
        chain=b"testnet1",
        genesis=bytes(range(32)),
        agent="prsm/0.1.0",
        addresses=("/ip4/127.0.0.1/tcp/4001",),
    )
    beat = encode(Heartbeat(count=300))
    call = Head(version=1, flow=Flow.CALL, kind=91, request_id=7, trace=b"", body=beat)
    assert encode(hello).hex() == HELLO_BYTES
    assert encode_frame(call).hex() == HEARTBEAT_FRAME
    assert encode(RECORD).hex() == RECORD_BYTES


def test_numbers_are_pinned() -> None:
    assert {number: cls.__name__ for number, cls in KINDS.items()} == {
        90: "Hello",
        91: "Heartbeat",
        92: "GossipRecord",
    }


def test_largest_hello_fits_its_frame() -> None:
    largest = Hello(
        protocol=2**32 - 1,
        schema=2**32 - 1,
        chain=b"testnet1",
        genesis=b"g" * 32,
        agent="a" * 64,
        addresses=("x" * 256,) * 8,
    )
    raw = encode(largest)
    assert decode(raw, Hello, size_max=HELLO_BYTES_MAX) == largest
    assert len(raw) + 64 < HELLO_BYTES_MAX


@pytest.mark.parametrize(
    "values",
    [
        (1, 1, b"short", b"g" * 32, "prsm", ()),
        (1, 1, b"testnet1", b"g" * 31, "prsm", ()),
        (1, 1, b"testnet1", b"g" * 32, "a" * 65, ()),
        (1, 1, b"testnet1", b"g" * 32, "prsm", ("x" * 257,)),
        (1, 1, b"testnet1", b"g" * 32, "prsm", ("x",) * 9),
        (-1, 1, b"testnet1", b"g" * 32, "prsm", ()),
        (1, 1, b"testnet1", b"g" * 32, "prsm"),
    ],
)
def test_hello_out_of_bounds_is_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(WireError):
        decode(encode(values), Hello, size_max=HELLO_BYTES_MAX)


def test_gossip_record_round_trips_and_signs_all_but_the_signature() -> None:
    assert decode_gossip(encode(RECORD)) == RECORD
    assert RECORD.signed_bytes == RECORD_TAG + encode((b"testnet1", "t", b"a" * 32, 5, b"hint"))


def test_largest_gossip_record_fits() -> None:
    largest = GossipRecord(
        chain=b"testnet1",
        topic="t" * 64,
        author=b"a" * 32,
        made_ms=2**63 - 1,
        body=bytes(GOSSIP_RECORD_BYTES_MAX - ENVELOPE_BYTES_MAX),
        signature=b"s" * 64,
    )
    assert decode_gossip(encode(largest)) == largest
    with pytest.raises(WireError, match="at most"):
        decode_gossip(bytes(GOSSIP_RECORD_BYTES_MAX + 1))


def test_heartbeat_count_is_unsigned() -> None:
    assert decode(encode(Heartbeat(count=0)), Heartbeat, size_max=64) == Heartbeat(count=0)
    with pytest.raises(WireError):
        decode(encode((-1,)), Heartbeat, size_max=64)
    assert HELLO.agent == "prsm"
