"""A job as it is kept: what others may see of it, and how it looks after its process ended.

Knows: views and rows. Must not know: where rows are. Inputs are never kept, disputes neither:
receipts and the ledger's verdicts show who was outvoted.
"""

from dataclasses import asdict
from typing import Annotated, Final

import msgspec

from prsm.node.inference.batches import Batch, BatchPlan
from prsm.node.inference.job import JobState, JobView, Role, Step, StepName, WorkerView
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, PrsmError, WireError
from prsm.protocol.ids import U32, Bytes32, PeerId, UInt
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.tensors import Tensor, TensorHead
from prsm.storage.jobs import BODY_BYTES_MAX, OUTPUT_BYTES_MAX, JobRow

_Text = Annotated[str, msgspec.Meta(max_length=2048)]


class JobInterrupted(LocalError):
    """The node ended while the job was at work."""

    reason = "interrupted"


class _Fault(Record, frozen=True):
    reason: _Text
    what: _Text
    hint: _Text


class _Worker(Record, frozen=True):
    unit: U32
    job: Bytes32
    index: U32
    stage: U32
    worker: Bytes32
    peer: _Text
    role: Role
    batches: UInt
    rows: UInt
    compute_ms: UInt
    lost: _Text
    outvoted: bool
    paid: UInt | None


class _Step(Record, frozen=True):
    name: StepName
    began_ms: UInt
    ended_ms: UInt | None
    unit: U32 | None
    stage: U32 | None
    worker: bytes
    attempt: U32 | None


class _Untimed(Record, frozen=True):
    """As rows were before version 3."""

    version: Annotated[int, msgspec.Meta(ge=2, le=3)]  # 1 had no leases
    model: CidBytes
    tenant: bytes
    rows_done: UInt
    rows_total: UInt
    stages: U32
    batches: tuple[tuple[UInt, ...], ...]
    amount: UInt
    lock_height: UInt
    run_ms: UInt
    workers: tuple[_Worker, ...]
    leases: tuple[Bytes32, ...]
    because: tuple[_Text, ...]
    receipts: tuple[tuple[U32, tuple[WorkReceipt, ...]], ...]
    unsettled: tuple[tuple[U32, _Fault], ...]
    error: _Fault | None


class _Body(_Untimed, frozen=True):
    steps: tuple[_Step, ...]


class _Tensor(Record, frozen=True):
    head: TensorHead
    data: bytes


_Outputs = tuple[tuple[_Tensor, ...], ...]
_AT_WORK: Final = {
    JobState.PLANNING.value: "nothing was locked",
    JobState.LOCKING.value: "if its escrow was locked, it comes back after its deadline",
    JobState.RUNNING.value: "what was locked and not settled comes back after its deadline",
    JobState.SETTLING.value: "its workers may still settle it themselves",
}


def row_of(view: JobView) -> JobRow:
    """A job as it is kept."""
    body = _Body(
        version=3,
        model=view.model,
        tenant=view.tenant,
        rows_done=view.rows_done,
        rows_total=view.rows_total,
        stages=view.stages,
        batches=view.batches,
        amount=view.amount,
        lock_height=view.lock_height,
        run_ms=view.run_ms,
        workers=tuple(_worker_of(worker) for worker in view.workers),
        leases=view.leases,
        because=tuple(line[:2048] for line in view.because),
        receipts=tuple(sorted(view.receipts.items())),
        unsettled=tuple((unit, _fault_of(e)) for unit, e in sorted(view.unsettled.items())),
        error=None if view.error is None else _fault_of(view.error),
        steps=tuple(_Step(**asdict(step)) for step in view.steps),
    )
    is_over = view.state in {JobState.DONE, JobState.FAILED}
    return JobRow(view.id, view.made_ms, is_over, view.state.value, encode(body))


