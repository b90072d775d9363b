"""Errors in the form of the OpenAI API, with the HTTP status its clients act on.

Knows: typed errors, the registry. Must not know: routes, who raises what.
`x-should-retry` is said outright: a client that sends work twice pays twice.
Source: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from prsm.node.rpc.errors import CallError, error_data
from prsm.node.rpc.reasons import entry_for
from prsm.node.web.forms import STATUS_BY_CODE, WrongVerb
from prsm.protocol.errors import PrsmError

# -32009 here is a parameter this node does not know; all else that has no status of its own is a
# fault of the request too.
_STATUS: Final[Mapping[int, int]] = {**STATUS_BY_CODE, -32009: 400}
_BY_REASON: Final[Mapping[str, int]] = {"wrong_http": 415}
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "insufficient_funds",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_AGAIN: Final = frozenset((429, 503))


class ParameterUnsupported(CallError):
    """A parameter of the API that this node would not do as it says."""

    reason = "parameter_unsupported"


class NoEmbedding(CallError):
    """The model's output is no vector for each text."""

    reason = "no_embedding"


def status_of(error: PrsmError) -> int:
    """HTTP status of an error."""
    if isinstance(error, WrongVerb):
        return 405
    return _BY_REASON.get(error.reason) or _STATUS.get(entry_for(error.reason).code, 400)


def headers_of(error: PrsmError) -> dict[str, str]:
    """Headers that tell a client whether to ask again, and when."""
    entry = entry_for(error.reason)
    again = entry.retryable and status_of(error) in _AGAIN
    headers = {"x-should-retry": "true" if again else "false"}
    wait_ms = int(getattr(error, "retry_after_ms", 0))
    if again and wait_ms:
        headers |= {"retry-after-ms": str(wait_ms), "retry-after": str(-(-wait_ms // 1000))}
    return headers


def fault_body(error: PrsmError, *, trace_id: str) -> bytes:
    """`{"error": {message, type, param, code, …}}`; code is our stable word."""
    data = error_data(error, trace_id=trace_id)
    status = status_of(error)
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {
            "error": {
                "message": f"{error.what} ({data['hint']})",
                "type": kind,
                "param": data.pop("field", None),
                "code": error.reason,
                **data,
            }
        }
    )
