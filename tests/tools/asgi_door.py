"""The door's application without sockets: one request in, its answer and its effects out."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from starlette.types import ASGIApp, Message

from prsm.node.api.events import EventsApi
from prsm.node.api.logins import Logins
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Scope
from prsm.node.telemetry.events import Events
from prsm.node.web.app import Health, beside, fence, log_fault, make_app
from prsm.node.web.auth import Gate, Own, own_hosts
from prsm.node.web.dashboard import dashboard_pages
from prsm.node.web.login import login_route
from prsm.node.web.openai import World, openai_pages
from prsm.node.web.sockets import Sockets
from tests.tools.announced import SetClock
from tests.tools.rpc_node import FakeNode

HOST: Final = "127.0.0.1:8480"
COOKIE: Final = "ab" * 32
Header = tuple[str, str]


@dataclass
class AsgiDoor:
    """The whole application over a fake node."""

    app: ASGIApp
    node: FakeNode
    tokens: Tokens
    logins: Logins
    clock: SetClock
    sockets: Sockets
    statuses: list[int] = field(default_factory=list)

    def changes(self) -> list[str]:
        """Calls that reached a handler and do more than read; forgotten once told."""
        found = [name for name, _ in self.node.calls if METHODS[name].scope is not Scope.READ]
        self.node.calls.clear()
        return found

    async def page(self, path: str, address: str) -> tuple[int, dict[str, str], bytes]:
        """GET of a page by a program at that address."""
        return await self._asked("GET", path, [("Host", HOST)], b"", address)

    async def http(
        self, verb: str, path: str, headers: Iterable[Header], body: bytes
    ) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to one request."""
        status, named, _ = await self._asked(verb, path, headers, body, "127.0.0.1")
        return status, named

    async def _asked(
        self, verb: str, path: str, headers: Iterable[Header], body: bytes, address: str
    ) -> tuple[int, dict[str, str], bytes]:
        plain, _, query = path.partition("?")
        sent: list[Message] = []
        reading = [{"type": "http.request", "body": body, "more_body": False}]

        begun = trio.Event()

        async def receive() -> Message:
            await trio.lowlevel.checkpoint()
            if reading:
                return reading.pop()
            await begun.wait()  # who hangs up before that is told nothing
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)
            if message["type"] == "http.response.start":
                begun.set()

        scope = _scope("http", plain, query, headers)
        scope |= {"method": verb, "client": (address, 50_000)}
        with trio.fail_after(5):
            await self.app(scope, receive, send)
        start = next(one for one in sent if one["type"] == "http.response.start")
        named = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        given = b"".join(one["body"] for one in sent if one["type"] == "http.response.body")
        return int(start["status"]), named, given

    async def websocket(self, headers: Iterable[Header], frames: Iterable[str]) -> list[Message]:
        """What the node says on a WebSocket that sends these frames and goes."""
        sent: list[Message] = []
        coming: list[Message] = [
            {"type": "websocket.connect"},
            *({"type": "websocket.receive", "texts": [one]} for one in frames),
        ]

        async def receive() -> Message:
            await trio.lowlevel.checkpoint()
            if coming:
                return coming.pop(0)
            for _ in range(20):  # what was asked is answered first
                await trio.lowlevel.checkpoint()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        with trio.fail_after(5):
            await self.app(_scope("websocket", "/ws", "", headers), receive, send)
        return sent


def _scope(kind: str, path: str, query: str, headers: Iterable[Header]) -> dict[str, object]:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": raw,
        "subprotocols": [],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8480),
        "state": {"abort": lambda: None, "peer": None},
        "extensions": {},
    }


@asynccontextmanager
async def open_asgi(folder: Path) -> AsyncIterator[AsgiDoor]:
    """The application with every page of a node, its WebSockets tended while the block runs."""
    node, clock, events = FakeNode(), SetClock(), Events(TOPICS)
    tokens = Tokens.open(folder / "rpc.jwt", folder / "tokens.json", clock)
    logins = Logins(tokens, clock)
    dispatcher = bind(
        {**node.handlers(), **EventsApi(events).handlers()}, fence=fence, on_fault=log_fault
    )
    gate = Gate(COOKIE, tokens=tokens)
    sockets = Sockets(dispatcher, gate, events)
    world = World(clock.wall_ms, lambda: 1)
    pages = beside(
        lambda _gate: sockets.routes(),
        lambda its: [login_route(its, logins)],
        dashboard_pages,
        openai_pages(dispatcher, world),
    )
    app = make_app(
        dispatcher,
        gate=gate,
        health=Health("tester", "0.1.0", lambda: ""),
        own=Own(own_hosts("127.0.0.1", 8480)),
        pages=pages,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sockets.tend)
        yield AsgiDoor(app, node, tokens, logins, clock, sockets)
        nursery.cancel_scope.cancel()


async def token_of(door: AsgiDoor, *scopes: str, expires_ms: int | None = None) -> str:
    """The text of a new token."""
    plain = Token(id="", name="t", scopes=scopes, created_ms=0, expires_ms=expires_ms)
    return (await door.tokens.add(plain))[1]


def call_of(method: str, **params: object) -> bytes:
    """A JSON-RPC call."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
