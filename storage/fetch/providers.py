"""What a session knows of one source: what it holds, how fast it is, how often it failed.

Knows bits, rates and counts. Must not know runs or other sources: `wants` compares them.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.fetch.rates import Rate
from prsm.storage.interfaces import Traits

RUN_LEAVES: Final = 8  # 8 MiB: one thread hop hashes and writes what came of it
RUNS_OPEN_MAX: Final = 4
PROOF_LEAVES: Final = 1  # open with a source that has sent nothing right yet
TRIAL_LEAVES: Final = 4  # open with a source nobody has measured yet
LEAVES_OPEN_MIN: Final = 2  # one comes while the next is asked for, however slow it is
STRIKES_MAX: Final = 3  # a source that stalls is tried again so often, then dropped
LIES_MAX: Final = 3  # runs a source said to hold and, asked for them, did not
LOST_MAX: Final = 3  # a leaf it lost is asked of it again so often

assert LEAVES_OPEN_MIN <= TRIAL_LEAVES <= RUN_LEAVES * RUNS_OPEN_MAX


@dataclass(slots=True)
class Provider:
    """One source in one session.

    Attributes:
        name: of the source.
        bitset: what it says it holds: bit i % 8 of byte i // 8; None: it cannot tell, so it is
            tried.
        traits: what it says of itself.
        rate: of verified bytes, while it owed some.
        joined: place in the order in which sources came.
        open_asks: ids, the oldest first.
        open_leaves: of all of them together.
        is_proven: it has sent a right leaf.
        heard_ms: when it last answered, or was asked while it owed nothing.
        paused_ms: not asked before.
        strikes: stalls since it last sent something.
        lies: runs it said to hold and did not.
    """

    name: str
    bitset: bytes | None
    traits: Traits
    rate: Rate
    joined: int
    open_asks: list[int] = field(default_factory=list)
    open_leaves: int = 0
    is_proven: bool = False
    heard_ms: int = 0
    paused_ms: int = 0
    strikes: int = 0
    lies: int = 0
    _lacks: set[int] = field(default_factory=set)
    _losses: dict[int, int] = field(default_factory=dict)

    def has(self, index: int) -> bool:
        """Whether to ask it for a leaf."""
        if index in self._lacks:
            return False
        return self.claims(index) if self.bitset is not None else True

    def claims(self, index: int) -> bool:
        """Whether it says that it holds a leaf."""
        bitset = self.bitset
        if bitset is None:
            return False
        return index // 8 < len(bitset) and bool(bitset[index // 8] >> index % 8 & 1)

    def lacks(self, indexes: Collection[int]) -> None:
        """It answered that it does not hold these leaves."""
        if any(self.claims(index) and index not in self._lacks for index in indexes):
            self.lies += 1
        self._lacks.update(indexes)

    def lost(self, indexes: Collection[int]) -> None:
        """It was asked for these leaves and they did not come."""
        for index in indexes:
            self._losses[index] = self._losses.get(index, 0) + 1
            if self._losses[index] > LOST_MAX:
                self._lacks.add(index)

    @property
    def has_lost(self) -> bool:
        """Whether leaves it was asked for did not come."""
        return bool(self._losses)

    def window(self) -> int:
        """Leaves that may be open with it: what it sends in a second, at most four runs."""
        most = self.traits.run_leaves * min(RUNS_OPEN_MAX, self.traits.asks_max)
        if self.strikes or not self.is_proven:
            return PROOF_LEAVES
        if not self.rate.bytes_per_s:
            return min(TRIAL_LEAVES, most)
        return max(LEAVES_OPEN_MIN, min(most, self.rate.bytes_per_s // LEAF_BYTES))

    def room(self) -> int:
        """Leaves its next run may have; 0: none now."""
        window = self.window()
        if len(self.open_asks) >= min(RUNS_OPEN_MAX, self.traits.asks_max):
            return 0
        # Half of the window, so that a run is on its way while the one before is being written.
        run = max(1, min(self.traits.run_leaves, (window + 1) // 2))
        if self.traits.asks_max == 1:
            run = min(self.traits.run_leaves, window)
        return run if self.open_leaves + run <= max(window, run) else 0

    def is_asked_at(self, now_ms: int) -> bool:
        """Whether it may be asked now."""
        return now_ms >= self.paused_ms

    def due_ms(self, size: int) -> int:
        """How long it takes for so many bytes, at its rate; a long time if nobody knows."""
        rate = self.rate.bytes_per_s
        return size * 1000 // rate if rate else 1 << 40
