"""The HTTP door of the daemon: loopback TCP and the unix socket, on hypercorn's trio worker.

hypercorn 0.18 parses HTTP; the accept loop, limits, deadlines and the stop are ours, because the
stock ones let two clients that do not read hold the daemon for ever (docs/spec/rpc.md, "Doors").

Invariants: at most `connections` at once; no write, body or silence lasts longer than its bound;
one connection's fault ends that connection only; after cancellation nothing outlives `drain_s`.

Knows: sockets, hypercorn, trio. Must not know: methods, the ledger, peers.
"""

import errno
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from prsm.node.callers.tokens import Tokens
from prsm.node.config import is_loopback
from prsm.node.home import socket_address, write_private
from prsm.node.rpc.client import Endpoint
from prsm.node.rpc.dispatch import Dispatcher, refusal
from prsm.node.rpc.errors import PortTaken, PublicBind, TooMany
from prsm.node.rpc.methods.subscriptions import MESSAGE_BYTES_MAX, TOPICS
from prsm.node.rpc.ports import describe_holder
from prsm.node.telemetry import logs
from prsm.node.telemetry.events import Events
from prsm.node.web.aliases import alias_routes
from prsm.node.web.app import Health, Pages, make_app
from prsm.node.web.auth import Gate, Own, own_hosts, read_unix_peer, write_cookie
from prsm.node.web.bodies import BODY_DEADLINE_S
from prsm.node.web.connection import Connection, Link
from prsm.node.web.quick import QuickCalls
from prsm.node.web.sockets import Sockets
from prsm.node.web.tls import HANDSHAKE_S, AllowFrom, Tls, Visitors

_BACKLOG: Final = 256
_SOCKET_UMASK: Final = 0o177
_TURN_AWAY_S: Final = 1.0
_TURN_AWAY_MAX: Final = 64  # at once: each holds a descriptor meanwhile
_KEPT: Final = 8  # one in so many connections is for programs of this machine
_WEBSOCKET_PING_S: Final = 20.0

log: Final = logs.get("web")


