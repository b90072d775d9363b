"""One HTTP/1.1 connection: hypercorn's machine with deadlines on every write and no HTTP/2.

hypercorn 0.18 shields its writes from cancellation and waits for ever on a client that does not
read; here each slice has a deadline, and then the connection is closed hard. An upgrade to
HTTP/2 in clear text is not offered, and its preface is answered with 505.

Knows: hypercorn's protocol objects. Must not know: routes, who calls.
"""

import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Data, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ASGISendEvent,
    ConnectionState,
    H11SendableEvent,
    LifespanState,
)
from typing_extensions import override
from wsproto.events import Ping, TextMessage
from wsproto.utilities import LocalProtocolError

from prsm.node.rpc.dispatch import refusal
from prsm.node.rpc.errors import BadRequest
from prsm.node.web.auth import UnixPeer

_SLICE_BYTES: Final = 256 * 1024
_CLOSE_S: Final = 1.0
_PINGS_LOST_MAX: Final = 2.5  # spans without a word, then the other side is gone


@dataclass(slots=True)
class Link:
    """What a request may know of its connection, beside the headers.

    Attributes:
        abort: end the connection now.
        write_s: each slice of an answer must be taken by then.
        peer: the process behind a unix socket.
    """

    abort: Callable[[], None]
    write_s: float
    peer: UnixPeer | None = None


class _Http2(Exception):
    """The client speaks HTTP/2."""


