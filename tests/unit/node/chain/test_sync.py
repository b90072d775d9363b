"""Catching up: who is asked for what, in which order it is applied, what is served."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.pbft.events import Decided
from prsm.node.chain.sync import encode_certified
from prsm.node.net.interface import CallRefused
from prsm.protocol.codec import Record, encode
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import (
    GetBlockByHash,
    GetBlocks,
    GotBlock,
)
from prsm.storage.ledger import StoredBlock
from tests.tools.syncing import ONE, TWO, Stage, block, blocks, certified, open_stage, status


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return await open_stage(nursery)


async def test_range_of_the_highest_peer_is_applied_in_order(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Two peers claim 3 and 5: the second is asked from 1, and its five blocks arrive."""
    stage.answer(TWO, lambda ask: blocks(ask.first, 5))
    stage.claim(ONE, 3)
    stage.claim(TWO, 5)
    assert stage.sync.is_syncing
    await trio.sleep(1)
    assert stage.replica.ledger.height == 5
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == [1, 2, 3, 4, 5]
    assert (stage.asked(ONE), stage.asked(TWO)) == (0, 1)
    assert not stage.sync.is_syncing


async def test_gap_of_one_is_left_to_the_votes_for_a_while(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """One block behind: nobody is asked within 0.6 s, then somebody is."""
    stage.answer(ONE, lambda ask: blocks(ask.first, 1))
    stage.claim(ONE, 1)
    await trio.sleep(0.6)
    assert stage.asked(ONE) == 0
    await trio.sleep(0.6)
    assert stage.replica.ledger.height == 1


async def test_long_ranges_are_asked_of_several_peers_at_once(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Three peers, 600 blocks, a second for each answer: disjoint ranges, applied in order."""
    peers = [PeerId(f"peer{number}") for number in range(3)]
    for peer in peers:
        stage.answer(peer, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=1)
        stage.claim(peer, 600)
    with trio.fail_after(9):  # 64 a second of one peer would be 13 s
        while stage.replica.ledger.height < 600:
            await trio.sleep(0.1)
            for peer in peers:
                assert stage.open_calls(peer) <= 1
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == list(range(1, 601))
    asked = [ask for _, ask in stage.replica.network.calls if isinstance(ask, GetBlocks)]
    covered = [h for ask in asked for h in range(ask.first, ask.first + ask.count)]
    assert sorted(covered) == list(range(1, 601))
    assert all(stage.asked(peer) >= 3 for peer in peers)


async def test_pruned_peer_is_not_asked_for_what_it_dropped(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It holds blocks from 50 on and says so: the other one is asked for the first 49."""
    reply = lambda ask: blocks(ask.first, ask.first + ask.count - 1)  # noqa: E731 - said twice
    stage.answer(ONE, reply, after_s=0.1)
    stage.answer(TWO, reply, after_s=0.1)
    stage.replica.network.meet(TWO)
    stage.replica.on_status(TWO, status(80, first=50))
    await trio.sleep(5)
    assert stage.asked(TWO) == 0
    stage.claim(ONE, 60)
    await trio.sleep(5)
    assert stage.replica.ledger.height == 80
    asked = [
        ask.first
        for peer, ask in stage.replica.network.calls
        if peer == TWO and isinstance(ask, GetBlocks)
    ]
    assert asked
    assert min(asked) >= 50


async def test_announced_block_is_asked_for_before_the_next_status(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Its proposer is linked and at rest: the hint comes seconds before its word."""
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1))
    stage.claim(ONE, 2)
    await trio.sleep(1)
    stage.sync.hear_block(ONE, 4)
    stage.sync.hear_block(TWO, 90)
    await trio.sleep(0.1)
    assert stage.replica.ledger.height == 4


async def test_short_answers_are_a_prefix(stage: Stage, autojump_clock: MockClock) -> None:
    """A peer sends three blocks of each range, as large ones are: the rest is asked again."""
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + min(3, ask.count) - 1))
    stage.claim(ONE, 20)
    await trio.sleep(1)
    assert stage.replica.ledger.height == 20
    assert stage.asked(ONE) == 7
    assert stage.replica.network.penalties == []


async def test_refusal_is_a_pause_without_blame(stage: Stage, autojump_clock: MockClock) -> None:
    """A busy peer is asked again after five seconds."""

    def refuse(_ask: GetBlocks) -> Record:
        raise CallRefused("busy", "its disk is slow", peer=ONE)

    stage.answer(ONE, refuse)
    stage.claim(ONE, 9)
    await trio.sleep(6)
    assert stage.asked(ONE) == 2
    assert stage.replica.network.penalties == []


async def test_halted_node_asks_and_blames_nobody(stage: Stage, autojump_clock: MockClock) -> None:
    """Its own disk refused: peers are not to blame that nothing is applied."""
    stage.replica.is_halted = True
    stage.answer(ONE, lambda ask: blocks(ask.first, 9))
    stage.claim(ONE, 9)
    await trio.sleep(60)
    assert stage.asked(ONE) == 0


async def test_claims_are_bounded(stage: Stage, autojump_clock: MockClock) -> None:
    """1,500 peers claim something: the newest 1,024 are remembered."""
    for number in range(1_500):
        stage.replica.on_status(PeerId(f"peer{number}"), status(number))
        if number % 100 == 0:
            await trio.sleep(0.001)
    assert len(stage.sync._claims) == 1024
    assert PeerId("peer1499") in stage.sync._claims


def stored(height: int) -> StoredBlock:
    item = certified(height)
    return StoredBlock(
        height, block_hash(item.block.header), encode(item.block), encode(item.certificate), b""
    )


async def test_blocks_are_served_as_they_are_stored(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The answer is what encoding block and certificate together gives, without decoding."""
    stage.replica.store.held = {1: stored(1), 2: stored(2)}
    answer = await stage.replica.network.ask(ONE, GetBlocks(first=1, count=64))
    assert answer == blocks(1, 2)
    assert encode_certified(stored(1).block, stored(1).certificate) == encode(certified(1))


async def test_body_is_served_while_proposed_and_when_committed(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """By hash only: another hash at the same height gets nothing."""
    stage.replica.store.held = {1: stored(1)}
    stage.replica.open_proposal = block(2)
    network = stage.replica.network
    for height, name, expected in (
        (1, block_hash(block(1).header), block(1)),
        (2, block_hash(block(2).header), block(2)),
        (1, bytes(32), None),
        (7, bytes(32), None),
    ):
        answer = await network.ask(ONE, GetBlockByHash(height=height, block_hash=name))
        assert answer == GotBlock(block=expected)


async def test_sync_that_crashed_asks_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It ends while a question is open, and runs anew: the same range is asked for again."""
    stage = await open_stage(nursery, runs=False)
    stage.be_silent(ONE)
    with trio.move_on_after(1):
        async with trio.open_nursery() as first:
            await first.start(stage.sync.run)
            stage.claim(ONE, 9)
            await trio.sleep_forever()
    assert stage.asked(ONE) == 1
    stage.answer(ONE, lambda ask: blocks(ask.first, min(9, ask.first + ask.count - 1)))
    await nursery.start(stage.sync.run)
    await trio.sleep(1)
    assert stage.replica.ledger.height == 9
