"""Approximate search by faiss: a graph finds candidates, the exact store scores and orders them.

Knows: faiss. The graph is a cache beside the entries, written at each build: rows changed since
then are compared one by one, and a graph that is lost, foreign or damaged is built anew. Searches
with a filter are exact. Source: Malkov and Yashunin 2016 (HNSW).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.storage.vectors.exact import ExactVectors
from prsm.storage.vectors.interface import Condition, Entry, Hit, Label, check_limit

NEIGHBOURS: Final = 32
BUILD_WIDTH: Final = 200  # efConstruction
SEARCH_WIDTH: Final = 256  # efSearch, at least; the recall of docs/testing.md is of this
WIDER: Final = 4  # candidates a wanted hit
STALE_PART: Final = 10  # one in so many rows may have changed before the graph is built anew
_MAGIC: Final = b"prsmhnsw1"


class HnswVectors:
    """The store for more than 20,000 vectors; `exact` of it holds the entries."""

    backend = "hnsw"

    def __init__(self, path: Path, *, dimension: int) -> None:
        """Open or make a store, and its graph.

        Raises:
            Conflict, StoreUnavailable, Corrupt: as `Table`.
        """
        faiss.omp_set_num_threads(1)
        self.exact = ExactVectors(path, dimension=dimension)
        self.dimension = dimension
        self._file = path.with_name(path.name + ".hnsw")
        self._graph: Any = None
        self._names: list[bytes] = []  # id by place in the graph
        self._fresh: set[bytes] = set()  # ids the graph has not seen as they are
        if not self._load_graph():
            self._build()

    def upsert(self, entries: Sequence[Entry]) -> None:
        """As the port says."""
        self.exact.upsert(entries)
        self._fresh.update(entry.id for entry in entries)
        if len(self._fresh) * STALE_PART > self.exact.count():
            self._build()

    def delete(self, ids: Sequence[bytes]) -> int:
        """As the port says."""
        self._fresh.difference_update(ids)
        return self.exact.delete(ids)

    def get(self, entry_id: bytes) -> Entry | None:
        """As the port says."""
        return self.exact.get(entry_id)

    def search(self, query: bytes, *, limit: int, where: Sequence[Condition] = ()) -> Sequence[Hit]:
        """As the port says; without conditions a hit may be missed."""
        check_limit(limit)
        if where or not self._names:
            return self.exact.search(query, limit=limit, where=where)
        unit = self.exact.unit(query)
        width = max(WIDER * limit, SEARCH_WIDTH)
        self._graph.hnsw.efSearch = width
        _, near = self._graph.search(unit[None, :], min(width, len(self._names)))
        places = {
            self.exact.places[name]
            for place in near[0]
            if place >= 0 and (name := self._names[place]) in self.exact.places
        }
        places.update(self.exact.places[name] for name in self._fresh)
        return self.exact.best(unit, np.array(sorted(places), dtype=np.intp), limit)

    def ids(self, after: bytes, limit: int) -> Sequence[tuple[bytes, Mapping[str, Label]]]:
        """As the port says."""
        return self.exact.ids(after, limit)

    def count(self) -> int:
        """As the port says."""
        return self.exact.count()

    def rebuild(self) -> None:
        """As the port says."""
        self.exact.rebuild()
        self._build()

    def close(self) -> None:
        """As the port says."""
        self.exact.close()

    def _build(self) -> None:
        rows = self.exact.rows
        self._graph = faiss.IndexHNSWFlat(self.dimension, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = BUILD_WIDTH
        if rows:
            self._graph.add(self.exact.matrix())
        self._names = [row.id for row in rows]
        self._fresh = set()
        built = self.exact.table.version
        head = encode((built, tuple(self._names[i : i + 1024] for i in _steps(len(rows)))))
        body = len(head).to_bytes(4, "big") + head + faiss.serialize_index(self._graph).tobytes()
        _write(self._file, _MAGIC + hashlib.sha256(body).digest() + body)

    def _load_graph(self) -> bool:
        """Take the graph of the file, if it is whole and of these entries."""
        try:
            raw = self._file.read_bytes()
        except OSError:
            return False
        body = raw[len(_MAGIC) + 32 :]
        if raw[: len(_MAGIC) + 32] != _MAGIC + hashlib.sha256(body).digest():
            return False
        size = int.from_bytes(body[:4], "big")
        try:
            built, named = decode(
                body[4 : 4 + size], tuple[int, tuple[tuple[bytes, ...], ...]], size_max=size
            )
        except WireError:
            return False
        self._graph = faiss.deserialize_index(np.frombuffer(body[4 + size :], dtype=np.uint8))
        self._names = [name for part in named for name in part]
        self._fresh = {row.id for row in self.exact.rows if row.version > built}
        changed = len(self._fresh) + len(set(self._names) - set(self.exact.places))
        is_ours = self._graph.d == self.dimension and self._graph.ntotal == len(self._names)
        return is_ours and changed * STALE_PART <= max(self.exact.count(), 1)


def _steps(count: int) -> range:
    return range(0, count, 1024)


def _write(path: Path, raw: bytes) -> None:
    """Replace a file as a whole; it is a cache, yet never half of one."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
