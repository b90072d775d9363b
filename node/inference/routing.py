"""Which peer does which stage: the shortest path over (stage, peer), bans, and habit.

Pure: times are handed in, every term of an edge is measured by the caller, a term nobody measured
is 0 and said so by whoever explains the route. Must not know messages or money.
Source: docs/spec/work.md, "Planning".
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.ids import PeerId

BAN_MS: Final = 2_000
BAN_MS_MAX: Final = 15 * 60_000
BANS_MAX: Final = 1_024
BETTER_PERCENT: Final = 25  # a route is left for one that is so much better …
CHECKS: Final = 3  # … so many times in a row …
CHECK_MS: Final = 60_000  # … so far apart. Others thrash without it.
SPILL_MS: Final = 10_000.0  # a session cache that does not fit is worth a detour of ten seconds


@dataclass(frozen=True, slots=True)
class StageCost:
    """What it takes one peer to do one stage of one micro-batch, in ms.

    Attributes:
        rtt_ms: there and back, of nothing.
        transfer_ms: the boundary tensor at the measured rate.
        compute_ms: of the stage, for this number of rows.
        queue_ms: work that waits there already.
        load_ms: to fetch and load the shard, spread over the batches; 0 when it is loaded.
        spill_ms: `SPILL_MS` when its session cache would not fit.
    """

    rtt_ms: float = 0.0
    transfer_ms: float = 0.0
    compute_ms: float = 0.0
    queue_ms: float = 0.0
    load_ms: float = 0.0
    spill_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """Length of the edge into this stage."""
        waits = self.queue_ms + self.load_ms + self.spill_ms
        return self.rtt_ms / 2 + self.transfer_ms + self.compute_ms + waits


@dataclass(frozen=True, slots=True)
class Route:
    """One peer for each stage, and how long a micro-batch takes along it."""

    peers: tuple[PeerId, ...]
    ms: float


def cheapest(stages: Sequence[Mapping[PeerId, StageCost]]) -> Route | None:
    """The shortest path through all stages; None when a stage has no peer.

    A peer that does the stage before, too, saves the way there: the requester relays, so the
    round trip is paid, but one queue is waited in once.
    """
    best: dict[tuple[int, PeerId], float] = {}
    heap: list[tuple[float, int, tuple[PeerId, ...]]] = [(0.0, 0, ())]
    while heap:
        ms, stage, path = heapq.heappop(heap)
        if stage == len(stages):
            return Route(path, ms)
        for peer, cost in sorted(stages[stage].items()):
            again = bool(path) and path[-1] == peer
            length = ms + cost.total_ms - (cost.queue_ms if again else 0.0)
            place = (stage, peer)
            if length < best.get(place, float("inf")):
                best[place] = length
                heapq.heappush(heap, (length, stage + 1, (*path, peer)))
    return None


@dataclass(slots=True)
class Bans:
    """Peers that failed us and are not asked for a while: 2 s, doubled each time to 15 min."""

    _until: dict[PeerId, tuple[int, int]] = field(default_factory=dict)  # until, length

    def strike(self, peer: PeerId, now_ms: int) -> int:
        """It failed; returns for how many ms it is left out."""
        _, length = self._until.pop(peer, (0, 0))
        length = min(BAN_MS_MAX, 2 * length or BAN_MS)
        while len(self._until) >= BANS_MAX:  # the one struck longest ago
            del self._until[next(iter(self._until))]
        self._until[peer] = (now_ms + length, length)
        return length

    def clear(self, peer: PeerId) -> None:
        """It gave a good answer."""
        self._until.pop(peer, None)

    def is_out(self, peer: PeerId, now_ms: int) -> bool:
        """Is it left out now?"""
        return now_ms < self._until.get(peer, (0, 0))[0]


@dataclass(slots=True)
class Habit:
    """Whether a route in use is left for a better one: only after three checks a minute apart.

    One that failed is left at once, without asking here.
    """

    _better: int = 0
    _checked_ms: int | None = None

    def leave(self, now_ms: int, *, held_ms: float, best_ms: float) -> bool:
        """Look once more; True when the held route is to be drained and left.

        Args:
            now_ms: of a clock that never goes back.
            held_ms: of the route in use, measured now.
            best_ms: of the best other one.
        """
        if self._checked_ms is not None and now_ms - self._checked_ms < CHECK_MS:
            return False
        self._checked_ms = now_ms
        is_better = best_ms * 100 <= held_ms * (100 - BETTER_PERCENT)
        self._better = self._better + 1 if is_better else 0
        if self._better < CHECKS:
            return False
        self._better = 0
        return True
