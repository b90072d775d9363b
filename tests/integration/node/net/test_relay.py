"""Relays that lie, drip, drop, flood, loop or are full: bounded, named, and nobody else is hurt.

Method: real parts on the memory network under a virtual clock; what only cryptography stops, over
libp2p on loopback. The hostile relay is a real one with one thing changed.
"""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.behind import CIRCUITS_TAKEN_MAX, RelayLied
from prsm.node.net.circuit import Hop
from prsm.node.net.interface import Answer, Busy, CallRefused, Channel, Incoming, PeerUnreachable
from prsm.node.net.network import PeerNetwork
from prsm.node.net.relay import IDLE_S, Place, RelayRules
from prsm.protocol.identity import circuit_address
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_WINDOW_BYTES, KIB, MIB
from prsm.protocol.messages.reach import (
    CircuitData,
    Granted,
    OpenCircuit,
    Reserve,
    TakeCircuit,
)
from tests.tools.networks import ASK, HAVE, Node, answering
from tests.tools.relays import RELAY, RelayedWorld

SHORT_S = 20
echo = answering(lambda incoming: (HAVE, incoming.tail))


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[RelayedWorld]:
    with trio.fail_after(3600):
        made = RelayedWorld(nursery, "memory")
        await made.open_relay()
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
async def wires(nursery: trio.Nursery) -> AsyncIterator[RelayedWorld]:
    with trio.fail_after(40):
        made = RelayedWorld(nursery, "libp2p")
        await made.open_relay()
        yield made
        nursery.cancel_scope.cancel()


def through(world: RelayedWorld, peer: PeerId) -> str:
    return circuit_address(world.relay.address, peer)


async def works(one: Node, two: Node) -> None:
    assert await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=b"t") == (HAVE, b"t")


def harm(part: object, name: str, value: object) -> None:
    """Make one part of a relay, or of a careless node, behave otherwise."""
    setattr(part, name, value)


def shorten(world: RelayedWorld) -> None:
    """Let places last twenty seconds."""
    relay = world.parts[RELAY].relay
    relay._rules = relay._places._rules = replace(RelayRules(), lifetime_ms=1000 * SHORT_S)


def points(node: Node, peer: PeerId) -> int:
    bans = node.network._peers.bans
    return bans.scores.points(peer, now_ms=bans._clock.monotonic_ms())


async def test_relay_that_never_answers_costs_a_deadline(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)

    async def never(*_args: object) -> None:
        await trio.sleep_forever()

    harm(world.parts[RELAY].relay, "_ask", never)
    began = trio.current_time()
    with pytest.raises(PeerUnreachable, match="did not answer in time"):
        await one.network.connect(two.address)
    assert trio.current_time() - began < 5
    await trio.sleep(0.1)  # and not yet dialled again
    assert len(world.parts[1].circuits) == 0


