"""Classes of traffic on every implementation of `Network`: who floods waits, the others do not.

Method: what a flooded node has taken in is counted when a quiet peer's call is answered, so that
nothing depends on how fast this machine is. Long floods run in memory, under a virtual clock.
"""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.budgets import BUDGETS, Standing, Traffic
from prsm.node.net.interface import (
    Answer,
    CallRefused,
    Channel,
    Incoming,
    PeerUnreachable,
)
from prsm.protocol.limits import KIB, MIB
from prsm.protocol.messages.models import AskHave, Have
from tests.tools.networks import ASK, HAVE, Node, World, answering

BUDGET = BUDGETS[Standing.OTHER][Traffic.CONSENSUS]
OTHER = Have(size=6, leaves=1, bitset=b"\1")


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


async def three(world: World) -> tuple[Node, Node, Node]:
    """One that answers, and two that have dialled it."""
    served = await world.start(1, answering(lambda _incoming: (HAVE, b"")))
    others = await world.start(2), await world.start(3)
    for other in others:
        await other.network.connect(served.address)
        await served.wait_up(other.peer)
    return served, *others


def taken_from(served: Node, peer: Node) -> list[Incoming]:
    return [incoming for incoming in served.messages if incoming.peer == peer.peer]


async def flood(flooder: Node, served: Node, count: int, size: int = 0) -> None:
    for _ in range(count):
        await flooder.network.send(served.peer, HAVE, channel=Channel.CTL, tail=bytes(size))


async def test_flooding_peer_waits_and_another_is_answered(world: World) -> None:
    """Twenty times the burst of messages at once: no more is taken in than the budget says."""
    served, flooder, quiet = await three(world)
    count = 20 * BUDGET.messages.burst
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(flood, flooder, served, count)
        await served.wait(lambda: len(served.messages) >= BUDGET.messages.burst)
        for _ in range(20):
            await quiet.network.call(served.peer, ASK, channel=Channel.CTL)
        elapsed = trio.current_time() - began
        taken = len(taken_from(served, flooder))
        # One is in hand; the bucket counts whole milliseconds, at both ends.
        counted_s = elapsed + 0.002
        assert taken <= BUDGET.messages.burst + BUDGET.messages.per_s * counted_s + 1
        assert taken < count
        nursery.cancel_scope.cancel()


async def test_message_of_a_peer_over_its_budget_is_late_but_not_lost(world: World) -> None:
    served, flooder, _ = await three(world)
    count = BUDGET.messages.burst + BUDGET.messages.per_s // 2
    for number in range(count):
        message = Have(size=number, leaves=0, bitset=b"")
        await flooder.network.send(served.peer, message, channel=Channel.CTL)
    await served.wait(lambda: len(served.messages) == count)
    assert [m.message for m in served.messages] == [
        Have(size=n, leaves=0, bitset=b"") for n in range(count)
    ]


async def test_calls_over_the_budget_are_busy_until_the_time_they_say(world: World) -> None:
    served, eager, quiet = await three(world)
    for _ in range(BUDGET.calls.burst):
        await eager.network.call(served.peer, ASK, channel=Channel.CTL)
    refused = await refusal(eager, served)
    assert refused.refusal == "busy"
    assert "too many calls" in refused.what
    assert 0 < refused.retry_after_ms <= 1000 // BUDGET.calls.per_s
    await quiet.network.call(served.peer, ASK, channel=Channel.CTL)
    await trio.sleep(refused.retry_after_ms / 1000)
    await eager.network.call(served.peer, ASK, channel=Channel.CTL)


async def refusal(node: Node, served: Node) -> CallRefused:
    """Call until that is refused."""
    while True:
        try:
            await node.network.call(served.peer, ASK, channel=Channel.CTL)
        except CallRefused as error:
            return error


async def test_blocks_do_not_hold_up_a_call_on_the_same_connection(world: World) -> None:
    """16 MiB wait to leave; a call asked for behind them is answered before half arrived."""
    served, asker, _ = await three(world)
    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(send, asker, served, HAVE, Channel.RANGE, MIB)
        await trio.lowlevel.checkpoint()
        await asker.network.call(served.peer, ASK, channel=Channel.CTL)
        assert len(served.messages) < 8
    await served.wait(lambda: len(served.messages) == 16)


