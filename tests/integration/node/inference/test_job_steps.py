"""When the steps of a job began and ended, and a job that is run once more."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.jobs import NotFinished
from prsm.node.inference.planner import PriceOverCap
from prsm.protocol.errors import Unsupported
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster

ASKED = JobRequest(MODEL, inputs=given_rows(30))


async def finish(cluster: Cluster, asked: JobRequest) -> JobView:
    jobs = cluster.requester.jobs
    with trio.fail_after(2000):
        return await jobs.wait(jobs.submit(asked))


async def test_each_step_has_its_begin_and_its_end(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """What the job did, one after the other; what each worker did, inside of it."""
    cluster = make_cluster()
    await cluster.start(nursery)
    view = await finish(cluster, replace(ASKED, stages=2))
    own = [step for step in view.steps if step.unit is None]
    assert [step.name for step in own] == ["plan", "lock", "run", "settle"]
    assert own[0].began_ms == 0
    assert [step.ended_ms for step in own[:-1]] == [step.began_ms for step in own[1:]]
    run, settle = own[2:]
    asked = {(w.unit, w.worker) for w in view.workers if w.batches}
    for unit, worker in asked:
        mine = [step for step in view.steps if (step.unit, step.worker) == (unit, worker)]
        assert [step.name for step in mine] == ["open", "work", "receipt"]
        opened, worked, shown = mine
        assert opened.ended_ms is not None
        assert worked.ended_ms is not None
        assert run.began_ms <= opened.began_ms <= opened.ended_ms <= worked.began_ms
        assert worked.ended_ms <= shown.began_ms
        assert {step.attempt for step in mine} == {1}
    settled = [step for step in view.steps if step.name == "settle" and step.unit is not None]
    assert {step.unit for step in settled} == {0, 1}
    assert all(step.began_ms >= settle.began_ms for step in settled)
    assert all(step.ended_ms is not None for step in view.steps)


async def test_a_job_that_is_refused_ends_where_it_was(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    view = await finish(cluster, replace(ASKED, stages=9))
    assert view.state is JobState.FAILED
    [plan] = view.steps
    assert (plan.name, plan.began_ms) == ("plan", 0)
    assert plan.ended_ms is not None


async def test_a_job_that_is_over_is_run_once_more(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The same rows under a new id and a new lock; a lower cap holds for the second alone."""
    cluster = make_cluster()
    await cluster.start(nursery)
    jobs = cluster.requester.jobs
    first = jobs.submit(ASKED)
    with pytest.raises(NotFinished, match="is planning"):
        jobs.retry(first)
    with trio.fail_after(2000):
        before = await jobs.wait(first)
        second = await jobs.wait(jobs.retry(first))
        capped = await jobs.wait(jobs.retry(first, price_cap=1))
    assert second.state is JobState.DONE
    assert second.id != first
    assert second.lock_height > before.lock_height
    assert jobs.result(second.id) == jobs.result(before.id)
    assert isinstance(capped.error, PriceOverCap)
    step = jobs.submit(replace(ASKED, parent=first))
    await jobs.wait(step)
    with pytest.raises(Unsupported, match="step of a plan"):
        jobs.retry(step)
