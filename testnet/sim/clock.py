"""Virtual time: a heap of things to do, in order of time and then of being asked for.

Knows: milliseconds, callbacks. Must not know: nodes, the real clock.
"""

import heapq
from collections.abc import Callable
from typing import final

Action = Callable[[], None]


@final
class Timeline:
    """What is still to happen in a run."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.events = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._asked = 0

    def after(self, delay_ms: int, action: Action) -> None:
        """Do something `delay_ms` from now."""
        self._asked += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._asked, action))

    def step(self, until_ms: int) -> bool:
        """Do the next thing that is due before `until_ms`; False if there is none."""
        if not self._heap or self._heap[0][0] >= until_ms:
            self.now_ms = until_ms
            return False
        self.now_ms, _, action = heapq.heappop(self._heap)
        self.events += 1
        action()
        return True
