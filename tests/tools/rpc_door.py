"""A real door on loopback for tests, and raw HTTP to throw at it."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import trio
from starlette.routing import BaseRoute

from prsm.node.api.events import EventsApi
from prsm.node.api.logins import Logins
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.home import Home, socket_address
from prsm.node.rpc.dispatch import Dispatcher, Handler, bind
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.telemetry.events import Events
from prsm.node.web.app import Health, Pages, fence, log_fault
from prsm.node.web.auth import Gate
from prsm.node.web.login import login_route
from prsm.node.web.serve import Bound, Bounds, Door, serve
from tests.tools.announced import SetClock
from tests.tools.rpc_node import FakeNode
from tests.tools.sockets import Socket

PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"rpc_ping"}'


@dataclass
class OpenDoor:
    """A served fake node with tokens; `why` is what /readyz says."""

    node: FakeNode
    home: Home
    bound: Bound
    nursery: trio.Nursery
    why: list[str]
    clock: SetClock
    tokens: Tokens
    logins: Logins
    events: Events
    sockets: list[Socket] = field(default_factory=list)

    @property
    def cookie(self) -> str:
        """The token of this run."""
        return self.home.cookie.read_text(encoding="ascii").strip()

    async def token(self, *scopes: str, **more: Any) -> str:  # noqa: ANN401 - fields of a token
        """The text of a new token."""
        plain = Token(id="", name="t", scopes=scopes, created_ms=0, **more)
        return (await self.tokens.add(plain))[1]

    async def tcp(self) -> trio.SocketStream:
        """A plain connection to the HTTP side."""
        return await trio.open_tcp_stream(self.bound.host, self.bound.port)

    async def socket(self, *, token: str | None = "") -> Socket:
        """A WebSocket; with the cookie unless another token, or None, is given."""
        socket = Socket(await self.tcp())
        self.sockets.append(socket)
        await socket.open(self.bound.http, token=self.cookie if token == "" else token)
        return socket

    async def unix(self) -> trio.SocketStream:
        """A plain connection to the unix socket."""
        with socket_address(self.home.socket) as place:
            return await trio.open_unix_socket(place)


@asynccontextmanager
async def open_door(
    folder: Path,
    *,
    bounds: Bounds | None = None,
    pages: Callable[[Dispatcher], Pages] | None = None,
    handlers: Mapping[str, Handler] = MappingProxyType({}),
    change: Callable[[Door], Door] = lambda door: door,
) -> AsyncIterator[OpenDoor]:
    """Serve a fake node on free loopback sockets while the block runs.

    Args:
        folder: its home is made in there.
        bounds: of the door.
        pages: makes further routes over the node's calls.
        handlers: answer instead of the fake's.
        change: of the door's own description, such as TLS.
    """
    home = Home(folder / "home")
    home.create()
    node = FakeNode()
    why: list[str] = []
    clock = SetClock()
    tokens = Tokens.open(home.token_key, home.tokens, clock)
    logins = Logins(tokens, clock)
    events = Events(TOPICS)
    door = Door("127.0.0.1", 0, home.cookie, home.socket, home.endpoint, tokens, events)
    health = Health("tester", "0.1.0", lambda: "".join(why))
    dispatcher = bind(
        {**node.handlers(), **EventsApi(events).handlers(), **handlers},
        fence=fence,
        on_fault=log_fault,
    )
    more = None if pages is None else pages(dispatcher)

    def routes(gate: Gate) -> list[BaseRoute]:
        return [login_route(gate, logins), *(more(gate) if more is not None else ())]

    async with trio.open_nursery() as nursery:
        bound = await nursery.start(
            partial(
                serve, dispatcher, door=change(door), health=health, bounds=bounds, pages=routes
            )
        )
        opened = OpenDoor(node, home, bound, nursery, why, clock, tokens, logins, events)
        try:
            yield opened
        finally:
            for socket in opened.sockets:
                socket.stream.socket.close()
        nursery.cancel_scope.cancel()


def auth(door: OpenDoor) -> dict[str, str | None]:
    """Headers of a caller with the right Host and token."""
    return {"Host": door.bound.http, "Authorization": f"Bearer {door.cookie}"}


def request(
    verb: str = "POST",
    path: str = "/rpc",
    *,
    body: bytes = PING,
    headers: dict[str, str | None] | None = None,
) -> bytes:
    """An HTTP/1.1 request; a header given as None is left out."""
    fields: dict[str, str | None] = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    fields |= headers or {}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{verb} {path} HTTP/1.1", *lines, "\r\n"]).encode() + body


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body as JSON."""
        return json.loads(self.body)


async def read_answer(stream: trio.SocketStream, buffer: bytearray | None = None) -> Answer:
    """Read one answer with a length; at most two seconds."""
    data = bytearray() if buffer is None else buffer
    with trio.fail_after(5):
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some()
            if not more:
                raise ConnectionError(f"closed after {bytes(data)!r}")
            data += more
        head, _, _ = bytes(data).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        end = len(head) + 4 + int(headers.get("content-length", "0"))
        while len(data) < end:
            more = await stream.receive_some()
            if not more:
                raise ConnectionError("closed inside the body")
            data += more
    body = bytes(data[len(head) + 4 : end])
    del data[:end]
    return Answer(int(first.split()[1]), headers, body)


async def exchange(stream: trio.SocketStream, raw: bytes) -> Answer:
    """Send a request and read its answer; the connection is closed."""
    async with stream:
        await stream.send_all(raw)
        return await read_answer(stream)
