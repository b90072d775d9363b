"""What each method may cost the payment keys of this node, read from its parameters.

Knows: methods, parameters, results. Must not know: tokens, who keeps count. A method that is in
neither table has no price it could be held to: a token with a limit may not call it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from prsm.node.rpc.errors import BadParams
from prsm.node.rpc.methods.wallet import SubmitParams
from prsm.node.rpc.spec import Params

_TRANSACTION_BYTES: Final = 512  # of a transfer, with room
WORK_BYTES: Final = 4_096  # of lock and settlements of a job of a few units
# Kinds of transactions whose whole cost is `amount` and the fee, or the fee alone.
_AMOUNT_KINDS: Final = frozenset(("Transfer", "Hold"))
_FEE_KINDS: Final = frozenset(("Ballot", "Delegate", "Reclaim", "RegisterModel", "SetCard"))


@dataclass(frozen=True, slots=True)
class Fees:
    """What transactions cost today, in micro-FTNS.

    Attributes:
        of_size: of one operation in so many bytes.
        of_wish: of so many bytes that hold what is asked for, with the operations it asks for;
            `PrsmError` where that is no transaction.
    """

    of_size: Callable[[int], int]
    of_wish: Callable[[int, SubmitParams], int]


@dataclass(frozen=True, slots=True)
class Price:
    """How a method spends.

    Attributes:
        asked: micro-FTNS at most, by its parameters; None: they do not say, and `max_price` of
            what is left is put in.
        kind: what is settled later: `job`, `plan`, `generation`; "" if the answer says it all.
        subject: field of the result that names it.
        came_to: what a call that is done came to, for what nobody settles later.
        keeps: a call that failed may have spent: what was reserved counts.
        room_bytes: of transactions of this node that come with it; part of what is reserved, and
            no part of a highest price that is put in.
    """

    asked: Callable[[Any, Fees], int | None]
    kind: str = ""
    subject: str = ""
    came_to: Callable[[Any, int], int] = lambda _result, reserved: reserved
    keeps: bool = False
    room_bytes: int = 0


def with_cap(params: Params, left: int) -> Params:
    """The same parameters with a highest price."""
    return msgspec.structs.replace(params, max_price=str(left))


def _capped(params: Any, fees: Fees) -> int | None:  # noqa: ANN401 - one of several structs
    return None if params.max_price is None else int(params.max_price) + fees.of_size(WORK_BYTES)


def _served(params: Any, _fees: Fees) -> int | None:  # noqa: ANN401 - as above
    return None if params.max_price is None else int(params.max_price)


def _planned(params: Any, fees: Fees) -> int:  # noqa: ANN401 - as above
    return int(params.budget) + fees.of_size(WORK_BYTES) if int(params.budget) else 0


def _generation(params: Any, fees: Fees) -> int | None:  # noqa: ANN401 - as above
    return 0 if params.local else _capped(params, fees)


def _evaluation(params: Any, fees: Fees) -> int | None:  # noqa: ANN401 - as above
    return 0 if params.task is not None else _capped(params, fees)


def _submitted(params: SubmitParams, fees: Fees) -> int:
    size_bytes = _TRANSACTION_BYTES + len(msgspec.json.encode(params.payload))
    if params.kind in _FEE_KINDS:
        return fees.of_wish(size_bytes, params)
    amount = params.payload.get("amount")
    text = str(amount) if isinstance(amount, int | str) else ""
    if params.kind not in _AMOUNT_KINDS or not text.isdecimal():
        raise BadParams(
            f"what a {params.kind[:40]} costs cannot be told beforehand, this token has a limit",
            hint=f"one of {', '.join(sorted(_AMOUNT_KINDS | _FEE_KINDS))}, or another token",
            field="kind",
        )
    return int(text) + fees.of_wish(size_bytes, params)


def _with_fee(amount: Callable[[Any], int]) -> Callable[[Any, int], int]:
    return lambda result, _reserved: amount(result) + int(result.fee)


def _submitted_amount(result: Any, reserved: int) -> int:  # noqa: ANN401 - as above
    del result  # its fee is among what was reserved, and never more
    return reserved


PRICES: Final[Mapping[str, Price]] = {
    "infer_run": Price(_capped, kind="job", subject="job_id", room_bytes=WORK_BYTES),
    "job_retry": Price(_capped, kind="job", subject="job_id", room_bytes=WORK_BYTES),
    "infer_generate": Price(
        _generation, kind="generation", subject="generation_id", room_bytes=WORK_BYTES
    ),
    "job_submit": Price(_planned, kind="plan", subject="plan_id", room_bytes=WORK_BYTES),
    "model_evaluate": Price(_evaluation, keeps=True, room_bytes=WORK_BYTES),
    "model_startEvaluate": Price(_evaluation, room_bytes=WORK_BYTES),
    "serve_run": Price(
        _served, came_to=lambda result, reserved: reserved if result.tabs else 0, keeps=True
    ),
    "wallet_transfer": Price(
        lambda p, fees: int(p.amount) + fees.of_size(_TRANSACTION_BYTES),
        came_to=_with_fee(lambda result: int(result.amount)),
    ),
    "wallet_submit": Price(_submitted, came_to=_submitted_amount),
    "storage_offerDeal": Price(
        lambda p, fees: int(p.price) * p.rounds + fees.of_size(_TRANSACTION_BYTES),
    ),
}
# What writes or signs and spends nothing of this node's keys, or only the fee of a vote.
FREE: Final = frozenset(
    (
        *("job_cancel", "plan_cancel", "infer_plan", "infer_quote", "infer_readTokens"),
        *("infer_endGeneration", "task_cancel", "model_open", "model_pull", "model_startPull"),
        *("model_push", "model_startPush", "model_verify", "model_startVerify", "model_pin"),
        *("model_unpin", "model_remove", "model_shard", "storage_gc", "storage_scrub"),
        *("storage_startScrub", "storage_repair", "storage_setCopies", "serve_close"),
        *("chain_submitTransaction", "net_connect", "wallet_unlock", "wallet_lock"),
        *(
            "wallet_createKey",
            "wallet_importKey",
            "wallet_sign",
            "wallet_verify",
            "wallet_changePassword",
        ),
        *("token_list", "audit_list", "audit_verify", "tenant_list", "node_runDoctor"),
        *("worker_setOffer", "worker_pause", "worker_drain", "worker_resume"),
        *("token_createLogin", "rpc_login", "sub_subscribe", "sub_unsubscribe"),
    )
)
