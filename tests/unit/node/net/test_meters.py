"""Gossip of peers and authors, counted, with time handed in."""

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.memory import MemoryHub
from prsm.node.net.meters import (
    ACCEPTED_BURST,
    ACCEPTED_PER_S,
    ASKED_BURST,
    AUTHORED_BURST,
    AUTHORED_PER_S,
    AUTHORS_METERED_MAX,
    CHANGES_MAX,
    MESSAGES_BURST,
    MESSAGES_PER_S,
    PEERS_METERED_MAX,
    TOLD_MAX,
    Counts,
    GossipMeter,
)
from prsm.node.net.network import PeerNetwork
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from tests.tools.networks import CHAIN

PEER, OTHER = PeerId("peer"), PeerId("other")
ONE = Counts(messages=1, size=200)


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (Counts(messages=513), "513 messages"),
        (Counts(told=TOLD_MAX + 1), "5001 ids told"),
        (Counts(asked=10**6), "1000000 ids asked for"),
        (Counts(changes=CHANGES_MAX + 1), "65 changes"),
    ],
)
def test_envelope_of_hostile_size_is_refused(counts: Counts, why: str) -> None:
    assert why in GossipMeter(now_ms=0).envelope(PEER, counts, now_ms=0)


def test_normal_rate_passes_for_ever_and_ten_times_does_not() -> None:
    meter = GossipMeter(now_ms=0)
    for number in range(10_000):
        assert not meter.envelope(PEER, ONE, now_ms=number * 1000 // MESSAGES_PER_S)
    flood = GossipMeter(now_ms=0)
    refused = [
        flood.envelope(PEER, ONE, now_ms=number * 100 // MESSAGES_PER_S)
        for number in range(10 * MESSAGES_PER_S)
    ]
    assert sum(map(bool, refused)) > MESSAGES_PER_S * 10 - MESSAGES_BURST - 2 * MESSAGES_PER_S
    assert not flood.envelope(OTHER, ONE, now_ms=0)


def test_each_kind_has_its_own_bound() -> None:
    meter = GossipMeter(now_ms=0)
    for _ in range(ASKED_BURST):
        assert not meter.envelope(PEER, Counts(asked=1), now_ms=0)
    assert "asked" in meter.envelope(PEER, Counts(asked=1), now_ms=0)
    assert not meter.envelope(PEER, ONE, now_ms=0)
    assert "bytes" in meter.envelope(PEER, Counts(size=2**30), now_ms=0)


def test_what_one_node_accepts_never_exceeds_what_it_may_pass_on() -> None:
    """An honest forwarder of a flood stays within its neighbours' bounds: no chain of bans."""
    node, neighbour = GossipMeter(now_ms=0), GossipMeter(now_ms=0)
    for now_ms in range(60_000):
        if node.accept(now_ms=now_ms):
            assert not neighbour.envelope(PEER, ONE, now_ms=now_ms)
    assert ACCEPTED_PER_S < MESSAGES_PER_S
    assert ACCEPTED_BURST < MESSAGES_BURST


def test_author_is_bounded_whoever_forwards_it() -> None:
    meter = GossipMeter(now_ms=0)
    assert sum(meter.author(b"one", now_ms=0) for _ in range(1000)) == AUTHORED_BURST
    assert meter.author(b"two", now_ms=0)
    assert sum(meter.author(b"one", now_ms=1000) for _ in range(1000)) == AUTHORED_PER_S


def test_what_is_remembered_is_bounded() -> None:
    meter = GossipMeter(now_ms=0)
    for number in range(5000):
        meter.envelope(PeerId(f"p{number}"), ONE, now_ms=0)
        meter.author(str(number).encode(), now_ms=0)
    assert len(meter._peers) == PEERS_METERED_MAX
    assert len(meter._authors) == AUTHORS_METERED_MAX


async def test_repeats_of_what_is_known_use_up_nothing(autojump_clock: MockClock) -> None:
    """Strangers say one old record over and over; what others bring is taken all the same."""
    assert autojump_clock.rate == 0
    await trio.lowlevel.checkpoint()
    network = PeerNetwork(MemoryHub().transport(b"1" * 32), CHAIN)
    known = {b"old"}

    def hear(_peer: PeerId, record: bytes) -> bool | None:
        is_news = record not in known
        known.add(record)
        return is_news or None

    network.on_gossip("topic", hear)
    for _ in range(10 * ACCEPTED_BURST):
        assert not network._judge("topic", PEER, b"old")
    news = [str(number).encode() for number in range(2 * ACCEPTED_BURST)]
    taken = [network._judge("topic", OTHER, record) for record in news]
    assert taken == [True] * ACCEPTED_BURST + [False] * ACCEPTED_BURST


async def test_banned_peer_says_nothing_more_in_the_same_breath(nursery: trio.Nursery) -> None:
    """The rest of an envelope of forged messages would use up what their author may say."""
    hub = MemoryHub()
    one, two = (hub.network(bytes([number]) * 32, CHAIN) for number in (1, 2))
    await nursery.start(one.run)
    await nursery.start(two.run)
    await two.connect(one.addresses[0])
    admits = one._hooks().admits
    assert admits(two.peer_id)
    one.penalise(two.peer_id, RemoteError("forged", peer=two.peer_id, penalty=100))
    assert not admits(two.peer_id)
    assert one.peers(), "its link has not ended yet"
    nursery.cancel_scope.cancel()
