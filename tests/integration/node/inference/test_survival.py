"""Workers that die, are cut off or dawdle in mid-job: others are leased, the bytes are the same."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.consensus.ledger.records import JobStatus
from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.jobrun import AuditPending
from prsm.node.inference.leases import lease_id
from prsm.node.inference.pipeline import NoQuorumOfResults, Patience
from prsm.node.inference.quotes import Asked
from prsm.node.net.interface import CallRefused, Channel
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.messages.quotes import Probe
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.audits import Pledge
from prsm.protocol.transactions.payloads import PLEDGE
from tests.tools.work import (
    MODEL,
    NAN_BYTE,
    Cluster,
    Node,
    given_rows,
    make_cluster,
    whole_run,
)
from tests.tools.work_chain import FUNDS

ROWS = 48
PRICE = 10
PLEDGED = 100_000_000


def request(**changes: object) -> JobRequest:
    asked = {
        "model": MODEL,
        "inputs": given_rows(ROWS),
        "redundancy": 1,
        "deadline_ms": 100_000,
        **changes,
    }
    return JobRequest(**asked)  # type: ignore[arg-type]  # keyword by keyword in each test


def answer(cluster: Cluster, view: JobView) -> bytes:
    return cluster.requester.jobs.result(view.id)[0].data


def named(cluster: Cluster, job: bytes, unit: int) -> Node:
    """The node that is the worker of a unit."""
    found = cluster.requester.chain.job(job)
    assert found is not None
    [worker] = found.units[unit].workers
    return next(node for node in cluster.nodes if node.address == worker)


async def started(cluster: Cluster, nursery: trio.Nursery) -> Cluster:
    """A cluster whose workers have pledged enough to be trusted with work nobody compares."""
    await cluster.start(nursery)
    for node in cluster.workers:
        cluster.world.submit(node.address, PLEDGE, Pledge(PLEDGED))
    while not cluster.requester.chain.bonded_for(cluster.workers[-1].address):
        await cluster.requester.chain.wait_height(cluster.requester.chain.height() + 1)
    return cluster


async def begin(cluster: Cluster, asked: JobRequest, *, rows: int) -> bytes:
    """Submit, and return when so many rows are done and more are on their way."""
    jobs = cluster.requester.jobs
    job_id = jobs.submit(asked)
    await jobs.wait(job_id, until=JobState.RUNNING)
    with trio.fail_after(60):
        while jobs.get(job_id).rows_done < rows:  # noqa: ASYNC110 - a mock clock, nothing to wait on
            await trio.sleep(0.005)
    return job_id


def spent(cluster: Cluster) -> int:
    return FUNDS - cluster.world.balance(cluster.requester.address)


@pytest.mark.parametrize(
    ("fault", "stage"),
    [
        ("cut off", 1),
        *(
            pytest.param(fault, stage, marks=pytest.mark.long)
            for fault, stage in (
                ("killed", 0),
                ("killed", 1),
                ("killed", 2),
                ("cut off", 0),
                ("cut off", 2),
            )
        ),
    ],
)
async def test_stage_lost_in_mid_pipeline_is_leased_to_another(
    fault: str, stage: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """One worker a stage, so nobody stands by in the unit; a child job drawn from the budget."""
    cluster = make_cluster(5, patience=Patience(answer_s=5.0, finish_s=5.0))
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=3, price_cap=4 * PRICE * ROWS), rows=8)
    victim = named(cluster, job_id, stage)
    if fault == "killed":
        victim.kill()
    else:
        cluster.hub.cut(cluster.requester.network.peer_id, victim.network.peer_id)
    view = await cluster.requester.jobs.wait(job_id)
    assert view.state is JobState.DONE
    assert answer(cluster, view) == whole_run(ROWS)
    [lease] = view.leases
    assert lease == lease_id(job_id, 0)
    child = cluster.requester.chain.job(lease)
    assert child is not None
    assert (child.parent, child.units[0].stage) == (job_id, stage)
    assert victim.address not in child.units[0].workers
    assert [step.attempt for step in view.steps if step.name == "work"].count(2) == 1
    assert view.amount == 4 * PRICE * ROWS
    assert spent(cluster) <= view.amount
    redone = sum(worker.rows for worker in view.workers if worker.job == lease)
    assert 0 < redone < ROWS
    # At the deadline everything nobody earned is back, whatever became of the victim.
    await trio.sleep(140)
    root = cluster.requester.chain.job(job_id)
    assert root is not None
    assert not root.is_open
    assert spent(cluster) <= 3 * PRICE * ROWS + redone * PRICE


@pytest.mark.long
async def test_two_of_three_cut_off_are_replaced_by_two_others(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(7, patience=Patience(answer_s=5.0, finish_s=5.0))
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=1, redundancy=3, spares=1), rows=8)
    job = cluster.requester.chain.job(job_id)
    assert job is not None
    for node in cluster.nodes:
        if node.address in job.units[0].workers[:2]:
            cluster.hub.cut(cluster.requester.network.peer_id, node.network.peer_id)
    view = await cluster.requester.jobs.wait(job_id)
    assert view.state is JobState.DONE
    assert answer(cluster, view) == whole_run(ROWS)
    child = cluster.requester.chain.job(lease_id(job_id, 0))
    assert child is not None
    assert (child.units[0].needed, len(child.units[0].workers)) == (2, 3)
    assert child.verdicts[0] is not None


@pytest.mark.long
async def test_without_a_budget_the_loss_is_told_and_the_escrow_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4, patience=Patience(answer_s=5.0))
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=2, spares=0), rows=8)
    named(cluster, job_id, 1).kill()
    view = await cluster.requester.jobs.wait(job_id)
    assert isinstance(view.error, NoQuorumOfResults)
    assert "0 are left" in view.error.what
    await trio.sleep(140)
    job = cluster.requester.chain.job(job_id)
    assert job is not None
    assert job.status is JobStatus.REFUNDED


@pytest.mark.long
async def test_free_work_is_leased_without_a_budget_and_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The substitute dies, too."""
    cluster = make_cluster(4, price_per_row=0, patience=Patience(answer_s=5.0))
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=1), rows=8)
    named(cluster, job_id, 0).kill()
    jobs = cluster.requester.jobs
    with trio.fail_after(60):
        while not jobs.get(job_id).leases:  # noqa: ASYNC110 - a mock clock, nothing to wait on
            await trio.sleep(0.005)
    named(cluster, lease_id(job_id, 0), 0).kill()
    view = await jobs.wait(job_id)
    assert view.state is JobState.DONE
    assert answer(cluster, view) == whole_run(ROWS)
    assert len(view.leases) == 2


