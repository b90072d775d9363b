"""One HTTP/1.1 connection: hypercorn's machine with deadlines on every write and no HTTP/2.

hypercorn 0.18 shields its writes from cancellation and waits for ever on a client that does not
read; here each slice has a deadline, and then the connection is closed hard. An upgrade to
HTTP/2 in clear text is not offered, and its preface is answered with 505. A plain call never
reaches that machine: it is answered in the task that read it.

Knows: hypercorn's protocol objects. Must not know: routes, who calls.
"""

import math
import os
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
from prsm.node.web.auth_filter import is_local
from prsm.node.web.quick import QuickCalls, Side, Taken
from prsm.node.web.waiting import until_it_waits
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
        quick: answers plain calls; None: all of them go through the machine.
        peer: the process behind a unix socket.
    """

    abort: Callable[[], None]
    write_s: float
    quick: QuickCalls | None = None
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
        self._idle_since = trio.current_time()
        self._secured = isinstance(stream, trio.SSLStream)
        self._plain = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._owes_turn = False
        self._side: Side | None = None

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
            self._side = Side(client, is_local=is_local(client), peer=self._link.peer)
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
        except OSError:
            return  # the client is gone
        finally:
            await trio.aclose_forcefully(self.stream)

    @override
    async def protocol_send(self, event: Event) -> None:
        """Write what the protocol wants written, each slice before its deadline."""
        if isinstance(event, Updated):
            self._set_idle(is_idle=event.idle)
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
            start = self._write_now(data)
            while start < len(data):
                end = start + _SLICE_BYTES
                with trio.move_on_after(self._link.write_s) as patience:
                    await self.stream.send_all(data[start:end])
                if patience.cancelled_caught:
                    return False
                start = end
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            return False
        return True

    def _write_now(self, data: bytes) -> int:
        """How much the system took at once, without a turn of the loop.

        Only what answers something that was read may do so: a connection that is told things
        without asking takes a turn for each, or it could keep the loop to itself.
        """
        if self._secured or self._owes_turn:
            return 0
        self._owes_turn = True
        try:
            return os.write(self._plain.socket.fileno(), data[:_SLICE_BYTES])
        except BlockingIOError:
            return 0

    @override
    async def _read_data(self, held: Taken | None = None) -> None:
        """Read to the end, or until a call that waits has given the reading to another task.

        Args:
            held: the call that waits; what is read meanwhile comes after it.
        """
        # The stock one gives each read a deadline, of which there is none.
        data = b"not yet the end"
        while data:
            try:
                data = await self._receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            if held is not None:
                if not data:
                    held.gone.set()
                await held.over.wait()
                held = None
            self._owes_turn = False
            taken = self._take(data)
            if taken is None:
                await self.protocol.handle(RawData(data))
            elif not await self._answer(taken):
                return
        await self.protocol.handle(Closed())
        # Stock, a closed connection keeps its slot until the idle timeout.
        self._ended = True
        self._idle.cancel()

    async def _receive(self) -> bytes:
        if self._secured:
            return bytes(await self.stream.receive_some(_READ_BYTES))
        plain = self._plain.socket
        while True:
            if plain.fileno() < 0:
                raise trio.ClosedResourceError
            # Waited for first: trying would fail nearly each time.
            await trio.lowlevel.wait_readable(plain)
            try:
                return os.read(plain.fileno(), _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError from error

    def _take(self, data: bytes) -> Taken | None:
        """Whether what was read is a plain call, and nothing else is under way."""
        quick, side = self._link.quick, self._side
        if quick is None or side is None or self.context.terminated.is_set():
            return None
        protocol = self.protocol
        assert isinstance(protocol, _Http1)
        return quick.take(data, side) if protocol.is_fresh else None

    async def _answer(self, taken: Taken) -> bool:
        """Answer a call where it was read; False once another task reads on."""
        is_alone = True

        def hand_over() -> None:
            nonlocal is_alone
            is_alone = False
            self._set_idle(is_idle=False)
            self._task_group.spawn(self._read_data, taken)

        await until_it_waits(self._answer_now(taken), hand_over)
        if is_alone:
            self._idle_since = trio.current_time()
            return True
        self._set_idle(is_idle=True)
        if self.context.terminated.is_set():
            await self.protocol_send(Closed())
        taken.over.set()
        return False

    async def _answer_now(self, taken: Taken) -> None:
        assert self._link.quick is not None
        await self.protocol_send(RawData(await self._link.quick.answer(taken)))

    async def _watch_idle(self) -> None:
        """Close a connection that is silent for too long, or once it is when the node stops.

        The stock one starts and cancels a task for each request. The deadline of most requests is
        looked at when an earlier one has passed.
        """
        while not self._ended:
            with trio.CancelScope(deadline=self._idle_deadline()) as self._idle:
                await self.context.terminated.wait()
                self._idle.deadline = self._idle_deadline()
                await trio.sleep_forever()
            if self._idle_deadline() <= trio.current_time():
                break
        if not self._ended:
            with trio.CancelScope(shield=True):
                await self._initiate_server_close()

    def _set_idle(self, *, is_idle: bool) -> None:
        self._is_idle, self._idle_since = is_idle, trio.current_time()
        self._idle.deadline = self._idle_deadline()

    def _idle_deadline(self) -> float:
        if not self._is_idle:
            return math.inf
        if self.context.terminated.is_set():
            return -math.inf
        return self._idle_since + self.config.keep_alive_timeout

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

    @property
    def is_fresh(self) -> bool:
        """Whether nothing of a request was read, and none is under way."""
        machine = self.connection
        if self.stream is not None or machine.their_state is not h11.IDLE:
            return False
        return machine.our_state is h11.IDLE and not machine.trailing_data[0]

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
