"""GET /metrics: what the node counts, for a Prometheus on the same machine or one with a token.

Knows: HTTP, who is admitted. Must not know: what is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from prsm.node.rpc import spec
from prsm.node.rpc.errors import CallError, Forbidden
from prsm.node.telemetry.metrics import CONTENT_TYPE, Metrics
from prsm.node.web.answers import answer_refusal, trace_of
from prsm.node.web.auth import Gate
from prsm.node.web.auth_filter import is_of_this_machine
from prsm.node.web.forms import refuse_verb

KEPT_S: Final = 1.0  # writing a hundred series holds the loop for 10 ms


@dataclass(slots=True)
class _Written:
    """The last text, and until when it serves."""

    body: bytes = b""
    until: float = 0.0


def metrics_pages(numbers: Metrics, gate: Gate) -> Sequence[BaseRoute]:
    """The route of /metrics; open to programs of this machine, else for a token that may read.

    Args:
        numbers: of the node; what the gate counts joins them.
        gate: says who calls.
    """
    numbers.on_read(lambda found: found.put("prsm_rpc_bad_tokens_total", gate.bad_tokens))
    return [Route("/metrics", endpoint=_Page(numbers.render, gate))]


class _Page:
    def __init__(self, render: Callable[[], bytes], gate: Gate) -> None:
        self._render, self._gate = render, gate
        self._written = _Written()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refuse_verb(scope, allow="GET, HEAD")
            await self._admit(scope)
        except CallError as fault:
            await answer_refusal(scope, receive, send, fault)
            return
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        response = Response(self._text(), media_type=CONTENT_TYPE, headers=headers)
        await response(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        """Let in who is on this machine, or shows a token.

        Raises:
            Unauthorised, Forbidden: from elsewhere, without a token that may read.
        """
        headers = Headers(scope=scope)
        is_forwarded = "forwarded" in headers or "x-forwarded-for" in headers  # from wherever
        if is_of_this_machine(scope) and not is_forwarded and "authorization" not in headers:
            return
        peer = scope["state"].get("peer")
        caller = await self._gate.admit(headers, peer, trace_id=trace_of(scope))
        if spec.Scope.READ not in caller.scopes:
            raise Forbidden(f"/metrics asks for the scope read, {caller.name} lacks it")

    def _text(self) -> bytes:
        written, now = self._written, trio.current_time()
        if now >= written.until:
            written.body, written.until = self._render(), now + KEPT_S
        return written.body
