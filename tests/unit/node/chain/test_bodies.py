"""Single bodies by hash: who is asked, who is waited for, and what is delivered."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.events import Fetched
from prsm.node.chain.bodies import CALL_SECONDS, CALLS_MAX, ORDERS_MAX, SILENCE_SECONDS
from prsm.protocol.codec import Record
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import GetBlockByHash, GotBlock
from tests.tools.syncing import ONE, TWO, Stage, block, blocks, open_stage


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return await open_stage(nursery)


async def say_nothing(_message: Record) -> Record:
    await trio.sleep_forever()
    raise AssertionError


def saying(found: Block) -> Callable[[Record], Awaitable[Record]]:
    async def answer(_message: Record) -> Record:
        await trio.lowlevel.checkpoint()
        return GotBlock(block=found)

    return answer


async def test_body_is_asked_of_its_signers_in_turn(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The first answers another record, the second the block: it is delivered, one is blamed."""
    wanted = block(1)
    replies = {ONE: blocks(1, 1), TWO: GotBlock(block=wanted)}

    def say(peer: PeerId) -> None:
        async def answer(message: Record) -> Record:
            await trio.lowlevel.checkpoint()
            assert isinstance(message, GetBlockByHash)
            return replies[peer]

        stage.replica.network.replies[peer] = answer

    say(ONE)
    say(TWO)
    stage.replica.on_fetch(Fetch(1, 1, block_hash(wanted.header), (ONE, TWO)))
    await trio.sleep(1)
    assert stage.replica.events == [Fetched(wanted)]
    assert [peer for peer, _ in stage.replica.network.penalties] == [ONE]


