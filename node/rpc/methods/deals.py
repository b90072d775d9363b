"""storage_ of deals: files somebody is paid to keep, and proves round by round that he does."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    Method,
    Params,
    Result,
    Scope,
)

_EXAMPLE: Final = "0x" + "00" * 32
_EXAMPLE_CID: Final = "bafybeidhwvalnure6oiymx5auydpueikvveez6pbowbo6sjrbhdaw3ywmi"


class DealInfo(Result, frozen=True):
    """A deal; `why` says what stood in the way of this node's last answer."""

    deal: Hex32
    status: Literal["offered", "active", "ended", "broken", "withdrawn"]
    cid: CidText
    size_bytes: Count
    client: Hex32
    holder: Hex32
    price: AmountText  # micro-FTNS for each proven round
    rounds: Count
    proven: Count
    missed: Count
    paid: AmountText
    slashed: AmountText
    locked: AmountText
    collateral: AmountText
    is_holder: bool
    is_client: bool
    why: str


class Deals(Result, frozen=True):
    """Deals of the ledger."""

    items: tuple[DealInfo, ...]


class DealsParams(Params, frozen=True):
    """Whose deals."""

    mine: Annotated[bool, msgspec.Meta(description="only those of this node's account")] = True


class OfferParams(Params, frozen=True):
    """Offer somebody money for keeping a file of ours."""

    cid: Annotated[CidText, msgspec.Meta(description="of a file in this node's store")]
    holder: Annotated[Hex32, msgspec.Meta(description="account that is to keep it")]
    price: Annotated[AmountText, msgspec.Meta(description="micro-FTNS for each proven round")]
    rounds: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    collateral: Annotated[
        AmountText | None, msgspec.Meta(description="micro-FTNS the holder locks; least if absent")
    ] = None


class DealParams(Params, frozen=True):
    """Which deal."""

    deal: Hex32


class Offered(Result, frozen=True):
    """An offer on its way to the ledger."""

    deal: Hex32
    tx_id: Hex32


class DealSent(Result, frozen=True):
    """A transaction about a deal, on its way; `queued` says what it waits for, if it does."""

    tx_id: Hex32 | None
    queued: str = ""


METHODS: Final = (
    Method(
        "storage_listDeals",
        DealsParams,
        Deals,
        Scope.READ,
        "Files somebody is paid to keep.",
        words=("storage", "deals"),
    ),
    Method(
        "storage_offerDeal",
        OfferParams,
        Offered,
        Scope.SIGN,
        "Offer an account money for keeping a file; price times rounds is locked.",
        words=("storage", "offer"),
        positional=("cid", "holder"),
        deadline_ms=120_000,
        example=OfferParams(_EXAMPLE_CID, _EXAMPLE, "10", 10),
    ),
    Method(
        "storage_acceptDeal",
        DealParams,
        DealSent,
        Scope.SIGN,
        "Take an offer for a file that is here; the collateral is locked.",
        words=("storage", "accept"),
        positional=("deal",),
        deadline_ms=120_000,
        example=DealParams(_EXAMPLE),
    ),
    Method(
        "storage_releaseDeal",
        DealParams,
        DealSent,
        Scope.SIGN,
        "Settle a deal that is over, or withdraw an offer of ours.",
        words=("storage", "release"),
        positional=("deal",),
        example=DealParams(_EXAMPLE),
    ),
)
