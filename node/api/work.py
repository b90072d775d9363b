"""Handlers of infer_ and job_: work asked for and done.

Knows: models, jobs and the ledger's verdicts. Must not know: transports, how a job is done.
"""

from collections.abc import Sequence
from typing import Final, Literal

import trio

from prsm.consensus.ledger.records import Job as EscrowJob
from prsm.consensus.ledger.records import Verdict
from prsm.consensus.ledger.view import View
from prsm.node.callers.costs import spent_of
from prsm.node.chain.driver import Driver
from prsm.node.chain.proofs import Proofs
from prsm.node.clock import utc_text
from prsm.node.inference.job import JobRequest, JobState, JobView, Step, WorkerView
from prsm.node.inference.jobs import Jobs
from prsm.node.models import Models
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import work as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.receipts import rows_root
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.storage.cid import decode_cid

_State = Literal["planned", "locked", "running", "settling", "done", "failed"]
_STATES: Final[dict[JobState, _State]] = {
    JobState.PLANNING: "planned",
    JobState.LOCKING: "locked",
    JobState.RUNNING: "running",
    JobState.SETTLING: "settling",
    JobState.DONE: "done",
    JobState.FAILED: "failed",
}
_DTYPES: Final = {
    "f32": Dtype.F32,
    "f16": Dtype.F16,
    "u8": Dtype.U8,
    "i8": Dtype.I8,
    "i32": Dtype.I32,
    "i64": Dtype.I64,
    "bool": Dtype.BOOL,
}
_OPINIONS: Final = {"value": 0, "1-of-1": 1, "2-of-2": 2, "2-of-3": 3, "3-of-4": 4, "3-of-5": 5}
DTYPE_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


CANCEL_MS: Final = 5_000


class WorkApi:
    """Answers about jobs."""

    def __init__(self, models: Models, jobs: Jobs, driver: Driver, proofs: Proofs) -> None:
        self._models = models
        self._jobs = jobs
        self._driver = driver
        self._proofs = proofs

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "infer_run": self.run,
            "job_get": self.job,
            "job_list": self.list_jobs,
            "job_getResult": self.result,
            "job_cancel": self.cancel,
            "job_retry": self.retry,
            "job_getTrace": self.trace,
            "job_getProof": self.proof,
        }

    async def run(self, params: api.RunParams, _caller: Caller) -> api.Job:
        """Run a model over rows on peers; answers with the job."""
        known = await self._models.find(params.model)
        job_id = self._jobs.submit(request_of(params, known.cid.raw))
        return await self._answer(job_id, params.wait_ms)

    async def job(self, params: api.JobParams, _caller: Caller) -> api.Job:
        """A job and its workers; with `wait_ms`, when it ends or then."""
        return await self._answer(_job_id(params.job_id), params.wait_ms)

    async def list_jobs(self, _params: NoParams, _caller: Caller) -> api.Jobs:
        """Jobs of ours, newest first."""
        return api.Jobs(items=tuple(self._job(view) for view in self._jobs.list()))

    async def result(self, params: api.JobIdParams, _caller: Caller) -> api.JobResult:
        """The outputs of a finished job, rows in the order they were given."""
        outputs = await self._jobs.read_result(_job_id(params.job_id))
        first = outputs[0]
        return api.JobResult(
            job_id=params.job_id,
            rows=first.head.shape[0],
            output_root=address_text(rows_root(first.head, first.data)),
            outputs=tuple(tensor_text(tensor) for tensor in outputs),
        )

    async def cancel(self, params: api.JobIdParams, _caller: Caller) -> api.Job:
        """Stop a job; answers when it has ended."""
        job_id = _job_id(params.job_id)
        self._jobs.cancel(job_id)
        return await self._answer(job_id, CANCEL_MS)

    async def retry(self, params: api.RetryParams, _caller: Caller) -> api.Job:
        """Run what a job was asked for once more; answers with the new job."""
        price_cap = None if params.max_price is None else int(params.max_price)
        job_id = self._jobs.retry(_job_id(params.job_id), price_cap=price_cap)
        return await self._answer(job_id, params.wait_ms)

    async def trace(self, params: api.JobIdParams, _caller: Caller) -> api.JobTrace:
        """When each step of a job began and ended."""
        view = self._jobs.get(_job_id(params.job_id))
        return job_trace(view, self._driver.ledger.view)

    async def proof(self, params: api.JobProofParams, _caller: Caller) -> dict[str, object]:
        """The receipt document of a settled job, for anyone to check."""
        return await self._proofs.of_job(_job_id(params.job_id), epoch=params.epoch)

    async def _answer(self, job_id: bytes, wait_ms: int) -> api.Job:
        if wait_ms:
            with trio.move_on_after(wait_ms / 1000):
                await self._jobs.wait(job_id)
        return self._job(self._jobs.get(job_id))

    def _job(self, view: JobView) -> api.Job:
        return job_row(view, self._driver.ledger.view)


