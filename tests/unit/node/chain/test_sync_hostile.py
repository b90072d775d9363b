"""Catching up among peers that lie, are silent, drip or contradict themselves."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.pbft.events import Decided
from prsm.node.chain import sync as module
from prsm.node.chain.claims import DISTRUST_MS
from prsm.node.chain.ranges import SEGMENTS_MAX
from prsm.node.chain.sync import APPLY_SECONDS, RANGE_SECONDS
from prsm.protocol.codec import Record, encode
from prsm.protocol.headers import Block
from prsm.protocol.messages.sync import (
    Certified,
    GetBlocks,
    GotBlock,
    GotBlocks,
)
from tests.tools.syncing import (
    ONE,
    TWO,
    Stage,
    block,
    blocks,
    certified,
    forged,
    is_marked,
    open_stage,
    status,
)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return await open_stage(nursery)


async def test_silent_peer_is_asked_ever_more_rarely(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Claims much, never answers, and nobody else is there: 4 questions within 90 s."""
    stage.be_silent(TWO)
    stage.claim(TWO, 1_000_000)
    await trio.sleep(RANGE_SECONDS + 1)
    assert stage.asked(TWO) == 1
    await trio.sleep(84)
    assert stage.asked(TWO) == 4
    assert stage.replica.network.penalties == []
    assert not stage.sync.is_syncing


@pytest.mark.slow
async def test_peer_that_cannot_show_its_claim_is_not_asked_for_ten_minutes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Claims 9, has nothing: asked once; its claim makes nobody wait for readiness."""
    stage.answer(ONE, lambda _ask: GotBlocks(blocks=()))
    stage.claim(ONE, 9)
    for _ in range(100):
        await trio.sleep(5)
        stage.claim(ONE, 9)
    assert stage.asked(ONE) == 1
    assert not stage.sync.is_syncing
    await trio.sleep(DISTRUST_MS / 1000)
    assert stage.asked(ONE) == 2


async def test_empty_answer_is_no_proof_when_votes_moved_us_meanwhile(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Our own height grew while a liar answered with nothing: it is distrusted all the same."""

    def answer(_ask: GetBlocks) -> Record:
        stage.replica.ledger.height += 1
        return GotBlocks(blocks=())

    stage.answer(ONE, answer)
    stage.claim(ONE, 1_000)
    await trio.sleep(30)
    assert stage.asked(ONE) == 1


@pytest.mark.parametrize(
    "lie",
    [
        GotBlock(block=None),
        blocks(2, 3),
        blocks(1, 9),
        GotBlocks(blocks=(b"no block",)),
        GotBlocks(blocks=(encode(Certified(block(1), certified(1, mark=b"x").certificate)),)),
        GotBlocks(
            blocks=(
                encode(
                    Certified(
                        Block(certified(1).block.header, block(1, mark=b"x").body),
                        certified(1).certificate,
                    )
                ),
            )
        ),
    ],
    ids=["kind", "order", "count", "bytes", "certificate", "body"],
)
async def test_answer_no_honest_peer_gives_is_a_fault(
    stage: Stage, autojump_clock: MockClock, lie: Record
) -> None:
    """Another record, another height, garbage, a foreign certificate or body: blamed, not fed."""
    stage.answer(ONE, lambda _ask: lie)
    stage.claim(ONE, 9)
    await trio.sleep(60)
    assert stage.asked(ONE) == 1
    assert [peer for peer, _ in stage.replica.network.penalties] == [ONE]
    assert stage.replica.events == []


async def test_forged_certificate_bans_who_showed_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Good blocks up to 3, then a forged one: the peer is banned, another one goes on from 4."""
    stage.replica.is_forged = is_marked
    stage.answer(TWO, lambda ask: forged(ask, first=4))
    stage.answer(ONE, lambda ask: blocks(ask.first, min(9, ask.first + ask.count - 1)))
    stage.claim(TWO, 12)
    await trio.sleep(1)
    assert stage.replica.ledger.height == 3
    assert [(peer, why.penalty) for peer, why in stage.replica.network.penalties] == [(TWO, 100)]
    asked = stage.asked(TWO)
    stage.claim(ONE, 9)
    await trio.sleep(1)
    assert stage.replica.ledger.height == 9
    assert stage.asked(TWO) == asked
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == list(range(1, 10))


async def test_own_slow_disk_is_no_fault_of_the_peer(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Each block takes longer to apply than a peer may take to answer: all are taken from it."""
    stage.replica.apply_s = APPLY_SECONDS + 3
    stage.answer(ONE, lambda ask: blocks(ask.first, min(20, ask.first + ask.count - 1)))
    stage.claim(ONE, 20)
    await trio.sleep(7.5 * (APPLY_SECONDS + 3))
    assert (stage.sync.target_height, stage.replica.ledger.height) == (20, 7)
    await trio.sleep(14 * (APPLY_SECONDS + 3))
    assert stage.replica.ledger.height == 20
    assert stage.replica.network.penalties == []
    assert stage.sync.target_height == 20


