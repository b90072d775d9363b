"""The WebSocket door: calls as text frames, answers and subscriptions back, one writer each.

A connection that does not keep up with what it is told is closed with 4008, alone; one that does
not say who it is, or whose token ended, with 4401; when the node stops, with 1001. Calls that run
when a client hangs up run to their end, as over HTTP.

Knows: ASGI messages, the dispatcher, the gate, events. Must not know: methods, sockets, who tells.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import msgspec
import trio
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from prsm.node.rpc.dispatch import Dispatcher, refusal
from prsm.node.rpc.errors import CallError, TooMany, WrongHttp
from prsm.node.rpc.methods.subscriptions import CALLS_MAX, SUBSCRIPTIONS_MAX, LoginParams
from prsm.node.rpc.spec import Caller
from prsm.node.telemetry import logs
from prsm.node.telemetry.events import Event, Events, Listening, Take
from prsm.node.web.answers import answer_refusal, trace_of
from prsm.node.web.auth import Gate
from prsm.protocol.jsontext import UNREADABLE

LOGIN_S: Final = 5.0
QUEUE_MAX: Final = 256  # answers and rows that wait to be written
WRITE_CHARS: Final = 65_536  # of what waits, in one write
HELD_MAX: Final = 2_048  # rows of a replay that wait for its answer
TEND_S: Final = 5.0  # between two looks whether tokens of listeners still hold
_CLOSE_S: Final = 1.0
# Closing codes; 4000 and above are ours (RFC 6455, 7.4.2).
GOING_AWAY: Final = 1001
NO_TEXT: Final = 1003
TOO_SLOW: Final = 4008
WHO_ARE_YOU: Final = 4401
_WHY: Final = {
    GOING_AWAY: "the node stops",
    NO_TEXT: "calls are text frames",
    TOO_SLOW: "too slow for what it asked to hear",
    WHO_ARE_YOU: "no valid token",
}

log: Final = logs.get("web")


class _Login(msgspec.Struct):
    """What is read of a frame to see whether it is a login."""

    method: str
    params: LoginParams
    id: int | str | None = None


_LOGINS: Final = msgspec.json.Decoder(_Login)
_LOGIN_MARK: Final = b'"rpc_login"'


class Sockets:
    """All WebSockets of a door: an ASGI endpoint, and what tends them.

    Args:
        dispatcher: answers the calls.
        gate: says who calls.
        events: where connections that are too slow are counted.
    """

    def __init__(self, dispatcher: Dispatcher, gate: Gate, events: Events) -> None:
        self.dispatcher = dispatcher
        self.gate = gate
        self.events = events
        self._open: dict[_Socket, None] = {}
        self._is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; over plain HTTP there is nothing here."""
        if scope["type"] != "websocket":
            fault = WrongHttp(
                "this is a WebSocket", hint="connect to ws://HOST/ws", field="upgrade"
            )
            await answer_refusal(scope, receive, send, fault, status=426)
            return
        socket = _Socket(self, scope, receive, send)
        self._open[socket] = None
        try:
            if self._is_stopping:
                socket.close(GOING_AWAY)
            await socket.run()
        finally:
            del self._open[socket]

    def routes(self) -> tuple[BaseRoute, ...]:
        """Where it is reached."""
        return WebSocketRoute("/ws", endpoint=self), Route("/ws", endpoint=self)

    async def tend(self) -> None:
        """Close what listens with a token that ended, until cancelled."""
        while True:
            await trio.sleep(TEND_S)
            for count, socket in enumerate(tuple(self._open)):
                if count % 100 == 0:
                    await trio.lowlevel.checkpoint()
                socket.check()

    def stop(self) -> None:
        """Close all with 1001, each once its calls are answered; new ones at once."""
        self._is_stopping = True
        for socket in tuple(self._open):
            socket.close(GOING_AWAY)


class _Line:
    """What one frame's calls may do to its connection; what they begin speaks after the answer."""

    def __init__(self, socket: "_Socket", caller: Caller) -> None:
        self._socket, self._caller = socket, caller
        self.begun: list[_Feed] = []

    def add(self, begin: Callable[[Take], Listening]) -> tuple[str, Listening]:
        """As `spec.Line`."""
        feed = self._socket.subscribe(begin, self._caller)
        self.begun.append(feed)
        assert feed.listening is not None
        return feed.name, feed.listening

    def drop(self, subscription: str) -> bool:
        """As `spec.Line`."""
        return self._socket.unsubscribe(subscription)


