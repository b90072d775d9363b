"""Blocks where no quorum can show one: counted once nothing is under way there any more.

Pure: heights and times are handed in. Knows what may still arrive. Must not know faults or nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

SETTLE_SECONDS: Final = 0.5  # so long without a block: what was under way has arrived
LATE_SECONDS: Final = 2.0  # what comes later than this was not under way


@final
@dataclass(slots=True)
class Minority:
    """Counts blocks above all that stood at some nodes once nothing was under way: no catching up.

    A quorum may have been on its way when they were cut off, and another fault beside it may have
    held the last vote up: when that one ends, something is under way once more.

    Attributes:
        began_s: since when something may be under way: they were cut off, or another fault ended.
        commits: blocks that came by no right.
    """

    began_s: float
    commits: int = 0
    _quiet_since_s: float = field(init=False)
    _is_settled: bool = False
    _eased: int = 0
    _heights: dict[int, int] = field(default_factory=dict)  # by place, the highest it said

    def __post_init__(self) -> None:
        self._quiet_since_s = self.began_s

    def look(self, heights: Mapping[int, int], eased: int, now_s: float) -> None:
        """Take what nodes say.

        Args:
            heights: by place, of those that answered.
            eased: how many faults had begun to end once all had answered.
            now_s: the time.
        """
        if eased != self._eased:
            self._eased, self._is_settled = eased, False
            self.began_s = self._quiet_since_s = now_s
        settles = min(self._quiet_since_s + SETTLE_SECONDS, self.began_s + LATE_SECONDS)
        highest = max([0, *self._heights.values()])
        # Who answers for the first time may have been the highest all along.
        known = [height for place, height in heights.items() if place in self._heights]
        if self._is_settled:
            self.commits += max([0, *(height - highest for height in known)])
        for place, height in heights.items():
            if height > self._heights.get(place, -1):
                self._heights[place] = height
                self._quiet_since_s = now_s
        self._is_settled |= settles <= now_s
