"""Rate, time left and silence of long work."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.models.meter import STALLED_MS, Meter


def test_rate_and_time_left_follow_the_samples() -> None:
    """1,000 bytes a second of 10,000: eight are left after two."""
    meter = Meter(0, size=10_000)
    for second in range(3):
        meter.note(1000 * second, now_ms=1000 * second)
    assert meter.rate_bytes_per_s == 1000
    assert meter.eta_ms == 8000


def test_what_was_there_before_counts_as_done_and_not_as_speed() -> None:
    meter = Meter(0, size=10_000)
    meter.note(9_000, now_ms=0)
    assert (meter.done, meter.rate_bytes_per_s, meter.eta_ms) == (9_000, 0, None)
    meter.note(9_100, now_ms=1000)
    assert meter.rate_bytes_per_s == 100


def test_silence_is_told_after_ten_seconds_and_ends_with_the_next_byte() -> None:
    meter = Meter(0, size=100)
    meter.note(10, now_ms=500)
    assert meter.stalled_ms(500 + STALLED_MS - 1) == 0
    assert meter.stalled_ms(500 + STALLED_MS) == STALLED_MS
    meter.note(11, now_ms=500 + STALLED_MS)
    assert meter.stalled_ms(500 + STALLED_MS) == 0
    meter.note(100, now_ms=11_000)
    assert meter.stalled_ms(99_000) == 0, "all is done: nobody waits"


def test_nothing_at_all_is_silence_since_the_beginning() -> None:
    assert Meter(0).stalled_ms(STALLED_MS + 5) == STALLED_MS + 5
    assert Meter(0).eta_ms is None


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2**40))))
def test_no_samples_break_it(samples: list[tuple[int, int]]) -> None:
    """Bytes never go back; rate and time left are never negative."""
    meter, now, seen = Meter(0, size=2**40), 0, 0
    for step, done in samples:
        now += step
        meter.note(done, now_ms=now)
        assert meter.done >= seen
        seen = meter.done
        assert meter.rate_bytes_per_s >= 0
        assert (meter.eta_ms or 0) >= 0
        assert meter.stalled_ms(now) >= 0
