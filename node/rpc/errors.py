"""The typed errors of a call, and what a JSON-RPC error carries beside its message.

`reason` comes from the error's class; code, PRSM number, exit code and sentences are looked up in
`reasons`, so that an answer, the exit code of the CLI and `prsm explain` can never differ.

Knows: reasons. Must not know: transports, who raises what.
"""

from typing import overload

from prsm.node.rpc.reasons import entry_for
from prsm.protocol.errors import LocalError, PrsmError


class CallError(LocalError):
    """An error of the call itself; `field` names the parameter if there is one."""

    reason = "invalid_params"

    def __init__(
        self, what: str, *, hint: str = "", field: str = "", retry_after_ms: int = 0
    ) -> None:
        super().__init__(what, hint=hint)
        self.field = field
        self.retry_after_ms = retry_after_ms


class ParseFailed(CallError):
    """The body is no JSON."""

    reason = "parse_failed"


class BadRequest(CallError):
    """JSON, but no JSON-RPC 2.0 call."""

    reason = "invalid_request"


class UnknownMethod(CallError):
    """No method of that name."""

    reason = "unknown_method"


class BadParams(CallError):
    """A parameter is unknown, missing, of another type or out of bounds."""

    reason = "invalid_params"


class Unauthorised(CallError):
    """No token, or none of ours."""

    reason = "unauthorised"


class Forbidden(CallError):
    """The caller is known but lacks the scope, or its page may not call us."""

    reason = "forbidden"


class CallTooLarge(CallError):
    """A body, batch or answer above the limit."""

    reason = "too_large"


class TooMany(CallError):
    """More connections or calls than the node takes at once."""

    reason = "rate_limited"


class CallTimeout(CallError):
    """The method, or the sending of the body, took longer than its deadline."""

    reason = "deadline_passed"


class NotReady(CallError):
    """The node is starting or behind the network."""

    reason = "not_ready"


class WrongHttp(CallError):
    """Not POST, or not application/json."""

    reason = "wrong_http"


class InternalFault(CallError):
    """A fault of ours; the text says where, and nothing of what."""

    reason = "internal"


class NodeUnreachable(LocalError):
    """Nothing answers where the node should be; raised by clients only."""

    reason = "node_unreachable"


class PortTaken(LocalError):
    """Another program listens where the node should; the text names it."""

    reason = "port_taken"


class PublicBind(LocalError):
    """An address others can reach; there is no TLS to protect it."""

    reason = "public_bind"


@overload
def only_leaf(error: Exception) -> Exception: ...
@overload
def only_leaf(error: BaseException) -> BaseException: ...
def only_leaf(error: BaseException) -> BaseException:
    """What a nursery wrapped: the one error inside nested groups, or the group of several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def error_data(error: PrsmError, *, trace_id: str) -> dict[str, object]:
    """The `data` member of a JSON-RPC error, with everything a client needs to react."""
    entry = entry_for(error.reason)
    data: dict[str, object] = {
        "reason": error.reason,
        "prsm_code": entry.prsm_code,
        "why": entry.why,
        "hint": error.hint or entry.fix,
        "retryable": entry.retryable,
        "trace_id": trace_id,
        "docs": f"prsm explain {entry.prsm_code}",
    }
    retry_after_ms = getattr(error, "retry_after_ms", 0)
    if retry_after_ms:
        data["retry_after_ms"] = retry_after_ms
    field = getattr(error, "field", "")
    if field:
        data["field"] = field
    return data
