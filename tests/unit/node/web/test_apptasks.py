"""The queue between a connection and its application: no turns of the loop, and a bound."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
    WebsocketScope,
)

from prsm.node.web.apptasks import AppTasks

Receive = Callable[[], Awaitable[ASGIReceiveEvent]]
SCOPE: WebsocketScope = {
    "type": "websocket",
    "asgi": {},
    "http_version": "1.1",
    "scheme": "ws",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": (),
    "client": None,
    "server": None,
    "subprotocols": (),
    "extensions": {},
    "state": {},  # type: ignore[typeddict-item]  # a subclass of dict
}


def text(number: int) -> ASGIReceiveEvent:
    return {"type": "websocket.receive", "bytes": None, "text": str(number)}


async def start(
    tasks: TaskGroup,
    app: Callable[[Receive], Awaitable[None]],
    *,
    size: int,
) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
    """Start what receives, with a queue of this size."""
    config = Config()
    config.errorlog = None
    config.max_app_queue_size = size

    async def asgi(_scope: Scope, receive: ASGIReceiveCallable, _send: ASGISendCallable) -> None:
        await app(receive)

    async def send(_event: ASGISendEvent | None) -> None:
        await trio.lowlevel.checkpoint()

    return await tasks.spawn_app(ASGIWrapper(asgi), config, SCOPE, send)


async def test_messages_pass_without_a_turn_of_the_loop() -> None:
    """A turn beside a block of consensus takes milliseconds; a call has six such passages."""
    heard: list[ASGIReceiveEvent] = []

    async def app(receive: Receive) -> None:
        with trio.testing.assert_no_checkpoints():
            heard.extend([await receive() for _ in range(3)])
        heard.append(await receive())  # waits

    async with AppTasks() as tasks:
        put = await start(tasks, app, size=3)
        with trio.testing.assert_no_checkpoints():
            for number in range(3):
                await put(text(number))
        await trio.testing.wait_all_tasks_blocked()
        assert len(heard) == 3
        await put(text(3))
    assert heard == [text(number) for number in range(4)]


async def test_a_full_queue_waits_for_its_application() -> None:
    goes_on = trio.Event()

    async def app(receive: Receive) -> None:
        await goes_on.wait()
        for number in range(3):
            assert await receive() == text(number)

    async with AppTasks() as tasks:
        put = await start(tasks, app, size=1)
        await put(text(0))
        with trio.move_on_after(0) as full:
            await put(text(1))
        assert full.cancelled_caught
        goes_on.set()
        for number in (1, 2):
            await put(text(number))
