"""The way along epochs to a snapshot's set: pages that lead on, liars and drips on the way."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain.snapshots import take
from prsm.node.chain.snapshots.fetch import STALL_SECONDS
from prsm.node.chain.snapshots.take import PAUSE_MS, WALK_SECONDS
from prsm.node.net.interface import Answer
from prsm.protocol.codec import Record, encode
from prsm.protocol.messages.sync import (
    EpochProof,
    GetEpochHeaders,
    GetSnapshot,
    GotEpochHeaders,
    Snapshot,
    SnapshotMeta,
)
from prsm.testnet.chain import Chain, small_genesis
from tests.tools.offers import Offer
from tests.tools.takers import ONE, TWO, Stage, stage_of, taken

EPOCHS = 12
PAGE = 4
Say = Callable[[Record], Awaitable[Record | Answer]]


@cache
def made() -> tuple[Offer, tuple[EpochProof, ...]]:
    """A snapshot that is some epochs away from the genesis, and a header of each on the way."""
    chain = Chain(small_genesis())
    proofs: list[EpochProof] = []
    while len(proofs) <= EPOCHS:
        members = chain.ledger.epoch.validators.members
        block = chain.add(step_ms=10_000)
        if block.block.header.epoch == len(proofs):
            proofs.append(EpochProof(block.block.header, block.certificate, members))
    return Offer.of(chain), tuple(proofs)


@pytest.fixture
async def stage(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Pages are so short that the way is several of them."""
    monkeypatch.setattr(take, "EPOCH_HEADERS_MAX", PAGE)
    found = await stage_of(nursery, tmp_path, monkeypatch)
    found.made = made()[0]
    return found


def walker(stage: Stage, *, count: int = PAGE, delay_s: float = 0, shown: Snapshot) -> Say:
    """A peer that knows all epochs, and shows so many of them at once, each time so late."""
    proofs = made()[1]

    async def say(ask: Record) -> Record | Answer:
        match ask:
            case GetEpochHeaders(first=first):
                await trio.sleep(delay_s)
                return GotEpochHeaders(epochs=proofs[first : first + count])
            case GetSnapshot():
                await trio.lowlevel.checkpoint()
                return SnapshotMeta(height=ask.height), encode(shown)
            case _:
                return await stage.honest(ask)

    return say


async def test_way_over_several_pages_is_walked_once(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Each page begins with the last epoch of the one before; all of them are kept."""
    stage.answer(ONE, walker(stage, shown=stage.made.found))
    stage.claim(ONE, stage.made.height)
    await taken(stage)
    asked = [ask.first for _, ask in stage.asked if isinstance(ask, GetEpochHeaders)]
    assert asked == list(range(0, EPOCHS, PAGE - 1))
    assert [kept.epoch for kept in stage.replica.store.epochs] == list(range(EPOCHS + 1))


@pytest.mark.parametrize("count", [0, 1, 2, PAGE - 1])
async def test_page_that_leaves_epochs_out_bans(
    stage: Stage, autojump_clock: MockClock, count: int
) -> None:
    """One true epoch at a time, each just in time, under a header of epoch 2^31 nobody signed."""
    header = msgspec.structs.replace(stage.made.found.header, epoch=2**31)
    shown = msgspec.structs.replace(stage.made.found, header=header)
    stage.answer(ONE, walker(stage, count=count, delay_s=STALL_SECONDS - 0.1, shown=shown))
    stage.claim(ONE, stage.made.height)
    await trio.sleep(STALL_SECONDS + 1)
    assert stage.count(ONE, GetEpochHeaders) == 1
    ((peer, error),) = stage.replica.network.penalties
    assert (peer, error.penalty) == (ONE, 100)
    assert not stage.taker.is_taking


async def test_whole_pages_that_drip_are_a_stall_and_what_they_showed_is_kept(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """The way has one deadline; another peer goes on where the slow one was left, without blame."""
    shown = stage.made.found
    stage.replica.state.settled = stage.made.height + 2
    stage.answer(ONE, walker(stage, delay_s=STALL_SECONDS - 0.1, shown=shown))
    stage.answer(TWO, walker(stage, shown=shown))
    stage.claim(ONE, stage.made.height)
    await trio.sleep(WALK_SECONDS + 1)
    assert not stage.wants()
    assert stage.taker._claims[ONE].stalls == 1
    assert stage.taker._claims[ONE].pause_ms == 2 * PAUSE_MS
    stage.claim(TWO, stage.made.height)
    stage.claim(ONE, stage.made.height + 1, first=2)
    await taken(stage)
    first = next(
        ask.first for peer, ask in stage.asked if peer == TWO if isinstance(ask, GetEpochHeaders)
    )
    assert first == (WALK_SECONDS // STALL_SECONDS) * (PAGE - 1)
    assert stage.count(ONE, GetSnapshot) == 1
    assert stage.replica.network.penalties == []
    assert [kept.epoch for kept in stage.replica.store.epochs] == list(range(EPOCHS + 1))


async def test_way_that_was_walked_is_kept_when_own_blocks_reach_an_epoch_of_it(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Blocks have a turn after a try; what was shown of later epochs is not asked for again."""
    shown = stage.made.found
    stage.replica.state.settled = stage.made.height + 2
    stage.answer(ONE, walker(stage, delay_s=STALL_SECONDS - 0.1, shown=shown))
    stage.answer(TWO, walker(stage, shown=shown))
    stage.claim(ONE, stage.made.height)
    await trio.sleep(WALK_SECONDS + 1)
    chain = Chain(small_genesis())
    while chain.ledger.epoch.number < 2:
        chain.add(step_ms=10_000)
    stage.replica.ledger.adopt(chain.ledger)
    stage.claim(TWO, stage.made.height)
    await taken(stage)
    asked = [ask.first for who, ask in stage.asked if who == TWO and hasattr(ask, "first")]
    assert asked == [(WALK_SECONDS // STALL_SECONDS) * (PAGE - 1)]
    assert [kept.epoch for kept in stage.replica.store.epochs] == list(range(2, EPOCHS + 1))


async def test_way_of_many_quick_pages_is_no_stall_and_no_failure(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """More than a drip could show: the peer is asked again soon, blocks' turn stays short."""
    page = 3
    monkeypatch.setattr(take, "EPOCH_HEADERS_MAX", page)
    stage.answer(ONE, walker(stage, count=page, delay_s=2.9, shown=stage.made.found))
    stage.claim(ONE, stage.made.height)
    await trio.sleep(WALK_SECONDS + 1)
    assert not stage.taker.is_taking
    assert (stage.taker._claims[ONE].stalls, stage.taker._blocks_turn._failed) == (0, 0)
    await taken(stage)
    asked = [ask.first for _, ask in stage.asked if isinstance(ask, GetEpochHeaders)]
    assert sorted(set(asked)) == list(range(0, EPOCHS, page - 1))
    assert stage.count(ONE, GetSnapshot) == 2
