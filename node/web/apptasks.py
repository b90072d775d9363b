"""The task of a request's application, and the queue of what its connection read for it.

hypercorn's own queue costs a turn of the loop for each message put and each taken, so a call waited
four turns before it was answered; beside a block of consensus a turn takes milliseconds. Here a
message that has room, or is there, passes at once; only an empty or a full queue waits.

Knows: hypercorn's task group. Must not know: HTTP, WebSockets.
"""

from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope
from typing_extensions import override


class AppTasks(TaskGroup):
    """hypercorn's task group, with our queue between a connection and its application."""

    @override
    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application; what is put into the queue that is returned, it receives."""
        inbox = _Inbox(config.max_app_queue_size)
        threads = trio.to_thread.run_sync, trio.from_thread.run
        self.spawn(_handle, app, config, scope, inbox.receive, send, *threads)
        return inbox.put


class _Inbox:
    """A bounded queue that is no checkpoint where nobody has to wait.

    Neither side can keep the loop to itself: the putting one reads its socket between two loads,
    and the taking one finds at most `size` messages.
    """

    def __init__(self, size: int) -> None:
        self._in, self._out = trio.open_memory_channel[ASGIReceiveEvent](size)

    async def put(self, message: ASGIReceiveEvent) -> None:
        try:
            self._in.send_nowait(message)
        except trio.WouldBlock:
            await self._in.send(message)

    async def receive(self) -> ASGIReceiveEvent:
        try:
            return self._out.receive_nowait()
        except trio.WouldBlock:
            return await self._out.receive()
