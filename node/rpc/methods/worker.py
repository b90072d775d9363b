"""worker_: what this node does for others, what it asks for it, and what it was paid."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    Method,
    NoParams,
    Params,
    Result,
    Scope,
)


class WorkOfferInfo(Result, frozen=True):
    """What peers are offered now; `why` says what keeps new work away."""

    state: Literal["open", "held", "paused", "draining", "drained", "off"]
    why: str
    price: AmountText  # micro-FTNS for a row of one stage
    price_configured: AmountText
    units_max: Count
    units_max_configured: Count
    at_work: Count
    sessions: Count  # generations that are open
    held: Count  # units of others that are not over: open, or not claimed yet
    left_ms: Count  # of a drain, until what is held is closed
    waiting_ms: Count  # work that waits for its turn
    memory_bytes: Count  # a child may take at most
    bond: AmountText  # micro-FTNS this node keeps pledged, as configured
    unpaid_units: Count  # done, and not settled yet
    unpaid: AmountText  # micro-FTNS locked for them, with the parts of others


class SetOfferParams(Params, frozen=True):
    """What is to hold from now on, over config.toml and restarts; what is left out stays."""

    price: Annotated[
        AmountText | None, msgspec.Meta(description="micro-FTNS for a row of one stage")
    ] = None
    units_max: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=512)] | None,
        msgspec.Meta(description="units worked on at once; generations are not counted"),
    ] = None
    as_configured: Annotated[
        bool, msgspec.Meta(description="first forget what was set so; config.toml holds again")
    ] = False


class DrainParams(Params, frozen=True):
    """Until the next start, or `worker_resume`; asked again it can only end sooner."""

    grace_s: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None,
        msgspec.Meta(description="what is held may take so long; else worker.drain_s"),
    ] = None


class EarningsParams(Params, frozen=True):
    """Units from the newest on."""

    days: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=36_500)] | None,
        msgspec.Meta(description="none older; the sums too are of those days alone"),
    ] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    cursor: Annotated[
        str, msgspec.Meta(max_length=64, description="next_cursor of the page before")
    ] = ""


class EarnedUnit(Result, frozen=True):
    """A unit that is over: `wrong` some batch of ours was; `unpaid` no settlement counted it."""

    job_id: Hex32
    unit: Count
    kind: str
    state: Literal["paid", "wrong", "unpaid"]
    model: CidText
    requester: Hex32 | None  # null: its escrow was gone already
    rows: Count
    price_per_row: AmountText
    paid: AmountText  # micro-FTNS, after the parts of others
    wrong_batches: Count
    height: Count
    time: str


class EarnedSums(Result, frozen=True):
    """What units came to, together."""

    units: Count
    rows: Count
    paid: AmountText
    wrong: Count
    unpaid: Count


class WorkerEarnings(Result, frozen=True):
    """A page of units, newest first, and the sums of all of them."""

    items: tuple[EarnedUnit, ...]
    sums: EarnedSums
    next_cursor: str | None


METHODS: Final = (
    Method(
        "worker_getOffer",
        NoParams,
        WorkOfferInfo,
        Scope.READ,
        "What this node does for others now, for how much, and what is not paid yet.",
        words=("worker", "offer"),
    ),
    Method(
        "worker_setOffer",
        SetOfferParams,
        WorkOfferInfo,
        Scope.ADMIN,
        "Ask another price, or take more or less at once; no restart.",
        words=("worker", "set"),
        example=SetOfferParams(price="250"),
    ),
    Method(
        "worker_pause",
        NoParams,
        WorkOfferInfo,
        Scope.ADMIN,
        "Take no new work of others; what is begun is finished. Holds over restarts.",
        words=("worker", "pause"),
    ),
    Method(
        "worker_drain",
        DrainParams,
        WorkOfferInfo,
        Scope.ADMIN,
        "Take no new work of others, tell who has some here, and close what is left after a while.",
        words=("worker", "drain"),
        example=DrainParams(grace_s=60),
    ),
    Method(
        "worker_resume",
        NoParams,
        WorkOfferInfo,
        Scope.ADMIN,
        "Take work of others again, after a pause or a drain.",
        words=("worker", "resume"),
    ),
    Method(
        "worker_getEarnings",
        EarningsParams,
        WorkerEarnings,
        Scope.READ,
        "What each unit done for others came to, and the sums.",
        words=("worker", "earnings"),
        example=EarningsParams(days=7),
    ),
)
