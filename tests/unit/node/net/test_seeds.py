"""Bootstrap peers are left when enough others are linked for a while, and not for ever."""

import random

from prsm.node.net.seeds import FULL_MS, KEPT, SPREAD_MS, Seeds

QUOTA = 8
SOME = ["one", "two", "three", "four"]


def after(seeds: Seeds[str], *steps: tuple[int, int]) -> list[bool]:
    """Whether they are left, after each look at (ms, links)."""
    found = []
    for now_ms, chosen in steps:
        seeds.look(chosen, SOME, now_ms=now_ms)
        found.append(seeds.are_left)
    return found


def test_full_quota_must_last() -> None:
    seeds: Seeds[str] = Seeds(QUOTA, random.Random(1))
    long_ms = FULL_MS + SPREAD_MS
    assert after(seeds, (0, 8), (FULL_MS - 1, 8), (FULL_MS, 7)) == [False] * 3
    assert after(seeds, (long_ms, 8), (2 * long_ms, 8)) == [False, True]


def test_half_of_the_quota_is_enough_to_stay_away() -> None:
    seeds: Seeds[str] = Seeds(QUOTA, random.Random(1))
    after(seeds, (0, 8), (FULL_MS + SPREAD_MS, 8))
    assert after(seeds, (60_000, 4), (61_000, 3), (62_000, 8)) == [True, False, False]


def test_node_without_a_quota_has_nobody_else() -> None:
    assert after(Seeds(0, random.Random(1)), (0, 0), (3600_000, 0)) == [False, False]


def test_those_that_started_together_do_not_leave_together() -> None:
    left = set()
    for number in range(50):
        seeds: Seeds[str] = Seeds(QUOTA, random.Random(number))
        left.add(next(at for at in range(0, 60_000, 500) if after(seeds, (at, 8)) == [True]))
    assert len(left) > 10
    assert min(left) >= FULL_MS
    assert max(left) <= FULL_MS + SPREAD_MS


def test_two_of_those_that_are_linked_are_kept_and_not_the_same_by_all() -> None:
    kept = set()
    for number in range(30):
        seeds: Seeds[str] = Seeds(QUOTA, random.Random(number))
        assert not any(map(seeds.is_left, SOME))
        after(seeds, (0, 8), (FULL_MS + SPREAD_MS, 8))
        kept.add(tuple(name for name in SOME if not seeds.is_left(name)))
        assert seeds.is_left("not linked")
    assert {len(names) for names in kept} == {KEPT}
    assert len(kept) == 6
