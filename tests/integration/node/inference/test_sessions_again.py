"""What a session did is paid, whatever its requester does after it ended."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from pathlib import Path
from typing import Never

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.generate import bill
from prsm.node.inference.generate import worker as sessions_module
from prsm.node.inference.generate.course import Patience
from prsm.node.inference.generate.stage import RemoteStage
from prsm.node.inference.links import WorkerLost
from prsm.node.net.interface import CallRefused
from prsm.protocol.generating import GREEDY
from prsm.protocol.messages.generation import OpenSession, session_statement
from prsm.protocol.messages.pipe import WorkerFailed
from tests.integration.node.inference.test_generate_worker import (
    PROMPT,
    Desk,
    StuckFiles,
    desk,
    here,
    ids,
    opened,
)
from tests.tools.work import FullDisk, Node
from tests.tools.work_chain import MemoryChain

PRICE = 10


def prompt() -> tuple[int, ...]:
    return tuple(PROMPT.encode())


async def paid_rows(found: Desk, stage: RemoteStage, *, within_s: float) -> int:
    """Rows of a unit the worker is paid for by then, its requester being gone."""
    await trio.sleep(within_s)
    seat = stage.seat
    job = found.makers.makers[0].node.chain.job(seat.job)
    assert job is not None
    verdict = job.verdicts[seat.unit]
    assert verdict is not None
    [opinion] = verdict.opinions
    assert opinion.worker == seat.worker
    return opinion.paid * 100 // 95 // PRICE


async def ended(found: Desk) -> None:
    found.stage.end()
    await trio.sleep(1)
    assert found.worker.sessions.count == 0


async def steps(stage: RemoteStage, first: int, count: int) -> None:
    for place in range(first, first + count):
        await stage.step(place, (1,), ids(1))


async def test_session_opened_again_and_left_is_paid_for_what_the_one_before_did(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=PRICE)
    await ended(found)
    await found.routes.stage(0).open()
    assert await paid_rows(found, found.stage, within_s=300) == 4


async def test_session_that_hears_it_all_again_goes_on_and_is_paid_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """As after the death of a child: the history again, then what comes next."""
    found = await opened(nursery, price=PRICE)
    await steps(found.stage, 4, 16)
    await ended(found)
    again = found.routes.stage(0)
    await again.open()
    await again.step(0, (4,), ids(*prompt()))
    await steps(again, 4, 32)
    receipt = await again.finish()
    assert receipt is not None
    assert [(batch.index, batch.rows) for batch in receipt.batches] == [(0, 4), (1, 16), (2, 16)]
    assert await paid_rows(found, again, within_s=300) == 36


async def test_session_that_hears_less_again_shows_all_that_was_done(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Left in the middle of the replay; the word for each batch goes with the receipt."""
    found = await opened(nursery, price=PRICE)
    await steps(found.stage, 4, 16)
    await ended(found)
    again = found.routes.stage(0)
    await again.open()
    await again.step(0, (4,), ids(*prompt()))
    await steps(again, 4, 3)
    again.end()
    await trio.sleep(70)
    claim = found.worker.node.claims._claims[again.seat.job, again.seat.unit]
    assert [(batch.index, batch.rows) for batch in claim.receipt.batches] == [(0, 4), (1, 16)]
    assert [feed.batch for feed in claim.feeds] == [0, 1]
    assert await paid_rows(found, again, within_s=300) == 20


