"""Entries of a gossip envelope are counted before they become objects."""

import pytest
from libp2p.pubsub.pb import rpc_pb2

from prsm.node.net.envelopes import ENTRIES_MAX, check_envelope
from prsm.protocol.errors import WireError


def envelope(count: int) -> rpc_pb2.RPC:
    rpc = rpc_pb2.RPC()
    ids = [bytes([n % 256]) * 20 for n in range(count)]
    rpc.control.ihave.add(topicID="prsm/blocks/1", messageIDs=ids)
    rpc.publish.add(data=b"x" * 65_536, topicIDs=["prsm/blocks/1"], seqno=b"1", from_id=b"a")
    rpc.subscriptions.add(subscribe=True, topicid="a")
    rpc.control.prune.add(topicID="a", backoff=2**63).peers.add(peerID=b"p")
    return rpc


def test_largest_envelope_of_an_honest_peer_is_taken() -> None:
    """Gossipsub names at most 5,000 ids; the meter of a peer is a matter of its own."""
    check_envelope(envelope(5_000).SerializeToString())
    check_envelope(b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a\x00" * (ENTRIES_MAX + 1),
        b"\x12\x00" * (ENTRIES_MAX + 1),
        envelope(ENTRIES_MAX).SerializeToString(),
        rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[""] * ENTRIES_MAX)]).SerializeToString(),
        rpc_pb2.RPC(
            control=rpc_pb2.ControlMessage(
                prune=[rpc_pb2.ControlPrune(peers=[rpc_pb2.PeerInfo()] * ENTRIES_MAX)]
            )
        ).SerializeToString(),
    ],
)
def test_too_many_entries_are_refused_at_any_depth(raw: bytes) -> None:
    with pytest.raises(WireError, match="entries"):
        check_envelope(raw)


def wrapped(raw: bytes, *numbers: int) -> bytes:
    """Bytes as a field of a message that is a field of the next one, and so on."""
    for number in numbers:
        raw = rpc_pb2.Message(data=raw).SerializeToString()  # field 2: key, length, bytes
        raw = bytes([number << 3 | 2]) + raw[1:]
    return raw


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 3), (5, 3), (4, 3), (2, 4, 3)])
def test_fields_of_one_entry_are_counted_too(numbers: tuple[int, ...]) -> None:
    check_envelope(wrapped(b"\x0a\x00" * (ENTRIES_MAX - len(numbers)), *numbers))
    with pytest.raises(WireError, match="entries"):
        check_envelope(wrapped(b"\x0a\x00" * (ENTRIES_MAX + 1 - len(numbers)), *numbers))


def test_shortest_envelope_of_too_many_entries_is_looked_at() -> None:
    check_envelope(b"\x0a\x00" * ENTRIES_MAX)
    with pytest.raises(WireError, match="entries"):
        check_envelope(b"\x0a\x00" * ENTRIES_MAX + b"\x0a\x00")


@pytest.mark.parametrize("raw", [b"\xff" * 11, b"\x0a", b"\x0a\x05a", b"\x0b", b"\x09abc", b"\x08"])
def test_what_is_no_protobuf_is_refused(raw: bytes) -> None:
    """Of an envelope that could hold too many entries; a shorter one is the decoder's to refuse."""
    check_envelope(raw)
    with pytest.raises(WireError):
        check_envelope(envelope(0).SerializeToString() + raw)
