"""Rows of a topic as they come, for the client that waits.

Knows: sockets, `Feed`. Must not know: what rows mean.
"""

import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from prsm.node.rpc import client as thin
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.faults import RpcError, class_for, fault_here
from prsm.node.rpc.sdk.feed import PATH, Event, Feed
from prsm.node.rpc.sdk.flows import Habits, pause_before
from prsm.node.rpc.target import Target
from prsm.node.rpc.wire import READ_BYTES
from prsm.protocol.errors import PrsmError

T = TypeVar("T")
_OPEN_S = 10.0


class Events(Generic[T]):
    """A subscription; goes on behind the last row when its connection breaks."""

    def __init__(self, feed: Feed[T], target: Callable[[], Target], habits: Habits) -> None:
        self._feed = feed
        self._target = target
        self._habits = habits
        self._stream: socket.socket | None = None
        self._tries = 0

    def __enter__(self) -> Self:
        """Subscribe; rows from here on are heard.

        Raises:
            RpcError: the node refused, or nobody answers.
        """
        while not self._feed.is_open:
            self._step(time.monotonic() + _OPEN_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unsubscribe."""
        self.close()

    def close(self) -> None:
        """Unsubscribe and close the connection."""
        if self._stream is not None:
            self._say(self._feed.end())
        self._drop()

    def __iter__(self) -> Iterator[Event[T]]:
        """Every row, for ever."""
        while True:
            yield self.next()

    def next(self, timeout_s: float | None = None) -> Event[T]:
        """The next row.

        Args:
            timeout_s: how long to wait for it; None: for ever.

        Raises:
            RpcError: deadline_passed after `timeout_s`; unauthorised, or the node is gone for
                longer than the client's retries last.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._feed.take()) is None:
            self._step(deadline)
        self._tries = 0
        return event

    def _step(self, deadline: float | None) -> None:
        """Open the connection if it is not, and read once."""
        try:
            if self._stream is None:
                self._open()
            self._read(deadline)
        except RpcError as error:
            self._drop()
            self._tries += 1
            pause_s = pause_before(error, self._tries, self._habits)
            if pause_s is None or error.reason == "deadline_passed":
                raise
            time.sleep(pause_s)  # noqa: TID251 - its caller's thread, no loop of ours

    def _open(self) -> None:
        target = self._target()
        try:
            hello = self._feed.begin(target.host, target.proof("GET", PATH, b""))
        except PrsmError as error:
            raise fault_here(error) from error
        try:
            self._stream = thin.connect(target, time.monotonic() + _OPEN_S)
        except OSError as error:
            raise fault_here(thin.unreachable(target, error)) from error
        self._say(hello)

    def _read(self, deadline: float | None) -> None:
        stream = self._stream
        assert stream is not None
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not thin.is_readable(stream, wait_s):
            raise class_for("deadline_passed")(
                -32006,
                f"no row of {self._feed.topic} in time",
                {"reason": "deadline_passed", "retryable": False},
            )
        try:
            data = stream.recv(READ_BYTES)
        except OSError as error:
            raise fault_here(NodeUnreachable(f"the subscription broke: {error}")) from error
        self._say(self._feed.feed(data))
        if not data:
            raise fault_here(NodeUnreachable("the node closed the subscription"))

    def _say(self, data: bytes) -> None:
        if self._stream is None or not data:
            return
        try:
            self._stream.sendall(data)
        except OSError:
            return  # reading says why

    def _drop(self) -> None:
        self._feed.is_open = False
        if self._stream is not None:
            self._stream.close()
            self._stream = None
