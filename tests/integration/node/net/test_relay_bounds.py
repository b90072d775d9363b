"""A relay's bounds: places, circuits, rates and times; what replaces a circuit.

Method: real parts on the memory network under a virtual clock.
"""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.behind import CIRCUITS_TAKEN_MAX
from prsm.node.net.circuit import Circuits
from prsm.node.net.interface import (
    Answer,
    Busy,
    CallRefused,
    Channel,
    Incoming,
    PeerUnreachable,
)
from prsm.node.net.network import PeerNetwork
from prsm.node.net.relay import IDLE_S, RelayRules
from prsm.node.net.scores import TokenBuckets
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.messages.reach import (
    CircuitEnd,
    Granted,
    OpenCircuit,
    Reserve,
)
from tests.tools.networks import HAVE, Node, answering
from tests.tools.relays import RELAY, RelayedWorld, harm, numbers, points, take, works

SHORT_S = 20
echo = answering(lambda incoming: (HAVE, incoming.tail))


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[RelayedWorld]:
    with trio.fail_after(3600):
        made = RelayedWorld(nursery, "memory")
        await made.open_relay()
        yield made
        nursery.cancel_scope.cancel()


def shorten(world: RelayedWorld) -> None:
    """Let places last twenty seconds."""
    relay = world.parts[RELAY].relay
    relay._rules = relay._places._rules = replace(RelayRules(), lifetime_ms=1000 * SHORT_S)


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
    world.parts[2].behind._asked.clear()
    number = next(iter(numbers(world.relay, two, 1)))
    with pytest.raises(CallRefused, match="nobody asked for"):
        await world.relay.network.call(two.peer, take(number), channel=Channel.CTL)
    assert points(two, world.relay.peer) >= 4


async def test_circuit_to_a_place_that_was_not_renewed_is_no_fault(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """A relay whose answer got lost keeps the place, and strangers ask it for circuits there."""
    two = await world.start(2)
    world.parts[2].behind._places.clear()
    number = next(iter(numbers(world.relay, two, 1)))
    with pytest.raises(CallRefused, match="no place is held now"):
        await world.relay.network.call(two.peer, take(number), channel=Channel.CTL)
    assert points(two, world.relay.peer) == 0


async def test_dialler_of_a_peer_that_is_gone_has_no_points_at_the_relay(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """It redials for minutes, and each time the relay says that there is no place."""
    one, two = await world.start(1), await world.start(2)
    await one.network.connect(two.address)
    two.scope.cancel()
    await one.wait_lost(two.peer)
    for _ in range(60):
        await trio.sleep(5)
        assert points(world.relay, one.peer) == 0
    assert not world.relay.network.bans()


async def test_refused_circuit_is_not_ended_by_a_word(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """Neither by the dialler nor, where the far side refuses, by the relay."""
    one, two = await world.start(1), await world.start(2)
    ends, where = list[Incoming](), two.address
    for node in (world.relay, one, two):
        node.network._peers.handlers.messages[CircuitEnd] = ends.append
    harm(world.parts[RELAY].relay, "_rules", None)
    with pytest.raises(PeerUnreachable, match="carries nothing"):
        await world.parts[1].behind.dial(two.peer, where)
    harm(world.parts[RELAY].relay, "_rules", RelayRules())
    world.parts[2].behind._places.clear()
    with pytest.raises(PeerUnreachable, match="no place is held now"):
        await world.parts[1].behind.dial(two.peer, where)
    await trio.sleep(1)
    assert ends == []
    assert len(world.parts[RELAY].circuits) == len(world.parts[1].circuits) == 0


@pytest.mark.slow
async def test_relay_has_no_points_for_what_strangers_ask_of_it(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """Three of them open circuits to one place as fast as their own budgets of calls allow.

    They stand for many: the relay counts them as others each time. Together they ask over twice as
    often as the place answers a relay, until well after the burst it allows is used up.
    """
    many = TokenBuckets(rate_per_s=1, burst=1, peers_max=0)
    harm(world.parts[RELAY].relay, "_opens", many)
    victim = await world.start(1)
    evil = [await world.start(10 + number) for number in range(3)]

    async def flood(node: Node, circuits: Circuits) -> None:
        for _ in range(150 * 9):
            hop = circuits.open(world.relay.peer)
            ask = OpenCircuit(circuit=hop.number, peer=victim.peer)
            with suppress(CallRefused):
                await node.network.call(world.relay.peer, ask, channel=Channel.CTL)
            await hop.close("")
            circuits.forget(hop)
            await trio.sleep(1 / 150)

    async with trio.open_nursery() as nursery:
        for number, node in enumerate(evil, 10):
            nursery.start_soon(flood, node, world.parts[number].circuits)
    assert points(victim, world.relay.peer) == 0
    assert victim.peer in world.parts[RELAY].relay.info().places


async def test_one_dialler_locks_nobody_out_of_a_place(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    """It opens all it can, below its budget of calls; another one comes through every time."""
    victim, honest, evil = [await world.start(number) for number in (1, 2, 3)]
    circuits = world.parts[3].circuits

    async def flood(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                hop = circuits.open(world.relay.peer)
                ask = OpenCircuit(circuit=hop.number, peer=victim.peer)
                with suppress(CallRefused):
                    await evil.network.call(world.relay.peer, ask, channel=Channel.CTL)
                await hop.close("")
                circuits.forget(hop)
                await trio.sleep(1 / 150)

    scope = await world.nursery.start(flood)
    await trio.sleep(10)
    for _ in range(10):
        await honest.network.connect(victim.address, hint="test")
        await honest.network.disconnect(victim.peer, hint="test")
        await trio.sleep(1.37)
    scope.cancel()
    assert points(world.relay, evil.peer) == points(victim, world.relay.peer) == 0


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


async def test_probe_through_a_relay_proves_who_is_there_and_leaves_nothing(
    world: RelayedWorld, autojump_clock: MockClock
) -> None:
    one, two = await world.start(1), await world.start(2)
    assert await one.network.probe(two.address) == two.peer
    await trio.sleep(1)
    assert one.network.peers() == two.network.peers() == ()
    assert world.parts[RELAY].relay.info().circuits == 0
    assert len(world.parts[1].circuits) == len(world.parts[2].circuits) == 0
