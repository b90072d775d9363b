"""One HTTP/1.1 connection: hypercorn's machine with deadlines on every write and no HTTP/2.

hypercorn 0.18 shields its writes from cancellation and waits for ever on a client that does not
read; here each slice has a deadline, and then the connection is closed hard. An upgrade to
HTTP/2 in clear text is not offered, and its preface is answered with 505.

Knows: hypercorn's protocol objects. Must not know: routes, who calls.
"""

import math
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    AppWrapper,
    ConnectionState,
    H11SendableEvent,
    LifespanState,
)
from typing_extensions import override

from prsm.node.rpc.dispatch import refusal
from prsm.node.rpc.errors import BadRequest
from prsm.node.web.apptasks import AppTasks
from prsm.node.web.auth import UnixPeer
from prsm.node.web.websocket import WebSocket

_SLICE_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 64 * 1024
_CLOSE_S: Final = 1.0


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
            async with AppTasks() as self._task_group:
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
            is_taken = await self._write(event.data)
        finally:
            self.send_lock.release()
        if not is_taken:
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())

    async def _write(self, data: bytes) -> bool:
        """Write in slices, each before its deadline; False for a client that is gone or deaf."""
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                with trio.move_on_after(self._link.write_s) as patience:
                    await self.stream.send_all(data[start : start + _SLICE_BYTES])
                if patience.cancelled_caught:
                    return False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    @override
    async def _read_data(self) -> None:
        # The stock one gives each read a deadline, of which there is none.
        data: bytes | bytearray = b"not yet the end"
        while data:
            try:
                data = await self.stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            await self.protocol.handle(RawData(bytes(data)))
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
        if isinstance(self.stream, WebSocket) and self.stream.closed:
            # Refused handshake: the stock one leaves the connection open without a deadline.
            await self.send(Closed())

    @override
    async def _create_stream(self, request: h11.Request) -> None:
        """As the stock one, with our WebSocket in place of its own."""
        if not _is_upgrade(request):
            await super()._create_stream(request)
            return
        assert isinstance(self.connection, h11.Connection)
        self.stream = WebSocket(
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


def _is_upgrade(request: h11.Request) -> bool:
    fields: dict[bytes, bytes] = dict(request.headers)
    tokens = fields.get(b"connection", b"").lower().split(b",")
    is_websocket = fields.get(b"upgrade", b"").strip().lower() == b"websocket"
    is_get = request.method == b"GET" and request.http_version == b"1.1"
    return is_get and is_websocket and b"upgrade" in map(bytes.strip, tokens)


def _has_body(head: h11.Response) -> bool:
    lengths = [value for name, value in head.headers if name == b"content-length"]
    return bool(lengths) and lengths != [b"0"]
