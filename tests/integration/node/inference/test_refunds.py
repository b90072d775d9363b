"""What a job says came back: by verdicts, and when its escrow was closed."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import trio
from trio.testing import MockClock

from prsm.consensus.ledger.view import View
from prsm.node.api.work import job_row
from prsm.node.inference.history import row_of, view_of_row
from prsm.node.inference.job import JobRequest, JobState, JobView
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster

ROWS, PRICE = 12, 10


def told(cluster: Cluster, view: JobView) -> tuple[int, int, int]:
    """Locked, paid, refunded; the same as a later process has them."""
    ledger = View(cluster.world.state)
    row = job_row(view, ledger)
    later = job_row(view_of_row(row_of(view), has_output=view.error is None), ledger)
    assert (later.locked, later.paid, later.refunded) == (row.locked, row.paid, row.refunded)
    return int(row.locked), int(row.paid), int(row.refunded)


async def closed(cluster: Cluster, job_id: bytes) -> None:
    chain = cluster.requester.chain
    with trio.fail_after(2_000):
        while (found := chain.job(job_id)) is None or found.is_open:
            await chain.wait_height(chain.height() + 1)


async def test_a_cancelled_job_has_all_back_after_its_deadline(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    for worker in cluster.workers:
        worker.runner.run_s = 50.0
    jobs = cluster.requester.jobs
    job_id = jobs.submit(JobRequest(MODEL, inputs=given_rows(ROWS), deadline_ms=60_000))
    await jobs.wait(job_id, until=JobState.RUNNING)
    jobs.cancel(job_id)
    view = await jobs.wait(job_id)
    assert told(cluster, view) == (3 * ROWS * PRICE, 0, 0)
    await closed(cluster, job_id)
    assert told(cluster, view) == (3 * ROWS * PRICE, 0, 3 * ROWS * PRICE)


async def test_a_budget_that_nobody_needed_is_back_when_the_job_is_closed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    jobs, asked = cluster.requester.jobs, JobRequest(MODEL, inputs=given_rows(ROWS), redundancy=1)
    before = cluster.world.balance(cluster.requester.address)
    view = await jobs.wait(jobs.submit(asked))
    await closed(cluster, view.id)
    locked, paid, refunded = told(cluster, view)
    spent = before - cluster.world.balance(cluster.requester.address)
    assert locked > ROWS * PRICE >= paid > 0
    assert locked - refunded == spent
