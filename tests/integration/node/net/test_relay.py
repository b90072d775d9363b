"""Relays that lie, drip, drop, flood, loop or are full: bounded, named, and nobody else is hurt.

Method: real parts on the memory network under a virtual clock; what only cryptography stops, over
libp2p on loopback. The hostile relay is a real one with one thing changed.
"""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.behind import RelayLied
from prsm.node.net.circuit import Hop
from prsm.node.net.interface import CallRefused, Channel, PeerUnreachable
from prsm.node.net.relay import Place, RelayRules
from prsm.protocol.identity import circuit_address
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_WINDOW_BYTES, KIB
from prsm.protocol.messages.reach import (
    CircuitData,
    OpenCircuit,
    Reserve,
)
from tests.tools.networks import ASK, HAVE, answering
from tests.tools.relays import RELAY, RelayedWorld, harm, points, works

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
