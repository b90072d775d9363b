"""A worker that takes no more of a unit because its ledger says so has not failed."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import trio
from trio.testing import MockClock

from prsm.node.inference.job import JobRequest
from prsm.node.inference.links import WorkerLost
from tests.integration.node.inference.test_generate_worker import opened
from tests.tools.work import MODEL, given_rows, make_cluster

DEADLINE_MS = 30_000


async def test_worker_that_is_asked_after_the_deadline_is_not_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The third is needed when the first two gave no answer; it is too late by then."""
    cluster = make_cluster()
    await cluster.start(nursery)
    for worker in cluster.workers:
        worker.runner.run_s = DEADLINE_MS / 1000 + 10
    jobs = cluster.requester.jobs
    view = await jobs.wait(
        jobs.submit(JobRequest(MODEL, inputs=given_rows(4), deadline_ms=DEADLINE_MS))
    )
    lost = {worker.role: worker.lost for worker in view.workers}
    assert "job_closed: the deadline" in lost["third"]
    slow = {worker.peer for worker in view.workers if worker.role != "third"}
    assert set(jobs._requester.market.bans._until) == slow


async def test_worker_of_a_generation_whose_time_is_over_is_not_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    found = await opened(nursery)
    chain, seat = found.makers.makers[0].node.chain, found.stage.seat
    job = chain.job(seat.job)
    assert job is not None
    found.makers.cluster.world.time_ms = job.deadline_ms
    await found.routes.next(0, found.stage, WorkerLost("too late", cause="job_closed"))
    assert not found.routes._market.bans._until
