"""model_: models added, fetched, checked, kept, given up."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.evaluations import ScoreInfo
from prsm.node.rpc.methods.tasks import TaskInfo
from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    CidText,
    Count,
    Hex32,
    KeyName,
    Method,
    Params,
    PathText,
    RefText,
    Result,
    Scope,
    ShortText,
    TaskIdText,
)
from prsm.protocol.limits import MANIFEST_KEYS_MAX, NAME_BYTES_MAX, WORK_STAGES_MAX

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Semver = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}(?![\s\S])")]
_Stages = Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
_Key = Annotated[str, msgspec.Meta(min_length=40, max_length=66)]
_Offline = Annotated[bool, msgspec.Meta(description="ask nobody: only what this node has")]
_Joined = Annotated[
    TaskIdText | None, msgspec.Meta(description="answer with the result of this task")
]


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
    chat_template: Annotated[
        tuple[PathText, ...],
        msgspec.Meta(max_length=2, description="chat_template.jinja, tokenizer_config.json"),
    ] = ()
    weights: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=255)], ...],
        msgspec.Meta(
            max_length=64,
            description="files beside it that its weights lie in, if their names do not begin "
            "as its own; * matches anything",
        ),
    ] = ()
    licence: Annotated[ShortText, msgspec.Meta(description="SPDX name")] = "NOASSERTION"
    register: Annotated[bool, msgspec.Meta(description="name it on the ledger")] = True
    card: Annotated[
        PathText | None, msgspec.Meta(description="JSON file with summary and task, signed by us")
    ] = None
    encrypt_to: Annotated[
        tuple[_Key, ...],
        msgspec.Meta(
            max_length=MANIFEST_KEYS_MAX - 1,
            description="publish cipher text these may read: peer id, or 0x and an Ed25519 key",
        ),
    ] = ()
    task: _Joined = None


class ModelInfo(Result, frozen=True):
    """A model this node knows: held here, on the ledger, or both.

    `state`: `held` whole, `shared` whole in an extra store, `partial`, `absent`, or `offline`: not
    whole here and this node asks nobody. `stale`: what the ledger says may have changed, since
    this node is offline or behind.
    """

    ref: str
    cid: CidText
    name: str
    semver: str
    size_bytes: Count
    held_bytes: Count
    state: Literal["held", "shared", "partial", "absent", "offline"]
    stale: bool
    local: bool
    registered: bool
    sealed: bool
    pins: tuple[str, ...]
    stages: tuple[int, ...]
    publisher: Hex32
    tx_id: Hex32 | None = None
    created: str = ""  # by its publisher's clock
    queued: str = ""  # what its name waits for, if it was ordered and is in no block yet


class Models(Page, frozen=True):
    """All models this node knows."""

    items: tuple[ModelInfo, ...]


class ModelDetail(Result, frozen=True):
    """A model's manifest, readable; `sealed_for` are key ids of who can read it, if not all."""

    model: ModelInfo
    kind: str
    licence: str
    created: str
    runtime: str
    pinned_sha256: Hex32
    tokenizer: bool
    signed: bool
    sealed_for: tuple[str, ...]
    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    files: tuple[dict[str, object], ...]
    parents: tuple[CidText, ...]
    scores: tuple[ScoreInfo, ...]  # on the ledger


class RefParams(Params, frozen=True):
    """Which model."""

    ref: RefText
    offline: _Offline = False


class LongParams(Params, frozen=True):
    """Which model, or which task of it."""

    ref: RefText
    offline: _Offline = False
    task: _Joined = None


class OpenedFile(Result, frozen=True):
    """A file of a model, and where its plain bytes lie on the node's disk."""

    path: str
    file: str
    size_bytes: Count


class Opened(Result, frozen=True):
    """Where the files of a model lie, read-only; a sealed one is decrypted for this node alone."""

    cid: CidText
    items: tuple[OpenedFile, ...]


class CheckedFile(Result, frozen=True):
    """What hashing every leaf of a file said."""

    path: str
    cid: CidText
    size_bytes: Count
    ok: bool
    fault: str


class Verified(Result, frozen=True):
    """What hashing every leaf of a model said."""

    cid: CidText
    ok: bool
    checked_bytes: Count
    items: tuple[CheckedFile, ...]


class PushedTo(Result, frozen=True):
    """What a daemon was handed; `fault` is empty if it took everything."""

    to: str
    ok: bool
    sent_bytes: Count
    fault: str


class Pushed(Result, frozen=True):
    """A model that was handed to IPFS daemons."""

    cid: CidText
    ok: bool
    items: tuple[PushedTo, ...]