class _Feed:
    """One subscription: rows wait in `held` until its answer has left."""

    def __init__(
        self, name: str, caller: Caller, push: Callable[[str], None], cut: Callable[[], None]
    ) -> None:
        self.name, self.caller = name, caller
        self.listening: Listening | None = None
        self._held: deque[str] | None = deque()
        self._push, self._cut = push, cut
        self._head = (
            '{"jsonrpc":"2.0","method":"prsm_subscription","params":{"subscription":"' + name + '",'
        )

    def take(self, event: Event) -> None:
        """Hear a row."""
        missed = f',"missed":{event.missed}' if event.missed else ""
        text = f'{self._head}"seq":{event.seq},"result":{event.text}{missed}}}}}'
        if self._held is None:
            self._push(text)
        elif len(self._held) < HELD_MAX:
            self._held.append(text)
        else:
            self._cut()

    async def release(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what waits, as quickly as it is written, and then the rest as it comes."""
        while self._held:
            await send(self._held.popleft())
        self._held = None

    def stop(self) -> None:
        """Hear no more."""
        if self.listening is not None:
            self.listening.stop()


class _Socket:
    """One WebSocket."""

    def __init__(self, door: Sockets, scope: Scope, receive: Receive, send: Send) -> None:
        self._door = door
        self._scope, self._receive, self._send = scope, receive, send
        self._trace = trace_of(scope)
        self._frames = 0
        self._unread: deque[str | None] = deque()  # frames that came together
        self._caller: Caller | None = None
        self._code: int | None = None  # why this side closes
        self._gone = trio.Event()  # nobody reads any more
        self._reading = trio.CancelScope()
        self._feeds: dict[str, _Feed] = {}
        self._names = 0
        self._slots = trio.Semaphore(CALLS_MAX)
        self._in, self._out = trio.open_memory_channel[str](QUEUE_MAX)

    # -- of the connection

    async def run(self) -> None:
        """Serve until either side ends."""
        if not await self._open():
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                with self._reading:
                    await self._read(nursery)
            finally:
                for feed in self._feeds.values():
                    feed.stop()
            for _ in range(CALLS_MAX):  # what runs is answered
                await self._slots.acquire()
            self._in.close()
        if not self._gone.is_set():
            await self._end(self._code or GOING_AWAY)

    def close(self, code: int) -> None:
        """Close from this side; the first reason counts."""
        if self._code is None:
            self._code = code
            self._reading.cancel()

    def check(self) -> None:
        """Close if the token it came with has ended, or one it subscribed with before."""
        callers = [self._caller, *(feed.caller for feed in self._feeds.values())]
        if not all(one is None or self._door.gate.is_live(one) for one in callers):
            self.close(WHO_ARE_YOU)

    async def _open(self) -> bool:
        headers, peer = Headers(scope=self._scope), self._scope["state"].get("peer")
        try:
            self._caller = await self._door.gate.admit(headers, peer, trace_id=self._trace)
        except CallError as fault:
            if "authorization" in headers or peer is not None:
                await _refuse_handshake(self._send, fault, self._trace)
                return False
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept"})
        return True

    async def _end(self, code: int) -> None:
        with trio.move_on_after(_CLOSE_S) as patience:
            await self._send({"type": "websocket.close", "code": code, "reason": _WHY[code]})
            while (await self._receive())["type"] != "websocket.disconnect":
                pass
        if patience.cancelled_caught:
            self._scope["state"]["abort"]()
            await trio.lowlevel.checkpoint()

    # -- reading

    async def _read(self, nursery: trio.Nursery) -> None:
        if self._caller is None:
            await self._read_login()
        while self._code is None:
            raw = await self._frame()
            if raw is None:
                return
            try:
                self._slots.acquire_nowait()  # `acquire` is a turn of the loop even with room
            except trio.WouldBlock:
                await self._slots.acquire()
            nursery.start_soon(self._serve, raw)

    async def _frame(self) -> bytes | None:
        if not self._unread:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                self._gone.set()
                return None
            self._unread.extend(message["texts"])
        text = self._unread.popleft()
        if text is None:
            self.close(NO_TEXT)
            return None
        return text.encode()

    async def _read_login(self) -> None:
        raw: bytes | None = None
        with trio.move_on_after(LOGIN_S):
            raw = await self._frame()
            if raw is not None and _LOGIN_MARK in raw:
                await self._say(await self._log_in(raw, self._next_trace()))
        if self._caller is None and not self._gone.is_set():
            self.close(WHO_ARE_YOU)

    async def _log_in(self, raw: bytes, trace_id: str) -> bytes | None:
        """Take the token of a `rpc_login`; a bad one changes nothing."""
        try:
            login = _LOGINS.decode(raw)
        except UNREADABLE:
            caller = self._caller  # the dispatcher says what is wrong
            return None if caller is None else await self._door.dispatcher.answer(raw, caller)
        try:
            gate = self._door.gate
            found = await gate.admit_token(login.params.token, trace_id=trace_id)
        except CallError as fault:
            return refusal(fault, call_id=login.id, trace_id=trace_id)
        self._caller = found
        return await self._door.dispatcher.answer(raw, replace(found, line=_Line(self, found)))

    async def _serve(self, raw: bytes) -> None:
        """Answer one frame."""
        try:
            trace_id, caller = self._next_trace(), self._caller
            assert caller is not None
            if not self._door.gate.is_live(caller):
                self.close(WHO_ARE_YOU)
                return
            line = _Line(self, caller)
            caller = replace(caller, trace_id=trace_id, wait_gone=self._gone.wait, line=line)
            if _LOGIN_MARK in raw and raw.lstrip()[:1] == b"{":
                await self._say(await self._log_in(raw, trace_id))
            else:
                await self._say(await self._door.dispatcher.answer(raw, caller))
            for feed in line.begun:
                await feed.release(self._put)
        finally:
            self._slots.release()

    def _next_trace(self) -> str:
        self._frames += 1
        return f"{self._trace}.{self._frames}"

    # -- writing

    async def _say(self, reply: bytes | None) -> None:
        if reply is not None:
            await self._put(reply.decode())

    async def _put(self, text: str) -> None:
        """Queue an answer; waits for room, since its caller asked for it."""
        if self._is_heard:
            await self._in.send(text)

    def _push(self, text: str) -> None:
        """Queue a row; without room this connection ends, and no other."""
        try:
            self._in.send_nowait(text)
        except trio.WouldBlock:
            self._cut()

    def _cut(self) -> None:
        if self._code is None:
            self._door.events.dropped += 1
            self.close(TOO_SLOW)  # before the line, which may be a row that it hears
            log.warning("a subscriber does not keep up", trace=self._trace, code=TOO_SLOW)

    async def _write(self) -> None:
        """The one task that writes; what waits leaves together."""
        async for text in self._out:
            size = 0
            while (size := size + len(text)) < WRITE_CHARS and self._is_heard:
                try:
                    following = self._out.receive_nowait()
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
                await self._send({"type": "websocket.send", "text": text, "more": True})
                text = following  # noqa: PLW2901 - the one in hand
            if self._is_heard:
                await self._send({"type": "websocket.send", "text": text})

    @property
    def _is_heard(self) -> bool:
        return self._code != TOO_SLOW and not self._gone.is_set()

    # -- subscriptions

    def subscribe(self, begin: Callable[[Take], Listening], caller: Caller) -> _Feed:
        """Begin one.

        Raises:
            TooMany: it has as many as it may.
        """
        if len(self._feeds) >= SUBSCRIPTIONS_MAX:
            raise TooMany(
                f"{len(self._feeds)} subscriptions on this connection, at most {SUBSCRIPTIONS_MAX}",
                hint="end one with sub_unsubscribe, or open another connection",
            )
        self._names += 1
        feed = _Feed(str(self._names), caller, self._push, self._cut)
        self._feeds[feed.name] = feed
        feed.listening = begin(feed.take)
        if self._code is not None or self._gone.is_set():
            feed.stop()
        return feed

    def unsubscribe(self, name: str) -> bool:
        """End one; was there such?"""
        feed = self._feeds.pop(name, None)
        if feed is not None:
            feed.stop()
        return feed is not None


async def _refuse_handshake(send: Send, fault: CallError, trace_id: str) -> None:
    """Answer 401 with a JSON-RPC body instead of a WebSocket."""
    body = refusal(fault, trace_id=trace_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"www-authenticate", b"Bearer"),
        (b"connection", b"close"),
    ]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
