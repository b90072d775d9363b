"""A requester checks those who work alone for it: by running a batch again, by a known answer."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import trio
from trio.testing import MockClock

from prsm.consensus.ledger.view import View
from prsm.node.inference.canaries import Canaries
from prsm.node.inference.checks import Checks
from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.review import Reviewer
from prsm.node.inference.shards import ShardCache
from tests.tools.work import MODEL, Cluster, corrupt, given_rows, make_cluster, whole_run


def running(shards: ShardCache) -> Reviewer:
    """Every job is checked, nothing is sent along."""
    return Reviewer(Checks(shards, percent=100), Canaries(percent=0))


def knowing(_shards: ShardCache) -> Reviewer:
    """This node runs no models; every job has a canary, if one is known."""
    return Reviewer(Checks(None, percent=100), Canaries(percent=100, dice=lambda _sides: 0))


async def finish(cluster: Cluster, *, redundancy: int, stages: int = 1, rows: int = 10) -> JobView:
    jobs = cluster.requester.jobs
    request = JobRequest(
        MODEL, inputs=given_rows(rows), stages=stages, redundancy=redundancy, spread=1, spares=0
    )
    with trio.fail_after(600):
        return await jobs.wait(jobs.submit(request))


async def test_honest_workers_pass_the_checks(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster = make_cluster(reviewer=running)
    await cluster.start(nursery)
    view = await finish(cluster, redundancy=1, stages=2)
    assert view.state is JobState.DONE
    assert cluster.requester.jobs.result(view.id)[0].data == whole_run(10)


async def test_a_wrong_answer_is_not_used_and_its_stage_is_disputed(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Every worker corrupts its second stage: that one alone is taken before a committee."""
    cluster = make_cluster(reviewer=running)
    for node in cluster.workers:
        node.runner.hook = lambda name, run, outputs: (
            corrupt(name, run, outputs) if name == "2-1" else outputs
        )
    await cluster.start(nursery)
    view = await finish(cluster, redundancy=1, stages=2)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.reason == "wrong_result"
    state = View(cluster.world.state)
    assert [state.case(view.id, unit) is not None for unit in (0, 1)] == [False, True]
    case = state.case(view.id, 1)
    assert case is not None
    assert case.challenger == cluster.requester.address


async def test_a_known_answer_convicts_without_a_model(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Three agree on a job, so one of its batches is known; later one worker lies about it."""
    cluster = make_cluster(reviewer=knowing)
    await cluster.start(nursery)
    assert (await finish(cluster, redundancy=3)).state is JobState.DONE
    view = await finish(cluster, redundancy=1, rows=6)
    assert view.state is JobState.DONE
    assert [len(rows) for rows in view.batches] == [0, 4, 2]  # the canary went first
    assert view.rows_total == 6
    assert cluster.requester.jobs.result(view.id)[0].data == whole_run(6)

    assert (await finish(cluster, redundancy=3)).state is JobState.DONE
    for node in cluster.workers:
        node.runner.hook = corrupt
    view = await finish(cluster, redundancy=1, rows=6)
    assert view.error is not None
    assert view.error.reason == "wrong_result"
