"""How many requests are at work at once, and whose turn is next: fair, bounded, never for ever.

Must not know what a request does. A full turnstile refuses at once and says when to come again.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from prsm.node.inference.fairness import Entry, FairQueue, QueueBounds, QueueFull
from prsm.node.net.interface import Busy

RETRY_MS_MIN: Final = 50
RETRY_MS_MAX: Final = 10_000
_EWMA: Final = 0.1


class Turnstile:
    """Lets so many through at a time.

    Args:
        places: at work at once.
        now_ms: a clock that only goes on.
        bounds: of those who wait.
    """

    def __init__(
        self, places: int, now_ms: Callable[[], int], *, bounds: QueueBounds | None = None
    ) -> None:
        self._places, self._now_ms = places, now_ms
        self._queue: FairQueue[trio.Event] = FairQueue(bounds)
        self._inside: Counter[bytes] = Counter()
        self._each_ms = 10.0

    @property
    def inside(self) -> int:
        """At work now."""
        return self._inside.total()

    @property
    def waiting(self) -> int:
        """In line now."""
        return self._queue.items

    @asynccontextmanager
    async def turn(self, who: bytes, *, cost: int, size: int) -> AsyncIterator[None]:
        """Wait for our turn, and hold a place while the block runs.

        Raises:
            Busy: too many wait, or too many of ours.
        """
        try:
            entry = self._queue.put(who, trio.Event(), cost=cost, size=size)
        except QueueFull as error:
            raise Busy(error.what, retry_after_ms=self.retry_after_ms()) from error
        self._admit()
        try:
            await entry.item.wait()
        except trio.Cancelled:
            if not self._queue.remove(entry):
                self._leave(who)
            raise
        began_ms = self._now_ms()
        try:
            yield
        finally:
            self._each_ms += _EWMA * (self._now_ms() - began_ms - self._each_ms)
            self._leave(who)

    def retry_after_ms(self) -> int:
        """When half of those who wait will have gone through."""
        ahead_ms = self._each_ms * self._queue.items / self._places
        return min(RETRY_MS_MAX, max(RETRY_MS_MIN, int(ahead_ms / 2)))

    def _leave(self, who: bytes) -> None:
        self._inside[who] -= 1
        if not self._inside[who]:
            del self._inside[who]
        self._admit()

    def _admit(self) -> None:
        while self.inside < self._places and (entry := self._next()) is not None:
            self._inside[entry.who] += 1
            entry.item.set()

    def _next(self) -> Entry[trio.Event] | None:
        """The next in turn of those who hold less than their part of the places.

        Half of the places go to whoever waits: they are not kept free for those who may come.
        """
        active = len(self._inside.keys() | self._queue.waiting())
        part = max(1, self._places // max(1, active))
        found = self._queue.take(is_barred=lambda who: self._inside[who] >= part)
        if found is None and 2 * self.inside < self._places:
            found = self._queue.take()
        return found
