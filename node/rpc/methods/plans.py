"""job_submit, plan_: small graphs of work under one escrow."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.work import JobFault, TensorText
from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    JobIdText,
    Method,
    Params,
    RefText,
    Result,
    Scope,
    WaitMs,
)

_EXAMPLE_ID: Final = "0x" + "00" * 32
_StepId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}(?![\s\S])")]
_TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Text = Annotated[str, msgspec.Meta(max_length=65_536)]


class PlanStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step: `embed` texts, `search` the index of cards by vectors, or `infer`.

    `takes` names the step whose output is taken; `renamed` gives its outputs the names of this
    model's inputs. A search needs no model and costs nothing.
    """

    id: _StepId
    kind: Literal["embed", "search", "infer"]
    model: RefText | None = None
    texts: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=4096)] = ()
    inputs: Annotated[tuple[TensorText, ...], msgspec.Meta(max_length=64)] = ()
    takes: _StepId | None = None
    renamed: dict[_TensorName, _TensorName] = msgspec.field(default_factory=dict)
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    max_price: AmountText | None = None
    after: Annotated[tuple[_StepId, ...], msgspec.Meta(max_length=16)] = ()


class SubmitParams(Params, frozen=True):
    """A plan: steps, and what they may cost together."""

    steps: Annotated[tuple[PlanStep, ...], msgspec.Meta(min_length=1, max_length=16)]
    budget: Annotated[
        AmountText, msgspec.Meta(description="micro-FTNS put into escrow for all steps")
    ] = "0"
    deadline_ms: Annotated[
        int, msgspec.Meta(ge=1_000, le=86_400_000, description="done or refunded by then")
    ] = 600_000
    wait_ms: WaitMs = 0


class PlanStepInfo(Result, frozen=True):
    """Where a step stands: the jobs that were run for it, and the CID of its output."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed"]
    needs: tuple[str, ...]
    jobs: tuple[JobIdText, ...]
    output: CidText | None
    error: JobFault | None = None


class Plan(Result, frozen=True):
    """A plan of ours; its id is the name of its escrow too."""

    plan_id: JobIdText
    state: Literal["locking", "running", "done", "failed", "cancelled"]
    is_over: bool
    created: str
    budget: AmountText
    left: AmountText  # of the budget, on the ledger now
    lock_height: Count
    steps: tuple[PlanStepInfo, ...]
    error: JobFault | None = None


class PlanParams(Params, frozen=True):
    """Which plan; with `wait_ms` the answer comes when it ends, or then."""

    plan_id: JobIdText
    wait_ms: WaitMs = 0


class PlanIdParams(Params, frozen=True):
    """Which plan."""

    plan_id: JobIdText


class PlanResultParams(Params, frozen=True):
    """Which plan, and which of its steps; without one, the last."""

    plan_id: JobIdText
    step: Annotated[str, msgspec.Meta(max_length=32)] = ""


class PlanHit(Result, frozen=True):
    """A name near to a row; the score is a cosine."""

    row: Count
    ref: str
    score_millionths: int
    summary: str
    cid: CidText


class PlanResult(Result, frozen=True):
    """The output of a step, read by its CID: hits of a search, tensors of all else."""

    plan_id: JobIdText
    step: str
    output: CidText
    hits: tuple[PlanHit, ...]
    tensors: tuple[TensorText, ...]


class Plans(Page, frozen=True):
    """Plans of ours, newest first."""

    items: tuple[Plan, ...]


METHODS: Final = (
    Method(
        "job_submit",
        SubmitParams,
        Plan,
        Scope.WRITE,
        "Run a plan of several steps under one escrow; answers with the plan.",
        deadline_ms=90_000,
        example=SubmitParams(
            (
                PlanStep("read", "embed", model="minilm@1.0.0", texts=("a sentence",)),
                PlanStep("find", "search", takes="read"),
            ),
            budget="100000",
        ),
    ),
    Method(
        "plan_get",
        PlanParams,
        Plan,
        Scope.READ,
        "A plan and its steps.",
        words=("plan", "show"),
        positional=("plan_id",),
        deadline_ms=70_000,
        example=PlanParams(_EXAMPLE_ID),
    ),
    Method(
        "plan_list",
        PageParams,
        Plans,
        Scope.READ,
        "Plans of ours.",
        words=("plan", "ls"),
        page_by="plan_id",
    ),
    Method(
        "plan_cancel",
        PlanIdParams,
        Plan,
        Scope.WRITE,
        "Stop a plan; outputs of steps that are done stay.",
        words=("plan", "cancel"),
        positional=("plan_id",),
        example=PlanIdParams(_EXAMPLE_ID),
    ),
    Method(
        "plan_getResult",
        PlanResultParams,
        PlanResult,
        Scope.READ,
        "The output of a step, read by its CID.",
        words=("plan", "result"),
        positional=("plan_id", "step"),
        example=PlanResultParams(_EXAMPLE_ID),
    ),
)
