"""A unit has one receipt of its worker: no opening and no word of its requester replaces it."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import replace
from typing import cast

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import override

from prsm.node.inference import executor
from prsm.node.inference.evidence import Evidence
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.net.interface import CallRefused
from prsm.protocol.codec import decode
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.work import CloseWork, Finish, ShownReceipt
from prsm.protocol.receipts import WorkReceipt, receipt_hash
from tests.tools.probe import JOB, PRICE, ROWS, Probe, started_probe
from tests.tools.work import FullDisk, given_rows


@pytest.fixture
async def probe(nursery: trio.Nursery) -> Probe:
    return await started_probe(nursery)


class SlowDisk(MemoryReceipts):
    """Receipts on a disk that takes its time."""

    @override
    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        await trio.sleep(5)
        await super().keep(job, unit, receipt)


async def done_alone(probe: Probe, *batches: int) -> None:
    """Some batches of a unit that one worker does alone and that may stay in parts."""
    probe.is_open_ended = True
    await probe.lock(needed=1, workers=(probe.worker.address,))
    await probe.open()
    for batch in batches:
        await probe.push(given_rows(ROWS[batch]), batch=batch)
        await probe.next_answer()


async def refusal(probe: Probe) -> str:
    with pytest.raises(CallRefused) as refused:
        await probe.open()
    return refused.value.refusal


async def test_closed_unit_is_not_opened_again_and_what_was_done_is_paid(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """With another receipt in place of the one it is bound to, the worker could show neither."""
    await done_alone(probe, 0, 1)
    worker, world = probe.worker, probe.cluster.world
    before = world.balance(worker.address)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(3)
    assert await refusal(probe) == "job_closed"
    bound = worker.chain.committed(JOB, 0, worker.address)
    assert bound is not None
    assert [receipt_hash(one) for one in worker.claims.unpaid] == [bound.receipt_hash]
    await trio.sleep(200)  # its own patience with the requester
    assert world.balance(worker.address) - before == sum(ROWS[:2]) * PRICE * 95 // 100


async def test_unit_is_not_opened_again_while_its_receipt_is_written(
    probe: Probe, autojump_clock: MockClock
) -> None:
    probe.worker.claims._store = SlowDisk()
    await done_alone(probe, 0)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(1)
    assert probe.worker.claims.unpaid == ()
    assert await refusal(probe) == "job_closed"


async def test_unit_whose_receipt_finds_no_room_is_claimed_when_there_is_some(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """Nobody asks again: its worker alone remembers what it did."""
    worker = probe.worker
    worker.claims._store = disk = FullDisk(tries=3)
    await done_alone(probe, 0, 1)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(1)
    assert disk.tries > 0
    assert await refusal(probe) == "job_closed"
    assert worker.executor.held() == [probe.network.peer_id]
    await trio.sleep(30)
    assert worker.executor.held() == []
    bound = worker.chain.committed(JOB, 0, worker.address)
    assert bound is not None
    [receipt] = worker.claims.unpaid
    assert [batch.index for batch in receipt.batches] == [0, 1]
    assert bound.receipt_hash == receipt_hash(receipt)


async def test_unit_that_cannot_be_claimed_is_forgotten_after_its_deadline(
    probe: Probe, autojump_clock: MockClock
) -> None:
    worker = probe.worker
    worker.claims._store = disk = FullDisk(tries=1_000_000)
    await done_alone(probe, 0)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(110)
    assert (worker.executor.held(), worker.executor._leases) == ([], {})
    left = disk.tries
    await trio.sleep(10)
    assert disk.tries == left


async def test_nothing_is_opened_while_too_many_units_cannot_be_claimed(
    probe: Probe, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay until then, so their number is bounded at the door."""
    monkeypatch.setattr(executor, "LEASES_KEPT_MAX", 1)
    probe.worker.claims._store = FullDisk(tries=1)
    await done_alone(probe, 0)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(1)
    assert await refusal(probe) == "busy"
    await trio.sleep(30)
    assert await refusal(probe) == "job_closed"


async def test_unit_whose_receipt_is_lost_is_not_opened_again(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """The ledger knows that there was one; no other could be bound."""
    await done_alone(probe, 0)
    await probe.call(Finish(JOB, 0))
    worker = probe.worker
    worker.claims._claims.clear()
    worker.executor._leases.clear()
    assert await refusal(probe) == "job_closed"


async def test_unit_closed_with_nothing_done_is_opened_again(
    probe: Probe, autojump_clock: MockClock
) -> None:
    await done_alone(probe)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(1)
    await probe.open()
    await probe.assert_alive()


class SlowEvidence:
    """Keeps nothing, and cannot be told to stop."""

    async def keep_batch(self, *_batch: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)


async def test_batch_that_a_closed_unit_was_still_writing_is_not_done(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """Its receipt would come after the unit was opened again, and be the only one."""
    worker = probe.worker.executor
    worker._desk = replace(worker._desk, evidence=cast("Evidence", SlowEvidence()))
    await done_alone(probe)
    await probe.push(given_rows(4))
    await trio.sleep(1)
    await probe.send(CloseWork(JOB, 0))
    await trio.sleep(1)
    await probe.open()
    await trio.sleep(10)
    assert probe.worker.claims.unpaid == ()
    await probe.assert_alive()


async def test_nothing_is_done_behind_the_receipt_of_a_compared_unit(
    probe: Probe, autojump_clock: MockClock
) -> None:
    """Whoever asks early has the receipt of that time: bound beside another worker, it is final."""
    await probe.lock()
    await probe.open()
    await probe.push(given_rows(4))
    await probe.next_answer()
    shown = await probe.call(Finish(JOB, 0))
    assert isinstance(shown, ShownReceipt)
    receipt = decode(shown.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    assert [batch.index for batch in receipt.batches] == [0]
    await probe.push(given_rows(4), batch=1)
    await trio.sleep(5)
    assert [result.batch for result in probe.results] == [0]
    assert await probe.call(Finish(JOB, 0)) == shown
    assert await refusal(probe) == "job_closed"