def view_of_row(row: JobRow, *, has_output: bool) -> JobView:
    """A job as it is seen after its process ended; one that was at work was interrupted.

    Args:
        row: as kept.
        has_output: its answer was kept; then it is done, and only its settlement by us is not.

    Raises:
        WireError: no row of this version.
    """
    body = _read(row.body)
    state, error = JobState(row.state), None if body.error is None else _error_of(body.error)
    unsettled: dict[int, PrsmError] = {unit: _error_of(fault) for unit, fault in body.unsettled}
    if row.state in _AT_WORK:
        stopped = JobInterrupted(
            f"the node ended while this job was {row.state}; {_AT_WORK[row.state]}",
            hint="see what the ledger has: prsm job show",
        )
        if has_output:
            state = JobState.DONE
            settled = {unit for unit, _ in body.receipts}
            units = {worker.unit for worker in body.workers}
            unsettled |= {unit: stopped for unit in units if unit not in settled}
        else:
            state, error = JobState.FAILED, stopped
    return JobView(
        id=row.id,
        state=state,
        model=body.model,
        tenant=body.tenant,
        made_ms=row.made_ms,
        rows_done=body.rows_done,
        rows_total=body.rows_total,
        stages=body.stages,
        batches=body.batches,
        amount=body.amount,
        lock_height=body.lock_height,
        run_ms=body.run_ms,
        workers=tuple(_view_of(worker) for worker in body.workers),
        leases=body.leases,
        because=body.because,
        disputes={},
        receipts=dict(body.receipts),
        verdicts={},
        unsettled=unsettled,
        error=error,
        steps=_steps_of(body),
    )


def _read(raw: bytes) -> _Untimed:
    try:
        return decode(raw, _Body, size_max=BODY_BYTES_MAX)
    except WireError:
        return decode(raw, _Untimed, size_max=BODY_BYTES_MAX)


def _steps_of(body: _Untimed) -> tuple[Step, ...]:
    steps = body.steps if isinstance(body, _Body) else ()
    return tuple(Step(**msgspec.structs.asdict(step)) for step in steps)


def pack_outputs(outputs: tuple[Batch, ...]) -> bytes | None:
    """An answer as it is kept; None for one that is too large."""
    size = sum(len(tensor.data) for batch in outputs for tensor in batch)
    if size > OUTPUT_BYTES_MAX:
        return None
    raw = encode(
        tuple(tuple(_Tensor(tensor.head, tensor.data) for tensor in batch) for batch in outputs)
    )
    return raw if len(raw) <= OUTPUT_BYTES_MAX else None


def unpack_outputs(raw: bytes) -> tuple[Batch, ...]:
    """The answer that was kept.

    Raises:
        WireError: not what `pack_outputs` wrote.
    """
    kept: _Outputs = decode(raw, _Outputs, size_max=OUTPUT_BYTES_MAX)
    return tuple(tuple(Tensor(each.head, each.data) for each in batch) for batch in kept)


def plan_of(view: JobView) -> BatchPlan:
    """Which row went into which batch; the inputs themselves are gone."""
    return BatchPlan(view.batches, tuple(() for _ in view.batches))


def _worker_of(view: WorkerView) -> _Worker:
    return _Worker(
        unit=view.unit,
        job=view.job,
        index=view.index,
        stage=view.stage,
        worker=view.worker,
        peer=view.peer,
        role=view.role,
        batches=view.batches,
        rows=view.rows,
        compute_ms=view.compute_ms,
        lost=view.lost[:2048],
        outvoted=view.outvoted,
        paid=view.paid,
    )


def _view_of(worker: _Worker) -> WorkerView:
    return WorkerView(
        unit=worker.unit,
        job=worker.job,
        index=worker.index,
        stage=worker.stage,
        worker=worker.worker,
        peer=PeerId(worker.peer),
        role=worker.role,
        batches=worker.batches,
        rows=worker.rows,
        compute_ms=worker.compute_ms,
        lost=worker.lost,
        outvoted=worker.outvoted,
        paid=worker.paid,
    )


def _fault_of(error: PrsmError) -> _Fault:
    return _Fault(error.reason, error.what[:2048], error.hint[:2048])


def _error_of(fault: _Fault) -> PrsmError:
    """The same reason, what and hint; the class of an error does not outlive its process."""
    kept = type("KeptError", (LocalError,), {"reason": fault.reason})
    error: PrsmError = kept(fault.what, hint=fault.hint)
    return error