def job_row(view: JobView, ledger: View) -> api.Job:
    """A job as it is told: what this node knows of it, and what the ledger says."""
    escrow = ledger.job(view.id)
    # The ledger knows more than the job: a worker may have settled what we could not.
    leases = [lease for each in view.leases if (lease := ledger.job(each))]
    locks = [*((escrow,) if escrow else ()), *leases]
    # What was neither paid nor is held came back: by a verdict, or when an escrow was closed.
    returned = max(0, view.amount - spent_of(locks)) if escrow else 0
    verdicts = [verdict for lock in locks for verdict in lock.verdicts if verdict]
    ended = view.state in {JobState.DONE, JobState.FAILED}
    worked = {(step.unit, step.worker): step for step in view.steps if step.name == "work"}
    return api.Job(
        job_id=address_text(view.id),
        model=str(decode_cid(view.model)),
        state=_STATES[view.state],
        rows=view.rows_total,
        rows_done=view.rows_done,
        batches=view.batches,
        stages=view.stages,
        created=utc_text(view.made_ms),
        is_over=ended,
        deadline=None if escrow is None else utc_text(escrow.deadline_ms),
        locked=str(view.amount),
        paid=str(sum(opinion.paid for v in verdicts for opinion in v.opinions)),
        refunded=str(returned),
        lock_height=view.lock_height,
        run_ms=view.run_ms,
        settled_heights=tuple(sorted({verdict.height for verdict in verdicts})),
        workers=tuple(
            _worker(
                worker,
                next((lock for lock in locks if lock.job == worker.job), None),
                worked.get((worker.unit, worker.worker)),
            )
            for worker in view.workers
        ),
        leases=tuple(address_text(lease) for lease in view.leases),
        because=view.because,
        unsettled=tuple(
            api.JobFault(error.reason, f"unit {unit}: {error.what}")
            for unit, error in sorted(view.unsettled.items())
            if _verdict_of(view, unit, locks) is None
        ),
        error=None if view.error is None else api.JobFault(view.error.reason, view.error.what),
    )


def job_trace(view: JobView, ledger: View) -> api.JobTrace:
    """The steps of a job, each of a worker's with that worker."""
    row = job_row(view, ledger)
    workers = {(each.unit, each.account): each for each in row.workers}
    return api.JobTrace(
        job_id=row.job_id,
        state=row.state,
        created=row.created,
        is_over=row.is_over,
        steps=tuple(
            api.JobStep(
                step=step.name,
                began_ms=step.began_ms,
                ended_ms=step.ended_ms,
                unit=step.unit,
                stage=step.stage,
                attempt=step.attempt,
                worker=None
                if step.unit is None or not step.worker
                else workers.get((step.unit, address_text(step.worker))),
            )
            for step in view.steps
        ),
        error=row.error,
    )


def request_of(params: api.RunParams, model: bytes) -> JobRequest:
    """A job as the parameters of a call ask for it.

    Raises:
        InputMismatch: texts and tensors, or neither; a tensor whose bytes are not its shape's.
    """
    if (params.texts is None) == (params.inputs is None):
        raise InputMismatch(
            "give either texts or inputs",
            hint='such as: prsm run MODEL FILE, or "texts": ["a sentence"]',
        )
    opinions = params.replicas + 1 if params.redundancy is None else _OPINIONS[params.redundancy]
    return JobRequest(
        model=model,
        inputs=tuple(parse_tensor(given) for given in params.inputs or ()),
        texts=params.texts or (),
        rows_per_batch=params.rows_per_batch,
        stages=params.stages,
        spread=params.spread,
        redundancy=opinions,
        home_stages=params.stages_here,
        spares=params.spares,
        window=params.window,
        price_cap=None if params.max_price is None else int(params.max_price),
        deadline_ms=params.deadline_ms,
    )


def _verdict(
    view: WorkerView, verdict: Verdict | None
) -> Literal["pending", "agreed", "outvoted", "lost", "unused"]:
    # The ledger's word is the last: an auditor and a committee may have found what we did not.
    is_wrong = verdict is not None and any(
        item.wrong for item in verdict.opinions if item.worker == view.worker
    )
    if view.outvoted or is_wrong:
        return "outvoted"
    if view.lost:
        return "lost"
    if verdict is None:
        return "pending"
    return "agreed" if view.rows else "unused"


def _worker(view: WorkerView, escrow: EscrowJob | None, work: Step | None) -> api.JobWorker:
    verdict = None if escrow is None else escrow.verdicts[view.index]
    opinions = verdict.opinions if verdict else ()
    return api.JobWorker(
        peer_id=view.peer,
        account=address_text(view.worker),
        unit=view.unit,
        stage=view.stage,
        role=view.role,
        batches=view.batches,
        rows=view.rows,
        compute_ms=view.compute_ms,
        verdict=_verdict(view, verdict),
        why=view.lost,
        paid=str(sum(item.paid for item in opinions if item.worker == view.worker)),
        began_ms=None if work is None else work.began_ms,
        ended_ms=None if work is None else work.ended_ms,
    )


def _verdict_of(view: JobView, unit: int, locks: Sequence[EscrowJob]) -> Verdict | None:
    """What the ledger says of a unit, whichever lock pays it."""
    place = next(((w.job, w.index) for w in view.workers if w.unit == unit), None)
    found = (lock for lock in locks if place is not None and lock.job == place[0])
    return next((lock.verdicts[place[1]] for lock in found if place is not None), None)


def parse_tensor(given: api.TensorText) -> Tensor:
    """A tensor of JSON.

    Raises:
        InputMismatch: another dtype, or bytes of another length than its shape needs.
    """
    dtype = _DTYPES.get(given.dtype)
    if dtype is None:
        raise InputMismatch(
            f"input {given.name} has dtype {given.dtype!r}",
            hint=f"one of {', '.join(_DTYPES)}",
        )
    head = TensorHead(given.name, dtype, given.shape)
    data = bytes.fromhex(given.data[2:])
    if len(data) != head.nbytes:
        raise InputMismatch(
            f"input {given.name} has {len(data)} bytes, its shape and dtype need {head.nbytes}"
        )
    return Tensor(head, data)


def tensor_text(tensor: Tensor) -> api.TensorText:
    """A tensor in JSON."""
    head = tensor.head
    return api.TensorText(head.name, DTYPE_NAMES[head.dtype], head.shape, "0x" + tensor.data.hex())


def _job_id(text: str) -> bytes:
    return parse_hex(text, size=32, what="job id")
