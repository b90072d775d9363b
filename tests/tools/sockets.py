"""A WebSocket client of our own door for tests: wsproto on a trio stream, nothing hidden."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

PATIENCE_S: Final = 5.0


class Rejected(Exception):
    """The handshake was answered with something else."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = b""


class Closed(Exception):
    """The other side closed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


@dataclass
class Socket:
    """One connection.

    Attributes:
        told: notifications that came while answers were waited for.
        pings: how many came.
    """

    stream: trio.SocketStream
    wire: WSConnection = field(default_factory=lambda: WSConnection(ConnectionType.CLIENT))
    told: deque[Any] = field(default_factory=deque)
    pings: int = 0
    _lines: deque[Any] = field(default_factory=deque)
    _text: str = ""
    _next_id: int = 0

    async def open(self, host: str, *, token: str | None = None, path: str = "/ws") -> None:
        """Shake hands.

        Raises:
            Rejected: it was refused.
        """
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        await self.send_raw(self.wire.send(Request(host=host, target=path, extra_headers=headers)))
        refused: Rejected | None = None
        with trio.fail_after(PATIENCE_S):
            while True:
                for event in self.wire.events():
                    match event:
                        case AcceptConnection():
                            return
                        case RejectConnection():
                            refused = Rejected(event.status_code)
                            if not event.has_body:
                                raise refused
                        case RejectData():
                            assert refused is not None
                            refused.body += bytes(event.data)
                            if event.body_finished:
                                raise refused
                        case _:
                            raise AssertionError(event)
                data = await self.stream.receive_some()
                if not data:
                    raise refused or Closed(1006)
                self.wire.receive_data(data)

    async def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        await self.stream.send_all(data)

    async def send(self, document: object) -> None:
        """Send one frame of JSON."""
        await self.send_raw(self.wire.send(TextMessage(data=json.dumps(document))))

    async def receive(self) -> Any:  # noqa: ANN401 - any JSON
        """The next frame; the caller sets the deadline.

        Raises:
            Closed: none comes.
        """
        while not self._lines:
            for event in self.wire.events():
                await self._hear(event)
            if self._lines:
                break
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise Closed(1006)
            self.wire.receive_data(data)
        return self._lines.popleft()

    async def _hear(self, event: object) -> None:
        match event:
            case Message():
                self._text += str(event.data)
                if event.message_finished:
                    self._lines.append(json.loads(self._text))
                    self._text = ""
            case Ping():
                self.pings += 1
                await self.send_raw(self.wire.send(event.response()))
            case CloseConnection():
                raise Closed(event.code)
            case _:
                raise AssertionError(event)

    async def call(self, method: str, **params: object) -> Any:  # noqa: ANN401 - any JSON
        """Call and wait for the answer, keeping what is told meanwhile in `told`."""
        self._next_id += 1
        call = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        await self.send(call)
        return await self.answer_to(self._next_id)

    async def answer_to(self, call_id: int) -> Any:  # noqa: ANN401 - any JSON
        """The answer of a call that was sent."""
        with trio.fail_after(PATIENCE_S):
            while True:
                document = await self.receive()
                if isinstance(document, dict) and document.get("id") == call_id:
                    return document
                self.told.append(document)

    async def next_told(self) -> Any:  # noqa: ANN401 - any JSON
        """The next notification's parameters."""
        with trio.fail_after(PATIENCE_S):
            document = self.told.popleft() if self.told else await self.receive()
        assert document["method"] == "prsm_subscription"
        return document["params"]

    async def wait_closed(self) -> int:
        """The code the other side closes with."""
        try:
            with trio.fail_after(2 * PATIENCE_S):
                while True:
                    await self.receive()
        except Closed as closed:
            return closed.code


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what sets no event here; the caller sets the deadline."""
    while True:
        if condition():
            return
        await trio.lowlevel.checkpoint()
