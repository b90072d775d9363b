"""Votes over a relay beside tensors of the same pair: both take one circuit, first in, first out.

Method: two validators that only have a relay, which carries 1 MiB a second, on the memory network
under a virtual clock; 16 MiB of bulk are on their way when a vote is said.
"""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.interface import Channel
from prsm.node.net.relay import RelayRules
from prsm.protocol.limits import CIRCUIT_WINDOW_BYTES, MIB
from tests.tools.networks import HAVE, Node
from tests.tools.relays import RelayedWorld

RATE = 1 * MIB
BULK_FRAMES = 16  # of 1 MiB


class Narrow(RelayedWorld):
    rules = RelayRules(bytes_per_s=RATE)


@pytest.fixture
async def pair(nursery: trio.Nursery) -> AsyncIterator[tuple[Node, Node]]:
    with trio.fail_after(3600):
        world = Narrow(nursery, "memory")
        await world.open_relay()
        one, two = await world.start(1), await world.start(2)
        await one.network.connect(two.address)
        yield one, two
        nursery.cancel_scope.cancel()


async def vote_s(one: Node, two: Node) -> float:
    """Seconds a vote takes while bulk is under way; checks that it was."""

    async def push() -> None:
        for _ in range(BULK_FRAMES):
            await one.network.send(two.peer, HAVE, channel=Channel.BULK, tail=bytes(MIB))

    def came(size: int) -> list[object]:
        return [each for each in two.messages if len(each.tail) == size]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await two.wait(lambda: len(came(MIB)) >= 4)
        began = trio.current_time()
        one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL, tail=bytes(100))
        await two.wait(lambda: bool(came(100)))
        took = trio.current_time() - began
        assert len(came(MIB)) < BULK_FRAMES
        await two.wait(lambda: len(came(MIB)) == BULK_FRAMES)
    return took


async def test_vote_waits_for_little_of_it(
    pair: tuple[Node, Node], autojump_clock: MockClock
) -> None:
    """For less than one window of the circuit, however many tensors wait behind it."""
    one, two = pair
    for node, other in ((one, two), (two, one)):
        node.network.trust([other.peer])
    assert await vote_s(one, two) < CIRCUIT_WINDOW_BYTES / RATE


async def test_tensors_of_others_use_the_whole_window(
    pair: tuple[Node, Node], autojump_clock: MockClock
) -> None:
    """Nobody votes: what is under way is bounded by the circuit alone."""
    one, two = pair
    assert await vote_s(one, two) > CIRCUIT_WINDOW_BYTES / RATE
