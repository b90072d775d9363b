"""Deficit round robin: shares, order inside a line, bounds, what is taken back."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.fairness import FairQueue, QueueBounds, QueueFull

REQUESTERS = 200
ROOMY = QueueBounds(items=100_000, items_each=10_000)


def name(index: int) -> bytes:
    return index.to_bytes(2, "big")


@pytest.mark.parametrize("greedy", [1, 20, 100])
def test_shares_of_200_requesters_are_within_a_factor_of_two(greedy: int) -> None:
    """Some ask for much more and larger ones; while all wait, all get about the same cost."""
    dice = Random(greedy)
    queue: FairQueue[int] = FairQueue(ROOMY)
    for index in range(REQUESTERS):
        for _ in range(400 if index < greedy else 60):
            cost = dice.randrange(8, 4096 if index < greedy else 512)
            queue.put(name(index), index, cost=cost, size=1)
    served: Counter[int] = Counter()
    while sum(served.values()) < REQUESTERS * 10_000:
        entry = queue.take()
        assert entry is not None
        served[entry.item] += entry.cost
    shares = [served[index] for index in range(REQUESTERS)]
    assert max(shares) <= 2 * min(shares)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5000)), max_size=60))
def test_everything_comes_out_once_and_in_order_of_its_line(asked: list[tuple[int, int]]) -> None:
    queue: FairQueue[int] = FairQueue()
    for place, (who, cost) in enumerate(asked):
        queue.put(name(who), place, cost=cost, size=3)
    assert (queue.items, queue.size) == (len(asked), 3 * len(asked))
    found = []
    while (entry := queue.take()) is not None:
        found.append(entry)
    assert sorted(entry.item for entry in found) == list(range(len(asked)))
    for who in range(5):
        mine = [entry.item for entry in found if entry.who == name(who)]
        assert mine == sorted(mine)
    assert (queue.items, queue.size, queue.cost, queue.requesters) == (0, 0, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3000), st.booleans()), max_size=40))
def test_what_is_taken_back_never_has_its_turn(asked: list[tuple[int, int, bool]]) -> None:
    queue: FairQueue[int] = FairQueue()
    entries = [
        queue.put(name(who), place, cost=cost, size=0) for place, (who, cost, _) in enumerate(asked)
    ]
    for entry, (_, _, is_kept) in zip(entries, asked, strict=True):
        if not is_kept:
            assert queue.remove(entry)
            assert not queue.remove(entry)
    found = set()
    while (taken := queue.take()) is not None:
        found.add(taken.item)
    assert found == {place for place, (_, _, is_kept) in enumerate(asked) if is_kept}


def test_newcomer_does_not_wait_behind_a_long_line() -> None:
    queue: FairQueue[str] = FairQueue(quantum=10)
    for _ in range(100):
        queue.put(b"long", "long", cost=10, size=0)
    first = queue.take()
    assert first is not None
    queue.put(b"new", "new", cost=10, size=0)
    order = [entry.item for _ in range(3) if (entry := queue.take()) is not None]
    assert "new" in order[:2]


def test_company_is_charged_for_its_cost() -> None:
    """Who joined a run of another's waits longer for its own turn."""
    queue: FairQueue[str] = FairQueue(quantum=10)
    for who in (b"a", b"b", b"c"):
        for place in range(4):
            queue.put(who, f"{who.decode()}{place}", cost=10, size=0)
    assert _next(queue) == "a0"
    joined = queue.take_alike(lambda item: item.startswith("c"))
    assert joined is not None
    assert joined.item == "c0"
    assert queue.take_alike(lambda item: item == "nobody") is None
    assert [_next(queue) for _ in range(4)] == ["b0", "a1", "b1", "c1"]


@pytest.mark.parametrize(
    ("bounds", "word"),
    [
        (QueueBounds(items=2), "at most 2"),
        (QueueBounds(items_each=2), "of your requests"),
        (QueueBounds(size=2), "bytes wait"),
    ],
)
def test_full_queue_refuses_by_name(bounds: QueueBounds, word: str) -> None:
    queue: FairQueue[int] = FairQueue(bounds)
    for place in range(2):
        queue.put(b"a", place, cost=1, size=1)
    with pytest.raises(QueueFull, match=word):
        queue.put(b"a", 2, cost=1, size=1)
    assert queue.items == 2


def _next(queue: FairQueue[str]) -> str:
    entry = queue.take()
    assert entry is not None
    return entry.item
