"""A job of ours: what was asked, where it stands, what came out; and how others see it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

import trio

from prsm.consensus.ledger.records import Verdict
from prsm.node.inference.batches import Batch, BatchPlan
from prsm.node.inference.leases import LEASES_MAX
from prsm.node.inference.unitrun import Lapse, StageRun, UnitRun
from prsm.node.inference.verify import Dispute
from prsm.node.inference.wishes import OPINIONS, WINDOW, WINDOW_MAX, Plan
from prsm.node.telemetry import metrics
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import WORK_STAGES_MAX
from prsm.protocol.messages.pipe import BATCH_ROWS_MAX, InputMismatch
from prsm.protocol.receipts import WorkKind, WorkReceipt
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import OPINIONS_MAX, UNITS_MAX

Role = Literal["primary", "replica", "third", "fourth", "fifth"]
_ROLES: Final[tuple[Role, ...]] = ("primary", "replica", "third", "fourth", "fifth")


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
StepName = Literal["plan", "lock", "run", "home", "open", "work", "receipt", "settle"]
_STEPS: Final[dict[JobState, StepName]] = {
    JobState.PLANNING: "plan",
    JobState.LOCKING: "lock",
    JobState.RUNNING: "run",
    JobState.SETTLING: "settle",
}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What to run: a model, and either whole arrays or texts.

    Attributes:
        model: CID of the manifest.
        inputs: graph inputs, the rows along the first axis of each.
        texts: instead of inputs, for a model with a tokenizer.
        rows_per_batch: rows of a full micro-batch.
        stages: pipeline stages; None: as the planner finds best.
        spread: parts of the rows that are done side by side; None: as the planner finds best.
        redundancy: workers named for each unit, 1 to 5, more than half must agree; 0: by value.
        home_stages: first stages computed by this node itself.
        spares: replacements of the dearest unit the budget pays for; None: one for units of a
            single worker, none for others.
        window: micro-batches in flight at each worker.
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
    stages: int | None = 1
    spread: int | None = 1
    redundancy: int = OPINIONS
    home_stages: int = 0
    spares: int | None = None
    window: int = WINDOW
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
    stages: Mapping[int, StageRun] = field(default_factory=dict)
    units: list[UnitRun] = field(default_factory=list)  # leased ones behind those of the plan
    leases: list[bytes] = field(default_factory=list)  # ids of their locks
    outputs: tuple[Batch, ...] | None = None
    receipts: dict[int, tuple[WorkReceipt, ...]] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    unsettled: dict[int, PrsmError] = field(default_factory=dict)
    lock_height: int = 0
    may_be_locked: bool = False  # its lock was sent, and the ledger did not refuse it
    run_ms: int = 0  # from the lock to the last output
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    settling: dict[int, Lapse] = field(default_factory=dict)  # by unit
    entered_s: dict[JobState, float] = field(default_factory=dict)  # on the loop's clock
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.entered_s[self.state] = trio.current_time()

    @property
    def is_over(self) -> bool:
        """Does nothing more happen, but a refund?"""
        return self.state in (JobState.DONE, JobState.FAILED)

    def enter(self, state: JobState) -> None:
        """Go on to the next state."""
        assert not self.is_over
        assert _ORDER.index(state) > _ORDER.index(self.state)
        now = trio.current_time()
        took_s = now - self.entered_s[self.state]
        metrics.observe("prsm_job_duration_seconds", took_s, self.state.value)
        self.state, self.entered_s[state] = state, now
        if state in (JobState.DONE, JobState.FAILED):
            metrics.inc("prsm_jobs_total", state.value)
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
    """What a worker did for one unit; `job` and `index` name the unit on the ledger."""

    unit: int
    job: bytes
    index: int
    stage: int
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
class Step:
    """A part of a job, from its begin to its end in milliseconds since the job was made.

    Attributes:
        name: `plan`, `lock`, `run`, `settle` of the job; `home`: stages this node computed itself;
            `open`, `work`, `receipt` of one worker of one unit; `settle` of a unit.
        ended_ms: None while it lasts.
        worker: its account; empty for what is this node's.
        attempt: 1 for what the plan named, one more for each lease that took batches over.
    """

    name: StepName
    began_ms: int
    ended_ms: int | None
    unit: int | None = None
    stage: int | None = None
    worker: bytes = b""
    attempt: int | None = None


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
    run_ms: int  # from the lock to the last output; 0 before it
    workers: tuple[WorkerView, ...]
    leases: tuple[bytes, ...]  # locks of what was leased to others
    because: tuple[str, ...]  # why the plan is as it is
    disputes: dict[int, tuple[Dispute, ...]]  # by unit
    receipts: dict[int, tuple[WorkReceipt, ...]]
    verdicts: dict[int, Verdict]
    unsettled: dict[int, PrsmError]
    error: PrsmError | None
    steps: tuple[Step, ...]  # in the order they began


def view_of(job: Job) -> JobView:
    """Copy what others may see."""
    counts = tuple(len(rows) for rows in job.batches.rows) if job.batches else ()
    done = 0
    if job.units:
        outputs = max(job.units, key=lambda unit: unit.stage.index).stage.outputs
        done = sum(n for n, batch in zip(counts, outputs, strict=True) if batch is not None)
    return JobView(
        id=job.id,
        state=job.state,
        model=job.request.model,
        tenant=job.request.tenant,
        made_ms=job.made_ms,
        rows_done=done,
        rows_total=sum(counts),
        stages=job.plan.units[0].stages if job.plan else job.request.stages or 0,
        batches=job.batches.rows if job.batches else (),
        amount=job.plan.amount if job.plan else 0,
        lock_height=job.lock_height,
        run_ms=job.run_ms,
        workers=tuple(_workers(job)),
        leases=tuple(job.leases),
        because=job.plan.why.because if job.plan else (),
        disputes={unit.number: unit.ballot.disputes() for unit in job.units},
        receipts=dict(job.receipts),
        verdicts=dict(job.verdicts),
        unsettled=dict(job.unsettled),
        error=job.error,
        steps=tuple(sorted(_steps(job), key=lambda step: step.began_ms)),
    )


def _steps(job: Job) -> Iterator[Step]:
    zero_s = job.entered_s[JobState.PLANNING]

    def told(lapse: Lapse) -> tuple[int, int | None]:
        assert lapse.began_s is not None
        ended_s = lapse.ended_s
        return _ms(lapse.began_s - zero_s), None if ended_s is None else _ms(ended_s - zero_s)

    entered = list(job.entered_s.items())
    ends_s = [*(since_s for _, since_s in entered[1:]), None]
    for (state, began_s), ended_s in zip(entered, ends_s, strict=True):
        if state in _STEPS:
            yield Step(_STEPS[state], *told(Lapse(began_s, ended_s)))
    for stage in job.stages.values():
        if stage.at_home.began_s is not None:
            yield Step("home", *told(stage.at_home), stage=stage.index)
    for unit in job.units:
        attempt = _attempt(job, unit)
        for name, worker, lapse in _lapses(unit, job.settling.get(unit.number, Lapse())):
            if lapse.began_s is not None:
                began_ms, ended_ms = told(lapse)
                place = unit.number, unit.spec.stage, worker, attempt
                yield Step(name, began_ms, ended_ms, *place)


def _lapses(unit: UnitRun, settling: Lapse) -> Iterator[tuple[StepName, bytes, Lapse]]:
    for worker, count in unit.counts.items():
        yield "open", worker, count.opening
        yield "work", worker, count.working
        yield "receipt", worker, count.showing
    yield "settle", b"", settling


def _attempt(job: Job, unit: UnitRun) -> int:
    """How often batches of this unit were given to somebody by then."""
    if job.plan is not None and unit.number < len(job.plan.units):
        return 1
    own = unit.spec.batches
    before = (one.spec for one in job.units[: unit.number] if one.spec.stage == unit.spec.stage)
    return 1 + sum(
        spec.batches.start < own.stop and own.start < spec.batches.stop for spec in before
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _workers(job: Job) -> list[WorkerView]:
    views = []
    for unit in job.units:
        minority = unit.ballot.minority()
        verdict = job.verdicts.get(unit.number)
        paid = {opinion.worker: opinion.paid for opinion in verdict.opinions} if verdict else {}
        for worker, role in zip(unit.spec.workers, _ROLES, strict=False):
            count = unit.counts[worker]
            views.append(
                WorkerView(
                    unit=unit.number,
                    job=unit.job,
                    index=unit.index,
                    stage=unit.spec.stage,
                    worker=worker,
                    peer=unit.peers[worker],
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


def shown_by(verdict: Verdict | None, *, is_wrong: bool) -> str:
    """What the answers of a unit showed, as the metrics call it."""
    if is_wrong:
        return "wrong"
    if verdict is None:
        return "unsettled"
    return "outvoted" if any(opinion.wrong for opinion in verdict.opinions) else "agreed"


def check_request(request: JobRequest) -> None:
    """Refuse numbers that no plan could meet.

    Raises:
        InputMismatch: which, and its bounds.
    """
    for name, value, least, most in (
        ("rows in a micro-batch", request.rows_per_batch, 1, BATCH_ROWS_MAX),
        ("workers a unit (0: by value)", request.redundancy, 0, OPINIONS_MAX),
        ("micro-batches in flight", request.window, 1, WINDOW_MAX),
        ("parts of the rows", request.spread or 1, 1, UNITS_MAX),
        ("stages at home", request.home_stages, 0, WORK_STAGES_MAX),
        ("spares", request.spares or 0, 0, LEASES_MAX),
    ):
        if not least <= value <= most:
            raise InputMismatch(f"{value} {name}, {least} to {most} go")
