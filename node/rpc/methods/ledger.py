"""chain_: what the ledger asks for a transaction, and the money it holds under conditions."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    Count,
    Hex32,
    HexBytes,
    Method,
    Ordinal,
    Params,
    Result,
    Scope,
)
from prsm.protocol.limits import TRANSACTION_BYTES_MAX

HOLDS_LISTED_MAX: Final = 100
_Bytes = Annotated[HexBytes, msgspec.Meta(max_length=2 + 2 * TRANSACTION_BYTES_MAX)]
_Kind = Annotated[str, msgspec.Meta(max_length=64)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=HOLDS_LISTED_MAX)]
_Document = dict[str, object]
_EXAMPLE: Final = "0x" + "00" * 32


class FeeParams(Params, frozen=True):
    """A whole transaction, signed or not; or a kind such as Transfer and its payload."""

    raw: Annotated[_Bytes | None, msgspec.Meta(description="canonical transaction")] = None
    kind: Annotated[_Kind | None, msgspec.Meta(description="kind such as Transfer")] = None
    payload: Annotated[_Bytes | None, msgspec.Meta(description="canonical payload")] = None


class FeeEstimate(Result, frozen=True):
    """A fee that suffices: base, bytes and operations, each times its price."""

    fee: AmountText
    size_bytes: Count
    operations: Count
    fee_base: AmountText
    fee_per_byte: AmountText
    fee_per_operation: AmountText


class HoldParams(Params, frozen=True):
    """A hold's id."""

    hold: Annotated[Hex32, msgspec.Meta(description="0x and 64 hex digits")]


class HoldsParams(Params, frozen=True):
    """An account, as holder, recipient or fallback."""

    address: Annotated[Hex32, msgspec.Meta(description="address of the account")]
    limit: Annotated[_Limit, msgspec.Meta(description="how many at most")] = HOLDS_LISTED_MAX


class BranchInfo(Result, frozen=True):
    """A way out: `due` is what it would pay at the head's time if its condition is met."""

    to: Hex32
    condition: _Document
    vesting: _Document | None
    due: AmountText


class HoldInfo(Result, frozen=True):
    """Money under conditions; `state` is open while a claim may pay, due when the fallback may."""

    hold: Hex32
    holder: Hex32
    asset: Count
    amount: AmountText
    left: AmountText
    state: Literal["open", "due", "paid", "reclaimed"]
    opened_height: Ordinal
    branches: tuple[BranchInfo, ...]
    fallback: _Document | None
    height: Count
    raw: HexBytes


class Holds(Result, frozen=True):
    """Holds with money in them, oldest first; `more` if the limit left some out."""

    height: Count
    items: tuple[HoldInfo, ...]
    more: bool


METHODS: Final = (
    Method(
        "chain_estimateFee",
        FeeParams,
        FeeEstimate,
        Scope.READ,
        "A fee that suffices for a transaction.",
        words=("chain", "fee"),
        example=FeeParams(kind="Transfer", payload="0x00"),
    ),
    Method(
        "chain_getHold",
        HoldParams,
        HoldInfo,
        Scope.READ,
        "Money under conditions, and what each branch would pay.",
        words=("chain", "hold"),
        positional=("hold",),
        example=HoldParams(_EXAMPLE),
    ),
    Method(
        "chain_getHolds",
        HoldsParams,
        Holds,
        Scope.READ,
        "Holds that name an account.",
        words=("chain", "holds"),
        positional=("address",),
        example=HoldsParams(_EXAMPLE),
    ),
)