@dataclass(frozen=True, slots=True)
class Door:
    """Where to listen and which files to write.

    Attributes:
        host, port: an address; port 0 takes a free one. Beyond loopback with `tls` and `tokens`.
        cookie: the token file, made at start, removed at the end.
        socket_path: the unix socket; None for none.
        endpoint: `run/endpoint.json` for clients; None for none.
        tokens: whose holders come in beside the cookie's; None for nobody else.
        events: what is told on /ws.
        tls: of the TCP side; None: in clear text.
        names: `host:port` by which others call this node.
        allow: which addresses may connect.
    """

    host: str
    port: int
    cookie: Path
    socket_path: Path | None = None
    endpoint: Path | None = None
    tokens: Tokens | None = None
    events: Events = field(default_factory=lambda: Events(TOPICS))
    tls: Tls | None = None
    names: tuple[str, ...] = ()
    allow: AllowFrom = field(default_factory=lambda: AllowFrom(()))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one client, and all together, may take.

    Attributes:
        connections: at once, over both listeners; more get 503, or are closed.
        connections_each: of one address of another machine; more are closed.
        body_s: a request's body must be complete by then.
        write_s: each 256 KiB of an answer must be taken by then.
        idle_s: a connection without a request, or in the middle of one's head, ends then.
        drain_s: what is running when the node stops may take so long.
    """

    connections: int = 512
    connections_each: int = 64
    body_s: float = BODY_DEADLINE_S
    write_s: float = 5.0
    idle_s: float = 5.0
    drain_s: float = 1.5


@dataclass(frozen=True, slots=True)
class Bound:
    """Where the door listens."""

    host: str
    port: int
    socket_path: Path | None
    scheme: str = "http"

    @property
    def url(self) -> str:
        """The same with its scheme, for a browser."""
        return f"{self.scheme}://{self.http}"

    @property
    def http(self) -> str:
        """Address of the HTTP side, `127.0.0.1:8480`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def serve(
    dispatcher: Dispatcher,
    *,
    door: Door,
    health: Health,
    bounds: Bounds | None = None,
    pages: Pages | None = None,
    task_status: trio.TaskStatus[Bound] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer calls until cancelled; started once both listeners accept and the files are there.

    Raises:
        PublicBind: other machines can reach `door.host`, and TLS or tokens are missing.
        PortTaken: somebody listens there; the text names the program.
    """
    limits = bounds or Bounds()
    listeners, bound = await _listen(door)
    try:
        gate = Gate(write_cookie(door.cookie), tokens=door.tokens)
        if door.endpoint is not None:
            write_private(door.endpoint, msgspec.json.encode(_endpoint(bound)))
        sockets = Sockets(dispatcher, gate, door.events)

        def all_pages(gate: Gate) -> list[BaseRoute]:
            others = pages(gate) if pages is not None else ()
            return [*sockets.routes(), *others, *alias_routes(dispatcher, gate)]

        own = Own(own_hosts(bound.host, bound.port, *door.names), bound.scheme)
        app = make_app(
            dispatcher,
            gate=gate,
            health=health,
            own=own,
            body_deadline_s=limits.body_s,
            pages=all_pages,
        )
        log.info("listening", http=bound.http, unix=str(bound.socket_path or ""))
        task_status.started(bound)  # the backlog accepts from here on
        quick = QuickCalls(dispatcher, gate, own)
        await _Server(app, limits, door, _Ways(sockets, quick)).run(listeners)
    finally:
        for listener in listeners:
            listener.socket.close()
        for path in (door.endpoint, door.cookie, bound.socket_path):
            if path is not None:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Ways:
    """What answers beside the application."""

    sockets: Sockets
    quick: QuickCalls


class _Server:
    """The accept loop and the count of its connections."""

    def __init__(self, app: ASGIApp, bounds: Bounds, door: Door, ways: _Ways) -> None:
        self._sockets, self._quick = ways.sockets, ways.quick
        self._app = ASGIWrapper(cast("ASGIFramework", app))  # two spellings of one interface
        self._bounds = bounds
        self._config = _hypercorn_config(bounds)
        self._context = WorkerContext(None)
        self._door = door
        kept = bounds.connections // _KEPT  # whoever fills the rest, the operator gets in
        self._visitors = Visitors(bounds.connections_each, all_max=bounds.connections - kept)
        self._open = self._turning = 0
        self._stopping = trio.Event()
        self._holding = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        self._connections: trio.Nursery | None = None

    async def run(self, listeners: list[trio.SocketListener]) -> None:
        """Accept until cancelled, then let what runs finish within `drain_s`."""
        async with trio.open_nursery() as parts:
            # Not `start`: cancelled inside it, a shielded child would be waited for for ever.
            parts.start_soon(self._hold_connections)
            try:
                await self._holding.wait()
                nursery = self._connections
                await trio.serve_listeners(self._handle, listeners, handler_nursery=nursery)
            finally:
                self._scope.deadline = trio.current_time() + self._bounds.drain_s
                self._stopping.set()

    async def _hold_connections(self) -> None:
        """Own the tasks of all connections; they outlive a cancellation until the deadline."""
        with self._scope:
            async with trio.open_nursery() as self._connections:
                self._holding.set()
                await self._tend()
                await self._context.terminated.set()  # idle connections end now

    async def _tend(self) -> None:
        """Look after WebSockets until the node stops."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sockets.tend)
            await self._stopping.wait()
            self._sockets.stop()
            nursery.cancel_scope.cancel()

    async def _handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever happens in it stays in it."""
        if self._open >= self._bounds.connections:
            is_tls = self._door.tls is not None and stream.socket.family != socket.AF_UNIX
            if self._turning < _TURN_AWAY_MAX and not is_tls:  # clear text is no answer there
                await self._turn_away(stream)
            return
        self._open += 1
        try:
            with trio.CancelScope() as scope:
                link = Link(scope.cancel, self._bounds.write_s, self._quick)
                if stream.socket.family == socket.AF_UNIX:
                    link.peer = read_unix_peer(stream.socket)
                address = _address(stream)
                if address is None:
                    return
                with self._visitors.enter(address) as is_welcome:
                    secured = await self._secured(stream, address) if is_welcome else None
                    if secured is not None:
                        common = self._app, self._config, self._context
                        await Connection(*common, link, secured).run()
                await trio.aclose_forcefully(stream)
        except* Exception as group:  # noqa: BLE001 - one connection must not end the others
            log.warning(
                "connection failed", errors=[repr(error)[:200] for error in group.exceptions]
            )
        finally:
            self._open -= 1

    async def _secured(
        self, stream: trio.SocketStream, address: str
    ) -> trio.SocketStream | trio.SSLStream[trio.SocketStream] | None:
        """What to speak HTTP over; None if nobody is to be spoken to."""
        if stream.socket.family == socket.AF_UNIX:
            return stream
        if address not in self._door.allow:
            return None
        if self._door.tls is None:
            return stream
        context = self._door.tls.context()
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            with trio.fail_after(HANDSHAKE_S):
                await secured.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            return None
        return secured

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        limit = self._bounds.connections
        fault = TooMany(f"{limit} connections are open, at most {limit}", retry_after_ms=1000)
        body = refusal(fault)
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._turning += 1
        try:
            with trio.move_on_after(_TURN_AWAY_S):
                await stream.send_all(head.encode("ascii") + body)
                await stream.send_eof()
                await stream.receive_some(65536)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._turning -= 1


def _address(stream: trio.SocketStream) -> str | None:
    """Of the other side; empty for the unix socket, None where it is gone already."""
    if stream.socket.family == socket.AF_UNIX:
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # it was reset while it waited to be accepted
        return None


def _hypercorn_config(bounds: Bounds) -> HypercornConfig:
    config = HypercornConfig()
    config.keep_alive_timeout = bounds.idle_s
    config.keep_alive_max_requests = 10**9  # the stock 1,000 cuts busy clients
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = None  # our own wrappers log, without addresses of clients
    config.websocket_max_message_size = MESSAGE_BYTES_MAX
    config.websocket_ping_interval = _WEBSOCKET_PING_S
    return config


def _endpoint(bound: Bound) -> Endpoint:
    http = bound.http if bound.scheme == "http" else bound.url
    return Endpoint(pid=os.getpid(), http=http, unix=str(bound.socket_path or ""))


async def _listen(door: Door) -> tuple[list[trio.SocketListener], Bound]:
    if not is_loopback(door.host) and (door.tls is None or door.tokens is None):
        raise PublicBind(
            f"rpc.listen is {door.host!r}, which other machines can reach, without TLS and tokens"
        )
    host = "127.0.0.1" if door.host == "localhost" else door.host
    tcp = await _listen_tcp(host, door.port)
    port = tcp.socket.getsockname()[1]
    listeners = [tcp]
    if door.socket_path is not None:
        listeners.append(_listen_unix(door.socket_path))
    scheme = "http" if door.tls is None else "https"
    return listeners, Bound(host, port, door.socket_path, scheme)


async def _listen_tcp(host: str, port: int) -> trio.SocketListener:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((host, port))
        plain.listen(_BACKLOG)
    except OSError as error:
        plain.close()
        if error.errno != errno.EADDRINUSE:
            raise
    else:
        return trio.SocketListener(trio.socket.from_stdlib_socket(plain))
    holder = await trio.to_thread.run_sync(describe_holder, host, port)
    raise PortTaken(
        f"{host}:{port} is taken by {holder}",
        hint='set another rpc.listen in config.toml, such as "127.0.0.1:0" for a free port',
    )


def _listen_unix(path: Path) -> trio.SocketListener:
    """Make the socket 0600; the folder's lock is ours, so a file left there is stale."""
    path.unlink(missing_ok=True)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(_SOCKET_UMASK)
    try:
        with socket_address(path) as place:
            plain.bind(place)
        plain.listen(_BACKLOG)
    except BaseException:
        plain.close()
        raise
    finally:
        os.umask(old)
    return trio.SocketListener(trio.socket.from_stdlib_socket(plain))
