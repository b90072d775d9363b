"""What a client raises: `RpcError`, and one class below it for each reason of the registry.

`except errors.NotFound` reads better than a comparison of words. The classes are made when they
are first named, so that importing a client does not make two hundred of them.

Knows: the registry. Must not know: how a call travels.
"""

from collections.abc import Mapping
from typing import Final, Self

from prsm.node.rpc.mark import override
from prsm.node.rpc.reasons import REGISTRY, Exit, entry_for
from prsm.protocol.errors import PrsmError


class RpcError(Exception):
    """A call that did not give its result: the node refused, or nobody answered.

    Attributes:
        code: JSON-RPC code.
        reason: stable word; of the class that `errors` makes of it.
        what: what is wrong; `why` and `hint`: why it happens, what to type.
        retryable: whether the same call may succeed later.
        retry_after_ms: how long the node asks to wait; 0 if it does not say.
        data: everything the node said beside the message.
    """

    def __init__(self, code: int, what: str, data: Mapping[str, object]) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.data = dict(data)
        self.reason = str(data.get("reason", "internal"))
        entry = entry_for(self.reason)
        self.why = str(data.get("why", entry.why))
        self.hint = str(data.get("hint", entry.fix))
        self.prsm_code = str(data.get("prsm_code", entry.prsm_code))
        self.trace_id = str(data.get("trace_id", ""))
        self.retryable = bool(data.get("retryable", entry.retryable))
        wait_ms = data.get("retry_after_ms", 0)
        self.retry_after_ms = wait_ms if isinstance(wait_ms, int) else 0
        self.exit_code: Exit = entry.exit_code

    @classmethod
    def of(cls, error: PrsmError) -> Self:
        """The same error, found out on this side of the connection."""
        entry = entry_for(error.reason)
        data: dict[str, object] = {"reason": error.reason}
        if error.hint:
            data["hint"] = error.hint
        return cls(entry.code, error.what, data)

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """How it is made anew in another process, such as that of a pool's caller."""
        return fault_of, (self.code, self.what, self.data)

    @override
    def __str__(self) -> str:
        """What, why and what to type, as the command line shows it."""
        return f"{self.what}\nwhy: {self.why}\ntry: {self.hint}\n{self.prsm_code}"


# The reason whose class stands above all others of its code: `except errors.NotFound` takes
# unknown_job, unknown_session and every other -32003 as well.
_HEADS: Final[Mapping[int, str]] = {
    REGISTRY[reason].code: reason
    for reason in (
        *("internal", "invalid_request", "invalid_params", "unauthorised", "forbidden"),
        *("not_found", "conflict", "rate_limited", "deadline_passed", "not_ready", "too_large"),
        *("unsupported", "escrow_state", "price_exceeded", "worker_failed"),
        *("verification_failed", "peer_unreachable", "store_unavailable"),
    )
}
_MADE: Final[dict[str, type[RpcError]]] = {}


def class_name(reason: str) -> str:
    """`insufficient_funds` -> `InsufficientFunds`."""
    return "".join(word.capitalize() for word in reason.split("_"))


def class_for(reason: str) -> type[RpcError]:
    """The class of a reason; `RpcError` itself for one that only a newer node knows."""
    if reason not in REGISTRY:
        return RpcError
    if reason not in _MADE:
        entry = REGISTRY[reason]
        body = {"__doc__": f"{entry.title.capitalize()}: {entry.why}.", "__module__": _MODULE}
        head = _HEADS.get(entry.code, reason)
        above = RpcError if head == reason else class_for(head)
        _MADE[reason] = type(class_name(reason), (above,), body)
    return _MADE[reason]


def fault_of(code: int, what: str, data: Mapping[str, object]) -> RpcError:
    """The error of an answer, of the class of its reason."""
    return class_for(str(data.get("reason", "internal")))(code, what, data)


def fault_told(reason: str, what: str, *, hint: str = "") -> RpcError:
    """The error of work that failed after its call was answered, as a later answer told it."""
    entry = entry_for(reason)
    data = {"reason": reason, "hint": hint or entry.fix, "retryable": False}
    return fault_of(entry.code, what, {**data, "prsm_code": entry.prsm_code})


def fault_here(error: PrsmError) -> RpcError:
    """The error of this side, of the class of its reason."""
    return class_for(error.reason).of(error)


_MODULE: Final = "prsm.node.rpc.errors_by_reason"
