"""A plan while it runs and after it: where each step stands, and how that is kept and shown.

Knows: steps, states, the row of the store. Must not know: how a step is done.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Final, Literal

import msgspec
import trio

from prsm.node.workplans.graph import Embed, Infer, Search, Step, Work, Workplan, check
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.tensors import Tensor, TensorHead
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.jobs import BODY_BYTES_MAX, JobRow

TRIES_MAX: Final = 8  # jobs of one step, over all starts of the node
_Text = Annotated[str, msgspec.Meta(max_length=2048)]


class PlanTooLarge(LocalError):
    """Texts and arrays of a plan do not fit where plans are kept."""

    reason = "job_too_large"


class PlanState(Enum):
    """Where a plan stands."""

    LOCKING = "locking"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(Enum):
    """Where a step stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


_OVER: Final = frozenset((PlanState.DONE, PlanState.FAILED, PlanState.CANCELLED))


@dataclass(slots=True, eq=False)
class StepRun:
    """One step. Invariant: a step that is done has the CID of its output."""

    step: Step
    state: StepState = StepState.WAITING
    jobs: tuple[bytes, ...] = ()  # tried for it, the last one last
    output: Cid | None = None
    error: PrsmError | None = None
    done: trio.Event = field(default_factory=trio.Event)

    def finish(self, output: Cid) -> None:
        """Its output is kept."""
        self.state, self.output, self.error = StepState.DONE, output, None
        self.done.set()


@dataclass(slots=True, eq=False)
class PlanRun:
    """A plan of this node; owned by its task, read by anybody."""

    id: bytes  # 32 bytes; also the name of its escrow
    plan: Workplan
    made_ms: int
    state: PlanState = PlanState.LOCKING
    lock_height: int = 0
    owes: bool = False  # its escrow may be open, or on its way: its row stays
    error: PrsmError | None = None
    steps: dict[str, StepRun] = field(init=False)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        by_id = {step.id: step for step in self.plan.steps}
        self.steps = {name: StepRun(by_id[name]) for name in check(self.plan)}

    @property
    def is_over(self) -> bool:
        """Does no step run any more?"""
        return self.state in _OVER

    def end(self, state: PlanState, error: PrsmError | None = None) -> None:
        """Nothing more happens, but its escrow comes back."""
        assert state in _OVER
        self.state, self.error = state, error


class _Fault(Record, frozen=True):
    reason: _Text
    what: _Text
    hint: _Text


class _Tensor(Record, frozen=True):
    head: TensorHead
    data: bytes


class _Step(Record, frozen=True):
    id: _Text
    kind: Literal["embed", "search", "infer"]
    model: CidBytes | None
    texts: tuple[str, ...]
    inputs: tuple[_Tensor, ...]
    source: _Text
    renamed: tuple[tuple[_Text, _Text], ...]
    limit: U32
    price_cap: UInt | None
    after: tuple[_Text, ...]
    state: _Text
    jobs: tuple[Bytes32, ...]
    output: CidBytes | None
    fault: _Fault | None


class _Body(Record, frozen=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    budget: UInt
    deadline_ms: UInt
    lock_height: UInt
    steps: tuple[_Step, ...]
    fault: _Fault | None


def row_of(run: PlanRun) -> JobRow:
    """A plan as it is kept.

    Raises:
        PlanTooLarge: its texts and arrays take more than a row holds.
    """
    by_id = {step.id: run.steps[step.id] for step in run.plan.steps}  # as they were written
    body = _Body(
        version=1,
        budget=run.plan.budget,
        deadline_ms=run.plan.deadline_ms,
        lock_height=run.lock_height,
        steps=tuple(_kept(step) for step in by_id.values()),
        fault=None if run.error is None else _fault_of(run.error),
    )
    raw = encode(body)
    if len(raw) > BODY_BYTES_MAX:
        raise PlanTooLarge(
            f"the plan takes {len(raw)} bytes, at most {BODY_BYTES_MAX} are kept",
            hint="give fewer rows, or run it in parts",
        )
    is_over = run.is_over and not run.owes
    return JobRow(run.id, run.made_ms, is_over, run.state.value, raw)


def run_of(row: JobRow) -> PlanRun:
    """A plan as it was kept; a step that was at work waits again.

    Raises:
        WireError: no row of this version.
        PlanFault: a plan this version would not take.
    """
    body = decode(row.body, _Body, size_max=BODY_BYTES_MAX)
    steps = tuple(_step_of(kept) for kept in body.steps)
    run = PlanRun(row.id, Workplan(steps, body.budget, body.deadline_ms), row.made_ms)
    run.lock_height, run.owes = body.lock_height, not row.is_over
    run.error = None if body.fault is None else _error_of(body.fault)
    run.state = PlanState(row.state)
    for kept in body.steps:
        step = run.steps[kept.id]
        step.jobs = kept.jobs
        step.error = None if kept.fault is None else _error_of(kept.fault)
        if kept.output is not None:
            step.finish(decode_cid(kept.output))
        elif run.is_over:
            step.state = StepState(kept.state)
    if run.is_over:
        run.over.set()
    return run


def _kept(run: StepRun) -> _Step:
    step, work = run.step, run.step.work
    is_infer, is_search = isinstance(work, Infer), isinstance(work, Search)
    return _Step(
        id=step.id,
        kind="search" if is_search else "infer" if is_infer else "embed",
        model=None if isinstance(work, Search) else work.model,
        texts=() if isinstance(work, Search) else work.texts,
        inputs=tuple(_Tensor(t.head, t.data) for t in work.inputs)
        if isinstance(work, Infer)
        else (),
        source="" if isinstance(work, Embed) else work.source,
        renamed=work.renamed if isinstance(work, Infer) else (),
        limit=work.limit if isinstance(work, Search) else 0,
        price_cap=step.price_cap,
        after=step.after,
        state=run.state.value,
        jobs=run.jobs,
        output=None if run.output is None else run.output.raw,
        fault=None if run.error is None else _fault_of(run.error),
    )


def _step_of(kept: _Step) -> Step:
    work: Work
    if kept.kind == "search" or kept.model is None:
        work = Search(kept.source, kept.limit)
    elif kept.kind == "embed":
        work = Embed(kept.model, kept.texts)
    else:
        inputs = tuple(Tensor(each.head, each.data) for each in kept.inputs)
        work = Infer(kept.model, kept.texts, inputs, kept.source, kept.renamed)
    return Step(kept.id, work, kept.price_cap, kept.after)


def _fault_of(error: PrsmError) -> _Fault:
    return _Fault(error.reason, error.what[:2048], error.hint[:2048])


def _error_of(fault: _Fault) -> PrsmError:
    """The same reason, what and hint; the class of an error does not outlive its process."""
    kept = type("KeptError", (LocalError,), {"reason": fault.reason})
    error: PrsmError = kept(fault.what, hint=fault.hint)
    return error
