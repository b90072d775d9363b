"""Virtual time: a heap of things to do, in order of time and then of being asked for.

Knows: milliseconds, callbacks. Must not know: nodes, the real clock.
"""

from collections.abc import Callable
from heapq import heappop, heappush
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
        heappush(self._heap, (self.now_ms + delay_ms, self._asked, action))

    def play(self, until_ms: int, ends: list[str]) -> None:
        """Do all that is due before `until_ms`, or until something is in `ends`."""
        heap = self._heap
        while not ends:
            if not heap or heap[0][0] >= until_ms:
                self.now_ms = until_ms
                return
            self.now_ms, _, action = heappop(heap)
            self.events += 1
            action()

    def step(self, until_ms: int) -> bool:
        """Do the next thing that is due before `until_ms`; False if there is none."""
        heap = self._heap
        if not heap or heap[0][0] >= until_ms:
            self.now_ms = until_ms
            return False
        self.now_ms, _, action = heappop(heap)
        self.events += 1
        action()
        return True