async def test_silent_holder_of_a_body_does_not_hold_up_the_next(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Nor is the silent one waited for once the block is here; a repeated order is the same one."""
    wanted, asked = block(1), list[PeerId]()

    async def say_nothing(_message: Record) -> Record:
        asked.append(ONE)
        await trio.sleep_forever()
        raise AssertionError

    async def answer(_message: Record) -> Record:
        asked.append(TWO)
        await trio.sleep(0.01)
        return GotBlock(block=wanted)

    stage.replica.network.replies |= {ONE: say_nothing, TWO: answer}
    fetch = Fetch(1, 1, block_hash(wanted.header), (ONE, TWO))
    stage.replica.on_fetch(fetch)
    await trio.sleep(0.1)
    stage.replica.on_fetch(fetch)
    await trio.sleep(SILENCE_SECONDS / 4)
    assert asked == [ONE]
    await trio.sleep(SILENCE_SECONDS)
    assert asked == [ONE, TWO]
    assert stage.replica.events == [Fetched(wanted)]
    stage.replica.on_fetch(fetch)
    await trio.sleep(1)
    assert asked == [ONE, TWO, ONE, TWO]


async def test_order_that_names_another_holder_does_not_wait_for_the_silent_one(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A later view shows who has the block on disk."""
    wanted = block(1)

    stage.replica.network.replies |= {ONE: say_nothing, TWO: saying(wanted)}
    digest = block_hash(wanted.header)
    stage.replica.on_fetch(Fetch(1, 1, digest, (ONE,)))
    await trio.sleep(1)
    assert stage.replica.events == []
    stage.replica.on_fetch(Fetch(1, 1, digest, (TWO, ONE)))
    await trio.sleep(0.1)
    assert stage.replica.events == [Fetched(wanted)]


async def test_body_of_another_hash_is_not_delivered(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A peer answers with a block nobody asked for: nothing is delivered, and it is banned."""
    stage.replica.network.replies[ONE] = saying(block(1, mark=b"other"))
    stage.replica.on_fetch(Fetch(1, 1, block_hash(block(1).header), (ONE, TWO)))
    await trio.sleep(1)
    assert stage.replica.events == []
    assert [(peer, each.penalty) for peer, each in stage.replica.network.penalties] == [(ONE, 100)]


async def test_true_header_over_another_body_does_not_end_the_search(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The one asked first answers at once, and lies: the next one is asked, the liar is banned."""
    wanted = block(1)
    lie = replace(wanted, body=replace(wanted.body, transactions=(b"another",)))
    stage.replica.network.replies |= {ONE: saying(lie), TWO: saying(wanted)}
    stage.replica.on_fetch(Fetch(1, 1, block_hash(wanted.header), (ONE, TWO)))
    await trio.sleep(1)
    assert stage.replica.events == [Fetched(wanted)]
    assert [(peer, each.penalty) for peer, each in stage.replica.network.penalties] == [(ONE, 100)]


async def test_peer_that_gets_the_body_later_is_asked_again_while_another_is_silent(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The same order comes each quarter of a second; the silent one is asked once."""
    wanted, asked = block(1), Counter[PeerId]()
    begun = trio.current_time()

    async def say_nothing(_message: Record) -> Record:
        asked[ONE] += 1
        await trio.sleep_forever()
        raise AssertionError

    async def answer(_message: Record) -> Record:
        asked[TWO] += 1
        await trio.lowlevel.checkpoint()
        return GotBlock(block=wanted if trio.current_time() > begun + 1 else None)

    stage.replica.network.replies |= {ONE: say_nothing, TWO: answer}
    while not stage.replica.events:
        stage.replica.on_fetch(Fetch(1, 1, block_hash(wanted.header), (ONE, TWO)))
        await trio.sleep(SILENCE_SECONDS)
    assert trio.current_time() - begun < 2 < CALL_SECONDS
    assert stage.replica.events == [Fetched(wanted)]
    assert asked[ONE] == 1
    assert asked[TWO] > 2


async def test_silent_peer_is_asked_again_once_its_time_is_over(
    stage: Stage, autojump_clock: MockClock
) -> None:
    asked = Counter[PeerId]()

    async def say_nothing(_message: Record) -> Record:
        asked[ONE] += 1
        await trio.sleep_forever()
        raise AssertionError

    stage.replica.network.replies[ONE] = say_nothing
    for _ in range(int(2.5 * CALL_SECONDS / SILENCE_SECONDS)):
        stage.replica.on_fetch(Fetch(1, 1, block_hash(block(1).header), (ONE,)))
        await trio.sleep(SILENCE_SECONDS)
    assert asked[ONE] == 3


async def test_calls_and_orders_are_bounded_however_many_bodies_are_wanted(
    stage: Stage, autojump_clock: MockClock
) -> None:
    pending, most = 0, 0

    async def say_nothing(message: Record) -> Record:
        nonlocal pending, most
        assert isinstance(message, GetBlockByHash)
        pending += 1
        most = max(most, pending)
        try:
            await trio.sleep_forever()
        finally:
            pending -= 1
        raise AssertionError

    peers = tuple(f"peer{number}" for number in range(40))
    stage.replica.network.replies |= {PeerId(peer): say_nothing for peer in peers}
    for number in range(ORDERS_MAX + 2):
        stage.replica.on_fetch(Fetch(1, 1, block_hash(block(1, mark=b"%d" % number).header), peers))
    await trio.sleep(SILENCE_SECONDS / 2)
    assert most == ORDERS_MAX
    await trio.sleep(CALL_SECONDS - SILENCE_SECONDS)
    assert most == CALLS_MAX


async def test_silent_peers_leave_room_for_another_body(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Bodies that nobody sends take up all calls: the next order gives the oldest of them up."""
    wanted = block(1)
    peers = tuple(f"peer{number}" for number in range(16))
    stage.replica.network.replies |= {PeerId(peer): say_nothing for peer in peers}
    stage.replica.network.replies[ONE] = saying(wanted)
    for number in range(ORDERS_MAX):
        stage.replica.on_fetch(Fetch(1, 1, block_hash(block(1, mark=b"%d" % number).header), peers))
    await trio.sleep(CALL_SECONDS - SILENCE_SECONDS / 2)  # all have been asked, none given up
    stage.replica.on_fetch(Fetch(1, 1, block_hash(wanted.header), (ONE,)))
    await trio.sleep(0.01)
    assert stage.replica.events == [Fetched(wanted)]


async def test_call_given_up_that_ends_late_takes_no_later_one_with_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The same peer is asked for the same body anew meanwhile: once, since that call is open."""
    asked = Counter[tuple[PeerId, bytes]]()

    def silent(peer: PeerId) -> Callable[[Record], Awaitable[Record]]:
        async def answer(message: Record) -> Record:
            assert isinstance(message, GetBlockByHash)
            asked[peer, message.block_hash] += 1
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.1)  # noqa: ASYNC102 - shielded above
            raise AssertionError

        return answer

    peers = tuple(PeerId(f"peer{number}") for number in range(16))
    stage.replica.network.replies |= {peer: silent(peer) for peer in peers}
    hashes = [block_hash(block(1, mark=b"%d" % number).header) for number in range(ORDERS_MAX + 1)]
    for digest in hashes[:ORDERS_MAX]:
        stage.replica.on_fetch(Fetch(1, 1, digest, peers))
        await trio.sleep(0.01)  # the first order's first call is the oldest
    await trio.sleep(16 * SILENCE_SECONDS)
    assert asked.total() == CALLS_MAX
    stage.replica.on_fetch(Fetch(1, 1, hashes[-1], peers[:1]))  # gives it up
    await trio.sleep(0.05)
    again = Fetch(1, 1, hashes[0], peers[:1])
    stage.replica.on_fetch(again)
    await trio.sleep(SILENCE_SECONDS + 0.1)
    stage.replica.on_fetch(again)
    await trio.sleep(0.05)
    assert asked[peers[0], hashes[0]] == 2


async def test_two_orders_for_one_body_deliver_it_once(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The view changed, and both its proposers name somebody; nobody is asked twice."""
    wanted, asked = block(1), list[PeerId]()

    def say(peer: PeerId) -> None:
        async def answer(_message: Record) -> Record:
            asked.append(peer)
            await trio.sleep(0.1)
            return GotBlock(block=wanted)

        stage.replica.network.replies[peer] = answer

    say(ONE)
    say(TWO)
    digest = block_hash(wanted.header)
    stage.replica.on_fetch(Fetch(1, 1, digest, (ONE, TWO)))
    stage.replica.on_fetch(Fetch(1, 1, digest, (TWO, ONE)))
    await trio.sleep(1)
    assert stage.replica.events == [Fetched(wanted)]
    assert sorted(asked) == [ONE, TWO]
