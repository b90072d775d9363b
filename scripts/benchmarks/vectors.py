"""`python scripts/benchmarks/vectors.py COUNT [--random]`: what a search over vectors costs.

Each figure stands beside its limit of the same run: the bare matrix product, or the exact answer.
`--random` takes vectors without clusters, where a graph has nothing to follow.
Set OPENBLAS_NUM_THREADS=1, as the process of vectors has it.
"""

import array
import operator
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from prsm.storage.vectors.exact import ExactVectors
from prsm.storage.vectors.hnsw import HnswVectors
from prsm.storage.vectors.interface import BATCH_MAX, Condition, Entry, VectorStore

DIMENSION: Final = 384
QUERIES: Final = 100
HITS: Final = 10
PLAIN: Final = 2_000  # vectors compared in pure Python


def clustered(count: int, dice: np.random.Generator) -> npt.NDArray[np.float32]:
    """Vectors around 200 centres, as texts of one subject lie, float32 (count, 384)."""
    if "--random" in sys.argv:
        return dice.standard_normal((count, DIMENSION)).astype("<f4")
    centres = np.random.default_rng(1).standard_normal((200, DIMENSION))
    around = dice.standard_normal((count, DIMENSION))
    return (centres[dice.integers(0, 200, count)] + 0.6 * around).astype("<f4")


def milliseconds(ask: Callable[[bytes], object], queries: Sequence[bytes]) -> float:
    """Median time of a query."""
    spent = []
    for query in queries:
        began = time.perf_counter()
        ask(query)
        spent.append(time.perf_counter() - began)
    return median(spent) * 1e3


def fill(store: VectorStore, vectors: npt.NDArray[np.float32]) -> None:
    """Put all of them in, with a label to filter by."""
    for start in range(0, len(vectors), BATCH_MAX):
        part = vectors[start : start + BATCH_MAX]
        store.upsert(
            [
                Entry(b"%08d" % (start + i), vector.tobytes(), {"task": "ab"[i % 2]})
                for i, vector in enumerate(part)
            ]
        )


def plain(vectors: npt.NDArray[np.float32]) -> float:
    """CPU microseconds a vector in pure Python."""
    rows = [array.array("f", vector.tobytes()) for vector in vectors[:PLAIN]]
    began = time.process_time()
    for row in rows:
        sum(map(operator.mul, rows[0], row))
    return (time.process_time() - began) / len(rows) * 1e6


def main() -> None:
    """Measure both stores over the same vectors."""
    count = int(sys.argv[1])
    dice = np.random.default_rng(2)
    vectors = clustered(count, dice)
    queries = [vector.tobytes() for vector in clustered(QUERIES, dice)]
    print(f"pure Python: {plain(vectors):.1f} us a vector, {plain(vectors) * count / 1e3:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.db"
        exact = ExactVectors(path, dimension=DIMENSION)
        fill(exact, vectors)
        matrix = exact.matrix()
        limit = milliseconds(lambda query: matrix @ np.frombuffer(query, "<f4"), queries)
        found = milliseconds(lambda query: exact.search(query, limit=HITS), queries)
        where = [Condition("task", "=", "a")]
        some = milliseconds(lambda query: exact.search(query, limit=HITS, where=where), queries)
        print(f"exact: {found:.2f} ms, {found / limit:.2f} x the product; filtered {some:.2f} ms")
        right = [[hit.id for hit in exact.search(query, limit=HITS)] for query in queries]
        exact.close()
        began = time.process_time()
        graph = HnswVectors(path, dimension=DIMENSION)
        print(f"graph built in {time.process_time() - began:.1f} s of CPU")
        print(
            f"graph: {milliseconds(lambda query: graph.search(query, limit=HITS), queries):.2f} ms"
        )
        given = [[hit.id for hit in graph.search(query, limit=HITS)] for query in queries]
        graph.close()
        began = time.process_time()
        HnswVectors(path, dimension=DIMENSION).close()
        print(f"graph read again in {time.process_time() - began:.2f} s of CPU")
    shared = sum(len(set(a) & set(b)) for a, b in zip(right, given, strict=True))
    equal = sum(a == b for a, b in zip(right, given, strict=True))
    print(f"recall@{HITS} {shared / (HITS * QUERIES):.4f}, equal lists {equal} of {QUERIES}")


if __name__ == "__main__":
    main()
