"""JSON-RPC over HTTP for programs on a trio loop: many callers, one process, real sockets.

The daemon's own client blocks its thread; a load of hundreds of callers beside proxies needs one
that does not. Knows: HTTP/1.1 as the node's door speaks it, the cookie. Must not know: methods.
A call is never sent twice, and a call that is cancelled closes its connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import trio

from prsm.node.home import Home
from prsm.node.rpc.client import Endpoint
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.spec import Params
from prsm.node.rpc.wire import (
    READ_BYTES,
    Answer,
    AnswerReader,
    decode_reply,
    encode_call,
    encode_request,
)

T = TypeVar("T")


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
        body = encode_call(self._last_id, method, params)
        answer = await self._exchange(body)
        if answer.status == 401:  # refused before it ran: the node was started anew
            self._door.read()
            answer = await self._exchange(body)
        try:
            return msgspec.json.decode(decode_reply(answer), type=result)
        except ValueError as error:  # msgspec's are, too
            what = f"what answers in {self._door.home.root} is no node: {error}"
            raise NodeUnreachable(what) from error

    async def _exchange(self, body: bytes) -> Answer:
        keep = False
        try:
            stream = await self._connected()
            headers = {"Authorization": f"Bearer {self._door.cookie}"}
            host = f"127.0.0.1:{self._door.port}"
            await stream.send_all(encode_request("POST", "/rpc", host, body=body, headers=headers))
            reader = AnswerReader()
            while (answer := reader.feed(await stream.receive_some(READ_BYTES))) is None:
                pass
            keep = answer.keep
        except (OSError, ValueError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise NodeUnreachable(f"no node answers in {self._door.home.root}: {error}") from error
        finally:
            if not keep:
                self._drop()
        return answer

    async def _connected(self) -> trio.SocketStream:
        if self._stream is not None and self._stream.socket.is_readable():
            self._drop()  # bytes or an end nobody asked for: the node closed an idle connection
        if self._stream is None:
            if not self._door.port:
                self._door.read()
            plain = trio.socket.socket()
            try:
                await plain.connect(("127.0.0.1", self._door.port))
            except BaseException:
                plain.close()
                raise
            self._stream = trio.SocketStream(plain)
        return self._stream

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None
