"""infer_ job_: work asked for and done."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    HexBytes,
    JobIdText,
    Method,
    Params,
    RefText,
    Result,
    Scope,
    WaitMs,
)
from prsm.protocol.limits import TENSOR_RANK_MAX, WORK_STAGES_MAX
from prsm.protocol.messages.pipe import BATCH_ROWS_MAX

_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
_Dtype = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,8}[0-9]{0,2}(?![\s\S])")]
_EXAMPLE_ID: Final = "0x" + "00" * 32


class TensorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor in JSON: little-endian bytes in C order."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    dtype: _Dtype
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=TENSOR_RANK_MAX)]
    data: HexBytes


class RunParams(Params, frozen=True):
    """Run a model over rows: either texts or tensors, not both."""

    model: RefText
    texts: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=65_536)], ...] | None,
        msgspec.Meta(description="one row a text"),
    ] = None
    inputs: Annotated[tuple[TensorText, ...], msgspec.Meta(max_length=64)] | None = None
    stages: _Stages | None = None
    spread: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=64)] | None,
        msgspec.Meta(description="parts of the rows, side by side"),
    ] = None
    stages_here: Annotated[
        int, msgspec.Meta(ge=0, le=31, description="first stages this node computes itself")
    ] = 0
    replicas: Annotated[
        int, msgspec.Meta(ge=1, le=2, description="workers of each part; one more decides")
    ] = 2
    redundancy: Annotated[
        Literal["value", "1-of-1", "2-of-2", "2-of-3", "3-of-4", "3-of-5"] | None,
        msgspec.Meta(description="who must agree, instead of replicas; 1-of-1 is sampled"),
    ] = None
    spares: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=16)] | None,
        msgspec.Meta(description="replacements the escrow pays for"),
    ] = None
    rows_per_batch: Annotated[
        int, msgspec.Meta(ge=1, le=BATCH_ROWS_MAX, description="rows of a micro-batch")
    ] = 4
    window: Annotated[
        int, msgspec.Meta(ge=1, le=64, description="micro-batches in flight at each worker")
    ] = 4
    max_price: Annotated[
        AmountText | None, msgspec.Meta(description="most micro-FTNS to lock; refused above")
    ] = None
    deadline_ms: Annotated[
        int, msgspec.Meta(ge=1_000, le=86_400_000, description="settled or refunded by then")
    ] = 600_000
    wait_ms: WaitMs = 0


class JobWorker(Result, frozen=True):
    """What a peer did for one stage of a job.

    `unused`: named for the stage and not needed; `lost`: `why` says what happened.
    """

    peer_id: str
    account: Hex32
    unit: Count
    stage: Count
    role: Literal["primary", "replica", "third", "fourth", "fifth"]
    batches: Count
    rows: Count
    compute_ms: Count
    verdict: Literal["pending", "agreed", "outvoted", "lost", "unused"]
    why: str
    paid: AmountText
    began_ms: Count | None = None  # first batch asked for, since the job was made
    ended_ms: Count | None = None  # last batch answered


class JobFault(Result, frozen=True):
    """Why a job failed."""

    reason: str
    what: str


class Job(Result, frozen=True):
    """A job of ours from request to payment; what is paid and refunded is what the ledger says."""

    job_id: JobIdText
    model: CidText
    state: Literal["planned", "locked", "running", "settling", "done", "failed"]
    rows: Count
    rows_done: Count
    batches: tuple[tuple[Count, ...], ...]  # rows as given, by micro-batch
    stages: Count
    created: str
    is_over: bool
    deadline: str | None  # once locked: block time of the refund
    locked: AmountText
    paid: AmountText
    refunded: AmountText
    lock_height: Count
    run_ms: Count  # from the lock to the last output; 0 before it
    settled_heights: tuple[Count, ...]
    workers: tuple[JobWorker, ...]
    leases: tuple[Hex32, ...]  # locks of what was leased to other workers
    because: tuple[str, ...]  # why the plan is as it is
    unsettled: tuple[JobFault, ...]  # units this node could not settle; a worker still may
    error: JobFault | None = None


class JobStep(Result, frozen=True):
    """A part of a job: of the job itself, of a unit, or of one worker of a unit.

    `plan`, `lock`, `run`, `settle` without a unit are the job's, one after the other; `home` is
    what this node computed itself; `open` (its shard is loaded), `work` (first batch asked for to
    last answered) and `receipt` are a worker's; `settle` with a unit is that unit's.
    """

    step: Literal["plan", "lock", "run", "home", "open", "work", "receipt", "settle"]
    began_ms: Count  # since the job was made
    ended_ms: Count | None  # null while it lasts, and if the node ended before it did
    unit: Count | None = None
    stage: Count | None = None
    attempt: Count | None = None  # 1 as planned, one more each time others took batches over
    worker: JobWorker | None = None


class JobTrace(Result, frozen=True):
    """When each step of a job began and ended, in the order they began."""

    job_id: JobIdText
    state: Literal["planned", "locked", "running", "settling", "done", "failed"]
    created: str
    is_over: bool
    steps: tuple[JobStep, ...]
    error: JobFault | None = None


class RetryParams(Params, frozen=True):
    """Which job; what it may cost is what the first one might, if nothing else is said."""

    job_id: JobIdText
    max_price: Annotated[
        AmountText | None, msgspec.Meta(description="most micro-FTNS to lock; refused above")
    ] = None
    wait_ms: WaitMs = 0


class JobParams(Params, frozen=True):
    """Which job; with `wait_ms` the answer comes when it ends, or then."""

    job_id: JobIdText
    wait_ms: WaitMs = 0


class JobIdParams(Params, frozen=True):
    """Which job."""

    job_id: JobIdText


class JobProofParams(Params, frozen=True):
    """Which job, and whose validators the reader trusts."""

    job_id: JobIdText
    epoch: Annotated[int, msgspec.Meta(ge=0, description="it begins with this epoch's set")] = 0


class Jobs(Page, frozen=True):
    """Jobs of ours, newest first."""

    items: tuple[Job, ...]


class JobResult(Result, frozen=True):
    """The outputs of a finished job."""

    job_id: JobIdText
    rows: Count
    output_root: Hex32
    outputs: tuple[TensorText, ...]


METHODS: Final = (
    Method(
        "infer_run",
        RunParams,
        Job,
        Scope.WRITE,
        "Run a model over rows on several peers; answers with the job.",
        deadline_ms=90_000,
        example=RunParams("minilm@1.0.0", texts=("a sentence",)),
    ),
    Method(
        "job_get",
        JobParams,
        Job,
        Scope.READ,
        "A job and its workers.",
        words=("job", "show"),
        positional=("job_id",),
        deadline_ms=70_000,
        example=JobParams(_EXAMPLE_ID),
        path="/job",
    ),
    Method(
        "job_list",
        PageParams,
        Jobs,
        Scope.READ,
        "Jobs of ours.",
        words=("job", "ls"),
        page_by="job_id",
        path="/jobs",
    ),
    Method(
        "job_getResult",
        JobIdParams,
        JobResult,
        Scope.READ,
        "The outputs of a finished job.",
        example=JobIdParams(_EXAMPLE_ID),
    ),
    Method(
        "job_cancel",
        JobIdParams,
        Job,
        Scope.WRITE,
        "Stop a job: its workers are told, what is not settled comes back.",
        words=("job", "cancel"),
        positional=("job_id",),
        example=JobIdParams(_EXAMPLE_ID),
    ),
    Method(
        "job_retry",
        RetryParams,
        Job,
        Scope.WRITE,
        "Run what a job that is over was asked for once more; answers with the new job.",
        words=("job", "retry"),
        positional=("job_id",),
        deadline_ms=90_000,
        example=RetryParams(_EXAMPLE_ID),
    ),
    Method(
        "job_getTrace",
        JobIdParams,
        JobTrace,
        Scope.READ,
        "When each step of a job began and ended, by unit, worker and attempt.",
        words=("job", "trace"),
        positional=("job_id",),
        example=JobIdParams(_EXAMPLE_ID),
    ),
    Method(
        "job_getProof",
        JobProofParams,
        dict[str, object],
        Scope.READ,
        "The receipt document of a settled job, for anyone to check.",
        example=JobProofParams(_EXAMPLE_ID),
    ),
)
