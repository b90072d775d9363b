"""account_ wallet_: balances of anyone, keys of this home."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    AmountText,
    Count,
    Hex32,
    HexBytes,
    KeyName,
    Method,
    Params,
    Result,
    Scope,
    ShortText,
)
from prsm.protocol.limits import HOLD_BRANCHES_MAX

# Never an empty one: a typing slip must not make an open key.
_Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_EXAMPLE_ADDRESS: Final = "0x" + "00" * 32


class AccountParams(Params, frozen=True):
    """An account; our own wallet if left out."""

    address: Annotated[Hex32 | None, msgspec.Meta(description="the account; ours if left out")] = (
        None
    )
    min_height: Annotated[Count, msgspec.Meta(description="wait until this block is here")] = 0


class Balance(Result, frozen=True):
    """Micro-FTNS of an account, and at which height."""

    address: Hex32
    balance: AmountText
    bonded: AmountText
    nonce: Count
    height: Count


class Nonce(Result, frozen=True):
    """The next nonce: committed, and behind what waits here."""

    address: Hex32
    nonce: Count
    pending: Count
    height: Count


class Standing(Result, frozen=True):
    """A worker's pledge and record; `audit_bps` of ten thousand units of it are drawn today.

    That is the rate of its smallest units: of dearer ones it must have been paid in proportion.
    Work of one node alone holds part of the pledge until it is settled. `auditor_since` is the
    height since which the account may be drawn as an auditor.
    """

    address: Hex32
    pledged: AmountText
    held: AmountText
    auditor_since: Count | None
    settled: Count
    faults: Count
    clean: Count
    audit_bps: Count
    height: Count


class KeyInfo(Result, frozen=True):
    """A payment key of this home."""

    name: KeyName
    address: Hex32
    unlocked: bool


class Keys(Page, frozen=True):
    """All payment keys of this home."""

    items: tuple[KeyInfo, ...]


class CreateKeyParams(Params, frozen=True):
    """A new payment key, encrypted under a password."""

    name: KeyName
    password: _Password


class UnlockParams(Params, frozen=True):
    """Open a key for a while."""

    password: _Password
    name: KeyName = "default"
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300


class Unlocked(Result, frozen=True):
    """Which key is open, and until when."""

    name: KeyName
    address: Hex32
    until: str


class TransferParams(Params, frozen=True):
    """Pay micro-FTNS from a key of this home."""

    to: Hex32
    amount: AmountText
    name: KeyName = "default"


class Transferred(Result, frozen=True):
    """A transfer on its way."""

    tx_id: Hex32
    sender: Hex32
    to: Hex32
    amount: AmountText
    fee: AmountText
    nonce: Count


class SubmitParams(Params, frozen=True):
    """Any transaction of a key of this home: its kind, and its payload as a document."""

    kind: Annotated[ShortText, msgspec.Meta(description="kind such as Hold or Stake")]
    payload: Annotated[dict[str, object], msgspec.Meta(description="its fields by name")]
    name: KeyName = "default"


class Submitted(Result, frozen=True):
    """A transaction on its way; `hold` is the id of a hold it opens."""

    tx_id: Hex32
    kind: str
    sender: Hex32
    fee: AmountText
    nonce: Count
    hold: Hex32 | None


class ApproveParams(Params, frozen=True):
    """A branch of a hold that a key of this home consents to."""

    hold: Hex32
    branch: Annotated[int, msgspec.Meta(ge=0, le=HOLD_BRANCHES_MAX - 1)] = 0
    name: KeyName = "default"


class Approved(Result, frozen=True):
    """A consent, as an element of `approvals` of a Claim; it stands until the hold is empty."""

    key: Hex32
    signature: HexBytes


METHODS: Final = (
    Method(
        "account_getBalance",
        AccountParams,
        Balance,
        Scope.READ,
        "Micro-FTNS of an account.",
        words=("wallet", "balance"),
        positional=("address",),
    ),
    Method("account_getNonce", AccountParams, Nonce, Scope.READ, "The next nonce of an account."),
    Method(
        "account_getStanding",
        AccountParams,
        Standing,
        Scope.READ,
        "What an account has pledged for its work, and how that work was.",
        words=("wallet", "standing"),
        positional=("address",),
    ),
    Method(
        "wallet_listKeys",
        PageParams,
        Keys,
        Scope.READ,
        "Payment keys of this home.",
        words=("wallet", "ls"),
        page_by="name",
    ),
    Method(
        "wallet_createKey",
        CreateKeyParams,
        KeyInfo,
        Scope.SIGN,
        "Make a payment key.",
        deadline_ms=30_000,
        example=CreateKeyParams("spare", "correct horse"),
    ),
    Method(
        "wallet_unlock",
        UnlockParams,
        Unlocked,
        Scope.SIGN,
        "Open a payment key for a while.",
        deadline_ms=30_000,
        example=UnlockParams("correct horse"),
    ),
    Method(
        "wallet_transfer",
        TransferParams,
        Transferred,
        Scope.SIGN,
        "Pay micro-FTNS to an account.",
        example=TransferParams(_EXAMPLE_ADDRESS, "1"),
    ),
    Method(
        "wallet_submit",
        SubmitParams,
        Submitted,
        Scope.SIGN,
        "Sign and send a transaction of any kind.",
        example=SubmitParams("Reclaim", {"hold": _EXAMPLE_ADDRESS}),
    ),
    Method(
        "wallet_approve",
        ApproveParams,
        Approved,
        Scope.SIGN,
        "Consent to a branch of a hold.",
        words=("wallet", "approve"),
        positional=("hold",),
        example=ApproveParams(_EXAMPLE_ADDRESS),
    ),
)
