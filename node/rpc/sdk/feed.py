"""A subscription as its client sees it, without a socket: what to send, and what came.

One connection carries one subscription. When it breaks, the next one resumes behind the last row
seen, so that a reader misses nothing the node still keeps, and is told how much it does not.

Knows: sub_subscribe, notifications, close codes. Must not know: sockets, loops.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.faults import RpcError, class_for, fault_here
from prsm.node.rpc.wire import Fault
from prsm.node.rpc.wire_ws import Closed, Opened, Refused, Text, Wire
from prsm.protocol.jsontext import UNREADABLE

PATH: Final = "/ws"
_DENIED: Final = 4401
_TOO_SLOW: Final = 4008
T = TypeVar("T")


class Event(NamedTuple, Generic[T]):
    """A row of a topic.

    Attributes:
        seq: its number; counts up by one for each row of the topic.
        result: the row.
        missed: how many rows before this one the node keeps no more.
    """

    seq: int
    result: T
    missed: int


class _Params(msgspec.Struct):
    seq: int
    result: msgspec.Raw
    missed: int = 0


class _Subscribed(msgspec.Struct):
    seq: int


class _Message(msgspec.Struct):
    method: str = ""
    params: _Params | None = None
    result: _Subscribed | None = None
    error: Fault | None = None


def row_type(topic: str) -> Any:  # noqa: ANN401 - a type or None
    """What rows of a topic are; None for one of a newer node: plain objects."""
    from prsm.node.rpc.methods.subscriptions import TOPICS  # noqa: PLC0415 - loads the table

    return TOPICS[topic].row if topic in TOPICS else None


class Feed(Generic[T]):
    """One subscription over all its connections."""

    def __init__(
        self,
        topic: str,
        *,
        wanted: Mapping[str, object] | None = None,
        resume_from: int | None = None,
        row: type[T] | None = None,
    ) -> None:
        self.topic = topic
        self.last = resume_from
        self._wanted = dict(wanted or {})
        self._row = row
        self._wire = Wire()
        self._ready: deque[Event[T]] = deque()
        self.is_open = False
        self._missed = 0

    def begin(self, host: str, headers: Mapping[str, str]) -> bytes:
        """What a new connection sends first."""
        self._wire = Wire()
        self.is_open = False
        return self._wire.open(host, PATH, headers)

    def take(self) -> Event[T] | None:
        """The next row, if one is here."""
        return self._ready.popleft() if self._ready else None

    def end(self) -> bytes:
        """What to send before the connection is closed."""
        return self._wire.close() if self.is_open else b""

    def feed(self, data: bytes) -> bytes:
        """Take what was received; what must be sent for it.

        Raises:
            RpcError: refused, or the connection is over; `retryable` tells whether another one
                is worth it.
        """
        try:
            heard, reply = self._wire.feed(data)
        except ValueError as error:
            raise fault_here(NodeUnreachable(str(error))) from error
        for one in heard:
            match one:
                case Opened():
                    reply += self._wire.send(self._subscribe())
                case Text(text):
                    self._read(text)
                case Refused(status, body):
                    raise _refusal(status, body)
                case Closed(code, why) if not self._ready:
                    raise _closed(code, why)
                case Closed():
                    return reply  # rows first; the end of the stream is read again
        return reply

    def _subscribe(self) -> str:
        params: dict[str, object] = {"topic": self.topic}
        if self._wanted:
            params["filter"] = self._wanted
        if self.last is not None:
            params["resume_from"] = self.last
        call = {"jsonrpc": "2.0", "id": 1, "method": "sub_subscribe", "params": params}
        return msgspec.json.encode(call).decode()

    def _read(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text, type=_Message)
        except msgspec.MsgspecError as error:
            raise fault_here(NodeUnreachable(f"no notification: {error}")) from error
        if message.error is not None:
            raise message.error.as_error()
        if message.result is not None:
            self._agree(message.result.seq)
        if message.method == "prsm_subscription" and message.params is not None:
            self._note(message.params)

    def _agree(self, seq: int) -> None:
        self.is_open = True
        # Above the topic's own number: the node began anew and counts from one.
        if self.last is None or self.last > seq:
            self.last = seq if self.last is None else 0

    def _note(self, params: _Params) -> None:
        self.last = params.seq
        self._missed += params.missed
        raw = bytes(params.result)
        if raw == b"null":
            return  # a note of rows that are gone: told with the next one
        kind: Any = self._row or object
        try:
            row: T = msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise fault_here(
                NodeUnreachable(
                    f"a row of {self.topic} of another form: {error}",
                    hint="compare `prsm version` with the node's version in `prsm status`",
                )
            ) from error
        self._ready.append(Event(params.seq, row, self._missed))
        self._missed = 0


def _refusal(status: int, body: bytes) -> RpcError:
    try:
        fault = msgspec.json.decode(body, type=_Message).error
    except UNREADABLE:
        fault = None
    if fault is not None:
        return fault.as_error()
    if status in {401, 403}:
        return _denied(f"the node refused the connection with status {status}")
    return fault_here(NodeUnreachable(f"the node has no subscriptions here (status {status})"))


def _closed(code: int, why: str) -> RpcError:
    if code == _DENIED:
        return _denied(why or "the token is not, or no longer, good")
    what = "read too slowly" if code == _TOO_SLOW else "the connection ended"
    told = f"{what} (code {code}{', ' + why if why else ''})"
    return fault_here(NodeUnreachable(told, hint="the next connection goes on where it stopped"))


def _denied(what: str) -> RpcError:
    return class_for("unauthorised")(-32001, what, {"reason": "unauthorised"})
