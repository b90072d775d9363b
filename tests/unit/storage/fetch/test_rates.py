"""Averages of bytes and quantiles of durations: bounded, by handed-in time."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.storage.fetch.rates import SAMPLES_MAX, Durations, Rate


def test_rate_follows_what_comes_and_forgets() -> None:
    rate = Rate(now_ms=0)
    assert rate.bytes_per_s == 0
    for step in range(1, 101):
        rate.add(1_000, now_ms=10 * step)
    assert 99_000 < rate.bytes_per_s <= 100_000
    for step in range(1, 601):
        rate.add(10_000, now_ms=1_000 + 10 * step)
    assert 0.99 * 1_000_000 < rate.bytes_per_s <= 1_000_000
    assert rate.fade(now_ms=7_000) == rate.bytes_per_s
    assert rate.fade(now_ms=20_000) < 10


def test_time_nobody_waited_does_not_count() -> None:
    rate = Rate(now_ms=0)
    rate.add(10_000, now_ms=100)
    rate.rest(now_ms=60_000)
    rate.add(10_000, now_ms=60_100)
    assert rate.bytes_per_s == 100_000


def test_bytes_of_one_moment_are_one_sample() -> None:
    rate = Rate(now_ms=0)
    for _ in range(50):
        rate.add(1_000, now_ms=0)
    rate.add(0, now_ms=100)
    assert rate.bytes_per_s == 500_000


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200))
def test_p95_is_kept_by_nineteen_of_twenty(durations: list[int]) -> None:
    kept = Durations()
    assert kept.p95_ms() == 0
    for duration in durations:
        kept.add(duration)
    last = durations[-SAMPLES_MAX:]
    p95 = kept.p95_ms()
    assert p95 in last
    assert sum(each <= p95 for each in last) >= 0.95 * len(last) - 1e-9
    assert sum(each < p95 for each in last) < 0.95 * len(last)
