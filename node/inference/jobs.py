"""Jobs of this node as a requester: from a request to an answer and a bill.

Each job is one task; a failing job never affects another. Finished ones are kept for a while, over
a restart too if there is a store. Must not know RPC, nor how a worker computes.
"""

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Final

import trio

from prsm.node.inference.batches import restore
from prsm.node.inference.history import (
    pack_outputs,
    plan_of,
    row_of,
    unpack_outputs,
    view_of_row,
)
from prsm.node.inference.job import (
    Job,
    JobRequest,
    JobState,
    JobView,
    UnknownJobId,
    view_of,
)
from prsm.node.inference.jobrun import JobRun, Requester
from prsm.node.inference.planning import Planning
from prsm.node.inference.wishes import Plan
from prsm.node.net.interface import Busy
from prsm.node.telemetry import logs, traces
from prsm.protocol.errors import LocalError, PrsmError, Unsupported, WireError
from prsm.protocol.tensors import Tensor
from prsm.storage.jobs import JobRow, JobStore

JOBS_RUNNING_MAX: Final = 16
JOBS_KEPT: Final = 64

log = logging.getLogger(__name__)
told: Final = logs.get("jobs")


class NotFinished(LocalError):
    """The job has no result yet."""

    reason = "not_finished"


class NotKept(LocalError):
    """The job is done, but its answer ended with the process that had it."""

    reason = "not_kept"


class Internal(LocalError):
    """A bug of ours ended the job; the log has it."""

    reason = "internal"


