"""The port without numpy: files of JSON, loops in Python. Slow, and plain to read."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

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


class MemoryVectors:
    """Entries in a dictionary, written out at each change."""

    backend = "exact"

    def __init__(self, path: Path, *, dimension: int) -> None:
        self.dimension, self._path = dimension, path
        kept = json.loads(path.read_text()) if path.exists() else []
        self._entries = {
            bytes.fromhex(each): Entry(bytes.fromhex(each), bytes.fromhex(vector), labels)
            for each, vector, labels in kept
        }

    def upsert(self, entries: Sequence[Entry]) -> None:
        check_entries(entries)
        units = [Entry(each.id, self._unit(each.vector), dict(each.labels)) for each in entries]
        self._entries.update({each.id: each for each in units})
        self._save()

    def delete(self, ids: Sequence[bytes]) -> int:
        gone = {each for each in ids if each in self._entries}
        for each in gone:
            del self._entries[each]
        self._save()
        return len(gone)

    def get(self, entry_id: bytes) -> Entry | None:
        return self._entries.get(entry_id)

    def search(self, query: bytes, *, limit: int, where: Sequence[Condition] = ()) -> Sequence[Hit]:
        check_limit(limit)
        asked = self._numbers(self._unit(query))
        hits = [
            Hit(
                each.id,
                round(
                    MILLION
                    * math.fsum(
                        a * b for a, b in zip(asked, self._numbers(each.vector), strict=True)
                    )
                ),
                each.labels,
            )
            for each in self._entries.values()
            if all(condition.holds(each.labels) for condition in where)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:limit]

    def ids(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Mapping[str, Label]]]:
        check_limit(limit)
        above = sorted(each for each in self._entries if each > after)[:limit]
        return [(each, self._entries[each].labels) for each in above]

    def count(self) -> int:
        return len(self._entries)

    def rebuild(self) -> None:
        self._save()

    def close(self) -> None:
        self._save()

    def _save(self) -> None:
        kept = [(e.id.hex(), e.vector.hex(), dict(e.labels)) for e in self._entries.values()]
        self._path.write_text(json.dumps(kept))

    def _numbers(self, vector: bytes) -> tuple[float, ...]:
        return struct.unpack(f"<{self.dimension}f", vector)

    def _unit(self, vector: bytes) -> bytes:
        if len(vector) != 4 * self.dimension:
            raise BadVector("another dimension")
        numbers = self._numbers(vector)
        length = math.hypot(*numbers)
        if not math.isfinite(length) or length == 0:
            raise BadVector("no direction")
        return struct.pack(f"<{self.dimension}f", *(number / length for number in numbers))