@pytest.mark.slow
async def test_silent_liar_is_not_asked_for_ten_minutes_while_others_are_there(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It claims a million and says nothing: one question, and an honest peer is followed."""
    stage.be_silent(TWO)
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first))
    stage.claim(TWO, 1_000_000)
    stage.claim(ONE, 3)
    await trio.sleep(RANGE_SECONDS + 1)
    for height in range(3, 100):
        stage.claim(ONE, height)
        stage.claim(TWO, 1_000_000)
        await trio.sleep(5)
    assert stage.replica.ledger.height == 99
    assert stage.asked(TWO) == 1
    assert not stage.sync.is_syncing
    await trio.sleep(DISTRUST_MS / 1000)
    assert stage.asked(TWO) > 1


async def test_silence_of_a_broken_connection_is_forgotten_with_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It was cut off while it was asked: connected anew, it is asked at once."""
    stage.be_silent(ONE)
    stage.claim(ONE, 9)
    await trio.sleep(RANGE_SECONDS + 0.5)
    stage.replica.network.lose(ONE)
    stage.answer(ONE, lambda ask: blocks(ask.first, min(9, ask.first + ask.count - 1)))
    stage.claim(ONE, 9)
    await trio.sleep(1)
    assert stage.replica.ledger.height == 9


async def test_slow_drip_does_not_hold_up_what_others_can_show(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It claims most, and each answer takes 4.9 s of the allowed 5: others fill all other gaps."""
    stage.answer(TWO, lambda ask: blocks(ask.first, ask.first), after_s=RANGE_SECONDS - 0.1)
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=0.1)
    stage.claim(ONE, 400)
    stage.claim(TWO, 400)
    await trio.sleep(20)
    assert stage.replica.ledger.height == 400
    assert stage.asked(TWO) <= 5


async def test_who_fell_silent_holds_up_nobody_for_long(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The lowest range is with a silent peer: a quick one is asked too, long before 5 s."""
    stage.be_silent(TWO)
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=0.1)
    stage.claim(TWO, 401)
    stage.claim(ONE, 400)
    await trio.sleep(1.2)
    assert (stage.asked(TWO), stage.replica.ledger.height) == (1, 0)
    await trio.sleep(1.3)
    assert stage.replica.ledger.height == 400
    assert stage.asked(TWO) == 1


async def test_who_pruned_the_stalled_range_is_not_asked_for_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """It is quick, and holds blocks from 5 on: of the silent one's 1 to 8 it has not the first."""
    stage.be_silent(TWO)
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=0.1)
    stage.claim(TWO, 40)
    await trio.sleep(0.3)
    assert stage.asked(TWO) == 1
    stage.replica.network.meet(ONE)
    stage.replica.on_status(ONE, status(40, first=5))
    await trio.sleep(RANGE_SECONDS - 1)
    calls = stage.replica.network.calls
    asked = [ask.first for peer, ask in calls if peer == ONE and isinstance(ask, GetBlocks)]
    assert asked[0] == 9
    assert min(asked) >= 5


async def test_of_two_late_answers_one_is_taken(stage: Stage, autojump_clock: MockClock) -> None:
    """The first comes after the second peer's, and is a lie: it is blamed, and moves nothing."""
    stage.answer(TWO, lambda _ask: blocks(5, 5), after_s=3)
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=0.5)
    stage.claim(TWO, 41)
    stage.claim(ONE, 40)
    await trio.sleep(2.9)
    assert stage.replica.ledger.height == 40
    assert stage.replica.network.penalties == []
    await trio.sleep(0.5)
    assert [peer for peer, _ in stage.replica.network.penalties] == [TWO]
    assert stage.asked(TWO) == 1, "for that answer, not for another one"
    await trio.sleep(20)
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == list(range(1, 41))


async def test_a_slow_line_is_not_asked_twice(stage: Stage, autojump_clock: MockClock) -> None:
    """All answers take three seconds: no second peer is asked for what is on its way."""
    for peer in (ONE, TWO):
        stage.answer(peer, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=3)
        stage.claim(peer, 40)
    await trio.sleep(60)
    assert stage.replica.ledger.height == 40
    asked = [ask for _, ask in stage.replica.network.calls if isinstance(ask, GetBlocks)]
    covered = [h for ask in asked for h in range(ask.first, ask.first + ask.count)]
    assert sorted(covered) == list(range(1, 41))


async def test_forged_part_costs_only_who_sent_it(stage: Stage, autojump_clock: MockClock) -> None:
    """Two peers at once, one forges all of its part: it is named, its part is asked anew."""
    stage.replica.is_forged = is_marked
    stage.answer(ONE, lambda ask: blocks(ask.first, ask.first + ask.count - 1), after_s=1)

    stage.answer(TWO, lambda ask: forged(ask, first=1))
    stage.claim(ONE, 100)
    stage.claim(TWO, 100)
    await trio.sleep(30)
    assert stage.replica.ledger.height == 100
    assert [peer for peer, _ in stage.replica.network.penalties] == [TWO]
    assert stage.asked(TWO) < SEGMENTS_MAX  # until the turn of its first part came
    heights = [e.block.header.height for e in stage.replica.events if isinstance(e, Decided)]
    assert heights == list(range(1, 101))


async def test_contradictory_status_is_named(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hashes of one height, a falling height; a new connection may begin lower."""
    named: list[object] = []
    noting = SimpleNamespace(warning=lambda _event, *, peer, why: named.append((peer, why)))
    monkeypatch.setattr(module, "log", noting)
    hear = stage.replica.on_status
    stage.replica.network.meet(ONE)
    hear(ONE, status(5, tip=b"a" * 32))
    hear(ONE, status(5, tip=b"a" * 32))
    hear(ONE, status(6, tip=b"b" * 32))
    network = stage.replica.network
    assert network.penalties == []
    hear(ONE, status(6, tip=b"c" * 32))
    hear(ONE, status(4, tip=b"d" * 32))
    assert [(peer, why.penalty) for peer, why in network.penalties] == [(ONE, 100), (ONE, 20)]
    assert named == [(ONE, why.what) for _, why in network.penalties]
    network.lose(ONE)
    network.meet(ONE)
    hear(ONE, status(3, tip=b"e" * 32))
    assert len(network.penalties) == 2
