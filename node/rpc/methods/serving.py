"""serve_ and model_getHealth, model_rollback: warm answers, tabs, how well models are served."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.work import TensorText
from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    KeyName,
    Method,
    Params,
    RefText,
    Result,
    Scope,
)
from prsm.protocol.limits import NAME_BYTES_MAX

_Opinions = Annotated[
    int,
    msgspec.Meta(ge=1, le=3, description="workers asked: 1, or 2, or 3 of which two must agree"),
]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}(?![\s\S])")]
_Semver = Annotated[str, msgspec.Meta(min_length=5, max_length=32)]
_EXAMPLE_ID: Final = "0x" + "00" * 32


class ServeParams(Params, frozen=True):
    """A small request: either texts or tensors, not both."""

    model: RefText
    texts: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=65_536)], ...] | None,
        msgspec.Meta(description="one row a text"),
    ] = None
    inputs: Annotated[tuple[TensorText, ...], msgspec.Meta(max_length=64)] | None = None
    opinions: _Opinions = 1
    max_price: Annotated[
        AmountText | None, msgspec.Meta(description="most micro-FTNS it may cost; refused above")
    ] = None
    tenant: Annotated[
        str, msgspec.Meta(max_length=32, description="for whom; tenants are served in fair turns")
    ] = ""
    fresh: Annotated[bool, msgspec.Meta(description="not from the cache, nor into it")] = False
    wait_ms: Annotated[
        int, msgspec.Meta(ge=1, le=60_000, description="then the request is given up")
    ] = 60_000


class ServedRows(Result, frozen=True):
    """The answer; `tabs` is empty where all came from the cache."""

    model: CidText
    rows: Count
    batches: Count
    cached: Count  # batches that came from the cache
    workers: tuple[Hex32, ...]
    tabs: tuple[Hex32, ...]
    outputs: tuple[TensorText, ...]
    price: AmountText = "0"  # of the answers of now; nothing from the cache
    tokens: Count = 0  # of the texts


class WarmParams(Params, frozen=True):
    """What is to be ready before the first request."""

    model: RefText
    rows: Annotated[int, msgspec.Meta(ge=1, le=32, description="of a usual request")] = 1
    opinions: _Opinions = 1


class Warmed(Result, frozen=True):
    """A tab is being opened."""

    model: CidText


class TabInfo(Result, frozen=True):
    """One lock that stands for many requests."""

    tab_id: Hex32
    model: CidText
    state: Literal["opening", "open", "closing", "settled", "failed"]
    rows: Count  # of a request, at most
    opinions: Count
    slots: Count
    used: Count
    answered: Count
    under_way: Count
    locked: AmountText
    price_per_row: AmountText
    workers: tuple[Hex32, ...]
    lost: tuple[Hex32, ...]
    why: str


class ServingState(Page, frozen=True):
    """Tabs, newest first, and what waits before them."""

    items: tuple[TabInfo, ...]
    at_work: Count
    waiting: Count
    cache_answers: Count
    cache_bytes: Count
    cache_hits: Count
    cache_misses: Count


class TabParams(Params, frozen=True):
    """Which tab."""

    tab_id: Hex32


class HealthParams(Params, frozen=True):
    """Which model; all if none is named."""

    model: RefText | None = None


class ServiceFault(Result, frozen=True):
    """What went wrong, and when."""

    at: str
    reason: str
    what: str


class ServiceHour(Result, frozen=True):
    """What an hour saw."""

    began: str
    done: Count
    failed: Count
    mean_ms: Count


class ServiceHealth(Result, frozen=True):
    """How a worker served a model, as this node saw it since it started."""

    model: CidText
    worker: Hex32
    state: Literal["well", "failing", "left_out"]
    done: Count
    failed: Count
    success_millionths: Count
    rows: Count
    p50_us: Count
    p99_us: Count
    probes_done: Count
    probes_failed: Count
    probed: str | None
    errors: tuple[ServiceFault, ...]  # the newest last
    hours: tuple[ServiceHour, ...]  # the newest last, a week at most


class ModelHealth(Result, frozen=True):
    """All workers that served it, the latest last."""

    items: tuple[ServiceHealth, ...]


class RollbackParams(Params, frozen=True):
    """Let a channel of our name point to its former version; tabs move over."""

    name: _Name
    channel: _Word = "stable"
    to: Annotated[_Semver | None, msgspec.Meta(description="a version; else the one before")] = None
    key: Annotated[KeyName, msgspec.Meta(description="name of the key that signs")] = "default"


class RolledBack(Result, frozen=True):
    """A transaction on its way, and what it changes; `queued`: what it waits for, if it does."""

    tx_id: Hex32 | None
    channel: str
    before: str
    after: str
    queued: str = ""


METHODS: Final = (
    Method(
        "serve_run",
        ServeParams,
        ServedRows,
        Scope.WRITE,
        "Answer a small request from a warm worker.",
        words=("serve", "run"),
        positional=("model",),
        deadline_ms=70_000,
        example=ServeParams("minilm@stable", texts=("a sentence",)),
    ),
    Method(
        "serve_warm",
        WarmParams,
        Warmed,
        Scope.WRITE,
        "Have workers hold a model before the first request.",
        words=("serve", "warm"),
        positional=("model",),
        deadline_ms=30_000,
        example=WarmParams("minilm@stable"),
    ),
    Method(
        "serve_list",
        PageParams,
        ServingState,
        Scope.READ,
        "Tabs of this node, and what waits.",
        words=("serve", "ls"),
        page_by="tab_id",
    ),
    Method(
        "serve_close",
        TabParams,
        TabInfo,
        Scope.WRITE,
        "Close a tab: what was answered is paid, the rest comes back.",
        words=("serve", "close"),
        positional=("tab_id",),
        example=TabParams(_EXAMPLE_ID),
    ),
    Method(
        "model_getHealth",
        HealthParams,
        ModelHealth,
        Scope.READ,
        "How well workers serve a model: successes, times, errors, probes.",
        words=("model", "health"),
        positional=("model",),
        example=HealthParams("minilm@stable"),
    ),
    Method(
        "model_rollback",
        RollbackParams,
        RolledBack,
        Scope.SIGN,
        "Let a channel of ours point to its former version again.",
        words=("model", "rollback"),
        positional=("name",),
        example=RollbackParams("minilm"),
    ),
)
