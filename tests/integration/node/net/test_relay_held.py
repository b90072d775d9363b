"""What neighbours of circuits can have a relay keep: how much, and that it is counted as theirs."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.interface import Answer, CallRefused, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.node.net.relay import RelayRules
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX, CIRCUIT_WINDOW_BYTES, MIB
from prsm.protocol.messages.reach import (
    CircuitCredit,
    CircuitData,
    CircuitEnd,
    Granted,
    OpenCircuit,
    Reserve,
    TakeCircuit,
)
from tests.tools.networks import Node, World
from tests.tools.relays import RELAY, Reachable, join, numbers

RULES = RelayRules()
CIRCUITS = RULES.circuits_per_dialler_max
PER_WAY = CIRCUIT_WINDOW_BYTES + CIRCUIT_PIECE_BYTES_MAX  # what waits, and a piece in the hand


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(60):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


def deaf(taken: list[int], *, after_s: float = 0) -> Callable[[PeerNetwork], None]:
    """A neighbour that takes circuits and says that it has read nothing."""

    def prepare(network: PeerNetwork) -> None:
        async def take(incoming: Incoming) -> Answer:
            assert isinstance(incoming.message, TakeCircuit)
            taken.append(incoming.message.circuit)
            await trio.sleep(after_s)
            return Granted(lifetime_ms=600_000, bytes_per_s=RULES.bytes_per_s), b""

        network.on_call(TakeCircuit, take)
        for message in (CircuitData, CircuitCredit, CircuitEnd):
            network.on_message(message, lambda _incoming: None)

    return prepare


async def fill(node: Node, relay: Node, circuits: list[int]) -> None:
    """Send all that fits: what goes through to the deaf other end, too."""
    for number in circuits:
        for _ in range((CIRCUIT_WINDOW_BYTES + PER_WAY) // CIRCUIT_PIECE_BYTES_MAX):
            data = CircuitData(circuit=number)
            await node.network.send(
                relay.peer, data, channel=Channel.BULK, tail=bytes(CIRCUIT_PIECE_BYTES_MAX)
            )
            await trio.sleep(0.1)


def test_circuits_can_have_a_relay_keep_40_mib() -> None:
    assert RULES.circuits_max * 2 * PER_WAY == 40 * MIB


async def test_what_waits_in_circuits_is_counted_as_kept_for_its_neighbours(
    world: World, autojump_clock: MockClock
) -> None:
    """It was counted for nobody: a node that was too large dropped others, or nobody."""
    parts: list[Reachable] = []
    relay = await world.start(
        RELAY,
        lambda network: parts.append(join(network, network._transport, rules=RULES)),
    )
    await world.nursery.start(parts[0].relay.run)
    taken: list[int] = []
    one, two = await world.start(1, deaf([])), await world.start(2, deaf(taken))
    for node in (one, two):
        await node.network.connect(relay.address)
    await two.network.call(relay.peer, Reserve(), channel=Channel.CTL)
    asked = list(numbers(one, relay, CIRCUITS))
    for number in asked:
        await one.network.call(
            relay.peer, OpenCircuit(circuit=number, peer=two.peer), channel=Channel.CTL
        )
    before = relay.network._held()
    await fill(one, relay, asked)
    await fill(two, relay, taken)
    held = relay.network._held()
    waiting = sum(len(hop._waiting) for hop in parts[0].circuits._hops.values())
    assert waiting == 2 * CIRCUITS * CIRCUIT_WINDOW_BYTES
    for node in (one, two):
        kept = held[node.peer] - before.get(node.peer, 0)
        assert kept >= CIRCUITS * PER_WAY
    assert len(parts[0].circuits) == 2 * CIRCUITS, "nobody broke a rule"
    for node in (one, two):
        await node.network.disconnect(relay.peer)
    await trio.sleep(1)
    assert sum(relay.network._held().values()) == 0


async def test_circuit_that_was_being_asked_for_when_the_relay_crashed_takes_no_place(
    world: World, autojump_clock: MockClock
) -> None:
    """It was counted as one of its dialler's, and of the place's, until a restart."""
    parts: list[Reachable] = []
    relay = await world.start(
        RELAY,
        lambda network: parts.append(join(network, network._transport, rules=RULES)),
    )
    one, two = await world.start(1, deaf([])), await world.start(2, deaf([], after_s=2))
    serving = parts[0].relay
    for node in (one, two):
        await node.network.connect(relay.address)
    async with trio.open_nursery() as nursery:
        await nursery.start(serving.run)
        await two.network.call(relay.peer, Reserve(), channel=Channel.CTL)
        ask = OpenCircuit(circuit=numbers(one, relay, 1)[0], peer=two.peer)

        async def dial() -> None:
            with pytest.raises(CallRefused) as caught:
                await one.network.call(relay.peer, ask, channel=Channel.CTL)
            assert caught.value.refusal == "relay_off"

        world.nursery.start_soon(dial)
        await trio.sleep(1)
        assert serving.info().circuits == 1
        nursery.cancel_scope.cancel()  # as a crash of a part beside it does
    await trio.sleep(3)
    assert serving.info().circuits == len(parts[0].circuits) == 0
    assert not serving._places.find(two.peer).circuits
