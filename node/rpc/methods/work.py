"""model_ infer_ job_: models held and shared, work asked for and done."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    HexBytes,
    JobIdText,
    Method,
    NoParams,
    Params,
    PathText,
    Result,
    Scope,
    ShortText,
    WaitMs,
)
from prsm.protocol.limits import NAME_BYTES_MAX, TENSOR_RANK_MAX, WORK_STAGES_MAX

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Semver = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(?![\s\S])")]
_Ref = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=256, description="name, name@version or CID"),
]
_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
_Dtype = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,8}[0-9]{0,2}(?![\s\S])")]
_EXAMPLE_ID: Final = "0x" + "00" * 32


class TensorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor in JSON: little-endian bytes in C order."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    dtype: _Dtype
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=TENSOR_RANK_MAX)]
    data: HexBytes


class TensorForm(Result, frozen=True):
    """An input or output of a model: a dimension is a size or the name of a free axis."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class AddParams(Params, frozen=True):
    """Prepare, store and register a model that lies on the node's disk."""

    path: Annotated[PathText, msgspec.Meta(description="ONNX file on the node's machine")]
    name: _Name
    semver: Annotated[_Semver, msgspec.Meta(description="version, such as 1.0.0")] = "1.0.0"
    stages: Annotated[
        tuple[_Stages, ...],
        msgspec.Meta(min_length=1, max_length=8, description="cut into so many parts"),
    ] = (1,)
    tokenizer: Annotated[
        PathText | None, msgspec.Meta(description="tokenizer.json, if it reads text")
    ] = None
    licence: Annotated[ShortText, msgspec.Meta(description="SPDX name")] = "NOASSERTION"
    register: Annotated[bool, msgspec.Meta(description="name it on the ledger")] = True


class ModelInfo(Result, frozen=True):
    """A model this node knows: held here, on the ledger, or both."""

    ref: str
    cid: CidText
    name: str
    semver: str
    size_bytes: Count
    held_bytes: Count
    local: bool
    registered: bool
    stages: tuple[int, ...]
    publisher: Hex32
    tx_id: Hex32 | None = None


class Models(Result, frozen=True):
    """All models this node knows."""

    items: tuple[ModelInfo, ...]


class ModelDetail(Result, frozen=True):
    """A model's manifest, readable."""

    model: ModelInfo
    kind: str
    licence: str
    created: str
    runtime: str
    pinned_sha256: Hex32
    tokenizer: bool
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    files: tuple[dict[str, object], ...]
    parents: tuple[CidText, ...]


class RefParams(Params, frozen=True):
    """Which model."""

    ref: _Ref


class RunParams(Params, frozen=True):
    """Run a model over rows: either texts or tensors, not both."""

    model: _Ref
    texts: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=65_536)], ...] | None,
        msgspec.Meta(description="one row a text"),
    ] = None
    inputs: Annotated[tuple[TensorText, ...], msgspec.Meta(max_length=64)] | None = None
    stages: _Stages | None = None
    replicas: Annotated[
        int, msgspec.Meta(ge=1, le=2, description="workers of each part; one more decides")
    ] = 2
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
    stage: Count
    role: Literal["primary", "replica", "third"]
    batches: Count
    rows: Count
    compute_ms: Count
    verdict: Literal["pending", "agreed", "outvoted", "lost", "unused"]
    why: str
    paid: AmountText


class JobFault(Result, frozen=True):
    """Why a job failed."""

    reason: str
    what: str


class Job(Result, frozen=True):
    """A job of ours from request to payment; amounts are those of the ledger's verdicts."""

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
    settled_heights: tuple[Count, ...]
    workers: tuple[JobWorker, ...]
    unsettled: tuple[JobFault, ...]  # stages this node could not settle; a worker still may
    error: JobFault | None = None


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


class Jobs(Result, frozen=True):
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
        "model_add",
        AddParams,
        ModelInfo,
        # It reads any path the node may read, so a token for writes is not enough.
        Scope.ADMIN,
        "Prepare, store and register a model.",
        words=("model", "add"),
        positional=("path",),
        deadline_ms=600_000,
        example=AddParams("/models/minilm.onnx", "minilm"),
    ),
    Method(
        "model_list",
        NoParams,
        Models,
        Scope.READ,
        "Models held here or named on the ledger.",
        words=("model", "ls"),
    ),
    Method(
        "model_get",
        RefParams,
        ModelDetail,
        Scope.READ,
        "A model's manifest.",
        words=("model", "show"),
        positional=("ref",),
        example=RefParams("minilm@1.0.0"),
    ),
    Method(
        "model_pull",
        RefParams,
        ModelInfo,
        Scope.WRITE,
        "Fetch a model from peers, every block checked.",
        words=("model", "pull"),
        positional=("ref",),
        deadline_ms=600_000,
        example=RefParams("minilm@1.0.0"),
    ),
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
    ),
    Method("job_list", NoParams, Jobs, Scope.READ, "Jobs of ours.", words=("job", "ls")),
    Method(
        "job_getResult",
        JobIdParams,
        JobResult,
        Scope.READ,
        "The outputs of a finished job.",
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
