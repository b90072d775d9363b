"""Jobs outlive the requester's process: their answers, and the truth about those cut short."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from typing_extensions import override

from prsm.consensus.ledger.records import JobStatus
from prsm.node.inference.history import pack_outputs, row_of, unpack_outputs, view_of_row
from prsm.node.inference.job import JobRequest, JobState
from prsm.node.inference.jobs import JOBS_KEPT, Jobs, NotKept
from prsm.protocol.codec import decode_value, encode
from prsm.protocol.errors import PrsmError, WireError
from prsm.storage.errors import Full
from prsm.storage.jobs import JobRow, JobStore, kept_jobs
from tests.tools.memory_jobs import MemoryJobs
from tests.tools.work import MODEL, Cluster, given_rows, make_cluster, whole_run
from tests.tools.work_chain import FUNDS

ROWS = 12
PAID = 2 * 2 * ROWS * 10  # two stages, two opinions, 10 micro-FTNS a row
ASKED = JobRequest(MODEL, inputs=given_rows(ROWS), stages=2, deadline_ms=90_000)


@asynccontextmanager
async def opened(store: JobStore) -> AsyncIterator[JobStore]:
    await trio.lowlevel.checkpoint()
    yield store


@asynccontextmanager
async def process(
    cluster: Cluster, store: JobStore, first: int = 1, *, kept: int = JOBS_KEPT
) -> AsyncIterator[Jobs]:
    """Jobs of the requester's node as one process has them; leaving is kill -9."""
    ids = iter(range(first, 1000))
    jobs = Jobs(
        cluster.requester.jobs._requester,
        keep=lambda: opened(store),
        kept=kept,
        new_id=lambda: next(ids).to_bytes(32, "big"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        yield jobs
        nursery.cancel_scope.cancel()


async def closed(cluster: Cluster, job_id: bytes) -> None:
    """Return once the escrow of a job is closed."""
    chain = cluster.requester.chain
    with trio.fail_after(4000):
        while (found := chain.job(job_id)) is None or found.is_open:
            await chain.wait_height(chain.height() + 1)


async def test_finished_job_is_listed_and_answers_after_a_restart(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    async with process(cluster, store) as jobs:
        job_id = jobs.submit(ASKED)
        with trio.fail_after(2000):
            before = await jobs.wait(job_id)
            await trio.testing.wait_all_tasks_blocked()
        assert before.state is JobState.DONE
    assert store.log[0] == "planning"
    assert store.log[-1] == "done"
    async with process(cluster, store, first=2) as jobs:
        assert jobs.get(job_id) == replace(before, verdicts={}, disputes={})
        assert await jobs.wait(job_id) == jobs.get(job_id)
        (answer,) = await jobs.read_result(job_id)
        assert answer.data == whole_run(ROWS)
        with pytest.raises(NotKept, match="earlier process"):
            jobs.retry(job_id)
        jobs.cancel(job_id)
        second = jobs.submit(ASKED)
        assert [view.id for view in jobs.list()] == [second, job_id]
    del store.outputs[job_id]
    async with process(cluster, store, first=3) as jobs:
        with pytest.raises(NotKept):
            await jobs.read_result(job_id)


@pytest.mark.slow
async def test_job_cut_short_says_so_and_its_escrow_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    async with process(cluster, store) as jobs:
        job_id = jobs.submit(ASKED)
        with trio.fail_after(2000):
            await jobs.wait(job_id, until=JobState.RUNNING)
            await trio.testing.wait_all_tasks_blocked()
    assert store.rows[job_id].state == "running"
    chain = cluster.requester.chain
    for _ in range(2):  # it says the same at every later start
        async with process(cluster, store, first=9) as jobs:
            view = jobs.get(job_id)
            assert view.state is JobState.FAILED
            assert view.error is not None
            assert view.error.reason == "interrupted"
            assert "while this job was running" in view.error.what
            with pytest.raises(PrsmError, match="the node ended"):
                await jobs.read_result(job_id)
            with trio.fail_after(4000):
                while (found := chain.job(job_id)) is None or found.is_open:
                    await chain.wait_height(chain.height() + 1)
            assert found.status is JobStatus.REFUNDED
    assert cluster.world.balance(cluster.requester.address) == FUNDS


async def test_escrow_of_a_job_that_many_others_followed_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Its row was pruned when 64 newer jobs were kept, and nobody fetched its money back."""
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    chain = cluster.requester.chain
    async with process(cluster, store, kept=1) as jobs:
        lost = jobs.submit(ASKED)
        await jobs.wait(lost, until=JobState.RUNNING)
        jobs.cancel(lost)
        assert (await jobs.wait(lost)).state is JobState.FAILED
        done = lost
        for _ in range(3):
            done = jobs.submit(ASKED)
            assert (await jobs.wait(done)).state is JobState.DONE
            await trio.testing.wait_all_tasks_blocked()
        assert list(store.rows) == [lost, done], "those that owe nothing go"
    locked = chain.job(lost)
    assert locked is not None
    assert locked.is_open
    async with process(cluster, store, first=9, kept=1) as jobs:
        assert (await jobs.wait(lost)).state is JobState.FAILED
        await closed(cluster, lost)
        await chain.wait_height(chain.height() + 1)
        await trio.testing.wait_all_tasks_blocked()
        assert list(store.rows) == [done], "now it owes nothing, too"
    assert FUNDS - cluster.world.balance(cluster.requester.address) == 3 * PAID


async def test_lock_that_lands_after_the_restart_comes_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The process ended while its lock was on its way: at the next start nothing is locked yet."""
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    chain, world = cluster.requester.chain, cluster.world
    made = world.make_block
    world.time_ms = cluster.requester.jobs._requester.clock.wall_ms()
    async with process(cluster, store) as jobs:
        job_id = jobs.submit(ASKED)
        world.make_block = lambda: None  # type: ignore[method-assign]  # the network stands still
        await jobs.wait(job_id, until=JobState.LOCKING)
        await trio.sleep(5)
    async with process(cluster, store, first=9) as jobs:
        assert chain.job(job_id) is None
        assert jobs.get(job_id).state is JobState.FAILED
        await trio.sleep(5)
        world.make_block = made  # type: ignore[method-assign]  # it goes on
        await closed(cluster, job_id)
    assert world.balance(cluster.requester.address) == FUNDS


async def test_job_cut_short_while_settling_keeps_its_answer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    async with process(cluster, store) as jobs:
        job_id = jobs.submit(ASKED)
        with trio.fail_after(2000):
            await jobs.wait(job_id, until=JobState.SETTLING)
            await trio.testing.wait_all_tasks_blocked()
    assert not store.rows[job_id].is_over
    async with process(cluster, store, first=9) as jobs:
        view = jobs.get(job_id)
        assert (view.state, view.error) == (JobState.DONE, None)
        assert {error.reason for error in view.unsettled.values()} == {"interrupted"}
        (answer,) = await jobs.read_result(job_id)
        assert answer.data == whole_run(ROWS)


async def test_job_is_refused_when_it_cannot_be_noted_before_its_money_moves(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class FullDisk(MemoryJobs):
        @override
        async def put(self, row: JobRow) -> None:
            await trio.lowlevel.checkpoint()
            raise Full(f"no room for {row.state}")

    cluster = make_cluster()
    await cluster.start(nursery)
    async with process(cluster, FullDisk()) as jobs:
        view = await jobs.wait(jobs.submit(ASKED))
    assert view.error is not None
    assert (view.error.reason, view.lock_height) == ("disk_full", 0)
    assert cluster.world.balance(cluster.requester.address) == FUNDS


async def test_jobs_run_without_a_store_when_it_does_not_open(
    nursery: trio.Nursery, autojump_clock: MockClock, tmp_path: Path
) -> None:
    cluster = make_cluster()
    await cluster.start(nursery)
    (tmp_path / "jobs.db").mkdir()
    requester = cluster.requester.jobs._requester
    for path, kept in ((tmp_path / "jobs.db", 0), (tmp_path / "good.db", 1)):
        async with trio.open_nursery() as inner:
            jobs = Jobs(
                requester,
                keep=partial(kept_jobs, path),
                new_id=partial(int.to_bytes, kept, 32, "big"),
            )
            await inner.start(jobs.run)
            view = await jobs.wait(jobs.submit(ASKED))
            assert view.state is JobState.DONE
            inner.cancel_scope.cancel()
    async with kept_jobs(tmp_path / "good.db") as store:
        assert [row.id for row in await store.newest(5)] == [(1).to_bytes(32, "big")]


async def test_row_of_another_version_is_passed_over(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cluster, store = make_cluster(), MemoryJobs()
    await cluster.start(nursery)
    await store.put(JobRow(bytes(32), 1, is_over=True, state="done", body=b"\x91\x02"))
    async with process(cluster, store) as jobs:
        assert jobs.list() == ()
        view = await jobs.wait(jobs.submit(ASKED))
    row = row_of(view)
    assert view_of_row(row, has_output=True) == replace(view, verdicts={}, disputes={})
    with pytest.raises(WireError):
        view_of_row(replace(row, body=row.body[:-1]), has_output=False)
    # Version 2 had no steps: the last field but for it is the same.
    untimed = decode_value(row.body, size_max=1 << 20)
    assert isinstance(untimed, tuple)
    older = replace(row, body=encode((2, *untimed[1:-1])))
    assert view_of_row(older, has_output=True) == replace(view, verdicts={}, disputes={}, steps=())
    outputs = jobs.result_batches(view.id)
    packed = pack_outputs(outputs)
    assert packed is not None
    assert unpack_outputs(packed) == outputs
