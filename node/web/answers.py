"""Answers of the HTTP door: JSON-RPC bodies with the status and headers HTTP asks for.

Knows: ASGI messages. Must not know: who asks, what for.
"""

import re
from collections.abc import Mapping
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from prsm.node.rpc.dispatch import refusal
from prsm.node.rpc.errors import CallError
from prsm.node.web.forms import WrongVerb, status_of

# After a refusal the rest of the body is read and thrown away for so long: closing with unread
# bytes resets the connection, and the client might lose the answer.
_DRAIN_S: Final = 1.0
_DRAIN_BYTES_MAX: Final = 8 * 1024 * 1024
_TRACEPARENT: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ALWAYS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_ALWAYS_RAW: Final = "".join(f"{name}: {value}\r\n" for name, value in _ALWAYS.items()).encode()


async def answer(
    scope: Scope,
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a whole answer with its length; 204 carries no body."""
    await _start(scope, send, body, status, headers or {})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def answer_refusal(
    scope: Scope,
    receive: Receive,
    send: Send,
    fault: CallError,
    *,
    status: int | None = None,
    body: bytes | None = None,
) -> None:
    """Send a typed error before the request's body was read, then end the connection.

    `status` is that of its kind unless said; `body` is for doors of another form than JSON-RPC.

    hypercorn blocks for ever if an application finishes while a body is still queued for it, so
    the body is drained for a second; a client that goes on sending is cut off.
    """
    headers = {"connection": "close"}
    status = status_of(fault) if status is None else status
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 426:  # which other protocol: RFC 9110, section 15.5.22
        headers |= {"connection": "upgrade, close", "upgrade": "websocket"}
    if isinstance(fault, WrongVerb):
        headers["allow"] = fault.allow
    if fault.retry_after_ms:
        headers["retry-after"] = str(-(-fault.retry_after_ms // 1000))
    text = refusal(fault, trace_id=trace_of(scope)) if body is None else body
    await _start(scope, send, text, status, headers)
    await send({"type": "http.response.body", "body": text, "more_body": True})
    if not await _drained(receive):
        scope["state"]["abort"]()
        await trio.lowlevel.checkpoint()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def plain_head(
    *, size: int | None, trace_id: str, traceparent: str, date: bytes, failed: bool = False
) -> bytes:
    """The head of an answer of status 200, 204 where there is no size, 500 where it failed.

    The same bytes as `answer` makes through the machine; `traceparent` is already checked.
    """
    number = 500 if failed else 204 if size is None else 200
    lines = f"x-request-id: {trace_id}\r\n"
    if size is not None:
        lines += f"content-type: application/json\r\ncontent-length: {size}\r\n"
    if traceparent:
        lines += f"traceparent: {traceparent}\r\n"
    status = b"HTTP/1.1 %d \r\n" % number
    return b"".join((status, _ALWAYS_RAW, lines.encode("ascii"), b"date: ", date, b"\r\n\r\n"))


def traceparent_of(headers: Headers) -> str:
    """The caller's place in a trace, if it has the one form; else empty."""
    given = headers.get("traceparent", "")
    return given if _TRACEPARENT.fullmatch(given) else ""


def trace_of(scope: Scope) -> str:
    """The id of this request, put into its scope when it came in."""
    return str(scope["state"].get("trace_id", ""))


async def begin_events(scope: Scope, send: Send) -> None:
    """Begin an answer of server-sent events; parts of its body follow, one message each."""
    fields = {"content-type": "text/event-stream"}
    await send({"type": "http.response.start", "status": 200, "headers": _raw(scope, fields)})


async def _start(
    scope: Scope, send: Send, body: bytes, status: int, headers: Mapping[str, str]
) -> None:
    fields = dict(headers)
    if status != 204:
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    raw = _raw(scope, fields)
    await send({"type": "http.response.start", "status": status, "headers": raw})


def _raw(scope: Scope, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers of every answer, and these."""
    fields = {**_ALWAYS, "x-request-id": trace_of(scope), **headers}
    traceparent = traceparent_of(Headers(scope=scope))
    if traceparent:
        fields["traceparent"] = traceparent
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]


async def _drained(receive: Receive) -> bool:
    size = 0
    with trio.move_on_after(_DRAIN_S):
        while size < _DRAIN_BYTES_MAX:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return True
            size += len(message.get("body", b""))
    return False