class ShareParams(Params, frozen=True):
    """Publish a sealed model for other readers, as another version; no file is sealed anew."""

    ref: RefText
    semver: Annotated[_Semver, msgspec.Meta(description="of the new version")]
    add: Annotated[
        tuple[_Key, ...], msgspec.Meta(max_length=64, description="may read it: peer id or key")
    ] = ()
    remove: Annotated[
        tuple[_Key, ...], msgspec.Meta(max_length=64, description="may not read new versions")
    ] = ()
    register: Annotated[bool, msgspec.Meta(description="name it on the ledger")] = True


class PinParams(Params, frozen=True):
    """Keep a model, here or not yet, under a name."""

    ref: RefText
    name: Annotated[KeyName, msgspec.Meta(description="what the pin is called")] = "user"


class Pinned(Result, frozen=True):
    """A pin: `held`, `fetching` by a task, `waiting` for somebody who has it, or `failed`."""

    cid: CidText
    name: str
    state: Literal["held", "fetching", "waiting", "failed"]
    task_id: TaskIdText | None = None


class Unpinned(Result, frozen=True):
    """A pin that was given up, and those that are left."""

    cid: CidText
    name: str
    left: tuple[str, ...]


class Removed(Result, frozen=True):
    """What is gone from this node; files that other models share stay."""

    cid: CidText
    files: Count
    freed_bytes: Count
    shared: Count


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
        "model_startAdd",
        AddParams,
        TaskInfo,
        Scope.ADMIN,
        "As model_add, but answers with the task at once.",
        example=AddParams("/models/minilm.onnx", "minilm"),
    ),
    Method(
        "model_list",
        PageParams,
        Models,
        Scope.READ,
        "Models held here or named on the ledger.",
        words=("model", "ls"),
        page_by="cid",
        path="/models",
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
        "model_open",
        RefParams,
        Opened,
        Scope.WRITE,
        "Where a model's files lie; fetched, and decrypted for this node, when they are not there.",
        words=("model", "open"),
        positional=("ref",),
        deadline_ms=600_000,
        example=RefParams("minilm@1.0.0"),
    ),
    Method(
        "model_pull",
        LongParams,
        ModelInfo,
        Scope.WRITE,
        "Fetch a model from peers, every block checked.",
        words=("model", "pull"),
        positional=("ref",),
        deadline_ms=600_000,
        example=LongParams("minilm@1.0.0"),
    ),
    Method(
        "model_startPull",
        RefParams,
        TaskInfo,
        Scope.WRITE,
        "As model_pull, but answers with the task at once.",
        example=RefParams("minilm@1.0.0"),
    ),
    Method(
        "model_share",
        ShareParams,
        ModelInfo,
        Scope.SIGN,
        "Publish a sealed model for other readers, as another version.",
        words=("model", "share"),
        positional=("ref", "semver"),
        deadline_ms=90_000,
        example=ShareParams("minilm@1.0.0", "1.0.1"),
    ),
    Method(
        "model_push",
        LongParams,
        Pushed,
        Scope.WRITE,
        "Hand a model to the IPFS daemons of storage.ipfs_rpc, under the same CIDs.",
        words=("model", "push"),
        positional=("ref",),
        deadline_ms=600_000,
        example=LongParams("minilm@1.0.0"),
    ),
    Method(
        "model_startPush",
        RefParams,
        TaskInfo,
        Scope.WRITE,
        "As model_push, but answers with the task at once.",
        example=RefParams("minilm@1.0.0"),
    ),
    Method(
        "model_verify",
        LongParams,
        Verified,
        Scope.WRITE,
        "Hash every leaf of a model that is here.",
        words=("model", "verify"),
        positional=("ref",),
        deadline_ms=600_000,
        example=LongParams("minilm@1.0.0"),
    ),
    Method(
        "model_startVerify",
        RefParams,
        TaskInfo,
        Scope.WRITE,
        "As model_verify, but answers with the task at once.",
        example=RefParams("minilm@1.0.0"),
    ),
    Method(
        "model_pin",
        PinParams,
        Pinned,
        Scope.WRITE,
        "Keep a model, and fetch it if it is not here; answers at once.",
        words=("model", "pin"),
        positional=("ref",),
        example=PinParams("minilm@1.0.0"),
    ),
    Method(
        "model_unpin",
        PinParams,
        Unpinned,
        Scope.WRITE,
        "Give a pin up; the files stay until their room is needed.",
        words=("model", "unpin"),
        positional=("ref",),
        example=PinParams("minilm@1.0.0"),
    ),
    Method(
        "model_remove",
        RefParams,
        Removed,
        Scope.WRITE,
        "Delete a model's files here; the ledger and other nodes keep it.",
        words=("model", "rm"),
        positional=("ref",),
        example=RefParams("minilm@1.0.0"),
    ),
)
