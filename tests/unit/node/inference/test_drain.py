"""A node that goes away: nothing new, whoever holds something is told, and there is an end."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.drain import BOUND_S, CLAIM_S, LOOK_S, Drain, DrainingNow
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.serving import LEFT_MS_MAX, Draining
from tests.tools.wires import Wire

ANNA, BERT = PeerId("anna"), PeerId("bert")
GRACE_S = 10.0


@dataclass
class Shelf:
    """Work of peers; a stubborn one does not end when it is told to."""

    peers: list[PeerId] = field(default_factory=list)
    is_stubborn: bool = False
    ends: int = 0

    def held(self) -> Collection[PeerId]:
        return tuple(self.peers)

    def end(self) -> None:
        self.ends += 1
        if not self.is_stubborn:
            self.peers.clear()


@dataclass
class World:
    """A drain over one shelf."""

    shelf: Shelf = field(default_factory=lambda: Shelf([ANNA, ANNA, BERT]))
    wire: Wire = field(default_factory=Wire)
    unbound: int = 0

    def __post_init__(self) -> None:
        self.drain = Drain(self.wire, lambda: self.unbound)
        self.drain.add(self.shelf)


async def over_after(world: World) -> float:
    """Seconds until all is over."""
    began = trio.current_time()
    with trio.fail_after(3600):
        await world.drain.wait_over()
    return trio.current_time() - began


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    await nursery.start(made.drain.run)
    return made


async def test_nothing_new_is_taken_and_the_refusal_says_when_to_ask_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.drain.check()
    world.drain.begin(GRACE_S)
    with pytest.raises(DrainingNow, match="draining") as refused:
        world.drain.check()
    assert (refused.value.reason, refused.value.retry_after_ms) == ("draining", 10_000)
    await trio.sleep(1)
    world.drain.resume()
    world.drain.check()


async def test_an_idle_node_is_drained_at_once(world: World, autojump_clock: MockClock) -> None:
    world.shelf.peers.clear()
    world.drain.begin(GRACE_S)
    assert await over_after(world) <= LOOK_S
    assert world.wire.sent == []


async def test_each_holder_is_told_once_also_one_that_comes_to_hold_something_later(
    world: World, autojump_clock: MockClock
) -> None:
    world.shelf.peers = [ANNA, ANNA]
    world.drain.begin(GRACE_S)
    await trio.sleep(1)
    assert world.wire.sent == [(ANNA, Draining(10_000))]
    world.shelf.peers.append(BERT)  # its opening was under way
    await trio.sleep(1)
    [_, (peer, message)] = world.wire.sent
    assert peer == BERT
    assert isinstance(message, Draining)
    assert message.left_ms is not None
    assert 8_000 < message.left_ms <= 9_000


async def test_it_is_over_once_nothing_is_held_and_every_receipt_is_bound(
    world: World, autojump_clock: MockClock
) -> None:
    world.unbound = 1
    world.drain.begin(GRACE_S)
    await trio.sleep(3)
    world.shelf.peers.clear()
    await trio.sleep(1)
    assert not world.drain.is_over
    world.unbound = 0
    assert await over_after(world) <= LOOK_S
    assert world.shelf.ends == 0


async def test_a_ledger_that_makes_no_blocks_holds_nobody_for_long(
    world: World, autojump_clock: MockClock
) -> None:
    world.unbound, world.shelf.peers = 1, []
    world.drain.begin(GRACE_S)
    assert await over_after(world) <= BOUND_S + 2 * LOOK_S


async def test_the_hard_end_closes_what_is_held_and_waits_for_nobody(
    world: World, autojump_clock: MockClock
) -> None:
    world.shelf.is_stubborn = True
    world.drain.begin(GRACE_S)
    took = await over_after(world)
    assert GRACE_S < took <= GRACE_S + CLAIM_S + 2 * LOOK_S
    assert world.shelf.ends > 0


async def test_the_hard_end_is_not_before_the_grace_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    world.drain.begin(GRACE_S)
    await trio.sleep(GRACE_S - 1)
    assert (world.shelf.ends, world.drain.is_over) == (0, False)
    assert await over_after(world) <= 1 + 2 * LOOK_S
    assert world.shelf.peers == []


async def test_a_second_word_can_only_shorten_it_and_is_told(
    world: World, autojump_clock: MockClock
) -> None:
    world.shelf.peers = [ANNA]
    world.drain.begin(GRACE_S)
    await trio.sleep(1)
    world.drain.begin(100 * GRACE_S)
    assert world.drain.left_ms == 9_000
    world.drain.begin(2)
    await trio.sleep(0.5)
    first, (peer, again) = world.wire.sent
    assert first == (ANNA, Draining(10_000))
    assert peer == ANNA
    assert isinstance(again, Draining)
    assert again.left_ms is not None
    assert again.left_ms <= 2_000
    assert await over_after(world) <= 1.5 + 2 * LOOK_S


async def test_taken_back_it_is_told_to_whoever_still_holds_something(
    world: World, autojump_clock: MockClock
) -> None:
    world.drain.begin(GRACE_S)
    await trio.sleep(1)
    world.shelf.peers = [BERT]
    world.wire.sent.clear()
    world.drain.resume()
    assert world.wire.sent == [(BERT, Draining(None))]
    await trio.sleep(2 * GRACE_S)
    assert (world.shelf.ends, world.drain.is_over, world.drain.told()) == (0, False, "")


async def test_the_longest_time_fits_the_record(world: World, autojump_clock: MockClock) -> None:
    world.drain.begin(10**7)
    await trio.sleep(1)
    assert world.drain.left_ms == LEFT_MS_MAX
