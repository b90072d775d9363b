"""Calls in the plainest form of HTTP: one POST of /rpc, read as one piece, by somebody let in.

Such a call, and nearly all are such, is answered where it was read: no machine of states, no task,
no queue. Nothing is refused here: what is not plainly right goes the long way (hypercorn, then
`prsm.node.web.app`), whose checks are the same functions, and which says why not.

Invariants: a request that is taken would have been let in on the long way, and the bytes of its
answer are the same; a head is remembered by its hash, without its token; who calls is asked anew
for each request.

Knows: bytes of HTTP, the checks of the door, the dispatcher. Must not know: sockets, hypercorn.
"""

import hashlib
import re
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.types import Scope

from prsm.node.rpc.dispatch import Dispatcher, refusal
from prsm.node.rpc.errors import CallError, InternalFault
from prsm.node.rpc.spec import Caller
from prsm.node.telemetry import logs
from prsm.node.web.answers import plain_head, traceparent_of
from prsm.node.web.auth import Gate, Own, UnixPeer, fresh_id, given_id
from prsm.node.web.auth_filter import odd
from prsm.node.web.forms import refuse_form

HEAD_BYTES_MAX: Final = 4_096
_HEADS_MAX: Final = 256  # remembered, of all connections: programs repeat theirs
_HEAD: Final = re.compile(rb"POST /rpc HTTP/1\.1(?:\r\n[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?)+")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,6}")
# What speaks of the connection, of another form of the body, or of a signature over all of it.
_LONG: Final = frozenset(
    (
        *("transfer-encoding", "upgrade", "http2-settings", "expect", "te", "trailer"),
        *("keep-alive", "proxy-connection", "signature", "signature-input"),
    )
)

log: Final = logs.get("web")


@dataclass(frozen=True, slots=True)
class _Head:
    """What a head says that may be remembered."""

    size: int  # of the body
    token: slice | None  # where it lies in the head
    trace_id: str  # empty: each request gets its own
    traceparent: str


@dataclass(frozen=True, slots=True)
class Side:
    """What a connection is to the checks.

    Attributes:
        client: address and port; None over the unix socket.
        is_local: whether it comes from this machine.
        peer: the process behind a unix socket.
    """

    client: tuple[str, int] | None
    is_local: bool
    peer: UnixPeer | None = None


class Taken:
    """One call that is answered here.

    Attributes:
        body: of the request.
        caller: who calls.
        traceparent: to be sent back.
    """

    __slots__ = ("_gone", "_over", "body", "caller", "traceparent")

    def __init__(self, body: bytes, traceparent: str) -> None:
        self.body, self.traceparent = body, traceparent
        self.caller: Caller
        self._gone: trio.Event | None = None  # few calls ever wait
        self._over: trio.Event | None = None

    @property
    def gone(self) -> trio.Event:
        """Set when the client closes its side."""
        if self._gone is None:
            self._gone = trio.Event()
        return self._gone

    @property
    def over(self) -> trio.Event:
        """Set when the answer of a call that waited is written."""
        if self._over is None:
            self._over = trio.Event()
        return self._over

    async def wait_gone(self) -> None:
        """Wait until the client closes its side, or for ever."""
        await self.gone.wait()


class QuickCalls:
    """Takes and answers plain calls, of all connections of one door."""

    def __init__(self, dispatcher: Dispatcher, gate: Gate, own: Own) -> None:
        self._dispatcher, self._gate, self._own = dispatcher, gate, own
        self._heads: dict[tuple[bool, bytes], _Head] = {}
        self._date = -1, b""

    def take(self, data: bytes, side: Side) -> Taken | None:
        """Recognise what was read as one whole plain call; None: it goes the long way."""
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            return None
        raw = data[:end]
        key = side.client is None, hashlib.sha256(raw).digest()
        known = self._heads.get(key)
        head = known if known is not None else self._read(raw, side)
        if head is None or len(data) != end + 4 + head.size:
            return None
        token = raw[head.token].strip() if head.token is not None else None
        taken = Taken(data[end + 4 :], head.traceparent)
        caller = self._gate.recognise(
            token,
            side.peer,
            trace_id=head.trace_id or fresh_id(),
            wait_gone=taken.wait_gone,
        )
        if caller is None or (not side.is_local and self._gate.is_cookie_text(token)):
            return None
        if known is None:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[key] = head
        taken.caller = caller
        return taken

    async def answer(self, taken: Taken) -> bytes:
        """The whole answer, as it leaves."""
        caller = taken.caller
        failed = False
        try:
            reply = await self._dispatcher.answer(taken.body, caller)
        except Exception:  # as on the long way: one request must not end the door
            log.exception("request failed", trace=caller.trace_id)
            fault = InternalFault("the node failed at this request")
            reply, failed = refusal(fault, trace_id=caller.trace_id), True
        head = plain_head(
            size=None if reply is None else len(reply),
            trace_id=caller.trace_id,
            traceparent=taken.traceparent,
            date=self._now(),
            failed=failed,
        )
        return head + (reply or b"")

    def _read(self, raw: bytes, side: Side) -> _Head | None:
        """A head that passes every check that needs no more than it; else None."""
        if _HEAD.fullmatch(raw) is None:
            return None
        fields: dict[str, str] = {}
        pairs: list[tuple[bytes, bytes]] = []
        token: slice | None = None
        start = raw.index(b"\r\n") + 2
        for line in raw[start:].split(b"\r\n"):
            name, _, value = line.partition(b": ")
            text = name.decode("ascii").lower()
            if text in fields or text in _LONG:
                return None
            fields[text] = value.decode("ascii")
            pairs.append((name.lower(), value))
            if text == "authorization":
                if not value.lower().startswith(b"bearer "):
                    return None
                token = slice(start + len(line) - len(value) + len(b"bearer "), start + len(line))
            start += len(line) + 2
        if not self._may_pass(pairs, side):
            return None
        size = fields.get("content-length", "")
        if _SIZE.fullmatch(size) is None or fields.get("connection", "keep-alive") != "keep-alive":
            return None
        headers = Headers(raw=pairs)
        return _Head(int(size), token, given_id(headers), traceparent_of(headers))

    def _may_pass(self, pairs: list[tuple[bytes, bytes]], side: Side) -> bool:
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "raw_path": b"/rpc",
            "query_string": b"",
            "headers": pairs,
            "client": side.client,
        }
        headers = Headers(scope=scope)
        if odd(scope) is not None or self._own.why_foreign(headers, unix=side.client is None):
            return False
        try:
            refuse_form(scope, headers)
        except CallError:
            return False
        return True

    def _now(self) -> bytes:
        """The Date of an answer."""
        second = int(trio.current_time())
        if self._date[0] != second:
            self._date = second, formatdate(usegmt=True).encode("ascii")
        return self._date[1]
