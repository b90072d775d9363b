"""The client's side of a WebSocket, without a socket: wsproto and what the node's door asks for.

Source: RFC 6455. Loaded by the first subscription only: importing wsproto takes 20 ms.

Knows: frames of text. Must not know: sockets, JSON-RPC.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

MESSAGE_CHARS_MAX: Final = 8 * 1024 * 1024


class Opened(NamedTuple):
    """The handshake is done."""


class Refused(NamedTuple):
    """The handshake was refused."""

    status: int
    body: bytes


class Text(NamedTuple):
    """A whole message."""

    text: str


class Closed(NamedTuple):
    """The other side ended it."""

    code: int
    why: str


Heard = Opened | Refused | Text | Closed


class Wire:
    """One connection: bytes in, what they say and bytes to send out."""

    def __init__(self) -> None:
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] = []
        self._chars = 0
        self._refused: Refused | None = None

    def open(self, host: str, path: str, headers: Mapping[str, str]) -> bytes:
        """The handshake; the headers say who asks."""
        extra = [(name.encode("ascii"), text.encode("ascii")) for name, text in headers.items()]
        return self._connection.send(Request(host=host, target=path, extra_headers=extra))

    def send(self, text: str) -> bytes:
        """A message."""
        return self._connection.send(TextMessage(data=text))

    def close(self) -> bytes:
        """A polite end; empty if it has ended already."""
        try:
            return self._connection.send(CloseConnection(code=1000))
        except LocalProtocolError:
            return b""

    def feed(self, data: bytes) -> tuple[list[Heard], bytes]:
        """Take what was received; an empty piece is the end of the stream.

        Returns:
            What was heard, and what must be sent for it: pongs, the answer to a close.

        Raises:
            ValueError: no WebSocket of ours.
        """
        try:
            self._connection.receive_data(data or None)
            return self._hear()
        except (RemoteProtocolError, LocalProtocolError) as error:
            raise ValueError(f"no WebSocket answer: {error}") from error

    def _hear(self) -> tuple[list[Heard], bytes]:
        heard: list[Heard] = []
        reply = b""
        for event in self._connection.events():
            match event:
                case AcceptConnection():
                    heard.append(Opened())
                case RejectConnection(status_code=status, has_body=has_body):
                    self._refused = Refused(status, b"")
                    if not has_body:
                        heard.append(self._refused)
                case RejectData(data=data, body_finished=is_whole):
                    assert self._refused is not None
                    self._refused = Refused(self._refused.status, self._refused.body + bytes(data))
                    heard += [self._refused] if is_whole else []
                case TextMessage(data=text, message_finished=is_whole):
                    heard += self._gather(text, is_whole=is_whole)
                case Ping():
                    reply += self._connection.send(event.response())
                case CloseConnection(code=code, reason=reason):
                    heard.append(Closed(code, reason or ""))
                    reply += self._answer_close(event)
                case _:
                    pass  # pongs nobody asked for, bytes nobody sends
        return heard, reply

    def _gather(self, text: str, *, is_whole: bool) -> list[Heard]:
        self._chars += len(text)
        if self._chars > MESSAGE_CHARS_MAX:
            raise ValueError(f"a message of more than {MESSAGE_CHARS_MAX} characters")
        self._parts.append(text)
        if not is_whole:
            return []
        whole = "".join(self._parts)
        self._parts, self._chars = [], 0
        return [Text(whole)]

    def _answer_close(self, event: CloseConnection) -> bytes:
        try:
            return self._connection.send(event.response())
        except LocalProtocolError:  # the stream ended without a word, or we had closed it first
            return b""
