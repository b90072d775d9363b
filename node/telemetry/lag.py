"""How late the event loop is: a timer that says by how much it missed its time.

Everything a node does waits for one loop; what holds it (a long computation, a swapped page, a
starved machine) delays votes and answers alike. Knows: trio's clock. Must not know: who it was.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import trio

# Every stop of half a second shows, by half of it at least; ten wake-ups a second were a fifth of
# those of a node at rest.
PERIOD_S: Final = 0.25
REMEMBERED: Final = 60  # fifteen seconds: one scrape of Prometheus


class LoopLag:
    """Measures until cancelled.

    Args:
        tell: given each measured lag in seconds.
        period_s: between two measurements.
    """

    def __init__(
        self, tell: Callable[[float], None] = lambda _lag: None, *, period_s: float = PERIOD_S
    ) -> None:
        self._tell = tell
        self._period_s = period_s
        self._latest: deque[float] = deque(maxlen=REMEMBERED)
        self.beats = 0

    @property
    def worst_s(self) -> float:
        """The worst lag of the last fifteen seconds."""
        return max(self._latest, default=0.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        task_status.started()
        while True:
            due = trio.current_time() + self._period_s
            await trio.sleep_until(due)
            lag = max(0.0, trio.current_time() - due)
            self._latest.append(lag)
            self.beats += 1
            self._tell(lag)
