"""The form of a request that changes something, and the status of a refusal.

Knows: HTTP verbs, content types, typed errors. Must not know: methods, who calls.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from prsm.node.rpc.errors import CallError, CallTimeout, CallTooLarge, Unauthorised, WrongHttp


def refuse_form(scope: Scope, headers: Headers) -> None:
    """Let POST of application/json pass, which no page of another site can send unasked.

    Raises:
        WrongHttp: another verb (`field` "method") or content type.
    """
    if scope["method"] != "POST":
        raise WrongHttp(f"{scope['method']} is not accepted here, only POST", field="method")
    kinds = headers.getlist("content-type")
    if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
        what = repr(", ".join(kinds)[:80]) if kinds else "absent"
        raise WrongHttp(f"Content-Type is {what}, not application/json", field="content-type")


def status_of(fault: CallError) -> int:
    """The HTTP status of a refusal that came before any method ran."""
    match fault:
        case Unauthorised():
            return 401
        case CallTooLarge():
            return 413
        case CallTimeout():
            return 408
        case WrongHttp(field="method"):
            return 405
        case WrongHttp():
            return 415
        case _:
            return 400
