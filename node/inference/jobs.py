"""Jobs of this node as a requester: from a request to an answer and a bill.

Each job is one task; a failing job never affects another. Finished ones are kept for a while.
Must not know RPC, nor how a worker computes.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Final

import trio

from prsm.node.inference.batches import restore
from prsm.node.inference.job import (
    Job,
    JobRequest,
    JobState,
    JobView,
    UnknownJobId,
    view_of,
)
from prsm.node.inference.jobrun import JobRun, Requester
from prsm.node.net.interface import Busy
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.tensors import Tensor

JOBS_RUNNING_MAX: Final = 16
JOBS_KEPT: Final = 64

log = logging.getLogger(__name__)


class NotFinished(LocalError):
    """The job has no result yet."""

    reason = "not_finished"


class Internal(LocalError):
    """A bug of ours ended the job; the log has it."""

    reason = "internal"


class Jobs:
    """Runs our jobs side by side.

    Args:
        requester: what a job works with.
        kept: finished jobs that can still be read, newest first.
        new_id: makes 32-byte job ids; random outside tests.
    """

    def __init__(
        self,
        requester: Requester,
        *,
        kept: int = JOBS_KEPT,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._requester, self._kept, self._new_id = requester, kept, new_id
        self._jobs: dict[bytes, Job] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run submitted jobs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
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
        job = Job(self._new_id(), request, made_ms=self._requester.clock.wall_ms())
        self._jobs[job.id] = job
        self._nursery.start_soon(self._run, job)
        return job.id

    @property
    def running(self) -> int:
        """Jobs at work now."""
        return sum(not job.is_over for job in self._jobs.values())

    def get(self, job_id: bytes) -> JobView:
        """What is known of a job now.

        Raises:
            UnknownJobId: never submitted here, or forgotten.
        """
        return view_of(self._find(job_id))

    def list(self) -> tuple[JobView, ...]:
        """All jobs that are kept, newest first."""
        return tuple(view_of(job) for job in reversed(self._jobs.values()))

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
        job = self._find(job_id)
        await job.wait(until)
        return view_of(job)

    def cancel(self, job_id: bytes) -> None:
        """Stop a job; what was locked and not settled comes back at its deadline."""
        self._find(job_id).scope.cancel()

    async def _run(self, job: Job) -> None:
        work = JobRun(job, self._requester)
        try:
            with job.scope:
                await work.run()
            if job.scope.cancelled_caught:
                job.fail(NotFinished("the job was cancelled"))
        except PrsmError as error:
            job.fail(error)
        except Exception as error:  # one job must not take the others down
            log.exception("job %s", job.id.hex()[:16])
            job.fail(Internal(f"{type(error).__name__} inside the node"))
        self._requester.policy.after(work.facts(), job.error.reason if job.error else "done")
        self._forget_old()
        await work.reclaim()

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
