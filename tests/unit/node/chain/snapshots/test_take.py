"""Which claims are followed, what is believed, when a snapshot becomes the state, and when not."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections.abc import Collection
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.pbft.events import Distrusted, Installed, Tick
from prsm.node.chain.snapshots.fetch import STALL_SECONDS
from prsm.node.chain.snapshots.take import DISK_PAUSE_SECONDS, DISTRUST_MS, PAUSE_MS
from prsm.node.net.interface import Answer
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import (
    EpochProof,
    GetEpochHeaders,
    GetSnapshot,
    GotEpochHeaders,
    SnapshotMeta,
)
from prsm.storage.errors import Full
from prsm.storage.snapshots import Staging
from tests.tools.offers import chain_of
from tests.tools.takers import FAR, ONE, TWO, Stage, stage_of, taken


@pytest.fixture
async def stage(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return await stage_of(nursery, tmp_path, monkeypatch)


async def test_snapshot_becomes_the_state_and_is_served_from_here(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Ledger, file, replica and STATUS move to its height; other listeners still hear."""
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    assert stage.wants()
    await taken(stage)
    ledger, height = stage.replica.ledger, stage.made.height
    assert (ledger.height, ledger.state_root) == (height, stage.made.found.header.state_root)
    (event,) = stage.replica.events
    assert isinstance(event, Installed)
    assert (event.tip.height, event.observer) == (height, "a blank log")
    found = stage.made.found
    assert [shown for shown, _ in stage.shown] == [found.block_certificate, found.certificate]
    assert event.certificate == found.certificate
    assert event.tip.receipts_root == stage.made.found.header.receipts_root
    assert [block.height for block in stage.replica.store.installed] == [height]
    assert [kept.epoch for kept in stage.replica.store.epochs] == [0]
    assert stage.files.heights() == [height]
    assert stage.replica.held == (height, height)
    assert stage.replica.mempool.rechecked == 1
    assert stage.wants() is False
    assert stage.replica.heard == [ONE]


async def test_blocks_are_left_to_blocks_while_they_lead_on(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A snapshot not far ahead is taken only if nobody holds the next block."""
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, FAR)
    await trio.sleep(10)
    assert stage.asked == []
    assert not stage.wants()
    stage.claim(ONE, FAR, first=2)
    stage.claim(TWO, 0, height=9, first=1)
    assert not stage.wants()
    stage.replica.network.live.remove(TWO)
    assert stage.wants()
    stage.replica.ledger = chain_of(FAR).ledger
    assert not stage.wants()


async def test_height_nobody_has_is_asked_ever_more_rarely(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A STATUS is believed by nobody: a refusal, then silence; the honest peer is followed."""
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, 1_000_000)
    await trio.sleep(1)
    assert stage.count(ONE, GetSnapshot) == 1
    assert not stage.wants()
    stage.answer(TWO, stage.honest)
    stage.claim(TWO, stage.made.height)
    await taken(stage)
    assert stage.replica.ledger.height == stage.made.height

    async def say_nothing(_ask: Record) -> Record:
        await trio.sleep_forever()
        raise AssertionError

    stage.answer(ONE, say_nothing)
    await trio.sleep(120)
    assert stage.count(ONE, GetSnapshot) <= 5
    assert stage.replica.network.penalties == []


