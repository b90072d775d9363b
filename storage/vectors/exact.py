"""Exact cosine over all vectors: one matrix product a query, right by construction.

Invariant: row `i` of the matrix is the entry `self._entries[i]`, for i below the count. Fits to
about 20,000 vectors of 384 numbers; above, `hnsw` asks a graph first and this for the scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prsm.storage.errors import Corrupt
from prsm.storage.vectors.interface import (
    MILLION,
    BadVector,
    Condition,
    Entry,
    Hit,
    Label,
    check_entries,
    check_limit,
)
from prsm.storage.vectors.table import Table

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
_MASKS_KEPT: Final = 32  # of filters asked lately


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in a row beside its numbers."""

    id: bytes
    labels: Mapping[str, Label]
    version: int


class ExactVectors:
    """The store that compares a query with everything."""

    backend = "exact"

    def __init__(self, path: Path, *, dimension: int) -> None:
        """Open or make a store and read all of it.

        Raises:
            Conflict, StoreUnavailable, Corrupt: as `Table`.
        """
        self.dimension = dimension
        self.table = Table(path, dimension=dimension)
        self.load()

    def load(self) -> None:
        """Read all rows anew."""
        found = list(self.table.rows())
        self.rows = [Row(entry.id, dict(entry.labels), version) for entry, version in found]
        self.places = {row.id: place for place, row in enumerate(self.rows)}
        if any(len(entry.vector) != 4 * self.dimension for entry, _ in found):
            raise Corrupt("a kept vector has another length", hint="delete the file of vectors")
        raw = bytearray().join(entry.vector for entry, _ in found)
        whole = np.frombuffer(raw, dtype="<f4").reshape(len(found), self.dimension)
        self._matrix: Floats = whole.astype(np.float32, copy=False)
        self._masks: dict[tuple[Condition, ...], Places] = {}

    def upsert(self, entries: Sequence[Entry]) -> None:
        """As the port says."""
        check_entries(entries)
        units = [self.unit(entry.vector) for entry in entries]
        kept = [
            Entry(entry.id, unit.astype("<f4").tobytes(), dict(entry.labels))
            for entry, unit in zip(entries, units, strict=True)
        ]
        if not kept:
            return
        version = self.table.put(kept)
        self._grow(len(kept))
        for entry, unit in zip(kept, units, strict=True):
            row = Row(entry.id, entry.labels, version)
            place = self.places.setdefault(entry.id, len(self.rows))
            self.rows[place : place + 1] = [row]
            self._matrix[place] = unit
        self._masks.clear()

    def delete(self, ids: Sequence[bytes]) -> int:
        """As the port says."""
        known = list(dict.fromkeys(each for each in ids if each in self.places))
        if known:
            self.table.remove(known)
        for each in known:  # the last row moves into the gap
            place, last = self.places.pop(each), len(self.rows) - 1
            row = self.rows.pop()
            if place != last:
                self.rows[place], self.places[row.id] = row, place
                self._matrix[place] = self._matrix[last]
        self._masks.clear()
        return len(known)

    def get(self, entry_id: bytes) -> Entry | None:
        """As the port says."""
        place = self.places.get(entry_id)
        if place is None:
            return None
        vector = self._matrix[place].astype("<f4").tobytes()
        return Entry(entry_id, vector, self.rows[place].labels)

    def search(self, query: bytes, *, limit: int, where: Sequence[Condition] = ()) -> Sequence[Hit]:
        """As the port says."""
        check_limit(limit)
        return self.best(self.unit(query), self.passing(where), limit)

    def ids(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Mapping[str, Label]]]:
        """As the port says."""
        check_limit(limit)
        above = sorted(row.id for row in self.rows if row.id > after)[:limit]
        return [(each, self.rows[self.places[each]].labels) for each in above]

    def count(self) -> int:
        """As the port says."""
        return len(self.rows)

    def rebuild(self) -> None:
        """As the port says."""
        self.table.compact()
        self.load()

    def close(self) -> None:
        """As the port says."""
        self.table.close()

    def unit(self, vector: bytes) -> Floats:
        """A vector of unit length, float32 (dimension,).

        Raises:
            BadVector: another length, NaN, infinity, or no direction.
        """
        if len(vector) != 4 * self.dimension:
            raise BadVector(f"a vector of {len(vector)} bytes, this store takes {self.dimension}x4")
        numbers = np.frombuffer(vector, dtype="<f4").astype(np.float64)
        length = float(np.linalg.norm(numbers))
        if not np.isfinite(length) or length == 0:
            raise BadVector("a vector with NaN, infinity, or nothing but zeros")
        return (numbers / length).astype(np.float32)

    def matrix(self) -> Floats:
        """All rows, float32 (count, dimension), of unit length; a view."""
        return self._matrix[: len(self.rows)]

    def passing(self, where: Sequence[Condition]) -> Places | None:
        """Places of the rows that pass all conditions; None: all do."""
        if not where:
            return None
        key = tuple(where)
        if key not in self._masks:
            if len(self._masks) >= _MASKS_KEPT:
                self._masks.clear()
            self._masks[key] = np.array(
                [
                    place
                    for place, row in enumerate(self.rows)
                    if all(condition.holds(row.labels) for condition in key)
                ],
                dtype=np.intp,
            )
        return self._masks[key]

    def best(self, unit: Floats, among: Places | None, limit: int) -> list[Hit]:
        """The nearest rows, of all or of some places, in the order of the port."""
        rows = self.matrix() if among is None else self.matrix()[among]
        scores = np.rint((rows @ unit).astype(np.float64) * MILLION).astype(np.int64)
        if len(scores) > limit:  # everything that ties with the last one, too
            least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
            chosen = np.flatnonzero(scores >= least)
        else:
            chosen = np.arange(len(scores))
        places = chosen if among is None else among[chosen]
        found = [
            (-int(score), self.rows[int(place)].id)
            for score, place in zip(scores[chosen], places, strict=True)
        ]
        return [
            Hit(each, -negative, self.rows[self.places[each]].labels)
            for negative, each in sorted(found)[:limit]
        ]

    def _grow(self, count: int) -> None:
        needed = len(self.rows) + count
        if needed > len(self._matrix):
            wider: npt.NDArray[Any] = np.zeros(
                (max(needed, 2 * len(self._matrix)), self.dimension), dtype=np.float32
            )
            wider[: len(self.rows)] = self.matrix()
            self._matrix = wider