async def test_relay_that_drips_costs_a_deadline(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """A byte a second: the hello does not come in time, and both ends let go."""
    one, two = await world.start(1), await world.start(2)
    relay = world.parts[RELAY].relay

    async def drip(_place: Place, source: Hop, sink: Hop, _scope: trio.CancelScope) -> None:
        while data := await source.read_some(1):
            await trio.sleep(1)
            await sink.write_all(data)

    harm(relay, "_pass_on", drip)
    began = trio.current_time()
    with pytest.raises(PeerUnreachable):
        await one.network.connect(two.address)
    assert trio.current_time() - began < 6
    assert two.events == []


async def test_relay_that_drops_what_it_should_carry_is_noticed(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """From one moment on nothing comes through: heartbeats end the link, redialling goes on."""
    one, two = await world.start(1), await world.start(2, echo)
    await one.network.connect(two.address)
    await works(one, two)

    for hop in world.parts[RELAY].circuits._hops.values():
        harm(hop, "hear", lambda _data: None)
    await one.wait_lost(two.peer)
    await one.wait(lambda: one.events[-1].up)  # over a new circuit
    await works(one, two)


async def test_relay_that_goes_away_ends_the_circuit_and_the_place(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2, echo)
    await one.network.connect(two.address)
    world.relay.scope.cancel()
    await one.wait_lost(two.peer)
    await two.wait_lost(one.peer)
    assert world.parts[2].behind.addresses() == ()
    assert len(world.parts[1].circuits) == len(world.parts[2].circuits) == 0


async def test_relay_that_floods_a_circuit_is_blamed(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """More than the window, then circuits that never were: the circuit ends, then the relay."""
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)
    [(_, number)] = [key for key in world.parts[RELAY].circuits._hops if key[0] == two.peer]
    flood = CircuitData(circuit=number)
    for _ in range(CIRCUIT_WINDOW_BYTES // (64 * KIB) + 2):
        await world.relay.network.send(two.peer, flood, channel=Channel.BULK, tail=bytes(64 * KIB))
    await two.wait_lost(one.peer)
    before = points(two, world.relay.peer)
    assert before >= 40  # 50, which fade
    for number in range(1_000_000, 1_000_022, 2):
        unknown = CircuitData(circuit=number)
        await world.relay.network.send(two.peer, unknown, channel=Channel.BULK, tail=b"x")
    await trio.sleep(1)
    assert "ban" in [ban.why and "ban" for ban in two.network.bans()]


async def test_relay_that_names_another_dialler_is_blamed(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two, three = [await world.start(number) for number in (1, 2, 3)]
    relay = world.parts[RELAY].relay
    honest = relay._ask

    async def lie(place: Place, far: Hop, _dialler: PeerId) -> None:
        await honest(place, far, three.peer)

    harm(relay, "_ask", lie)
    with pytest.raises(PeerUnreachable):
        await one.network.connect(two.address)
    assert points(two, world.relay.peer) >= 40
    assert RelayLied.reason == "relay_lied"
    assert not [event for event in two.events if event.peer == three.peer]


@pytest.mark.slow
async def test_relay_that_leads_to_another_peer_is_found_out(wires: RelayedWorld) -> None:
    """Noise: whoever is at the other end cannot prove to be the one that was dialled."""
    one, two, three = [await wires.start(number) for number in (1, 2, 3)]
    places = wires.parts[RELAY].relay._places
    honest = places.find
    harm(places, "find", lambda _peer: honest(three.peer))
    with pytest.raises(PeerUnreachable):
        await one.network.connect(two.address)
    assert one.network.peers() == two.network.peers() == three.network.peers() == ()
    assert one.events == two.events == three.events == []


@pytest.mark.slow
async def test_circuit_of_a_private_network_works(nursery: trio.Nursery) -> None:
    """The network's key protects the hop to the relay, and the circuit itself from end to end."""
    with trio.fail_after(40):
        world = RelayedWorld(nursery, "libp2p")
        world.psk = b"k" * 32
        await world.open_relay()
        one, two = await world.start(1), await world.start(2, echo)
        await one.network.connect(two.address)
        await works(one, two)
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_relay_sees_cipher_text_only(wires: RelayedWorld) -> None:
    one, two = await wires.start(1), await wires.start(2, echo)
    await one.network.connect(two.address)
    seen = bytearray()
    for hop in wires.parts[RELAY].circuits._hops.values():

        def hear(data: bytes, hop: Hop = hop) -> None:
            seen.extend(data)
            Hop.hear(hop, data)

        harm(hop, "hear", hear)
    secret = b"of nobody else's concern " * 100
    answer = await one.network.call(two.peer, ASK, channel=Channel.BULK, tail=secret)
    assert answer == (HAVE, secret)
    assert len(seen) > 2 * len(secret)
    assert secret[:16] not in seen


async def test_nothing_is_relayed_that_came_through_a_relay(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """Two is a relay that is itself behind the first one: it gives no place to who comes so."""
    one = await world.start(1)
    two = await world.start(2)
    world.parts[2].relay._rules = RelayRules()
    await world.nursery.start(world.parts[2].relay.run)
    await one.network.connect(two.address)
    for ask in (Reserve(), OpenCircuit(circuit=10**6, peer=world.relay.peer)):
        with pytest.raises(CallRefused) as caught:
            await one.network.call(two.peer, ask, channel=Channel.CTL)
        assert caught.value.refusal == "relay_loop"
    with pytest.raises(PeerUnreachable, match="a loop is refused"):
        await world.parts[1].behind.dial(
            world.relay.peer, circuit_address(f"/p2p/{two.peer}", world.relay.peer)
        )


async def test_dial_through_an_end_of_itself_is_refused(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    dial = world.parts[1].behind.dial
    for relay in (one.peer, two.peer):
        with pytest.raises(PeerUnreachable, match="an end of itself"):
            await dial(two.peer, circuit_address(f"/p2p/{relay}", two.peer))


async def test_node_that_is_no_relay_says_so(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)
    with pytest.raises(CallRefused) as caught:
        await one.network.call(two.peer, Reserve(), channel=Channel.CTL)
    assert caught.value.refusal == "relay_off"


async def test_peer_without_a_place_cannot_be_reached(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    world.parts[RELAY].relay._places.drop(two.peer)
    with pytest.raises(PeerUnreachable, match="has no place"):
        await one.network.connect(two.address)
    assert len(world.parts[RELAY].circuits) == 0


async def test_places_that_are_taken_are_refused_with_a_time(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    relay = world.parts[RELAY].relay
    relay._places._rules = replace(RelayRules(), places_max=1)
    await world.start(1)
    with trio.move_on_after(30) as scope:
        await world.start(2)
    assert scope.cancelled_caught
    assert world.parts[2].behind.places() == ()
    with pytest.raises(Busy, match="1 places are taken, at most 1") as caught:
        relay._places.reserve(PeerId("x"), "127.0.0.1", now_ms=0)
    assert caught.value.retry_after_ms > 1000


async def test_circuits_of_a_dialler_are_bounded(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    rules = RelayRules()
    asked = [OpenCircuit(circuit=number, peer=two.peer) for number in numbers(one, world.relay)]
    for ask in asked[: rules.circuits_per_dialler_max]:
        await one.network.call(world.relay.peer, ask, channel=Channel.CTL)
    assert world.parts[RELAY].relay.info().circuits == rules.circuits_per_dialler_max
    with pytest.raises(CallRefused, match="8 circuits by") as caught:
        await one.network.call(world.relay.peer, asked[-1], channel=Channel.CTL)
    assert (caught.value.refusal, caught.value.retry_after_ms) == ("busy", 1000)
    await trio.sleep(IDLE_S * 2 + 1)  # no handshake on any of them: nobody keeps them
    assert world.parts[RELAY].relay.info().circuits == 0
    assert len(world.parts[RELAY].circuits) == len(world.parts[2].circuits) == 0


async def test_circuit_on_which_nothing_is_said_ends(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)

    async def forget(*_args: object) -> None:
        await trio.lowlevel.checkpoint()

    harm(world.parts[2].behind, "_welcome", forget)
    hop = world.parts[1].circuits.open(world.relay.peer)
    ask = OpenCircuit(circuit=hop.number, peer=two.peer)
    await one.network.call(world.relay.peer, ask, channel=Channel.CTL)
    await trio.sleep(IDLE_S - 1)
    assert not hop.is_over
    await trio.sleep(2)
    assert (hop.is_over, hop.why) == (True, "nothing was said on it")


async def test_circuits_of_one_relay_are_bounded_where_they_arrive(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    two = await world.start(2)
    hops = [world.parts[RELAY].circuits.open(two.peer) for _ in range(CIRCUITS_TAKEN_MAX + 1)]
    for hop in hops[:-1]:
        await world.relay.network.call(two.peer, take(hop.number), channel=Channel.CTL)
    late = take(hops[-1].number)
    with pytest.raises(CallRefused) as caught:
        await world.relay.network.call(two.peer, late, channel=Channel.CTL)
    assert caught.value.refusal == "busy"


async def test_circuit_nobody_asked_for_is_a_fault(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    two = await world.start(2)
    world.parts[2].behind._places.clear()
    number = next(iter(numbers(world.relay, two, 1)))
    with pytest.raises(CallRefused, match="nobody asked for"):
        await world.relay.network.call(two.peer, take(number), channel=Channel.CTL)
    assert points(two, world.relay.peer) >= 4


async def test_place_that_is_not_renewed_ends_with_its_circuits(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    shorten(world)
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)

    async def silent(*_args: object) -> None:
        await trio.lowlevel.checkpoint()

    harm(world.parts[2].behind, "_reserve", silent)
    await trio.sleep(SHORT_S + 2)
    assert [event.up for event in one.events] == [True, False]
    assert two.peer not in world.parts[RELAY].relay.info().places


async def test_place_is_renewed_and_the_circuit_stays(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    shorten(world)
    one, two = await world.start(1), await world.start(2, echo)
    await one.network.connect(two.address)
    await trio.sleep(3 * SHORT_S)
    await works(one, two)
    assert [event.up for event in one.events] == [True]


async def test_relay_keeps_the_rate_of_a_place(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)
    place = world.parts[RELAY].relay._places.find(two.peer)
    place.throttle._bytes_per_s = 1 * MIB
    began = trio.current_time()
    for _ in range(8):
        await one.network.send(two.peer, HAVE, channel=Channel.BULK, tail=bytes(MIB))
    await two.wait(lambda: len(two.messages) == 8)
    assert 6.5 < trio.current_time() - began < 9


async def test_direct_connection_replaces_the_relayed_one(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """Though the lower PeerId dialled the relayed one, which would stay of two alike."""
    both = [await world.start(1, echo), await world.start(2, echo)]
    one, two = sorted(both, key=lambda node: node.peer)
    await one.network.connect(two.address)
    assert "/p2p-circuit/" in one.network.peers()[0].address
    assert world.hub is not None
    await two.network.connect(world.hub.address(one.peer))
    await trio.sleep(15)
    for node in (one, two):
        [info] = node.network.peers()
        assert "/p2p-circuit/" not in info.address
    await works(one, two)
    assert world.parts[RELAY].relay.info().circuits == 0
    assert [event.up for event in one.events + two.events] == [True, True]


async def test_granted_lifetime_that_is_none_makes_no_place(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """A relay that grants seconds would be asked for ever: it is left alone for ten minutes."""
    asked: list[float] = []

    def prepare(network: PeerNetwork) -> None:
        async def grant(_incoming: Incoming) -> Answer:
            await trio.lowlevel.checkpoint()
            asked.append(trio.current_time())
            return Granted(lifetime_ms=1, bytes_per_s=1), b""

        network._peers.handlers.calls[Reserve] = grant

    liar = await world.start(4, prepare)
    one = await world.start(1)
    assert world.hub is not None
    await one.network.connect(world.hub.address(liar.peer))
    world.parts[1].behind.need(is_needed=True)
    await trio.sleep(60)
    assert len(asked) == 1
    assert [place.relay for place in world.parts[1].behind.places()] == [world.relay.peer]


def numbers(asker: Node, other: Node, count: int = 9) -> range:
    """Numbers the asker may choose."""
    first = 1_000_000 + (asker.peer > other.peer)
    return range(first, first + 2 * count, 2)


def take(number: int) -> TakeCircuit:
    return TakeCircuit(circuit=number, peer="x", lifetime_ms=1, bytes_per_s=1)
