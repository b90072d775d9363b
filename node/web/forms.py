"""The form of a request that changes something, and the status of a refusal.

Knows: HTTP verbs, content types, typed errors. Must not know: methods, who calls.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

from prsm.node.rpc.errors import CallError, CallTimeout, WrongHttp
from prsm.node.rpc.reasons import entry_for

# JSON-RPC code -> HTTP status, for refusals and for pages whose answer is the result itself.
STATUS_BY_CODE: Final[Mapping[int, int]] = MappingProxyType(
    {
        -32700: 400,
        -32600: 400,
        -32601: 404,
        -32602: 400,
        -32603: 500,
        -32001: 401,
        -32002: 403,
        -32003: 404,
        -32004: 409,
        -32005: 429,
        -32006: 504,
        -32007: 503,
        -32008: 413,
        -32009: 501,
        -32010: 402,
        -32014: 402,
        -32030: 404,
        -32031: 502,
        -32032: 503,
        -32033: 502,
        -32034: 502,
        -32036: 503,
        -32040: 403,
        -32041: 403,
        -32050: 502,
        -32060: 503,
        -32061: 507,
    }
)


class WrongVerb(WrongHttp):
    """Another verb than a page takes; `allow` names those it does."""

    def __init__(self, verb: str, *, allow: str) -> None:
        super().__init__(f"{verb[:16]} is not accepted here, only {allow}", field="method")
        self.allow = allow


def refuse_verb(scope: Scope, *, allow: str) -> None:
    """Let the verbs of a page pass, such as `GET, HEAD`.

    Raises:
        WrongVerb: another one.
    """
    if scope["method"] not in allow.split(", "):
        raise WrongVerb(scope["method"], allow=allow)


def refuse_form(scope: Scope, headers: Headers) -> None:
    """Let POST of application/json pass, which no page of another site can send unasked.

    Raises:
        WrongVerb, WrongHttp: another verb, or content type.
    """
    refuse_verb(scope, allow="POST")
    kinds = headers.getlist("content-type")
    if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
        what = repr(", ".join(kinds)[:80]) if kinds else "absent"
        raise WrongHttp(f"Content-Type is {what}, not application/json", field="content-type")


def status_of(fault: CallError) -> int:
    """The HTTP status of a refusal that came before any method ran."""
    match fault:
        case CallTimeout():  # of the client, which did not send all of its request
            return 408
        case WrongVerb():
            return 405
        case WrongHttp(field="content-type"):
            return 415
        case _:
            return STATUS_BY_CODE.get(entry_for(fault.reason).code, 400)
