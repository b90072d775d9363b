"""Checks of many things: a few where they are, more of them in one thread.

Knows: what a thread costs. Must not know: what is checked.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

BATCH_MAX: Final = 512
# Below this many signatures (39 us each) a thread hop (60 us and a wake-up) does not pay.
INLINE_MAX: Final = 4


def drained(channel: trio.MemoryReceiveChannel[T]) -> list[T]:
    """Take out what waits, a batch at most."""
    items: list[T] = []
    while len(items) < BATCH_MAX:
        try:
            items.append(channel.receive_nowait())
        except trio.WouldBlock:
            break
    return items


async def check_each(check: Callable[[T], R], items: list[T]) -> list[R]:
    """Check each; no checkpoint where they are few."""
    if len(items) <= INLINE_MAX:
        return [check(item) for item in items]
    return await trio.to_thread.run_sync(lambda: [check(item) for item in items])
