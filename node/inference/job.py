"""A job of ours: what was asked, where it stands, what came out; and how others see it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

import trio

from prsm.consensus.ledger.records import Verdict
from prsm.node.inference.batches import Batch, BatchPlan
from prsm.node.inference.planner import Plan
from prsm.node.inference.unitrun import UnitRun
from prsm.node.inference.verify import Dispute
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.receipts import WorkKind, WorkReceipt
from prsm.protocol.tensors import Tensor

Role = Literal["primary", "replica", "third"]
_ROLES: Final[tuple[Role, ...]] = ("primary", "replica", "third")


class UnknownJobId(LocalError):
    """No such job on this node."""

    reason = "unknown_job"


class JobState(Enum):
    """Where a job stands; only forward, and `FAILED` from anywhere."""

    PLANNING = "planning"
    LOCKING = "locking"
    RUNNING = "running"
    SETTLING = "settling"  # the outputs can be read
    DONE = "done"
    FAILED = "failed"


_ORDER = tuple(JobState)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to run: a model, and either whole arrays or texts.

    Attributes:
        model: CID of the manifest.
        inputs: graph inputs, the rows along the first axis of each.
        texts: instead of inputs, for a model with a tokenizer.
        rows_per_batch: rows of a full micro-batch.
        stages: pipeline stages.
        redundancy: workers named for each stage: 3, or 2 without a third that decides.
        price_cap: micro-FTNS the escrow may hold, None for no bound.
        deadline_ms: block time from now on.
        tenant: for whom, at most 32 bytes; part of the lock.
        kind: of the work.
        job: its id, chosen by the caller; None: chosen here.
        parent: a job of ours whose budget pays for it.
        only: accounts that may work on it; empty: any.
    """

    model: bytes
    inputs: tuple[Tensor, ...] = ()
    texts: tuple[str, ...] = ()
    rows_per_batch: int = 4
    stages: int = 1
    redundancy: int = 3
    price_cap: int | None = None
    deadline_ms: int = 600_000
    tenant: bytes = b""
    kind: WorkKind = WorkKind.INFER
    job: bytes | None = None
    parent: bytes | None = None
    only: tuple[bytes, ...] = ()


@dataclass(slots=True, eq=False)
class Job:
    """A job while this node knows it; owned by its task, read by anybody."""

    id: bytes
    request: JobRequest
    made_ms: int
    state: JobState = JobState.PLANNING
    error: PrsmError | None = None
    batches: BatchPlan | None = None
    plan: Plan | None = None
    units: tuple[UnitRun, ...] = ()
    outputs: tuple[Batch, ...] | None = None
    receipts: dict[int, tuple[WorkReceipt, ...]] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    unsettled: dict[int, PrsmError] = field(default_factory=dict)
    lock_height: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _changed: trio.Event = field(default_factory=trio.Event)

    @property
    def is_over(self) -> bool:
        """Does nothing more happen, but a refund?"""
        return self.state in (JobState.DONE, JobState.FAILED)

    def enter(self, state: JobState) -> None:
        """Go on to the next state."""
        assert not self.is_over
        assert _ORDER.index(state) > _ORDER.index(self.state)
        self.state = state
        self._changed.set()
        self._changed = trio.Event()

    def fail(self, error: PrsmError) -> None:
        """End here."""
        self.error = error
        self.enter(JobState.FAILED)

    async def wait_other(self, seen: JobState) -> None:
        """Return once the job is in another state than that."""
        await trio.lowlevel.checkpoint()
        while self.state is seen:
            await self._changed.wait()

    async def wait(self, until: JobState) -> None:
        """Return once that state is reached or passed."""
        await trio.lowlevel.checkpoint()
        while _ORDER.index(self.state) < _ORDER.index(until):
            await self._changed.wait()


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What a worker did for one stage."""

    unit: int
    worker: bytes
    peer: PeerId
    role: Role
    batches: int
    rows: int
    compute_ms: int
    lost: str  # why it does no more, empty while it does
    outvoted: bool
    paid: int | None  # micro-FTNS by the verdict; None before it


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as others see it; a copy, so that it stays as it was."""

    id: bytes
    state: JobState
    model: bytes
    tenant: bytes
    made_ms: int
    rows_done: int
    rows_total: int
    stages: int
    batches: tuple[tuple[int, ...], ...]  # the batch plan: rows as given, by micro-batch
    amount: int  # micro-FTNS locked
    lock_height: int
    workers: tuple[WorkerView, ...]
    disputes: dict[int, tuple[Dispute, ...]]  # by stage
    receipts: dict[int, tuple[WorkReceipt, ...]]
    verdicts: dict[int, Verdict]
    unsettled: dict[int, PrsmError]
    error: PrsmError | None


def view_of(job: Job) -> JobView:
    """Copy what others may see."""
    counts = job.batches.counts if job.batches else ()
    done = 0
    if job.units:
        outputs = job.units[-1].outputs
        done = sum(n for n, batch in zip(counts, outputs, strict=True) if batch is not None)
    return JobView(
        id=job.id,
        state=job.state,
        model=job.request.model,
        tenant=job.request.tenant,
        made_ms=job.made_ms,
        rows_done=done,
        rows_total=sum(counts),
        stages=job.request.stages,
        batches=job.batches.rows if job.batches else (),
        amount=job.plan.amount if job.plan else 0,
        lock_height=job.lock_height,
        workers=tuple(_workers(job)),
        disputes={unit.index: unit.ballot.disputes() for unit in job.units},
        receipts=dict(job.receipts),
        verdicts=dict(job.verdicts),
        unsettled=dict(job.unsettled),
        error=job.error,
    )


def _workers(job: Job) -> list[WorkerView]:
    assert not job.units or job.plan is not None
    views = []
    for unit in job.units:
        minority = unit.ballot.minority()
        verdict = job.verdicts.get(unit.index)
        paid = {opinion.worker: opinion.paid for opinion in verdict.opinions} if verdict else {}
        for worker, role in zip(unit.spec.workers, _ROLES, strict=False):
            count = unit.counts[worker]
            views.append(
                WorkerView(
                    unit=unit.index,
                    worker=worker,
                    peer=job.plan.peers[worker] if job.plan else PeerId(""),
                    role=role,
                    batches=count.batches,
                    rows=count.rows,
                    compute_ms=count.compute_ms,
                    lost=unit.ballot.lost.get(worker, ""),
                    outvoted=worker in minority,
                    paid=paid.get(worker, 0) if verdict else None,
                )
            )
    return views
