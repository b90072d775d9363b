"""The form of every request, whatever its route: what has no honest use is refused.

A secret in an address stays in logs and histories; two headers where one counts are read one way
by a proxy and another way here. Source: docs/spec/rpc.md, "Doors".

Knows: ASGI, headers, addresses. Must not know: routes, methods, tokens.
"""

import ipaddress
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from prsm.node.rpc.errors import BadRequest, CallError, Forbidden
from prsm.node.web.answers import answer_refusal
from prsm.node.web.auth import Gate
from prsm.node.web.forms import WrongVerb

HEADERS_MAX: Final = 100
TARGET_BYTES_MAX: Final = 4_096
_VERBS: Final = frozenset({"GET", "HEAD", "POST"})
_SINGLE: Final = (
    *("host", "origin", "authorization", "content-type", "content-length", "content-digest"),
    *("signature", "signature-input", "sec-websocket-key", "sec-fetch-site"),
)
_SECRET_QUERY: Final = re.compile(r"(?i)(^|&)(access_)?(token|password|passwd|secret)=")
_ODD_PATH: Final = re.compile(rb"(?i)(^|/)\.{1,2}(/|$)|%2e|%2f|%5c|%00|\\|//|[^!-~]")


class OnlyPlain:
    """ASGI middleware for `http` and `websocket`.

    Args:
        app: what is behind it.
        gate: says whether a header carries the cookie, which is for this machine alone.
    """

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with a JSON-RPC body."""
        fault = odd(scope) or self._from_afar(scope)
        if fault is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer_refusal(scope, receive, send, fault)

    def _from_afar(self, scope: Scope) -> CallError | None:
        if is_of_this_machine(scope) or not self._gate.is_cookie(Headers(scope=scope)):
            return None
        return Forbidden("the cookie is for programs of this machine", hint="prsm token new NAME")


def is_of_this_machine(scope: Scope) -> bool:
    """Whether a request came over the unix socket or from a loopback address."""
    return is_local(scope.get("client"))


def is_local(client: tuple[str, int] | None) -> bool:
    """Whether an address is of this machine; None: over the unix socket."""
    if client is None:
        return True
    host = ipaddress.ip_address(str(client[0]).partition("%")[0])
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return (mapped or host).is_loopback


def odd(scope: Scope) -> CallError | None:
    """Why a request of this form is refused, if it is; by its address and headers alone."""
    headers = Headers(scope=scope)
    verb = scope.get("method", "GET")
    if verb not in _VERBS:
        return WrongVerb(str(verb), allow=", ".join(sorted(_VERBS)))
    path, query = bytes(scope["raw_path"]).partition(b"?")[0], bytes(scope["query_string"])
    if len(path) + len(query) > TARGET_BYTES_MAX:
        return BadRequest(f"an address of {len(path) + len(query)} bytes, at most 4096")
    if _ODD_PATH.search(path):
        return BadRequest("the path is not written plainly")
    if _SECRET_QUERY.search(query.decode("latin-1")):
        return BadRequest(
            "a secret in an address is written down on its way",
            hint="send it as `Authorization: Bearer`",
        )
    return _odd_headers(headers)


def _odd_headers(headers: Headers) -> CallError | None:
    if len(headers.raw) > HEADERS_MAX:
        return BadRequest(f"{len(headers.raw)} headers, at most {HEADERS_MAX}")
    twice = [name for name in _SINGLE if len(headers.getlist(name)) > 1]
    if twice:
        return BadRequest(f"the header {twice[0]} came twice")
    if "transfer-encoding" in headers and "content-length" in headers:
        return BadRequest("the body has two lengths: Transfer-Encoding and Content-Length")
    return None
