"""Whether a disk is quick enough to be waited for on the loop; pure.

Knows how long the latest waits took. Must not know what was written. Two hand-overs between
threads cost 0.3 ms of CPU, and on cores that are busy a turn in the line for each; a quick disk
takes less. Where most cores are busy a wait is long because its end is noticed late, and a thread
would be late twice more: so a few quick ones among the latest show that the disk is quick.
"""

from collections import deque
from typing import Final, final

QUICK_S: Final = 0.001
REMEMBERED: Final = 16  # of the latest waits; before as many are known the disk counts as slow
QUICK_MIN: Final = 2  # of them; of a disk that takes longer none is
STALL_S: Final = 0.05  # no queue for a core is as long: the disk itself stood still


@final
class Quickness:
    """The latest waits for one disk."""

    def __init__(self) -> None:
        self._latest: deque[bool] = deque(maxlen=REMEMBERED)

    @property
    def is_quick(self) -> bool:
        """May the loop wait for the next write?"""
        return len(self._latest) == REMEMBERED and sum(self._latest) >= QUICK_MIN

    def note(self, seconds: float) -> None:
        """Tell how long a write took, wherever it was waited for; a stall makes it unknown."""
        if seconds > STALL_S:
            self._latest.clear()
            return
        self._latest.append(seconds <= QUICK_S)
