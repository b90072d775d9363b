"""What a store gives up when it is full: uses, each halved with age, and a pure choice by them.

Knows: figures. Must not know: files, rows, locks (`gc` acts).

Plain least-recently-used was tried first: on a Zipf(1.1) trace with room for a tenth of the
things it finds 0.77 to 0.83 of what Belady's choice finds, this one 0.88 to 0.91
(docs/BENCHMARKS.md). Source: D. Lee et al., "LRFU", IEEE Transactions on Computers 50 (2001).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from prsm.storage.cid import Cid
from prsm.storage.store.index import Use

# Eviction begins above HIGH and ends below LOW percent of the quota.
HIGH_PERCENT: Final = 90
LOW_PERCENT: Final = 80
# A use is worth half after 16 uses for each thing held (4 to 32 were tried), at least 1,024.
HALVED_AFTER: Final = 16
HALVED_AFTER_MIN: Final = 1024
PARTIAL_IDLE_MS: Final = 7 * 24 * 3600 * 1000

assert 0 < LOW_PERCENT < HIGH_PERCENT <= 100


class Uses:
    """Heat of all that is held: log2 of the sum of its uses, each 2 ** -(uses since / half-life).

    Kept as logarithms that only grow, so nothing has to be aged by hand and numbers of long ago
    compare with those of today.
    """

    def __init__(self, age: float = 0.0) -> None:
        """Go on from the hottest use that was noted."""
        self._age = age
        self._last: dict[Cid | bytes, Use] = {}
        self._touched: dict[Cid | bytes, float] = {}
        self._unsaved: set[Cid | bytes] = set()

    @property
    def now(self) -> float:
        """The moment, as an epoch that every use moves on."""
        return self._age

    def is_since(self, key: Cid | bytes, epoch: float) -> bool:
        """Whether something was used after a moment."""
        return self._touched.get(key, -1.0) > epoch

    def load(self, uses: Mapping[Cid | bytes, Use]) -> None:
        """Take what the index has noted."""
        self._last |= uses
        self._age = max([self._age, *(use.heat for use in uses.values())])

    def touch(self, key: Cid | bytes, now_ms: int, *, apart_ms: int = 0) -> Use:
        """Count a use; one within `apart_ms` of the last is the same use."""
        old = self._last.get(key)
        if old is not None and old.used_ms <= now_ms < old.used_ms + apart_ms:
            self._age = math.nextafter(self._age, math.inf)
            self._touched[key] = self._age
            return old
        self._age += 1 / max(HALVED_AFTER_MIN, HALVED_AFTER * len(self._last))
        self._touched[key] = self._age
        heat = self._age if old is None else _sum(old.heat, self._age)
        use = Use(heat, now_ms)
        self._last[key] = use
        self._unsaved.add(key)
        return use

    def touch_known(self, key: Cid | bytes, now_ms: int) -> None:
        """Count a use of something that is counted at all."""
        if key in self._last:
            self.touch(key, now_ms)

    def of(self, key: Cid | bytes) -> Use:
        """Return how much something was used."""
        return self._last.get(key, Use())

    def forget(self, key: Cid | bytes) -> None:
        """Drop what is gone."""
        self._last.pop(key, None)
        self._touched.pop(key, None)
        self._unsaved.discard(key)

    def take_unsaved(self) -> tuple[Mapping[Cid, Use], Mapping[bytes, Use]]:
        """Return the uses of files and of blocks since the last call."""
        keys, self._unsaved = self._unsaved, set()
        files = {key: self._last[key] for key in keys if isinstance(key, Cid)}
        return files, {key: self._last[key] for key in keys if isinstance(key, bytes)}


@dataclass(frozen=True, slots=True)
class Judged:
    """Something the store holds, and why it goes or stays.

    Attributes:
        key: a file's CID, or a block's digest.
        size: bytes.
        heat: how much it was used.
        why: in words; empty while it may go.
    """

    key: Cid | bytes
    size: int
    heat: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes, coldest first, and what stays."""

    gone: Sequence[Judged]
    kept: Sequence[Judged]
    freed_bytes: int


def choose(held: Iterable[Judged], *, used_bytes: int, target_bytes: int) -> Choice:
    """Choose what to give up until no more than a target is used.

    Args:
        held: everything; what has a `why` stays.
        used_bytes: by all of it, and by what can never go.
        target_bytes: to come down to, if that is possible.
    """
    held = list(held)
    kept = [one for one in held if one.why]
    gone: list[Judged] = []
    freed = 0
    for one in sorted((one for one in held if not one.why), key=lambda one: one.heat):
        if used_bytes - freed > target_bytes:
            gone.append(replace(one, why="used least, and the store is over its mark"))
            freed += one.size
        else:
            kept.append(replace(one, why="there is room for it"))
    return Choice(gone, kept, freed)


def mark(quota_bytes: int, percent: int) -> int:
    """Return so much of the quota."""
    return quota_bytes * percent // 100


def _sum(one: float, other: float) -> float:
    """log2(2 ** one + 2 ** other)."""
    return max(one, other) + math.log2(1 + 2 ** -min(abs(one - other), 1000.0))
