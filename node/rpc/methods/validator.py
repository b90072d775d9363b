"""validator_: a bond, and how it becomes weight in the sets of epochs to come."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    Count,
    Hex32,
    Method,
    NoParams,
    Params,
    PeerIdText,
    Result,
    Scope,
)

_EXAMPLE: Final = "1000000000"


class OperatorParams(Params, frozen=True):
    """An operator; that of this home if left out."""

    operator: Annotated[
        Hex32 | None, msgspec.Meta(description="the operator; this home's if left out")
    ] = None


class StakeParams(Params, frozen=True):
    """What the validator shall weigh."""

    stake: Annotated[AmountText, msgspec.Meta(description="micro-FTNS it shall weigh")]


class LeavingInfo(Result, frozen=True):
    """Money on its way out of a bond; `withdrawable` once that time is a block's."""

    amount: AmountText
    withdrawable: str


BondWord = Literal["none", "waiting", "validator", "leaving", "gone", "convicted"]


class Bond(Result, frozen=True):
    """An operator's bond: what it holds, wants and weighs.

    `state`: none (never bonded), waiting (for a place or for weight), validator, leaving,
    gone (weighs nothing), convicted (never again).
    """

    operator: Hex32
    state: BondWord
    stake: AmountText
    target: AmountText
    weight: AmountText
    weight_next: AmountText
    consensus: Hex32 | None
    consensus_next: Hex32 | None
    peer_id: PeerIdText | None
    leaving: tuple[LeavingInfo, ...]
    epoch: Count
    height: Count


class Ordered(Result, frozen=True):
    """A change on its way; it acts with the set of `acts_in_epoch`, not before."""

    tx_id: Hex32
    operator: Hex32
    fee: AmountText
    consensus: Hex32 | None
    acts_in_epoch: Count


METHODS: Final = (
    Method(
        "validator_get",
        OperatorParams,
        Bond,
        Scope.READ,
        "An operator's bond, weight and money on its way out.",
        words=("validator", "show"),
        positional=("operator",),
    ),
    Method(
        "validator_join",
        StakeParams,
        Ordered,
        Scope.SIGN,
        "Bond a stake and ask for a place in the set.",
        example=StakeParams(_EXAMPLE),
    ),
    Method(
        "validator_setStake",
        StakeParams,
        Ordered,
        Scope.SIGN,
        "Weigh more or less.",
        example=StakeParams(_EXAMPLE),
    ),
    Method(
        "validator_rotate",
        NoParams,
        Ordered,
        Scope.SIGN,
        "Make a new consensus key and sign with it from its epoch on.",
        words=("validator", "rotate"),
    ),
    Method(
        "validator_leave",
        NoParams,
        Ordered,
        Scope.SIGN,
        "Ask to weigh nothing.",
    ),
    Method(
        "validator_withdraw",
        NoParams,
        Ordered,
        Scope.SIGN,
        "Take out what has left the bond for long enough.",
        words=("validator", "withdraw"),
    ),
)
