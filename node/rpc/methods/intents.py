"""storage_ of the outbox: what waits to be put on the ledger, and taking it back."""

from typing import Annotated, Final

import msgspec

from prsm.node.rpc.spec import Count, Hex32, Method, NoParams, Params, Result, Scope

_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=160)]


class IntentRow(Result, frozen=True):
    """Something ordered for the ledger; times are wall clock, `until` empty for no end.

    `waits_for` is empty once it is over, and `how` says then what it ended with, such as `done`.
    """

    key: str
    kind: str
    signer: str
    made: str
    until: str
    tx_id: Hex32 | None  # of the transaction that was signed last
    waits_for: str
    how: str
    ended: str


class Intents(Result, frozen=True):
    """What waits, the oldest first, then what was over last, the newest first."""

    waiting: Count
    validators_linked: Count
    validators: Count
    items: tuple[IntentRow, ...]


class CancelIntentParams(Params, frozen=True):
    """Which one."""

    key: Annotated[_Key, msgspec.Meta(description="as storage_listIntents tells it")]


class CancelledIntent(Result, frozen=True):
    """What was taken back; with a `tx_id` it was sent, and may still come into a block."""

    key: str
    tx_id: Hex32 | None


METHODS: Final = (
    Method(
        "storage_listIntents",
        NoParams,
        Intents,
        Scope.READ,
        "What waits for validators to put it on the ledger.",
        words=("storage", "outbox"),
    ),
    Method(
        "storage_cancelIntent",
        CancelIntentParams,
        CancelledIntent,
        Scope.SIGN,
        "Take back what waits in the outbox.",
        words=("storage", "cancel"),
        positional=("key",),
        example=CancelIntentParams("channel:minilm:stable"),
    ),
)
