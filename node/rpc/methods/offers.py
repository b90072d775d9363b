"""infer_ model_: what a job would be and cost, before anything is locked."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.work import RunParams
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    Method,
    Params,
    RefText,
    Result,
    Scope,
)
from prsm.protocol.limits import WORK_STAGES_MAX

_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
_Rows = Annotated[int, msgspec.Meta(ge=1, le=1_000_000, description="rows of the job")]


class PlannedUnit(Result, frozen=True):
    """One unit: a stage over a range of micro-batches, and who would do it."""

    stage: Count
    first: Count
    batches: Count
    rows: Count
    needed: Count
    price_per_row: AmountText
    peers: tuple[str, ...]
    accounts: tuple[Hex32, ...]


class ConsideredWay(Result, frozen=True):
    """A layout that was looked at; `why_not` is empty for the one taken."""

    mode: Literal["replicas", "pipeline"]
    stages: Count
    spread: Count
    workers: Count
    amount: AmountText
    estimate_ms: Count | None
    why_not: str


class JobPlan(Result, frozen=True):
    """What a job would be: nothing is locked, nobody is bound.

    `amount`: what the escrow would hold. `fees`: about what the ledger asks beside it, for the
    lock and the settlements.
    `one_machine_ms`: all rows on the best single worker; `plan_ms`: as planned; null where too
    little was measured.
    """

    model: CidText
    mode: Literal["replicas", "pipeline"]
    rows: Count
    batches: Count
    stages: Count
    stages_here: Count
    amount: AmountText
    reserve: AmountText
    spare: AmountText
    one_machine_ms: Count | None
    plan_ms: Count | None
    because: tuple[str, ...]
    units: tuple[PlannedUnit, ...]
    considered: tuple[ConsideredWay, ...]
    fees: AmountText = "0"


class QuoteParams(Params, frozen=True):
    """What a quote is for."""

    model: RefText
    stages: _Stages = 1
    rows: _Rows = 1


class QuoteInfo(Result, frozen=True):
    """A price a worker bound itself to, for this node's account, until that block time."""

    peer_id: str
    account: Hex32
    price_per_row: AmountText
    amount: AmountText  # for all rows of all stages, one opinion
    rows: Count
    valid_until: str


class QuoteList(Result, frozen=True):
    """Quotes, the cheapest first; they are kept and used until they expire."""

    model: CidText
    stages: Count
    items: tuple[QuoteInfo, ...]


class ShardParams(Params, frozen=True):
    """How a model is cut; with `plan`, how its stages would go to the peers of now."""

    ref: RefText
    plan: Annotated[bool, msgspec.Meta(description="ask the peers and plan a job")] = False
    rows: _Rows = 32
    stages: _Stages | None = None
    redundancy: Annotated[
        int, msgspec.Meta(ge=0, le=5, description="workers of each unit; 0: by value")
    ] = 3


class ShardInfo(Result, frozen=True):
    """One stage of a split; `needs_bytes`: memory of the worker that loads it."""

    stages: Count
    stage: Count
    weight_bytes: Count
    weight_flops: Count
    needs_bytes: Count
    boundary: str  # tensor that goes into it


class ShardList(Result, frozen=True):
    """The splits of a model, and the plan that was asked for."""

    model: CidText
    items: tuple[ShardInfo, ...]
    plan: JobPlan | None = None


METHODS: Final = (
    Method(
        "infer_plan",
        RunParams,
        JobPlan,
        Scope.WRITE,
        "What a job would be and cost at most, and why; nothing is locked.",
        deadline_ms=90_000,
        example=RunParams("minilm@1.0.0", texts=("a sentence",)),
    ),
    Method(
        "infer_quote",
        QuoteParams,
        QuoteList,
        Scope.WRITE,
        "Ask the workers for prices they bind themselves to for two minutes.",
        words=("quote",),
        positional=("model",),
        deadline_ms=60_000,
        example=QuoteParams("minilm@1.0.0", rows=32),
    ),
    Method(
        "model_shard",
        ShardParams,
        ShardList,
        Scope.WRITE,
        "How a model is cut into stages, and with --plan who would do them, and why.",
        words=("model", "shard"),
        positional=("ref",),
        deadline_ms=60_000,
        example=ShardParams("minilm@1.0.0"),
    ),
)
