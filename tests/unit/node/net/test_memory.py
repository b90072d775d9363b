"""Links of the memory network that are slow, stalled or cut; all under a mock clock."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import trio
from trio.testing import MockClock

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Answer, Channel, Incoming, PeerEvent, PeerUnreachable
from prsm.node.net.memory import MemoryHub
from prsm.protocol.errors import WireError
from prsm.protocol.messages.models import AskHave, Have

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
ASK = AskHave(root=b"r" * 36)
HAVE = Have(size=5, leaves=1, bitset=b"\1")


class Pair:
    """Two memory nodes; the second answers calls, the first notes what happens to it and when."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.one = self.hub.network(b"1" * 32, CHAIN)
        self.two = self.hub.network(b"2" * 32, CHAIN)
        self.events: list[tuple[float, PeerEvent]] = []
        self.answered = 0
        self.one.on_peer(lambda event: self.events.append((trio.current_time(), event)))
        self.two.on_call(AskHave, self._answer)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        self.answered += 1
        return HAVE, incoming.tail

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.one.run)
        await nursery.start(self.two.run)
        await self.one.connect(self.hub.address(self.two.peer_id))

    async def ask(self) -> None:
        await self.one.call(self.two.peer_id, ASK, channel=Channel.CTL)

    @property
    def ups(self) -> list[bool]:
        return [event.up for _, event in self.events]


async def test_delay_is_one_way_and_exact(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pair = Pair()
    await pair.start(nursery)
    pair.hub.link(pair.one.peer_id, pair.two.peer_id).delay_s = 0.05
    began = trio.current_time()
    await pair.ask()
    assert abs(trio.current_time() - began - 0.1) < 1e-6


async def test_heartbeat_measures_the_round_trip(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pair = Pair()
    await pair.start(nursery)
    pair.hub.link(pair.one.peer_id, pair.two.peer_id).delay_s = 0.02
    assert pair.one.peers()[0].rtt_ms is None
    await trio.sleep(6)
    assert pair.one.peers()[0].rtt_ms == 40


async def test_quiet_link_lives_on(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pair = Pair()
    await pair.start(nursery)
    await trio.sleep(3600)
    assert pair.ups == [True]


async def test_half_open_link_is_closed_after_two_missed_heartbeats(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pair = Pair()
    await pair.start(nursery)
    pair.hub.stall(pair.one.peer_id, pair.two.peer_id)
    await trio.sleep(30)
    assert pair.ups == [True, False]
    at, event = pair.events[-1]
    assert 14.9 < at < 15.1
    assert "2 heartbeats" in event.why


async def test_cut_link_is_redialled_with_back_off_once_healed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pair = Pair()
    await pair.start(nursery)
    one, two = pair.one.peer_id, pair.two.peer_id
    pair.hub.cut(one, two)
    await trio.sleep(60)
    assert pair.ups == [True, False]
    pair.hub.heal(one, two)
    healed = trio.current_time()
    await trio.sleep(11)
    assert pair.ups == [True, False, True]
    assert pair.events[-1][0] - healed <= 10
    await pair.ask()


async def test_stalled_link_fails_calls_and_heals(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pair = Pair()
    await pair.start(nursery)
    one, two = pair.one.peer_id, pair.two.peer_id
    pair.hub.stall(one, two)
    lost = False
    try:
        await pair.ask()
    except PeerUnreachable:
        lost = True
    assert lost
    pair.hub.heal(one, two)
    await trio.sleep(20)
    assert pair.ups == [True, False, True]
    await pair.ask()


async def test_write_that_stalls_for_ten_seconds_closes_the_peer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The pipe takes 256 KiB and then nothing: the write deadline fires before heartbeats do."""
    pair = Pair()
    await pair.start(nursery)
    pair.hub.stall(pair.one.peer_id, pair.two.peer_id)
    await pair.one.send(pair.two.peer_id, HAVE, channel=Channel.BULK, tail=bytes(1 << 20))
    await trio.sleep(11)
    assert pair.ups == [True, False]
    assert "write" in pair.events[-1][1].why


async def test_connect_while_nobody_listens_is_made_good_later(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """`connect` raises at once, yet the peer is linked as soon as it runs."""
    pair = Pair()
    await nursery.start(pair.one.run)
    refused = False
    try:
        await pair.one.connect(pair.hub.address(pair.two.peer_id))
    except PeerUnreachable:
        refused = True
    assert refused
    await trio.sleep(5)
    await nursery.start(pair.two.run)
    await trio.sleep(10)
    assert pair.ups == [True]


async def test_ban_ends_after_a_minute(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    pair = Pair()
    await pair.start(nursery)
    pair.one.penalise(pair.two.peer_id, WireError("junk", penalty=100))
    await trio.sleep(59)
    assert pair.ups == [True, False]
    await trio.sleep(30)
    assert pair.ups == [True, False, True]


async def test_crash_inside_the_network_rebuilds_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """An exception nobody foresaw, raised inside the transport: links come back by themselves."""
    pair = Pair()
    await pair.start(nursery)
    transport = pair.one._transport

    async def bomb() -> None:
        raise RuntimeError("unforeseen")

    assert transport._nursery is not None  # type: ignore[attr-defined]  # of memory
    transport._nursery.start_soon(bomb)  # type: ignore[attr-defined]  # of memory
    await trio.sleep(12)
    assert pair.one.restarts == 1
    assert pair.ups == [True, False, True]
    await pair.ask()


async def test_peer_that_talks_is_asked_for_its_trip_only(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A heartbeat would say nothing new of it: one at first, then one in thirty seconds."""
    pair = Pair()
    await pair.start(nursery)
    link = pair.hub.link(pair.one.peer_id, pair.two.peer_id)

    async def talk(seconds: int) -> int | None:
        for _ in range(seconds):
            await trio.sleep(1)
            assert pair.two.send_nowait(pair.one.peer_id, HAVE, channel=Channel.CTL)
        return pair.one.peers()[0].rtt_ms

    assert await talk(6) == 0
    link.delay_s = 0.02
    assert await talk(28) == 0
    assert await talk(2) == 40
