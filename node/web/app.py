"""The routes: POST /rpc and / for calls, GET /livez and /readyz for supervisors.

Knows: HTTP on one side, the dispatcher on the other. Must not know: methods, sockets.
Every refusal keeps a JSON-RPC body; an exception becomes -32603 with a trace id and a log line.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.rpc.errors import (
    CallError,
    CallTimeout,
    InternalFault,
)
from prsm.node.rpc.spec import Method
from prsm.node.telemetry import logs
from prsm.node.web.answers import answer, answer_refusal, trace_of
from prsm.node.web.auth import Gate, Own, OwnPagesOnly, request_id
from prsm.node.web.auth_filter import OnlyPlain, is_of_this_machine
from prsm.node.web.auth_signed import SignedRequests
from prsm.node.web.bodies import BODY_DEADLINE_S, ClientGone, read_body
from prsm.node.web.forms import refuse_form, refuse_verb

log: Final = logs.get("web")

Pages = Callable[[Gate], Sequence[BaseRoute]]


def beside(*makers: Pages) -> Pages:
    """Put the routes of several makers side by side; of one path the first one's counts."""
    return lambda gate: [route for make in makers for route in make(gate)]


class NoPage(CallError):
    """No such path."""

    reason = "not_found"


@dataclass(frozen=True, slots=True)
class Health:
    """What the open pages say.

    Attributes:
        name: the node's name.
        version: its version.
        why_not_ready: empty when the node is ready, else one sentence.
    """

    name: str
    version: str
    why_not_ready: Callable[[], str]


class fence(AbstractContextManager[None]):  # noqa: N801 - called as a function
    """Give a handler its method's deadline; for `prsm.node.rpc.dispatch.bind`.

    Raises:
        CallTimeout: the handler took longer.
    """

    __slots__ = ("_method", "_scope")  # not a generator: each call passes here

    def __init__(self, method: Method) -> None:
        self._method = method

    @override
    def __enter__(self) -> None:
        deadline = trio.current_time() + self._method.deadline_ms / 1000
        self._scope = trio.CancelScope(deadline=deadline)
        self._scope.__enter__()

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        is_quiet = self._scope.__exit__(kind, error, trace)
        if self._scope.cancelled_caught or isinstance(error, trio.TooSlowError):
            name, deadline_ms = self._method.name, self._method.deadline_ms
            what = f"{name} took longer than {deadline_ms} ms; its effect may still come"
            raise CallTimeout(what) from error
        return is_quiet


def log_fault(method: str, trace_id: str, error: Exception) -> None:
    """Write down an untyped exception of a handler; for `prsm.node.rpc.dispatch.bind`."""
    log.error("call failed", method=method, trace=trace_id, exc_info=error)


def make_app(
    dispatcher: Dispatcher,
    *,
    gate: Gate,
    health: Health,
    own: Own,
    body_deadline_s: float = BODY_DEADLINE_S,
    pages: Pages | None = None,
) -> ASGIApp:
    """The whole application, middleware included.

    Args:
        dispatcher: answers the calls.
        gate: says who calls.
        health: what the open pages say.
        own: how this node is called.
        body_deadline_s: a request's body must be complete by then.
        pages: makes the routes beside /rpc, given the gate of this run; none if None.
    """
    calls = _Calls(dispatcher, gate, body_deadline_s)
    routes: list[BaseRoute] = [
        Route("/rpc", endpoint=calls),  # first: routes are tried one after the other
        *(pages(gate) if pages is not None else ()),
        Route("/", endpoint=calls),
        Route("/livez", endpoint=_Page(lambda: _alive(health), shown="service")),
        Route("/readyz", endpoint=_Page(lambda: _ready(health), shown="ready")),
    ]
    router = Router(routes, redirect_slashes=False, default=_no_page)
    signed = SignedRequests(router, gate=gate, body_deadline_s=body_deadline_s)
    return _Outermost(OwnPagesOnly(OnlyPlain(signed, gate=gate), own=own))


class _Outermost:
    """Names each request and catches what nobody else did."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        scope["state"]["trace_id"] = request_id(headers)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientGone:
            return
        except Exception:  # one request must not end the door
            log.exception("request failed", trace=trace_of(scope))
            if scope["type"] == "http" and not started:
                fault = InternalFault("the node failed at this request")
                await answer_refusal(scope, receive, send, fault)


class _Calls:
    """POST of a JSON-RPC document."""

    def __init__(self, dispatcher: Dispatcher, gate: Gate, body_deadline_s: float) -> None:
        self._dispatcher = dispatcher
        self._gate = gate
        self._body_deadline_s = body_deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            refuse_form(scope, headers)
            peer = scope["state"].get("peer")
            caller = await self._gate.admit(headers, peer, trace_id=trace_of(scope))
            body = await read_body(headers, receive, deadline_s=self._body_deadline_s)
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault)
            return

        async def wait_gone() -> None:
            # The server reads on while a call runs, and says so when it reads the end.
            while (await receive())["type"] != "http.disconnect":
                pass

        reply = await self._dispatcher.answer(body, replace(caller, wait_gone=wait_gone))
        await answer(scope, send, reply or b"", status=204 if reply is None else 200)


class _Page:
    """GET of an open page: no token, nothing secret; other machines learn that it is there."""

    def __init__(self, build: Callable[[], tuple[int, dict[str, object]]], *, shown: str) -> None:
        self._build = build
        self._shown = shown  # the one field for other machines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refuse_verb(scope, allow="GET, HEAD")
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault)
            return
        status, document = self._build()
        if not is_of_this_machine(scope):
            document = {self._shown: document[self._shown]}
        await answer(scope, send, msgspec.json.encode(document), status=status)


def _alive(health: Health) -> tuple[int, dict[str, object]]:
    document = {"service": "prsm", "version": health.version, "name": health.name}
    return 200, {**document, "pid": os.getpid()}


def _ready(health: Health) -> tuple[int, dict[str, object]]:
    why = health.why_not_ready()
    return (503, {"ready": False, "why": why}) if why else (200, {"ready": True})


async def _no_page(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    fault = NoPage(f"no page {scope['path'][:80]!r}", hint="calls are POST to /rpc")
    await answer_refusal(scope, receive, send, fault)