class Connection(TCPServer):
    """Serves one stream until either side closes it; never raises for what a client did."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        link: Link,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
    ) -> None:
        state = LifespanState({"abort": link.abort, "peer": link.peer})
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]  # both work
        self._link = link
        self._ended = False
        # Not idle from the first byte of a head's end to the end of its answer.
        self._idle = trio.CancelScope()
        self._is_idle = True
        self._secured = isinstance(stream, trio.SSLStream)
        self._plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream

    @override
    async def run(self) -> None:
        """Read until the end; the stream is closed when this returns."""
        plain = self._plain.socket
        inet = plain.family in {socket.AF_INET, socket.AF_INET6}
        try:
            # None means unix to the middleware. Outside the group, which would hide that the
            # client is gone before it was let in.
            client = plain.getpeername()[:2] if inet else None
            server = plain.getsockname()[:2] if inet else None
            async with TaskGroup() as self._task_group:
                self.protocol = _Http1(  # type: ignore[assignment]  # the same two methods
                    self.app,
                    self.config,
                    self.context,
                    self._task_group,
                    ConnectionState(self.state),
                    ssl=self._secured,
                    client=client,
                    server=server,
                    send=self.protocol_send,
                )
                await self.protocol.initiate()
                self._task_group.spawn(self._watch_idle)
                await self._read_data()
                # Stock, a closed connection keeps its slot until the idle timeout.
                self._ended = True
                self._idle.cancel()
        except OSError:
            return  # the client is gone
        finally:
            await trio.aclose_forcefully(self.stream)

    @override
    async def protocol_send(self, event: Event) -> None:
        """Write what the protocol wants written, each slice before its deadline."""
        if isinstance(event, Updated):
            self._is_idle = event.idle
            self._idle.deadline = self._idle_deadline()
            return
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        try:
            self.send_lock.acquire_nowait()  # `acquire` is a turn of the loop even when it is free
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            for start in range(0, len(event.data), _SLICE_BYTES):
                with trio.fail_after(self._link.write_s):
                    await self.stream.send_all(event.data[start : start + _SLICE_BYTES])
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            await trio.aclose_forcefully(self.stream)
        else:
            return
        finally:
            self.send_lock.release()
        await self.protocol.handle(Closed())

    async def _watch_idle(self) -> None:
        """Close a connection that is silent for too long, or once it is when the node stops.

        The stock one starts and cancels a task for each request.
        """
        self._idle.deadline = self._idle_deadline()
        with self._idle:
            await self.context.terminated.wait()
            self._idle.deadline = self._idle_deadline()
            await trio.sleep_forever()
        if not self._ended:
            with trio.CancelScope(shield=True):
                await self._initiate_server_close()

    def _idle_deadline(self) -> float:
        if not self._is_idle:
            return math.inf
        patience_s = 0.0 if self.context.terminated.is_set() else self.config.keep_alive_timeout
        return trio.current_time() + patience_s

    @override
    async def _initiate_server_close(self) -> None:
        # The stock one waits without a bound, inside a shield.
        with trio.move_on_after(_CLOSE_S):
            await super()._initiate_server_close()
        await trio.aclose_forcefully(self.stream)


class _Http1(H11Protocol):
    """hypercorn's HTTP/1.1 without its ways to HTTP/2, with a body in every error.

    The head of an answer waits for the first part of its body: one write instead of two. With
    nothing more to come (no length, as for 204, or the end), it leaves at once.
    """

    _head = b""

    @override
    async def handle(self, event: Event) -> None:
        """Take bytes or the end of the stream."""
        try:
            await super().handle(event)
        except _Http2:
            await self._send_error_response(505)
            await self.send(Closed())
        if isinstance(self.stream, WSStream) and self.stream.closed:
            # Refused handshake: the stock one leaves the connection open without a deadline.
            await self.send(Closed())

    @override
    async def _create_stream(self, request: h11.Request) -> None:
        """As the stock one, with our WebSocket in place of its own."""
        if not _is_upgrade(request):
            await super()._create_stream(request)
            return
        assert isinstance(self.connection, h11.Connection)
        self.stream = _WebSocket(
            *(self.app, self.config, self.context, self.task_group, self.ssl),
            *(self.client, self.server, self.stream_send, STREAM_ID),
        )
        self.connection = H11WSConnection(self.connection)
        # A compressor each way would cost a connection some 300 KiB.
        headers = [field for field in request.headers if field[0] != b"sec-websocket-extensions"]
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method="GET",
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    @override
    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        self._head = b""
        if isinstance(event, h11.Response) and _has_body(event):
            self._head = data
        elif data:
            await self.send(RawData(data=data))

    @override
    async def _check_protocol(self, event: h11.Request) -> None:
        # An `Upgrade: h2c` header may be ignored (RFC 9110, 7.8); the preface cannot.
        if event.http_version not in {b"1.0", b"1.1"}:
            raise _Http2

    @override
    async def _send_error_response(self, status_code: int) -> None:
        fault = BadRequest(f"no HTTP/1.1 request (status {status_code})")
        body = refusal(fault)
        headers = [
            (b"content-length", str(len(body)).encode("ascii")),
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
        ]
        head = h11.Response(status_code=status_code, headers=headers)
        for part in (head, h11.Data(data=body), h11.EndOfMessage()):
            await self._send_h11_event(part)


class _WebSocket(WSStream):
    """hypercorn's WebSocket, which ends when its connection does and holds nothing unbounded.

    The stock one sleeps up to a ping's span after the end, keeps a peer that is gone until TCP
    says so, goes on collecting a message that it has refused, and waits for ever to tell an
    application of the end whose queue is full.
    """

    def __init__(self, *parts: Any) -> None:  # noqa: ANN401 - as the stock one, nine of them
        super().__init__(*parts)
        self._over = trio.Event()
        self._heard_s = trio.current_time()
        self._is_deaf = False
        self._tell: Callable[[ASGIReceiveEvent], Awaitable[None]] | None = None
        self._telling = trio.CancelScope()
        self._parts: list[bytes] = []

    @override
    async def handle(self, event: StreamEvent) -> None:
        """Take a part of the stream, or its end."""
        self._heard_s = trio.current_time()
        if isinstance(event, StreamClosed):
            self._over.set()
            self._telling.cancel()
            with trio.move_on_after(_CLOSE_S) as patience:
                await super().handle(event)
            if patience.cancelled_caught:
                self.scope["state"]["abort"]()
        elif isinstance(event, Data) and not self.handshake.accepted:
            self._is_deaf = True  # frames before there is anybody to hear them
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif not self._is_deaf:
            try:
                await super().handle(event)
            except LocalProtocolError:
                self._is_deaf = True  # bytes behind the end
        if self._tell is None and self.app_put is not None:
            self._tell, self.app_put = self.app_put, self._tell_app

    async def _tell_app(self, message: ASGIReceiveEvent) -> None:
        """Hand a message over; one for an application that may be over is dropped at the end."""
        assert self._tell is not None
        if message["type"] != "websocket.receive":
            await self._tell(message)
        elif not self._over.is_set():
            with trio.CancelScope() as self._telling:
                await self._tell(message)

    @override
    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send a message; a text with `more` leaves with the next one, in one write."""
        is_text = message is not None and message["type"] == "websocket.send"
        if not is_text or self.closed or self.state is not ASGIWebsocketState.CONNECTED:
            await super().app_send(message)
            return
        fields = cast("Mapping[str, object]", message)
        with suppress(LocalProtocolError):  # it is being closed
            self._parts.append(self.connection.send(TextMessage(data=str(fields["text"]))))
        if not fields.get("more"):
            data, self._parts = b"".join(self._parts), []
            await self.send(Data(stream_id=self.stream_id, data=data))

    @override
    async def _handle_events(self) -> None:
        await super()._handle_events()
        if self.buffer.length > self.buffer.max_length:  # it was told so, with 1009
            self._is_deaf = True
            self.buffer.clear()
            self.task_group.spawn(self._close_soon)

    async def _close_soon(self) -> None:
        with trio.move_on_after(_CLOSE_S):
            await self._over.wait()
        await self.send(StreamClosed(stream_id=self.stream_id))

    @override
    async def _send_pings(self) -> None:
        span = self.config.websocket_ping_interval or 0.0
        while not self.closed:
            with trio.move_on_after(span):
                await self._over.wait()
            if trio.current_time() - self._heard_s > _PINGS_LOST_MAX * span:
                await self.send(StreamClosed(stream_id=self.stream_id))
            elif not self._over.is_set():
                await self._send_wsproto_event(Ping())


def _is_upgrade(request: h11.Request) -> bool:
    fields: dict[bytes, bytes] = dict(request.headers)
    tokens = fields.get(b"connection", b"").lower().split(b",")
    is_websocket = fields.get(b"upgrade", b"").strip().lower() == b"websocket"
    is_get = request.method == b"GET" and request.http_version == b"1.1"
    return is_get and is_websocket and b"upgrade" in map(bytes.strip, tokens)


def _has_body(head: h11.Response) -> bool:
    lengths = [value for name, value in head.headers if name == b"content-length"]
    return bool(lengths) and lengths != [b"0"]