class Jobs:
    """Runs our jobs side by side.

    Args:
        requester: what a job works with.
        keep: opens the store where jobs survive this process; None: nowhere.
        kept: finished jobs that can still be read, newest first.
        new_id: makes 32-byte job ids; random outside tests.
    """

    def __init__(
        self,
        requester: Requester,
        *,
        keep: Callable[[], AbstractAsyncContextManager[JobStore]] | None = None,
        kept: int = JOBS_KEPT,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._requester, self._kept, self._new_id = requester, kept, new_id
        self._keep = keep
        self._store: JobStore | None = None
        self._jobs: dict[bytes, Job] = {}
        self._past: dict[bytes, JobView] = {}  # of earlier processes, the oldest first
        self._owing: set[bytes] = set()  # whose escrow may still be open: their rows stay
        self._nursery: trio.Nursery | None = None
        self._freed = trio.Event()  # a job ended
        self.on_change: list[Callable[[JobView], None]] = []  # told of each state of a job

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read what earlier processes left, then run submitted jobs until cancelled.

        A store that does not open is logged: jobs run, and are forgotten with the process.
        """
        async with AsyncExitStack() as stack:
            if self._keep is not None:
                try:
                    self._store = await stack.enter_async_context(self._keep())
                    await self._load()
                except LocalError as error:
                    log.warning("jobs are not kept over a restart: %s", error.what)
                    self._store = None
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for view in self._past.values():
                    escrow = self._requester.chain.job(view.id)
                    if view.id in self._owing or (escrow is not None and escrow.is_open):
                        nursery.start_soon(self._reclaim, view)
                try:
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    self._nursery = None

    def submit(self, request: JobRequest) -> bytes:
        """Start a job; its id is also its name on the ledger.

        Raises:
            Busy: too many jobs run, or the service does not.
        """
        if self._nursery is None or self.running >= JOBS_RUNNING_MAX:
            raise Busy(f"{self.running} jobs run, at most {JOBS_RUNNING_MAX}", retry_after_ms=1000)
        job_id = request.job or self._new_id()
        job = Job(job_id, request, made_ms=self._requester.clock.wall_ms())
        self._jobs[job.id] = job
        self._owing.add(job.id)
        self._nursery.start_soon(self._run, job)
        self._nursery.start_soon(self._follow, job)
        self._tell(job)
        return job.id

    async def wait_room(self) -> None:
        """Return once a job can be submitted, if that is done before anything else is awaited.

        Raises:
            Busy: the service does not run.
        """
        await trio.lowlevel.checkpoint()
        while self._nursery is not None and self.running >= JOBS_RUNNING_MAX:
            await self._freed.wait()
        if self._nursery is None:
            raise Busy("no jobs run now", retry_after_ms=1000)

    def retry(self, job_id: bytes, *, price_cap: int | None = None) -> bytes:
        """Start what a job that is over was asked for once more, as a job of its own.

        Args:
            job_id: of the first one.
            price_cap: micro-FTNS to lock at most; None: as the first one.

        Raises:
            UnknownJobId: never submitted here, or forgotten.
            NotFinished: it is still at work.
            NotKept: its inputs ended with the process that had them.
            Unsupported: it was a step of a plan, and paid by it.
            Busy: as `submit`.
        """
        if job_id in self._past:
            raise NotKept(
                f"what job {job_id.hex()[:16]} was asked ended with the node's earlier process",
                hint="give its rows again: prsm run MODEL …",
            )
        job = self._find(job_id)
        if not job.is_over:
            raise NotFinished(
                f"job {job_id.hex()[:16]} is {job.state.value}",
                hint="wait for it, or end it first: prsm job cancel",
            )
        if job.request.parent is not None:
            raise Unsupported(
                f"job {job_id.hex()[:16]} is a step of a plan", hint="submit the plan again"
            )
        cap = job.request.price_cap if price_cap is None else price_cap
        return self.submit(replace(job.request, job=None, price_cap=cap))

    async def dry_run(self, request: JobRequest) -> tuple[Plan, tuple[int, ...]]:
        """What a job would be, and the rows of its micro-batches; nothing is locked.

        Raises:
            PrsmError: why it cannot run.
        """
        job = Job(self._new_id(), request, made_ms=self._requester.clock.wall_ms())
        found = await JobRun(job, self._requester).dry()
        assert job.batches is not None
        return found, job.batches.counts

    @property
    def planning(self) -> Planning:
        """Makes plans, without a job."""
        return self._requester.planning

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return sum(not job.is_over for job in self._jobs.values())

    def get(self, job_id: bytes) -> JobView:
        """What is known of a job now.

        Raises:
            UnknownJobId: never submitted here, or forgotten.
        """
        past = self._past.get(job_id)
        return view_of(self._find(job_id)) if past is None else past

    def list(self) -> tuple[JobView, ...]:
        """All jobs that are kept, newest first."""
        present = (view_of(job) for job in reversed(self._jobs.values()))
        return (*present, *reversed(self._past.values()))

    def ids(self) -> set[bytes]:
        """Of all jobs that are kept."""
        return self._past.keys() | self._jobs.keys()

    def at_work(self) -> Iterator[JobView]:
        """Jobs that are not over; those of earlier processes all are."""
        return (view_of(job) for job in self._jobs.values() if not job.is_over)

    async def read_result(self, job_id: bytes) -> tuple[Tensor, ...]:
        """As `result`, also of a job of an earlier process.

        Raises:
            UnknownJobId, NotFinished, RowsDiffer, PrsmError: as `result`.
            NotKept: the answer was too large to be kept.
        """
        past = self._past.get(job_id)
        if past is None or self._store is None:
            return self.result(job_id)
        if past.error is not None:
            raise past.error
        raw = await self._store.output(job_id)
        if raw is None:
            raise NotKept(
                f"the answer of job {job_id.hex()[:16]} was not kept", hint="run it again"
            )
        return restore(plan_of(past), unpack_outputs(raw))

    def result(self, job_id: bytes) -> tuple[Tensor, ...]:
        """Outputs of all rows in the order they were given.

        Raises:
            UnknownJobId: as `get`.
            NotFinished: still at work.
            RowsDiffer: rows of different shapes; read `result_batches`.
            PrsmError: what ended the job.
        """
        job = self._find(job_id)
        outputs = self.result_batches(job_id)
        assert job.batches is not None
        return restore(job.batches, outputs)

    def result_batches(self, job_id: bytes) -> tuple[tuple[Tensor, ...], ...]:
        """Outputs by micro-batch, in the order of the plan in `JobView.batches`.

        Raises:
            UnknownJobId, NotFinished, PrsmError: as `result`.
        """
        job = self._find(job_id)
        if job.outputs is not None:
            return job.outputs
        if job.error is not None:
            raise job.error
        raise NotFinished(f"job {job_id.hex()[:16]} is {job.state.value}", hint="wait for it")

    async def wait(self, job_id: bytes, *, until: JobState = JobState.DONE) -> JobView:
        """Return once the job is over, or has reached a state; the caller sets the deadline.

        Raises:
            UnknownJobId: as `get`.
        """
        past = self._past.get(job_id)
        if past is not None:
            return past
        job = self._find(job_id)
        await job.wait(until)
        return view_of(job)

    def cancel(self, job_id: bytes) -> None:
        """Stop a job; what was locked and not settled comes back at its deadline."""
        if job_id not in self._past:
            self._find(job_id).scope.cancel()

    async def _run(self, job: Job) -> None:
        work = JobRun(job, self._requester)
        try:
            with (
                logs.bound(job=job.id.hex()),
                job.scope,
                traces.span("job", prsm__job=job.id.hex()),
            ):
                await self._save(job)  # before money can move
                await work.run()
            if job.scope.cancelled_caught:
                job.fail(NotFinished("the job was cancelled"))
        except PrsmError as error:
            job.fail(error)
        except Exception as error:  # one job must not take the others down
            log.exception("job %s", job.id.hex()[:16])
            job.fail(Internal(f"{type(error).__name__} inside the node"))
        self._freed.set()
        self._freed = trio.Event()
        self._requester.policy.after(work.facts(), job.error.reason if job.error else "done")
        self._forget_old()
        await work.reclaim()
        await self._owe_nothing(view_of(job))

    async def _follow(self, job: Job) -> None:
        """Keep each state of a job, and its answer once there is one."""
        seen, is_kept = JobState.PLANNING, self._store is None
        while not job.is_over:
            await job.wait_other(seen)
            seen = job.state
            told.info(f"job: {seen.value}", job=job.id.hex(), **_why(job))
            self._tell(job)
            try:
                if not is_kept and job.outputs is not None:
                    is_kept = True
                    await self._save_outputs(job)
                await self._save(job)
            except PrsmError as error:  # the job goes on; its history has a gap
                log.warning("job %s is not kept: %s", job.id.hex()[:16], error.what)

    async def _owe_nothing(self, view: JobView) -> None:
        """Its escrow is closed, or there was none: its row may go when it is old."""
        self._owing.discard(view.id)
        if self._store is None:
            return
        try:
            await self._store.put(row_of(view))
            await self._store.prune(self._kept)
        except PrsmError as error:
            log.warning("job %s is looked at again later: %s", view.id.hex()[:16], error.what)

    def _tell(self, job: Job) -> None:
        for listener in self.on_change:
            listener(view_of(job))

    async def _save(self, job: Job) -> None:
        if self._store is not None:
            await self._store.put(self._row(view_of(job)))

    def _row(self, view: JobView) -> JobRow:
        """A job as it is kept: not over while the ledger may hold money of it."""
        row = row_of(view)
        return replace(row, is_over=row.is_over and view.id not in self._owing)

    async def _save_outputs(self, job: Job) -> None:
        raw = None if job.outputs is None else pack_outputs(job.outputs)
        if raw is not None and self._store is not None:
            await self._store.put_output(job.id, raw)

    async def _load(self) -> None:
        """Read what is kept; a job that was at work then was interrupted, and says so."""
        if self._store is None:
            return
        rows = [*await self._store.newest(self._kept), *await self._store.unfinished()]
        by_id = {row.id: row for row in rows}
        for row in sorted(by_id.values(), key=lambda row: (row.made_ms, row.id)):
            has_output = await self._store.output(row.id) is not None
            try:
                view = view_of_row(row, has_output=has_output)
            except WireError as error:
                log.warning("kept job %s is passed over: %s", row.id.hex()[:16], error.what)
                continue
            self._past[row.id] = view
            if not row.is_over:
                self._owing.add(row.id)
                await self._store.put(self._row(view))

    async def _reclaim(self, view: JobView) -> None:
        """Fetch back what an earlier process locked, where the ledger still has it open.

        A lock may have been on its way, or stand in a block that this node has not caught up with.
        """
        request = JobRequest(view.model)
        locked = Job(view.id, request, view.made_ms, may_be_locked=True)
        await JobRun(locked, self._requester).reclaim()
        await self._owe_nothing(view)

    def _forget_old(self) -> None:
        over = [job_id for job_id, job in self._jobs.items() if job.is_over]
        for job_id in over[: max(0, len(over) - self._kept)]:
            del self._jobs[job_id]

    def _find(self, job_id: bytes) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJobId(
                f"no job {job_id.hex()[:16]} on this node", hint="prsm job ls shows them"
            )
        return job


def _why(job: Job) -> dict[str, str]:
    """What ended a job that failed, as its log line has it."""
    return {} if job.error is None else {"reason": job.error.reason, "what": job.error.what}
