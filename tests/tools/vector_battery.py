"""The battery every `VectorStore` passes, against a dumb twin of a few lines."""

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from prsm.storage.vectors.interface import (
    BATCH_MAX,
    LIMIT_MAX,
    BadVector,
    Condition,
    Entry,
    VectorStore,
)

DIMENSION = 8

# Opens the store of a file; a second call after close() reopens it.
MakeStore = Callable[[Path], VectorStore]


def pack(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def entry(number: int, numbers: Sequence[float], **labels: str | int) -> Entry:
    return Entry(b"id%04d" % number, pack(numbers), labels)


def random_entry(number: int, dice: Random) -> Entry:
    numbers = [dice.gauss(0, 1) for _ in range(DIMENSION)]
    return entry(number, numbers, task=dice.choice(("a", "b")), size=dice.randrange(100))


def dumb_scores(query: bytes, entries: Sequence[Entry]) -> dict[bytes, float]:
    """Cosines in double precision, one by one."""

    def numbers(raw: bytes) -> tuple[float, ...]:
        return struct.unpack(f"<{DIMENSION}f", raw)

    asked = numbers(query)
    return {
        each.id: math.fsum(a * b for a, b in zip(asked, numbers(each.vector), strict=True))
        / (math.hypot(*asked) * math.hypot(*numbers(each.vector)))
        for each in entries
    }


def check_vector_store(folder: Path, make: MakeStore) -> None:
    """Run the battery in an empty folder."""
    _check_empty(make(folder / "empty"))
    _check_search(make(folder / "search"))
    _check_order(make(folder / "order"))
    _check_filters(make(folder / "filters"))
    _check_refusals(make(folder / "refusals"))
    _check_reopen(folder / "reopen", make)
    _check_churn(folder / "churn", make)


def _check_empty(store: VectorStore) -> None:
    assert (store.dimension, store.count()) == (DIMENSION, 0)
    assert not store.search(pack([1.0] * DIMENSION), limit=5)
    assert store.get(b"none") is None
    assert store.delete([b"none"]) == 0
    assert not store.ids(b"", 5)
    store.upsert([])
    store.rebuild()
    assert store.count() == 0
    store.close()
    store.close()


def _check_search(store: VectorStore) -> None:
    dice = Random(1)
    entries = [random_entry(number, dice) for number in range(100)]
    store.upsert(entries)
    assert store.count() == 100
    for _ in range(20):
        query = pack([dice.gauss(0, 1) for _ in range(DIMENSION)])
        scores = dumb_scores(query, entries)
        hits = store.search(query, limit=10)
        best = sorted(scores.values(), reverse=True)[:10]
        assert [hit.score / 1e6 for hit in hits] == pytest.approx(best, abs=2e-6)
        for hit in hits:
            assert hit.score / 1e6 == pytest.approx(scores[hit.id], abs=2e-6)
    own = store.search(entries[7].vector, limit=1)[0]
    assert (own.id, own.score) == (entries[7].id, 1_000_000)
    assert dict(own.labels) == dict(entries[7].labels)
    found = store.get(entries[7].id)
    assert found is not None
    assert math.hypot(*struct.unpack(f"<{DIMENSION}f", found.vector)) == pytest.approx(1)
    store.close()


def _check_order(store: VectorStore) -> None:
    """Equal scores stand in the order of ids, whatever the order of writing."""
    same = [1.0, *[0.0] * (DIMENSION - 1)]
    store.upsert([entry(number, same) for number in (5, 1, 9, 3, 7)])
    store.upsert([entry(0, [0.0, *same[:-1]])])
    hits = store.search(pack([2.0, *same[1:]]), limit=3)
    assert [hit.id for hit in hits] == [b"id0001", b"id0003", b"id0005"]
    assert {hit.score for hit in hits} == {1_000_000}
    assert store.search(pack(same), limit=500)[-1].score == 0
    assert [each for each, _ in store.ids(b"id0003", 2)] == [b"id0005", b"id0007"]
    store.close()


def _check_filters(store: VectorStore) -> None:
    dice = Random(2)
    entries = [random_entry(number, dice) for number in range(60)]
    store.upsert([*entries, entry(60, [1.0] * DIMENSION)])
    query = pack([1.0] * DIMENSION)
    cases: list[list[Condition]] = [
        [Condition("task", "=", "a")],
        [Condition("size", "<=", 30)],
        [Condition("size", ">=", 30), Condition("size", "<=", 60), Condition("task", "=", "b")],
        [Condition("task", "=", 1)],  # another type
        [Condition("nothing", "=", "a")],
    ]
    for where in cases:
        passing = [
            each for each in entries if all(condition.holds(each.labels) for condition in where)
        ]
        hits = store.search(query, limit=500, where=where)
        assert {hit.id for hit in hits} == {each.id for each in passing}
        assert [hit.id for hit in hits] == [
            hit.id for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id))
        ]
    store.upsert([entry(60, [1.0] * DIMENSION, task="a")])
    assert store.search(query, limit=1, where=cases[0])[0].id == b"id0060"
    store.close()


