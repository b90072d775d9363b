"""Reads by GET: `/status`, `/block?height=7`; the answer is the result itself.

The same token, scopes and layers as for a call; a refusal is the JSON-RPC error document with the
HTTP status of its code. Only methods that read have a path.

Knows: ASGI, the dispatcher, the table of methods. Must not know: handlers.
"""

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from prsm.node.rpc.dispatch import Dispatcher, refusal
from prsm.node.rpc.errors import BadParams, CallError
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import entry_for
from prsm.node.rpc.spec import Method
from prsm.node.web.answers import answer, answer_refusal, trace_of
from prsm.node.web.auth import Gate
from prsm.node.web.forms import STATUS_BY_CODE, refuse_verb
from prsm.protocol.errors import PrsmError

_FIELDS_MAX: Final = 64
_STATUS_OTHER: Final = 422  # understood, and refused for what it is


def alias_routes(dispatcher: Dispatcher, gate: Gate) -> list[BaseRoute]:
    """A route for each method that has a path."""
    return [
        Route(method.path, endpoint=_Alias(dispatcher, gate, method))
        for method in METHODS.values()
        if method.path
    ]


class _Alias:
    """GET of one method."""

    def __init__(self, dispatcher: Dispatcher, gate: Gate, method: Method) -> None:
        self._dispatcher = dispatcher
        self._gate = gate
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        trace_id = trace_of(scope)
        try:
            refuse_verb(scope, allow="GET, HEAD")
            peer = scope["state"].get("peer")
            caller = await self._gate.admit(Headers(scope=scope), peer, trace_id=trace_id)
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault)
            return

        async def wait_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        status = 200
        try:
            pairs = _pairs(self._method, scope["query_string"])
            caller = replace(caller, wait_gone=wait_gone)
            body = await self._dispatcher.read(self._method.name, pairs, caller)
        except PrsmError as error:
            body = refusal(error, trace_id=trace_id)
            status = STATUS_BY_CODE.get(entry_for(error.reason).code, _STATUS_OTHER)
        await answer(scope, send, body, status=status)


def _pairs(method: Method, query: bytes) -> dict[str, str]:
    """Parameters of a query; `id` stands for the one that ends in `_id`.

    Raises:
        BadParams: too many, one twice, or no text.
    """
    try:
        found = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError as error:
        raise BadParams(f"{method.path}: the query is not name=value&…") from error
    names = method.params.__struct_fields__
    ids = [name for name in names if name.endswith("_id")]
    pairs: dict[str, str] = {}
    for given, value in found:
        name = ids[0] if given == "id" and "id" not in names and len(ids) == 1 else given
        if name in pairs:
            raise BadParams(f"{method.path}: {given[:80]!r} is given twice", field=name[:80])
        pairs[name] = value
    return pairs