@pytest.mark.parametrize("heard", ["is not opened", "nothing", "a part"])
async def test_session_that_was_left_again_has_one_receipt_and_nobody_is_blamed(
    heard: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Asked by the last stage at its seat alone, though the one before did what is shown."""
    found = await opened(nursery, price=PRICE)
    await steps(found.stage, 4, 20)
    await ended(found)
    again = found.routes.stage(0)
    assert found.routes.used == [again]
    if heard != "is not opened":
        await again.open()
    if heard == "a part":
        await again.step(0, (4,), ids(*prompt()))
        await steps(again, 4, 3)
    receipt = await again.finish()
    assert receipt is not None
    rest = [(2, 4)] if heard == "is not opened" else []
    assert [(batch.index, batch.rows) for batch in receipt.batches] == [(0, 4), (1, 16), *rest]


@pytest.mark.parametrize("change", [{"output_root": bytes(32)}, {"rows": 3}, {"index": 2}])
async def test_receipt_of_what_nobody_at_the_seat_answered_is_refused(
    change: dict[str, object], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=PRICE)
    await ended(found)
    again = found.routes.stage(0)
    await again.open()
    [held] = found.worker.sessions._held.values()
    held.earlier = {
        batch: (msgspec.structs.replace(result, **change), feed)
        for batch, (result, feed) in held.earlier.items()
    }
    with pytest.raises(WorkerLost, match="a receipt that is not of what it answered"):
        await again.finish()


async def test_batch_of_an_ended_session_is_not_done_from_other_inputs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The requester signs them, too: two texts for the price of one."""
    found = await opened(nursery, price=PRICE)
    await ended(found)
    again, done = found.routes.stage(0), found.worker.runner.steps
    await again.open()
    with pytest.raises(WorkerLost, match="policy_refused: batch 0 was done from other inputs"):
        await again.step(0, (4,), ids(*reversed(prompt())))
    assert found.worker.runner.steps == done
    await again.step(0, (4,), ids(*prompt()))


async def test_another_peer_of_the_account_has_no_session_of_the_same_unit(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=PRICE)
    other = 1 if found.worker is not found.makers.makers[1] else 2
    seat, account = found.stage.seat, found.makers.makers[0].node.chain
    unsigned = OpenSession(seat.job, seat.unit, seat.worker, 43, GREEDY, bytes(64))
    peer = found.makers.makers[other].node.network.peer_id
    statement = session_statement(unsigned, chain_id=account.chain_id, requester_peer=peer)
    opening = msgspec.structs.replace(unsigned, signature=account.signer.sign(statement))
    for _ in range(2):  # while it is open, and when it has ended
        with pytest.raises(CallRefused) as caught:
            await found.raw(opening, place=other)
        assert caught.value.refusal == "busy"
        await ended(found)


async def test_unit_that_is_claimed_is_not_opened_again_but_locked_anew(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Idle for a minute: bound to what it did. Its worker is the only one, and takes a new lock."""
    found = await opened(nursery, price=PRICE)
    for maker in found.makers.makers[1:]:
        if maker is not found.worker:
            maker.kill()
    await trio.sleep(70)
    with pytest.raises(WorkerLost, match="job_closed") as lost:
        await found.routes.stage(0).open()
    following = await found.routes.next(0, found.stage, lost.value)
    assert isinstance(following, RemoteStage)
    assert following.seat.worker == found.stage.seat.worker
    assert following.seat.job != found.stage.seat.job
    await following.open()
    assert not found.routes._market.bans._until  # it did as it should


async def test_worker_that_says_closed_without_a_receipt_is_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The ledger would show that it is bound; a word that costs nothing excuses nobody."""
    found = await opened(nursery, price=PRICE)
    await found.routes.next(0, found.stage, WorkerLost("no", cause="job_closed"))
    assert set(found.routes._market.bans._until) == {found.stage.seat.peer}


async def test_ended_session_is_kept_when_the_next_one_cannot_begin(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_shard: object) -> Never:
        raise WorkerFailed("the shard could not be loaded")

    found = await opened(nursery, price=PRICE)
    await ended(found)
    monkeypatch.setattr(found.worker.node.shards, "use", broken)
    with pytest.raises(WorkerLost, match="worker_failed"):
        await found.routes.stage(0).open()
    assert await paid_rows(found, found.stage, within_s=300) == 4


async def test_ended_session_beyond_the_bound_is_claimed_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "ENDED_MAX", 1)
    found = await opened(nursery, price=PRICE)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    await ended(found)
    await trio.sleep(5)
    assert chain.committed(seat.job, seat.unit, seat.worker) is None  # its receipt may be asked for
    found.routes.locked.clear()
    await found.routes.lock(has_spare=False)
    found.stage = found.routes.stage(0)
    assert found.stage.seat.worker == seat.worker
    await found.stage.open()
    await found.stage.step(0, (4,), ids(*prompt()))
    await ended(found)
    await trio.sleep(1)
    assert chain.committed(seat.job, seat.unit, seat.worker) is not None


async def test_ended_session_whose_receipt_finds_no_room_is_claimed_when_there_is_some(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=PRICE)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    found.worker.node.claims._store = disk = FullDisk(tries=2)
    await ended(found)
    await trio.sleep(70)  # idle for a minute
    assert (disk.tries, chain.committed(seat.job, seat.unit, seat.worker)) == (1, None)
    assert len(found.worker.sessions.held()) == 1
    await trio.sleep(130)
    assert chain.committed(seat.job, seat.unit, seat.worker) is not None
    assert found.worker.sessions.held() == []
    assert await paid_rows(found, found.stage, within_s=300) == 4


async def test_ended_session_that_cannot_be_claimed_is_forgotten_after_its_deadline(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery, price=PRICE)
    sessions, disk = found.worker.sessions, FullDisk(tries=1_000_000)
    found.worker.node.claims._store = disk
    await ended(found)
    await trio.sleep(70)
    assert len(sessions.held()) == 1
    job = found.worker.node.chain.job(found.stage.seat.job)
    assert job is not None
    await trio.sleep((job.deadline_ms - found.worker.node.chain.block_time_ms()) / 1000 + 70)
    assert (sessions.held(), sessions._ended) == ([], {})


async def test_receipt_whose_requester_went_while_it_was_made_is_claimed(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call that asked for it ends with the connection, the disk being slow."""
    monkeypatch.setattr(trio.to_thread, "run_sync", here)
    may_write = trio.Event()

    def keep(node: Node) -> Evidence:
        evidence = Evidence(StuckFiles(tmp_path / str(node.index), may_write), node.chain)
        nursery.start_soon(evidence.run)
        return evidence

    found = await desk(nursery, price=PRICE, keep=keep)
    await found.stage.open()
    await found.stage.step(0, (4,), ids(*prompt()))
    with trio.move_on_after(1):
        await found.stage.finish()
    network = found.makers.makers[0].node.network
    await network.disconnect(found.stage.seat.peer)
    await trio.sleep(1)
    may_write.set()
    assert await paid_rows(found, found.stage, within_s=300) == 4


@pytest.mark.parametrize("when", ["at the end", "moved"])
async def test_wallet_that_is_locked_before_the_last_signature_ends_no_generation(
    when: str, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is there; its worker claims what was signed for without us."""
    found = await opened(nursery, price=PRICE)
    await steps(found.stage, 4, 3)

    def locked(_chain: object) -> Never:
        raise WalletLocked("the payment key is locked")

    monkeypatch.setattr(MemoryChain, "signer", property(locked), raising=False)
    if when == "moved":
        await found.routes.retire(found.stage)
    assert found.routes.used == [found.stage]
    assert await bill.collect(found.routes.used, Patience()) == []
