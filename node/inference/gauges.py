"""What this node measured of its peers: stage times, bandwidth, load times, refusals.

Averages that forget (EWMA), bounded, in memory. Told by the tasks that ask workers, read by the
planner. Pure: times are handed in. Must not know plans.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from prsm.protocol.ids import PeerId

WEIGHT: Final = 0.25  # of a new value: four answers outweigh what was before
KEPT_MAX: Final = 4_096
SMALL_BYTES: Final = 64 * 1024  # below it the round trip hides the bandwidth

ShardKey = tuple[bytes, int, int]  # manifest, stages, index
K = TypeVar("K")


@dataclass(slots=True)
class Averages(Generic[K]):
    """Moving averages by key; the one not told of for longest goes first."""

    kept_max: int = KEPT_MAX
    _values: OrderedDict[K, float] = field(default_factory=OrderedDict)

    def note(self, key: K, value: float) -> None:
        """Take a new value in."""
        old = self._values.pop(key, None)
        self._values[key] = value if old is None else old + WEIGHT * (value - old)
        while len(self._values) > self.kept_max:
            self._values.popitem(last=False)

    def get(self, key: K) -> float | None:
        """The average, None when nothing was told."""
        return self._values.get(key)

    def items(self) -> tuple[tuple[K, float], ...]:
        """All of them, the freshest last."""
        return tuple(self._values.items())


@dataclass(slots=True)
class Gauges:
    """Measured facts of peers."""

    _row_ms: Averages[tuple[PeerId, ShardKey]] = field(default_factory=Averages)
    _bytes_per_s: Averages[PeerId] = field(default_factory=Averages)
    _load_ms: Averages[tuple[PeerId, ShardKey]] = field(default_factory=Averages)
    _refused: OrderedDict[tuple[PeerId, bytes], str] = field(default_factory=OrderedDict)

    def note_answer(self, peer: PeerId, key: ShardKey, *, rows: int, compute_ms: float) -> None:
        """A micro-batch was answered, and took what the worker says it computed."""
        if rows > 0:
            self._row_ms.note((peer, key), compute_ms / rows)
        self._refused.pop((peer, key[0]), None)

    def note_load(self, peer: PeerId, key: ShardKey, ms: float) -> None:
        """A shard was opened there."""
        self._load_ms.note((peer, key), ms)

    def note_bytes(self, peer: PeerId, count: int, ms: float) -> None:
        """So many bytes crossed in that time, beside the round trip; few say nothing."""
        if count >= SMALL_BYTES and ms > 0:
            self._bytes_per_s.note(peer, count * 1000 / ms)

    def note_refusal(self, peer: PeerId, model: bytes, why: str) -> None:
        """The peer will not run that model; why."""
        self._refused[peer, model] = why
        while len(self._refused) > KEPT_MAX:
            self._refused.popitem(last=False)

    def row_ms(self, peer: PeerId, key: ShardKey) -> float | None:
        """Time of a row of that stage at that peer."""
        return self._row_ms.get((peer, key))

    def rows_of(self, peer: PeerId, model: bytes) -> dict[ShardKey, float]:
        """Times of a row at that peer, by shard of a model."""
        return _of(self._row_ms, peer, model)

    def loads_of(self, peer: PeerId, model: bytes) -> dict[ShardKey, float]:
        """Times to open a shard at that peer, by shard of a model."""
        return _of(self._load_ms, peer, model)

    def bytes_per_s(self, peer: PeerId) -> float | None:
        """To and from that peer."""
        return self._bytes_per_s.get(peer)

    def refusal(self, peer: PeerId, model: bytes) -> str:
        """Why the peer would not run the model the last time; empty when it never refused."""
        return self._refused.get((peer, model), "")


def _of(
    averages: Averages[tuple[PeerId, ShardKey]], peer: PeerId, model: bytes
) -> dict[ShardKey, float]:
    return {key: value for (who, key), value in averages.items() if who == peer and key[0] == model}
