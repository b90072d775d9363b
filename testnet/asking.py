"""JSON-RPC over HTTP for programs on a trio loop: many callers, one process, real sockets.

The daemon's own client blocks its thread; a load of hundreds of callers beside proxies needs one
that does not. Knows: HTTP/1.1 as the node's door speaks it, the cookie. Must not know: methods.
A call is never sent twice, and a call that is cancelled closes its connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import trio

from prsm.node.home import Home
from prsm.node.rpc.client import Endpoint, RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.spec import Params

HEAD_BYTES_MAX: Final = 65_536
T = TypeVar("T")


class _Fault(msgspec.Struct):
    code: int
    message: str
    data: dict[str, object] = {}


class _Reply(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: _Fault | None = None


@dataclass(slots=True)
class Door:
    """Where a node answers, and its token; read again after the node was started anew."""

    home: Home
    port: int = 0
    cookie: str = ""

    def read(self) -> None:
        """Read endpoint and cookie of the running node.

        Raises:
            NodeUnreachable: it has written neither.
        """
        try:
            endpoint = msgspec.json.decode(self.home.endpoint.read_bytes(), type=Endpoint)
            self.cookie = self.home.cookie.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            raise NodeUnreachable(f"no node runs in {self.home.root}") from error
        self.port = int(endpoint.http.rstrip("/").rpartition(":")[2])


class Asker:
    """One kept connection to one node; for one task at a time."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._stream: trio.SocketStream | None = None
        self._buffer = bytearray()
        self._last_id = 0

    def close(self) -> None:
        """Close the connection; a later call opens another."""
        self._drop()

    async def call(
        self, method: str, params: Params | Mapping[str, object] | None = None, *, result: type[T]
    ) -> T:
        """Call a method; the caller sets the deadline.

        Raises:
            RpcError: the node refused.
            NodeUnreachable: nobody answers, or the connection broke in between.
        """
        self._last_id += 1
        request: dict[str, object] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params is not None:
            request["params"] = params
        status, answer = await self._exchange(msgspec.json.encode(request))
        if status == 401:  # refused before it ran: the node was started anew
            self._door.read()
            status, answer = await self._exchange(msgspec.json.encode(request))
        reply = msgspec.json.decode(answer, type=_Reply)
        if reply.error is not None:
            raise RpcError(reply.error.code, reply.error.message, reply.error.data)
        return msgspec.json.decode(reply.result, type=result)

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        done = False
        try:
            stream = await self._connected()
            head = (
                f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{self._door.port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"Authorization: Bearer {self._door.cookie}\r\n\r\n"
            )
            await stream.send_all(head.encode("ascii") + body)
            status, answer, done = await self._receive(stream)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NodeUnreachable(f"no node answers in {self._door.home.root}: {error}") from error
        finally:
            if not done:
                self._drop()
        return status, answer

    async def _connected(self) -> trio.SocketStream:
        if self._stream is not None and self._stream.socket.is_readable():
            self._drop()  # bytes or an end nobody asked for: the node closed an idle connection
        if self._stream is None:
            if not self._door.port:
                self._door.read()
            self._buffer.clear()
            plain = trio.socket.socket()
            try:
                await plain.connect(("127.0.0.1", self._door.port))
            except BaseException:
                plain.close()
                raise
            self._stream = trio.SocketStream(plain)
        return self._stream

    async def _receive(self, stream: trio.SocketStream) -> tuple[int, bytes, bool]:
        """Read one answer: status, body, and whether the connection can be used again."""
        buffer = self._buffer
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > HEAD_BYTES_MAX:
                raise NodeUnreachable(f"more than {HEAD_BYTES_MAX} bytes of head")
            await self._more(stream)
        first, *lines = buffer[:end].decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(":", 1) for line in lines)
        size = int(headers.get("content-length", "0"))
        while len(buffer) < end + 4 + size:
            await self._more(stream)
        body = bytes(buffer[end + 4 : end + 4 + size])
        del buffer[: end + 4 + size]
        return int(first.split(" ")[1]), body, headers.get("connection", "").strip() != "close"

    async def _more(self, stream: trio.SocketStream) -> None:
        data = await stream.receive_some(65_536)
        if not data:
            raise trio.BrokenResourceError("closed before an answer came")
        self._buffer += data

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None
