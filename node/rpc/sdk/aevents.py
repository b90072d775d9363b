"""Connections and subscriptions for an event loop, by anyio.

Knows: anyio's streams, `Feed`. Must not know: calls, what rows mean.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import anyio
from anyio.abc import ByteStream

from prsm.node.home import socket_address
from prsm.node.rpc.client import unreachable
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.faults import RpcError, class_for, fault_here
from prsm.node.rpc.sdk.feed import PATH, Event, Feed
from prsm.node.rpc.sdk.flows import Habits, pause_before
from prsm.node.rpc.target import Target
from prsm.node.rpc.wire import READ_BYTES
from prsm.protocol.errors import PrsmError

T = TypeVar("T")
GONE: Final = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
_OPEN_S: Final = 10.0


class AsyncEvents(Generic[T]):
    """A subscription; goes on behind the last row when its connection breaks."""

    def __init__(self, feed: Feed[T], target: Callable[[], Target], habits: Habits) -> None:
        self._feed = feed
        self._target = target
        self._habits = habits
        self._stream: ByteStream | None = None
        self._tries = 0

    async def __aenter__(self) -> Self:
        """Subscribe; rows from here on are heard.

        Raises:
            RpcError: the node refused, or nobody answers.
        """
        try:
            with anyio.fail_after(_OPEN_S):
                while not self._feed.is_open:
                    await self._step()
        except TimeoutError as error:
            raise _silent(self._feed.topic) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unsubscribe."""
        await self.aclose()

    async def aclose(self) -> None:
        """Unsubscribe and close the connection."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await self._say(self._feed.end())
        await self._drop()

    def __aiter__(self) -> Self:
        """Every row, for ever."""
        return self

    async def __anext__(self) -> Event[T]:
        """The next row."""
        return await self.next()

    async def next(self) -> Event[T]:
        """The next row; the caller sets deadlines.

        Raises:
            RpcError: unauthorised, or the node is gone for longer than the retries last.
        """
        while (event := self._feed.take()) is None:
            await self._step()
        self._tries = 0
        return event

    async def _step(self) -> None:
        """Open the connection if it is not, and read once."""
        try:
            if self._stream is None:
                await self._open()
            await self._read()
        except RpcError as error:
            lost = error
        else:
            return
        await self._drop()
        self._tries += 1
        pause_s = pause_before(lost, self._tries, self._habits)
        if pause_s is None:
            raise lost
        await anyio.sleep(pause_s)

    async def _open(self) -> None:
        target = self._target()
        try:
            hello = self._feed.begin(target.host, target.proof("GET", PATH, b""))
        except PrsmError as error:
            raise fault_here(error) from error
        try:
            self._stream = await open_stream(target)
        except OSError as error:
            raise fault_here(unreachable(target, error)) from error
        await self._say(hello)

    async def _read(self) -> None:
        assert self._stream is not None
        try:
            data = await self._stream.receive(READ_BYTES)
        except GONE as error:
            self._feed.feed(b"")
            raise fault_here(NodeUnreachable("the node closed the subscription")) from error
        await self._say(self._feed.feed(data))

    async def _say(self, data: bytes) -> None:
        if self._stream is None or not data:
            return
        try:
            await self._stream.send(data)
        except GONE:
            return  # reading says why

    async def _drop(self) -> None:
        self._feed.is_open = False
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await anyio.aclose_forcefully(stream)


async def open_stream(target: Target) -> ByteStream:
    """Connect; the caller sets deadlines.

    Raises:
        OSError: nobody listens there.
    """
    if target.socket_path is not None:
        with socket_address(target.socket_path) as place:
            return await anyio.connect_unix(place)
    assert target.address is not None
    host, port = target.address
    context = target.context()
    if context is None:
        return await anyio.connect_tcp(host, port)
    # The node's end closes without TLS's own goodbye, as HTTP servers do.
    return await anyio.connect_tcp(
        host, port, ssl_context=context, tls_hostname=host, tls_standard_compatible=False
    )


def _silent(topic: str) -> RpcError:
    data = {"reason": "deadline_passed"}
    return class_for("deadline_passed")(-32006, f"no answer to a subscription of {topic}", data)
