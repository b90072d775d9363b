"""Locks a block takes when nobody waits for them any more: a running node fetches them back."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.consensus.ledger.records import JobStatus
from prsm.node.chain.wallet import WalletLocked
from prsm.node.inference.commits import COMMIT_S, LOCKED_WITHIN_MS
from prsm.node.inference.generate.generation import GenerateRequest
from prsm.node.inference.interface import MemoryReceipts
from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.serving.service import ServeRequest, Serving
from prsm.protocol.codec import Record
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.payloads import LOCK, Refund
from tests.tools.generating import make_makers
from tests.tools.work import MODEL, Cluster, Node, given_rows, make_cluster
from tests.tools.work_chain import FUNDS, World

ASKED = JobRequest(MODEL, inputs=given_rows(12), deadline_ms=900_000)


async def come_back(node: Node, world: World, jobs: list[bytes]) -> None:
    """Return once each of these escrows was open, and was fetched back whole."""
    with trio.fail_after(4_000):
        for job in jobs:
            while (found := node.chain.job(job)) is None or found.is_open:
                await node.chain.wait_height(world.height + 1)
            assert found.status is JobStatus.REFUNDED
    assert world.balance(node.address) == FUNDS


async def locking(nursery: trio.Nursery, cluster: Cluster) -> bytes:
    """A job whose lock no block takes."""
    await cluster.start(nursery)
    cluster.world.late.add(LOCK)
    job_id = cluster.requester.jobs.submit(ASKED)
    await cluster.requester.jobs.wait(job_id, until=JobState.LOCKING)
    await trio.sleep(1)
    return job_id


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_job_fetches_back_what_was_locked_after_its_end(
    is_cancelled: bool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    job_id = await locking(nursery, cluster)
    node = cluster.requester
    if is_cancelled:
        node.jobs.cancel(job_id)
    view: JobView = await node.jobs.wait(job_id)
    assert view.state is JobState.FAILED
    await trio.sleep(LOCKED_WITHIN_MS / 1000 - 2 * COMMIT_S)
    assert node.chain.job(job_id) is None
    cluster.world.late.clear()
    await come_back(node, cluster.world, [job_id])
    assert node.jobs.get(job_id).lock_height > 0


async def test_a_lock_that_was_refused_is_not_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(price_per_row=FUNDS)
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    job_id = jobs.submit(ASKED)
    assert (await jobs.wait(job_id)).state is JobState.FAILED
    await wait_all_tasks_blocked()
    assert not jobs._owing


async def test_a_tab_fetches_back_what_was_locked_after_its_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster, notes = make_cluster(2), MemoryReceipts()
    await cluster.start(nursery)
    cluster.world.late.add(LOCK)

    async def resolve(_ref: str) -> bytes:
        await trio.lowlevel.checkpoint()
        return MODEL

    serving = Serving(cluster.requester.jobs._requester, resolve, notes=notes)
    await nursery.start(serving.run)
    with pytest.raises(PrsmError):
        await serving.ask(ServeRequest("adder", given_rows(1)))
    [tab] = serving.tabs.list()
    await trio.sleep(COMMIT_S)
    assert await notes.load() == (tab.job,)
    cluster.world.late.clear()
    await come_back(cluster.requester, cluster.world, [tab.job])
    await cluster.requester.chain.wait_height(cluster.world.height + 2)
    assert await notes.load() == ()


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_generation_fetches_back_what_was_locked_after_its_end(
    is_cancelled: bool, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    makers, notes = make_makers(price_per_row=10), MemoryReceipts()
    asker = makers.makers[0]
    asker.generations._notes = notes
    await makers.start(nursery)
    world, before = makers.cluster.world, makers.cluster.world.balance(asker.node.address)
    world.late.add(LOCK)
    asked = GenerateRequest(MODEL, "Once", 5, stages=2, deadline_ms=900_000)
    name = asker.generations.start(asked)
    await trio.sleep(1)
    if is_cancelled:
        asker.generations.cancel(name)
    await trio.sleep(2 * COMMIT_S)
    one = asker.generations.get(name)
    assert one.error is not None
    assert set(one.jobs) == set(await notes.load())
    assert len(one.jobs) == 2
    world.late.clear()
    await trio.sleep(1)
    assert world.balance(asker.node.address) < before
    with trio.fail_after(4_000):
        while await notes.load():
            await asker.node.chain.wait_height(world.height + 1)
    assert world.balance(asker.node.address) == before
    refunds = {payload.job for _, payload, _ in world.executed if isinstance(payload, Refund)}
    assert refunds == set(one.jobs)


async def test_no_note_is_left_of_a_route_that_was_refused(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers, notes = make_makers(), MemoryReceipts()
    asker = makers.makers[0]
    asker.generations._notes = notes
    await makers.start(nursery)

    async def refuse(_kind: int, _payload: Record) -> TxId:
        await trio.lowlevel.checkpoint()
        assert await notes.load(), "noted before money can move"
        raise WalletLocked("the payment key is locked")

    monkeypatch.setattr(asker.node.chain, "submit", refuse)
    with pytest.raises(WalletLocked):
        await asker.generate(GenerateRequest(MODEL, "Once", 5, stages=1))
    assert await notes.load() == ()
