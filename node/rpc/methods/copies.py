"""storage_ of copies: how many there are of each model, and this node's part in mending it."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.spec import (
    CidText,
    Count,
    Method,
    NoParams,
    Params,
    PeerIdText,
    RefText,
    Result,
    Scope,
)
from prsm.protocol.limits import COPIES_MAX


class CopiesOf(Result, frozen=True):
    """Where a model stands; `assigned` should fetch what is missing.

    `short_ms`: for how long copies have been missing, null if none are; `why`: what the last try
    of this node ended with.
    """

    ref: str
    cid: CidText
    copies: Count
    holders: tuple[PeerIdText, ...]
    assigned: tuple[PeerIdText, ...]
    short_ms: Count | None
    here: bool
    fetching: bool
    why: str


class AllCopies(Result, frozen=True):
    """All models the network vouches for."""

    items: tuple[CopiesOf, ...]


class CopyParams(Params, frozen=True):
    """Which model."""

    ref: RefText


class WantParams(Params, frozen=True):
    """How many copies of a model that is here there should be."""

    ref: RefText
    copies: Annotated[int, msgspec.Meta(ge=0, le=COPIES_MAX, description="0: the usual number")]


METHODS: Final = (
    Method(
        "storage_getCopies",
        NoParams,
        AllCopies,
        Scope.READ,
        "How many copies of each model live nodes hold.",
        words=("storage", "copies"),
    ),
    Method(
        "storage_repair",
        CopyParams,
        AllCopies,
        Scope.WRITE,
        "Bring a copy of a model here now, whoever's turn it is.",
        words=("storage", "repair"),
        positional=("ref",),
        deadline_ms=600_000,
        example=CopyParams("minilm@1.0.0"),
    ),
    Method(
        "storage_setCopies",
        WantParams,
        AllCopies,
        Scope.WRITE,
        "Want more or fewer copies of a model that is here.",
        words=("storage", "want"),
        positional=("ref", "copies"),
        example=WantParams("minilm@1.0.0", 3),
    ),
)