async def test_tensors_go_before_blocks_whomever_they_are_for(world: World) -> None:
    """32 MiB of blocks wait for one peer; 4 MiB of tensors for another one are there first."""
    served, one, two = await three(world)
    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(send, served, one, HAVE, Channel.RANGE, MIB)
        await one.wait(lambda: bool(one.messages))
        for _ in range(4):
            nursery.start_soon(send, served, two, OTHER, Channel.BULK, MIB)
        await two.wait(lambda: len(two.messages) == 4)
        # An eighth of the turns is theirs, and what was on the way already.
        assert len(one.messages) < 16
    await one.wait(lambda: len(one.messages) == 32)


async def test_every_frame_arrives_whole_with_all_classes_at_work(world: World) -> None:
    served, one, two = await three(world)
    async with trio.open_nursery() as nursery:
        for node in (one, two):
            for channel in Channel:
                for size in (1, 100 * KIB, 900 * KIB):
                    nursery.start_soon(send, node, served, HAVE, channel, size)
    await served.wait(lambda: len(served.messages) == 18)
    for node in (one, two):
        sizes = sorted(len(incoming.tail) for incoming in taken_from(served, node))
        assert sizes == sorted([1, 100 * KIB, 900 * KIB] * 3)


async def test_answers_a_peer_is_slow_to_take_are_made_a_few_at_a_time(world: World) -> None:
    """32 asks for blocks at once: four of them at work, until their answers are queued."""
    at_work, most = 0, 0

    async def answer(incoming: Incoming) -> Answer:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await trio.lowlevel.checkpoint()
        at_work -= 1
        return HAVE, bytes(3 * MIB)

    served = await world.start(1, lambda network: network.on_call(AskHave, answer))
    asker = await world.start(2)
    await asker.network.connect(served.address)
    answers: list[int] = []

    async def ask() -> None:
        _, tail = await asker.network.call(served.peer, ASK, channel=Channel.RANGE)
        answers.append(len(tail))

    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(ask)
    assert answers == [3 * MIB] * 32
    assert 1 < most <= 4


async def send(node: Node, to: Node, message: Have, channel: Channel, size: int) -> None:
    await node.network.send(to.peer, message, channel=channel, tail=bytes(size))


@pytest.mark.slow
async def test_peer_that_never_stops_flooding_is_banned(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Forgiven for twenty seconds, gone within forty; who stays within its budget stays."""
    served, flooder, quiet = await three(World(nursery, "memory"))
    began = trio.current_time()
    async with trio.open_nursery() as inner:
        inner.start_soon(steady, quiet, served)
        with trio.fail_after(60), pytest.raises(PeerUnreachable):
            await flood(flooder, served, 10**9, 512 * KIB)
        inner.cancel_scope.cancel()
    assert 20 <= trio.current_time() - began <= 40
    assert [ban.peer for ban in served.network.bans()] == [flooder.peer]
    assert [info.peer for info in served.network.peers()] == [quiet.peer]
    nursery.cancel_scope.cancel()


async def steady(node: Node, served: Node) -> None:
    """Twenty calls a second, for ever."""
    while True:
        await node.network.call(served.peer, ASK, channel=Channel.CTL)
        await trio.sleep(0.05)


@pytest.mark.slow
async def test_peer_that_calls_on_after_busy_is_banned(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    served, eager, _ = await three(World(nursery, "memory"))

    with trio.fail_after(60):
        async with trio.open_nursery() as inner:
            for _ in range(2):
                inner.start_soon(insist, eager, served)
    assert [ban.peer for ban in served.network.bans()] == [eager.peer]
    nursery.cancel_scope.cancel()


async def insist(node: Node, served: Node) -> None:
    """Call a hundred times a second, refused or not, until the peer is gone."""
    while True:
        try:
            await node.network.call(served.peer, ASK, channel=Channel.CTL)
        except CallRefused:
            await trio.sleep(0.01)
        except PeerUnreachable:
            return


@pytest.mark.slow
async def test_validator_may_send_twenty_times_as_much(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    served, trusted, _ = await three(World(nursery, "memory"))
    served.network.trust([trusted.peer])
    began = trio.current_time()
    await flood(trusted, served, 10 * BUDGET.messages.burst)
    await served.wait(lambda: len(served.messages) == 10 * BUDGET.messages.burst)
    assert trio.current_time() == began
    nursery.cancel_scope.cancel()