def _check_refusals(store: VectorStore) -> None:
    good = entry(1, [1.0] * DIMENSION)
    bad = [
        [Entry(b"x", pack([1.0]))],
        [Entry(b"x", pack([0.0] * DIMENSION))],
        [Entry(b"x", pack([math.nan] * DIMENSION))],
        [Entry(b"x", pack([math.inf] * DIMENSION))],
        [Entry(b"", good.vector)],
        [Entry(b"x" * 65, good.vector)],
        [Entry(b"x", good.vector, {str(i): i for i in range(17)})],
        [good, good],
        [entry(number, [1.0] * DIMENSION) for number in range(BATCH_MAX + 1)],
    ]
    for entries in bad:
        with pytest.raises(BadVector):
            store.upsert([entry(2, [1.0] * DIMENSION), *entries])
        assert store.count() == 0
    for query, limit in ((b"", 1), (good.vector, 0), (good.vector, LIMIT_MAX + 1)):
        with pytest.raises(BadVector):
            store.search(query, limit=limit)
    store.close()


def _check_reopen(path: Path, make: MakeStore) -> None:
    dice = Random(3)
    entries = [random_entry(number, dice) for number in range(50)]
    store = make(path)
    store.upsert(entries)
    store.upsert([entry(3, [1.0] * DIMENSION, task="new")])
    assert store.delete([entries[4].id, b"none", entries[4].id]) == 1
    before = store.search(pack([1.0] * DIMENSION), limit=100)
    store.close()
    store = make(path)
    assert store.count() == 49
    assert list(store.search(pack([1.0] * DIMENSION), limit=100)) == list(before)
    assert before[0].id == b"id0003"
    store.rebuild()
    assert list(store.search(pack([1.0] * DIMENSION), limit=100)) == list(before)
    store.close()


def _check_churn(path: Path, make: MakeStore) -> None:
    """Random writes, deletes, rebuilds and restarts beside a dictionary."""
    dice = Random(4)
    twin: dict[bytes, Entry] = {}
    store = make(path)
    for _ in range(25):
        match dice.randrange(6):
            case 0 | 1 | 2:
                batch = [random_entry(n, dice) for n in dice.sample(range(80), 12)]
                store.upsert(batch)
                twin.update({each.id: each for each in batch})
            case 3:
                gone = [b"id%04d" % dice.randrange(80) for _ in range(9)]
                assert store.delete(gone) == len({each for each in gone if each in twin})
                for each in gone:
                    twin.pop(each, None)
            case 4:
                store.close()
                store = make(path)
            case _:
                store.rebuild()
        assert store.count() == len(twin)
        query = pack([dice.gauss(0, 1) for _ in range(DIMENSION)])
        hits = store.search(query, limit=5)
        scores = dumb_scores(query, list(twin.values()))
        best = sorted(scores.values(), reverse=True)[:5]
        assert [hit.score / 1e6 for hit in hits] == pytest.approx(best, abs=2e-6)
        assert all(hit.labels == twin[hit.id].labels for hit in hits)
    assert [each for each, _ in store.ids(b"", 500)] == sorted(twin)
    store.close()