async def test_slow_stage_is_hedged_and_both_are_paid_for_what_they_did(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4)
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=2), rows=8)
    slow = named(cluster, job_id, 1)
    slow.runner.run_s = 40.0
    began = trio.current_time()
    view = await cluster.requester.jobs.wait(job_id)
    assert trio.current_time() - began < 40
    assert view.state is JobState.DONE
    assert answer(cluster, view) == whole_run(ROWS)
    rows = {(w.job, w.worker): w.rows for w in view.workers if w.stage == 1}
    [lease] = view.leases
    assert 0 < rows[job_id, slow.address] < ROWS
    assert sum(rows.values()) == ROWS
    assert all(not w.lost for w in view.workers)
    assert lease in {job for job, _ in rows}


async def test_rows_are_spread_over_replicas(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(5)
    await started(cluster, nursery)
    jobs = cluster.requester.jobs
    view = await jobs.wait(jobs.submit(request(stages=1, spread=4)))
    assert view.state is JobState.DONE
    assert all(isinstance(why, AuditPending) for why in view.unsettled.values())
    assert answer(cluster, view) == whole_run(ROWS)
    assert [worker.rows for worker in view.workers] == [12, 12, 12, 12]
    assert len({worker.worker for worker in view.workers}) == 4
    assert any("4 parts side by side on 4 workers" in line for line in view.because)


async def test_first_stage_stays_at_home(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    cluster = make_cluster(3)
    await started(cluster, nursery)
    jobs = cluster.requester.jobs
    view = await jobs.wait(jobs.submit(request(stages=2, home_stages=1)))
    assert view.state is JobState.DONE
    assert all(isinstance(why, AuditPending) for why in view.unsettled.values())
    assert answer(cluster, view) == whole_run(ROWS)
    assert [worker.stage for worker in view.workers] == [1]
    assert cluster.requester.runner.opened == ["2-0"]


@pytest.mark.parametrize(
    "changes", [{"redundancy": 6}, {"window": 0}, {"home_stages": 40}, {"spares": 99}]
)
async def test_numbers_out_of_bounds_are_refused(
    changes: dict[str, object], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(2)
    await started(cluster, nursery)
    jobs = cluster.requester.jobs
    view = await jobs.wait(jobs.submit(request(**changes)))
    assert isinstance(view.error, InputMismatch)
    assert spent(cluster) == 0


async def test_dry_run_locks_nothing_and_says_what_it_costs(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(4)
    await started(cluster, nursery)
    found, counts = await cluster.requester.jobs.dry_run(request(stages=2))
    assert sum(counts) == ROWS
    assert found.amount == 3 * PRICE * ROWS
    assert found.budget == PRICE * ROWS
    assert found.why.because[0].startswith("one machine: not known")
    assert spent(cluster) == 0
    jobs = cluster.requester.jobs
    await jobs.wait(jobs.submit(request(stages=1)))
    found, _ = await jobs.dry_run(request(stages=1, spread=3))
    assert found.why.one_machine_ms is not None
    assert found.why.plan_ms is not None
    assert found.why.plan_ms < found.why.one_machine_ms


async def test_quoted_price_holds_when_the_worker_raises_its_own(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The quote is older than the higher price; after it expired the same job costs more."""
    cluster = make_cluster(4, price_per_row=PRICE)
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    planning = jobs.planning
    offers = await planning.offers(MODEL)
    quotes = await planning.ask_quotes(offers, Asked(MODEL, 1, ROWS))
    assert [quote.price_per_row for quote in quotes] == [PRICE] * 3
    for node in cluster.workers:
        node.executor._terms = replace(node.executor._terms, price_per_row=2 * PRICE)
    view = await jobs.wait(jobs.submit(request(stages=1, redundancy=3)))
    assert (view.state, view.amount) == (JobState.DONE, 3 * PRICE * ROWS)
    await trio.sleep(200)
    view = await jobs.wait(jobs.submit(request(stages=1, redundancy=3)))
    assert (view.state, view.amount) == (JobState.DONE, 6 * PRICE * ROWS)


async def test_links_are_measured_before_stages_are_planned(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Once: whoever asks again too soon is told when."""
    cluster = make_cluster(3)
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    await jobs.dry_run(request(stages=2, redundancy=2))
    peer = cluster.workers[0].network.peer_id
    network = cluster.requester.network
    assert jobs.planning.market.gauges.bytes_per_s(peer) is not None
    with pytest.raises(CallRefused) as refused:
        await network.call(peer, Probe(1), channel=Channel.BULK, tail=b"x")
    assert refused.value.refusal == "busy"


@pytest.mark.long
async def test_quicker_worker_takes_over_after_three_looks_a_minute_apart(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Both are known from jobs before; the slow one drains, nothing is done twice."""
    cluster = make_cluster(3, price_per_row=0, patience=Patience(hedge_s=600.0))
    for node in cluster.workers:
        node.runner.run_s = 0.5
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    for worker in cluster.workers:
        await jobs.wait(jobs.submit(request(stages=1, only=(worker.address,))))
    slow = cluster.workers[0]
    slow.runner.run_s, slow.runner.cpu_us = 30.0, 2_000_000
    asked = request(stages=1, deadline_ms=3_600_000, inputs=given_rows(96), window=1)
    view = await jobs.wait(jobs.submit(asked))
    assert answer(cluster, view) == whole_run(96)
    rows = {worker.worker: worker.rows for worker in view.workers}
    assert len(view.leases) == 1
    assert rows[slow.address] >= 4 * 180 // 30 - 4
    assert sum(rows.values()) == 96


@pytest.mark.parametrize("redundancy", [1, 3])
async def test_rows_the_model_does_not_take_are_told_at_once_and_nobody_is_leased(
    redundancy: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(5, price_per_row=0)
    await cluster.start(nursery)
    x, mask = given_rows(ROWS)
    bad = Tensor(x.head, bytes([NAN_BYTE]) + x.data[1:])
    jobs = cluster.requester.jobs
    asked = request(stages=1, redundancy=redundancy, inputs=(bad, mask))
    view = await jobs.wait(jobs.submit(asked))
    assert isinstance(view.error, InputMismatch)
    assert "NaN" in view.error.what
    assert view.leases == ()


async def test_worker_that_goes_in_mid_pipeline_is_left_in_time_and_paid(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """It finishes what it has begun and shows its receipt; what nobody began is leased."""
    cluster = make_cluster(5, patience=Patience(answer_s=5.0, finish_s=5.0))
    for node in cluster.nodes:
        node.runner.run_s = 0.2
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=3, price_cap=4 * PRICE * ROWS), rows=8)
    leaver = named(cluster, job_id, 1)
    before = cluster.world.balance(leaver.address)
    leaver.drain.begin(1.5)
    began = trio.current_time()
    await leaver.drain.wait_over()
    assert trio.current_time() - began < 1.5
    leaver.kill()
    view = await cluster.requester.jobs.wait(job_id)
    assert (view.state, answer(cluster, view)) == (JobState.DONE, whole_run(ROWS))
    assert len(view.leases) == 1
    done = sum(w.rows for w in view.workers if w.worker == leaver.address)
    assert 0 < done < ROWS
    await trio.sleep(140)
    assert cluster.world.balance(leaver.address) == before + done * PRICE * 95 // 100


async def test_worker_that_goes_after_its_unit_is_not_left(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(5)
    await started(cluster, nursery)
    job_id = await begin(cluster, request(stages=3, price_cap=4 * PRICE * ROWS), rows=8)
    leaver = named(cluster, job_id, 1)
    leaver.drain.begin(600)
    view = await cluster.requester.jobs.wait(job_id)
    assert (view.state, answer(cluster, view)) == (JobState.DONE, whole_run(ROWS))
    assert not view.leases
    with trio.fail_after(100):
        await leaver.drain.wait_over()
