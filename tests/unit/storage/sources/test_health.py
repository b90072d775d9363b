"""Health of a source: what opens its breaker, what closes it, and what it costs to be slow."""

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.storage.sources.health import (
    BACK_OFF_FIRST_MS,
    BACK_OFF_LONGEST_MS,
    FAULTS_OPEN,
    FAULTS_WITHIN_MS,
    UNFIT_MS,
    Health,
    SavedHealth,
    State,
)

MIB = 1 << 20


def state_of(health: Health) -> State:
    """Ask anew: mypy takes a property for constant."""
    return health.state


def opened(dice: int = 1) -> Health:
    health = Health(Random(dice))
    for _ in range(FAULTS_OPEN):
        health.failed("no", now_ms=0)
    return health


def test_five_faults_in_thirty_seconds_open_the_breaker() -> None:
    health = Health(Random(1))
    for at in range(FAULTS_OPEN - 1):
        health.failed("no", now_ms=at)
    assert (health.state, health.wait_ms(now_ms=10)) == (State.OK, 0)
    health.failed("no", now_ms=FAULTS_WITHIN_MS + 1)  # the first is too long ago
    assert state_of(health) is State.OK
    health.failed("no", now_ms=FAULTS_WITHIN_MS + 1)
    assert state_of(health) is State.OPEN
    assert (health.faults, health.last_error) == (FAULTS_OPEN + 1, "no")


def test_an_answer_between_faults_keeps_it_closed() -> None:
    health = Health(Random(1))
    for at in range(20):
        health.failed("no", now_ms=at)
        if at % 4 == 3:
            health.answered(took_ms=1, size=0)
    assert state_of(health) is State.OK


def test_one_probe_after_the_back_off_decides() -> None:
    health = opened()
    until = health.wait_ms(now_ms=0)
    assert not health.begin(now_ms=until - 1)
    assert health.begin(now_ms=until)
    assert state_of(health) is State.PROBING
    assert not health.begin(now_ms=until)  # one only
    health.failed("again", now_ms=until)
    assert state_of(health) is State.OPEN
    later = until + BACK_OFF_LONGEST_MS
    assert health.begin(now_ms=later)
    health.answered(took_ms=5, size=10)
    assert (health.state, health.begin(now_ms=later), health.begin(now_ms=later)) == (
        State.OK,
        True,
        True,
    )


def test_abandoned_probe_lets_another_try() -> None:
    health = opened()
    assert health.begin(now_ms=BACK_OFF_LONGEST_MS)
    health.abandoned()
    assert health.begin(now_ms=BACK_OFF_LONGEST_MS)


@given(st.integers(0, 2**32), st.integers(0, 40))
def test_back_off_is_full_jitter_up_to_a_minute(seed: int, failures: int) -> None:
    health = opened(seed)
    now_ms = 0
    for number in range(failures):
        wait_ms = health.wait_ms(now_ms=now_ms)
        assert 0 <= wait_ms <= min(BACK_OFF_LONGEST_MS, BACK_OFF_FIRST_MS << number)
        now_ms += wait_ms
        assert health.begin(now_ms=now_ms)
        health.failed("no", now_ms=now_ms)


def test_back_off_spreads() -> None:
    waits = set()
    for seed in range(200):
        health = opened(seed)
        for number in range(1, 8):
            assert health.begin(now_ms=number * BACK_OFF_LONGEST_MS)
            health.failed("no", now_ms=number * BACK_OFF_LONGEST_MS)
        waits.add(health.wait_ms(now_ms=7 * BACK_OFF_LONGEST_MS) // 6_000)
    assert waits == set(range(max(waits) + 1))
    assert len(waits) > 4


def test_wrong_form_is_unfit_for_an_hour() -> None:
    health = Health(Random(1))
    health.failed("html", now_ms=5, is_unfit=True)
    assert (health.state, health.wait_ms(now_ms=5)) == (State.UNFIT, UNFIT_MS)
    assert health.begin(now_ms=5 + UNFIT_MS)


def test_faster_is_expected_sooner_and_a_fault_costs_a_minute() -> None:
    fast, slow, new, faulty = (Health(Random(1)) for _ in range(4))
    for health, rate in ((fast, 50), (slow, 1), (faulty, 50)):
        health.answered(took_ms=20, size=100)
        health.answered(took_ms=1000, size=rate * MIB)
    faulty.failed("no", now_ms=0)
    ranked = [fast, new, slow, faulty]
    assert sorted(ranked, key=lambda each: each.expected_ms(now_ms=0)) in (
        ranked,
        [fast, slow, new, faulty],
    )
    assert faulty.expected_ms(now_ms=FAULTS_WITHIN_MS + 1) == fast.expected_ms(now_ms=0)
    assert (fast.latency_ms, fast.rate_bps) == (20, 50 * MIB)


def test_averages_move_and_small_answers_tell_no_rate() -> None:
    health = Health(Random(1))
    health.answered(took_ms=100, size=10)
    assert (health.latency_ms, health.rate_bps) == (100, 0)
    health.answered(took_ms=200, size=10)
    assert health.latency_ms == 130
    health.answered(took_ms=1000, size=MIB)
    health.answered(took_ms=1000, size=2 * MIB)
    assert health.rate_bps == round(1.3 * MIB)
    assert health.bytes == 3 * MIB + 20


def test_health_outlives_a_restart() -> None:
    """So that a restart does not begin with the dead one."""
    before = opened()
    before.answered(took_ms=1000, size=4 * MIB)
    for _ in range(FAULTS_OPEN):
        before.failed("gone", now_ms=100)
    raw = msgspec.json.encode(before.save("http://127.0.0.1:1", now_ms=100))
    saved = msgspec.json.decode(raw, type=SavedHealth)
    after = Health(Random(2))
    after.load(saved, now_ms=9_000)
    assert (after.state, after.rate_bps, after.last_error) == (State.OPEN, 4 * MIB, "gone")
    assert after.wait_ms(now_ms=9_000) == before.wait_ms(now_ms=100)
    assert after.begin(now_ms=9_000 + BACK_OFF_LONGEST_MS)
    assert state_of(after) is State.PROBING


@pytest.mark.parametrize("bad", ["name", "rate_bps", "wait_ms"])
def test_saved_health_is_bounded(bad: str) -> None:
    fine = msgspec.structs.asdict(Health(Random(1)).save("x", now_ms=0))
    fine[bad] = {"name": "x" * 1000, "rate_bps": -1, "wait_ms": UNFIT_MS + 1}[bad]
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(fine), type=SavedHealth)
