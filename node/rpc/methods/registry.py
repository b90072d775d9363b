"""model_ of the registry: search, cards, versions, channels, withdrawn versions."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.methods.evaluations import ScoreInfo
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
from prsm.protocol.limits import INT_MAX, NAME_BYTES_MAX

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,31}(?![\s\S])")]
_Semver = Annotated[str, msgspec.Meta(min_length=5, max_length=32)]
_Key = Annotated[KeyName, msgspec.Meta(description="name of the key that signs")]


class SearchParams(Params, frozen=True):
    """What is looked for, in words, and what it must be."""

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    task: Annotated[
        _Word | None, msgspec.Meta(description="equal, such as sentence-similarity")
    ] = None
    licence: Annotated[str | None, msgspec.Meta(description="equal, an SPDX expression")] = None
    size_max: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)] | None, msgspec.Meta(description="bytes")
    ] = None
    price_max: Annotated[
        AmountText | None, msgspec.Meta(description="micro-FTNS for a row, at most")
    ] = None
    subject: Annotated[
        Literal["model", "dataset"] | None, msgspec.Meta(description="one of both")
    ] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 10


class FoundModel(Result, frozen=True):
    """A name that fits; `score_millionths` is the cosine between question and card."""

    ref: str
    score_millionths: int
    subject: str
    summary: str
    task: str
    licence: str
    size_bytes: Count
    price_per_row: AmountText | None
    cid: CidText
    scores: tuple[ScoreInfo, ...] = ()  # on the ledger


class Found(Result, frozen=True):
    """The nearest first; `unread` names could not be read or not be believed."""

    registered: Count
    indexed: Count
    unread: Count
    backend: str
    items: tuple[FoundModel, ...]


class CardParams(Params, frozen=True):
    """Which model."""

    ref: RefText
    offline: Annotated[bool, msgspec.Meta(description="ask nobody")] = False


class CardInfo(Result, frozen=True):
    """What its publisher says; `checked`: the ledger names that publisher, and it signed."""

    cid: CidText
    checked: bool
    card: dict[str, object]


class VersionsParams(Params, frozen=True):
    """Which name."""

    name: _Name


class Version(Result, frozen=True):
    """A version of a name; `yanked` says why it was withdrawn, empty if it was not."""

    semver: str
    channels: tuple[str, ...]
    yanked: str
    subject: str
    size_bytes: Count
    publisher: Hex32
    height: Count
    cid: CidText


class Versions(Result, frozen=True):
    """All versions of a name, the newest last."""

    name: str
    items: tuple[Version, ...]


class YankParams(Params, frozen=True):
    """Withdraw a version of ours: it stays readable, and nobody chooses it anew."""

    name: _Name
    semver: _Semver
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""
    lift: Annotated[bool, msgspec.Meta(description="take it back")] = False
    key: _Key = "default"


class ChannelParams(Params, frozen=True):
    """Let a channel of our name point to a version, or to none."""

    name: _Name
    channel: _Word
    semver: _Semver | None = None
    key: _Key = "default"


class Sent(Result, frozen=True):
    """A transaction on its way; `queued` says what it waits for, if it does."""

    tx_id: Hex32 | None
    queued: str = ""


METHODS: Final = (
    Method(
        "model_search",
        SearchParams,
        Found,
        Scope.READ,
        "Models and datasets whose cards are nearest to a question.",
        words=("model", "search"),
        positional=("query",),
        deadline_ms=120_000,  # the first one builds the model that reads questions
        example=SearchParams("sentences that mean the same"),
    ),
    Method(
        "model_getCard",
        CardParams,
        CardInfo,
        Scope.READ,
        "What a model's publisher says about it.",
        words=("model", "card"),
        positional=("ref",),
        deadline_ms=30_000,
        example=CardParams("minilm@1.0.0"),
    ),
    Method(
        "model_listVersions",
        VersionsParams,
        Versions,
        Scope.READ,
        "Versions of a name on the ledger, with their channels.",
        words=("model", "versions"),
        positional=("name",),
        example=VersionsParams("minilm"),
    ),
    Method(
        "model_yank",
        YankParams,
        Sent,
        Scope.SIGN,
        "Withdraw a version of ours, or take that back.",
        words=("model", "yank"),
        positional=("name", "semver"),
        example=YankParams("minilm", "1.0.0"),
    ),
    Method(
        "model_setChannel",
        ChannelParams,
        Sent,
        Scope.SIGN,
        "Let a channel of our name point to a version.",
        words=("model", "channel"),
        positional=("name", "channel", "semver"),
        example=ChannelParams("minilm", "stable", "1.0.0"),
    ),
)