async def test_who_let_a_call_run_out_of_time_is_asked_after_the_others(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Its pause ends; it still has the highest offer, and would drip again."""

    async def drip(_ask: Record) -> Record:
        await trio.sleep_forever()
        raise AssertionError

    stage.replica.state.settled = stage.made.height + 1
    stage.answer(ONE, drip)
    stage.claim(ONE, stage.made.height + 1)
    await trio.sleep(STALL_SECONDS + 1)
    assert not stage.wants()  # paused
    stage.replica.is_halted = True  # until both may be asked
    await trio.sleep(PAUSE_MS / 1_000)
    stage.answer(TWO, stage.honest)
    stage.claim(TWO, stage.made.height)
    stage.replica.is_halted = False
    await taken(stage)
    assert stage.count(ONE, GetSnapshot) == 1


async def test_answer_in_time_makes_up_for_a_call_that_ran_out_of_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Who was busy once is not asked last for ever."""
    is_busy = True

    async def answer(ask: Record) -> Record | Answer:
        if is_busy:
            await trio.sleep_forever()
        return await stage.honest(ask)

    stage.answer(ONE, answer)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(STALL_SECONDS + 1)
    assert stage.taker._claims[ONE].stalls == 1
    is_busy = False
    await taken(stage)
    assert stage.taker._claims[ONE].stalls == 0


async def test_blocks_have_their_turn_after_a_snapshot_that_was_refused(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Whoever else offers one: peers that refuse or drip held a node back, one after the other."""
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height + 1)
    await trio.sleep(1)
    assert stage.count(ONE, GetSnapshot) == 1
    stage.answer(TWO, stage.honest)
    stage.claim(TWO, stage.made.height)
    assert not stage.wants()
    stage.claim(ONE, stage.made.height + 1, first=2)
    stage.claim(TWO, stage.made.height, first=2)
    assert stage.wants()  # nobody has block 1
    stage.claim(TWO, stage.made.height)
    assert not stage.wants()
    await taken(stage)
    stage.replica.ledger = chain_of(0).ledger
    assert stage.wants()  # the one that was taken made up for it


async def test_claimed_height_alone_moves_nothing(stage: Stage, autojump_clock: MockClock) -> None:
    """A peer shows the true snapshot under a higher number: banned, and the ledger stays."""

    async def renamed(ask: Record) -> Record | Answer:
        await trio.lowlevel.checkpoint()
        if isinstance(ask, GetSnapshot):
            return SnapshotMeta(height=ask.height), encode(stage.made.found)
        return await stage.honest(ask)

    stage.answer(ONE, renamed)
    stage.claim(ONE, 1_000)
    await trio.sleep(20)
    assert stage.replica.ledger.height == 0
    assert [peer for peer, error in stage.replica.network.penalties] == [ONE]
    assert stage.replica.network.penalties[0][1].penalty == 100
    stage.claim(ONE, 1_000)
    await trio.sleep(DISTRUST_MS / 1000 - 60)
    assert stage.count(ONE, GetSnapshot) == 1


async def test_walk_of_epochs_that_leads_nowhere_bans(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """No header of the known epoch, one in another's place, or one nobody signed."""
    forged = msgspec.structs.replace(stage.made.found.header, epoch=1)
    for proofs in (
        (),
        (msgspec.structs.replace(stage.proof, header=forged),),
        (stage.proof, stage.proof),
    ):
        peer = PeerId(f"peer{len(stage.replica.network.penalties)}")

        async def lie(ask: Record, proofs: tuple[EpochProof, ...] = proofs) -> Record | Answer:
            await trio.lowlevel.checkpoint()
            if isinstance(ask, GetEpochHeaders):
                return GotEpochHeaders(epochs=proofs)
            return await stage.honest(ask)

        stage.answer(peer, lie)
        stage.claim(peer, stage.made.height)
        await trio.sleep(2)
    assert len(stage.replica.network.penalties) == 3
    assert stage.replica.ledger.height == 0


async def test_full_disk_leaves_the_old_state_and_is_tried_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """No room for the switch: nothing moved, nobody is blamed; with room it is taken."""
    stage.replica.store.is_full = True
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(30)
    assert stage.replica.ledger.height == 0
    assert stage.count(ONE, GetSnapshot) == 1
    assert not any(isinstance(event, Installed) for event in stage.replica.events)
    stage.replica.store.is_full = False
    await taken(stage)
    assert stage.replica.network.penalties == []


async def test_guard_that_was_given_up_for_nothing_silences_the_node_at_once(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The guard is put aside before the switch; then there is no room, or none for that either."""
    stage.replica.store.is_full = True
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(30)
    assert stage.replica.events == [Distrusted("a blank log", stage.made.height + 1)]
    stage.replica.events.clear()
    stage.guard_is_full = True
    await trio.sleep(60)
    (event,) = stage.replica.events
    assert isinstance(event, Distrusted)
    assert "refused to put the sign guard aside" in event.reason


async def test_log_that_may_sign_signs_on_when_there_is_no_room(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Its guard stayed where it was, so nothing happened at all."""
    stage.distrust = None
    stage.replica.store.is_full = True
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(30)
    assert stage.replica.events == [Tick()]


async def test_installed_state_whose_files_find_no_room_hides_no_gap(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be served, but STATUS says which blocks are gone, and nobody waits for them."""

    def refuse(_staging: Staging, height: int, meta: bytes, roots: Collection[bytes]) -> None:
        raise Full(f"no room for {height}: {len(meta)} bytes, {len(roots)} chunks")

    monkeypatch.setattr(Staging, "publish", refuse)
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(10)
    assert stage.replica.ledger.height == stage.made.height
    assert stage.replica.held == (0, stage.made.height)


async def test_no_room_for_a_chunk_is_a_pause_and_nobodys_fault(
    stage: Stage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try a minute; the taker lives on, and with room it takes the snapshot."""
    is_full, put, tries = True, Staging.put, 0

    def put_or_refuse(staging: Staging, root: bytes, raw: bytes) -> None:
        nonlocal tries
        if is_full and raw != encode(()):  # what nobody need be asked for finds room
            tries += 1
            raise Full("no room")
        put(staging, root, raw)

    monkeypatch.setattr(Staging, "put", put_or_refuse)
    for peer in (ONE, TWO):
        stage.answer(peer, stage.honest)
        stage.claim(peer, stage.made.height)
    await trio.sleep(DISK_PAUSE_SECONDS / 2)
    assert 1 <= tries <= 2  # one of each peer
    is_full = False
    await taken(stage)
    assert stage.replica.network.penalties == []


async def test_halted_node_takes_nothing(stage: Stage, autojump_clock: MockClock) -> None:
    """Its own state or disk is in doubt: it waits for a person."""
    stage.replica.is_halted = True
    stage.answer(ONE, stage.honest)
    stage.claim(ONE, stage.made.height)
    await trio.sleep(20)
    assert stage.asked == []
