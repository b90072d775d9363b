"""Pull repair over the control stream: what honest peers bring, and what liars do instead."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio
import trio.testing

from prsm.node.clock import TrioClock
from prsm.node.net import repair
from prsm.node.net.interface import Busy, Incoming, PeerEvent
from prsm.node.net.records import Item
from prsm.node.net.scores import Scores
from prsm.node.peers.announce import Announcer
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LISTED_MAX
from prsm.protocol.messages.announce import (
    BLOCKS,
    STATUS,
    Compare,
    GetRecords,
    Listing,
    NewBlock,
    PeerStatus,
)
from prsm.protocol.messages.models import Have
from prsm.protocol.messages.net import GossipRecord
from tests.tools.announced import GossipWire, SetClock, announcer, peer, signed, signer

NOW = 1_000_000
TRUE = signed(signer(1), made_ms=NOW)
OTHER = signed(signer(2), made_ms=NOW)
LIAR = peer(9)
Reply = tuple[Record, bytes]


def entry(record: GossipRecord) -> bytes:
    return Item.of(record, encode(record), key=b"", ttl_ms=BLOCKS.ttl_ms).entry


def listing(*records: GossipRecord) -> Listing:
    return Listing(topics=(), entries=tuple(entry(record) for record in records))


def brings(*records: GossipRecord) -> Callable[[Record], Reply]:
    tail = b"".join(encode(record) for record in records)
    return lambda _ask: (listing(*records), tail)


def peer_that(
    lists: Listing, answer: Callable[[Record], Reply]
) -> Callable[[Record], Awaitable[Reply]]:
    async def reply(message: Record) -> Reply:
        await trio.lowlevel.checkpoint()
        return (lists, b"") if isinstance(message, Compare) else answer(message)

    return reply


async def pulled(wire: GossipWire, mine: Announcer, clock: SetClock) -> None:
    """Let a node look at its one peer for a second."""
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        for watcher in wire.watchers:
            watcher(PeerEvent(LIAR, up=True))
        for _ in range(10):
            await trio.testing.wait_all_tasks_blocked(0.002)
            clock.now_ms += 100
            mine._repairs._wake.set()
        nursery.cancel_scope.cancel()


async def test_missing_record_is_fetched_and_kept() -> None:
    wire, clock = GossipWire(), SetClock()
    mine = announcer(wire, clock=clock)
    wire.replies[LIAR] = peer_that(listing(TRUE, OTHER), brings(TRUE, OTHER))
    await pulled(wire, mine, clock)
    assert {each.author for each in mine.current(BLOCKS.name)} == {TRUE.author, OTHER.author}
    assert [type(ask) for _, ask in wire.calls][:2] == [Compare, GetRecords]
    assert mine.wanted == 0
    assert wire.penalties == []


def tampered(_ask: Record) -> Reply:
    forged = signed(signer(1), made_ms=NOW, author=bytes(signer(3).public_key))
    return listing(TRUE), encode(forged)


def too_short(_ask: Record) -> Reply:
    return listing(TRUE), encode(TRUE)[:-1]


def too_much(_ask: Record) -> Reply:
    return listing(TRUE), encode(TRUE) + encode(OTHER)


def of_another_chain(_ask: Record) -> Reply:
    other = signed(signer(1), made_ms=NOW, chain=b"testnet2")
    return listing(other), encode(other)


def bad_signature(_ask: Record) -> Reply:
    forged = signed(signer(1), made_ms=NOW)
    raw = bytearray(encode(forged))
    raw[-1] ^= 1
    return listing(forged), bytes(raw)


@pytest.mark.parametrize(
    "answer",
    [
        tampered,
        too_short,
        too_much,
        of_another_chain,
        bad_signature,
        brings(OTHER),
        lambda _ask: (Have(size=1, leaves=1, bitset=b""), b""),
        lambda _ask: (listing(TRUE), b"\xff" * len(encode(TRUE))),
    ],
)
async def test_liar_is_blamed_and_nothing_of_it_is_kept(answer: Callable[[Record], Reply]) -> None:
    wire, clock = GossipWire(), SetClock()
    mine = announcer(wire, clock=clock)
    wire.replies[LIAR] = peer_that(listing(TRUE), answer)
    await pulled(wire, mine, clock)
    assert len(mine.store) == 0
    assert {who for who, _ in wire.penalties} == {LIAR}
    assert sum(isinstance(ask, GetRecords) for _, ask in wire.calls) == 1  # then it is left alone


async def test_promise_that_is_not_kept_costs_a_pause_and_no_points() -> None:
    """The record may have been replaced meanwhile."""
    wire, clock = GossipWire(), SetClock()
    mine = announcer(wire, clock=clock)
    wire.replies[LIAR] = peer_that(listing(TRUE), brings())
    await pulled(wire, mine, clock)
    assert wire.penalties == []
    assert sum(isinstance(ask, GetRecords) for _, ask in wire.calls) == 1


async def test_longest_list_of_nothing_is_bounded_work() -> None:
    wire, clock = GossipWire(), SetClock()
    mine = announcer(wire, clock=clock)
    lies = tuple(bytes([n % 256, n // 256]) * 6 + encode_entry(n) for n in range(LISTED_MAX))
    wire.replies[LIAR] = peer_that(Listing(topics=(), entries=lies), brings())
    await pulled(wire, mine, clock)
    assert len(wire.calls) <= 4
    assert mine.wanted == 0


def encode_entry(number: int) -> bytes:
    """made_ms, size and id of an entry."""
    return NOW.to_bytes(8, "big") + (300).to_bytes(4, "big") + number.to_bytes(8, "big")


async def test_peer_that_asks_too_often_is_told_to_wait() -> None:
    wire = GossipWire()
    mine = announcer(wire)
    wire.up(LIAR)
    question = mine.store.compare(horizon_ms=NOW)
    asked = Incoming(LIAR, question, b"", b"")
    for _ in range(repair.COMPARED_BURST):
        await wire.answers[Compare](asked)
    with pytest.raises(Busy):
        await wire.answers[Compare](asked)
    fetch = Incoming(LIAR, GetRecords(slots=(bytes(12),)), b"", b"")
    for _ in range(repair.FETCHED_BURST):
        assert await wire.answers[GetRecords](fetch) == (Listing(topics=(), entries=()), b"")
    with pytest.raises(Busy):
        await wire.answers[GetRecords](fetch)


async def test_what_is_held_is_listed_and_given() -> None:
    wire = GossipWire()
    mine = announcer(wire)
    wire.up(LIAR)
    assert wire.gossip[BLOCKS.name](LIAR, encode(TRUE)) is True
    empty = announcer(GossipWire()).store.compare(horizon_ms=NOW)
    answer, _ = await wire.answers[Compare](Incoming(LIAR, empty, b"", b""))
    assert isinstance(answer, Listing)
    assert answer.entries == (entry(TRUE),)
    slots = (entry(TRUE)[:12], bytes(12))
    given, tail = await wire.answers[GetRecords](Incoming(LIAR, GetRecords(slots), b"", b""))
    assert isinstance(given, Listing)
    assert (given.entries, tail) == ((entry(TRUE),), encode(TRUE))
    assert len(mine.store) == 1


async def test_peer_that_answers_nothing_for_long_is_banned(autojump_clock: object) -> None:
    """Five comparisons in a row; who was busy once is not blamed."""
    del autojump_clock
    wire = GossipWire()
    mine = announcer(wire, clock=cast("SetClock", TrioClock()))

    async def silence(_message: Record) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    wire.replies[LIAR] = silence
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        wire.up(LIAR)
        await trio.sleep(20)
        assert wire.penalties == []
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert [error.penalty for _, error in wire.penalties] == [repair.SILENT_PENALTY]


async def test_peer_that_is_mute_is_banned_and_one_that_was_for_a_minute_is_not(
    autojump_clock: object,
) -> None:
    """It answers heartbeats and nothing else: its points come faster than they fade."""
    del autojump_clock
    wire, scores = GossipWire(), Scores()
    mine = announcer(wire, clock=cast("SetClock", TrioClock()))

    async def silence(_message: Record) -> Reply:
        await trio.sleep_forever()
        raise AssertionError

    def penalise(peer: PeerId, error: RemoteError) -> None:
        scores.penalise(peer, error.penalty, now_ms=round(1000 * trio.current_time()))

    wire.penalise = penalise  # type: ignore[method-assign]  # counts as a node does
    wire.replies[LIAR] = silence
    async with trio.open_nursery() as nursery:
        await nursery.start(mine.run)
        wire.up(LIAR)
        await trio.sleep(60)
        assert scores.points(LIAR, now_ms=60_000) <= repair.SILENT_PENALTY
        await trio.sleep(14 * 60)
        nursery.cancel_scope.cancel()
    assert scores.times(LIAR) == 1


async def test_news_is_compared_soon_unless_it_is_said_anew_by_itself() -> None:
    """A status that was missed counts for minutes; the next block's hint comes in seconds."""
    mine = announcer(GossipWire(), clock=SetClock(NOW))
    plan = mine._repairs.plan
    assert plan.plan(now_ms=NOW, wall_ms=NOW) == []
    at_rest_ms = plan.due_ms(now_ms=NOW)
    assert at_rest_ms >= NOW + repair.IDLE_MS
    await mine.publish(BLOCKS.name, NewBlock(height=3, block_hash=b"h" * 32))
    assert plan.due_ms(now_ms=NOW) == at_rest_ms
    status = PeerStatus(
        height=3,
        head=b"h" * 32,
        protocol=1,
        schema=1,
        agent="a",
        region="",
        addresses=(),
    )
    await mine.publish(STATUS.name, status)
    assert plan.due_ms(now_ms=NOW) == NOW + repair.ROUND_MS
