"""Token buckets, accounts and strain against dumb twins: nobody gets more, nothing is forgotten."""

import itertools
import sys

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.budgets import (
    BUDGETS,
    CALM_MS,
    PATIENCE_MS,
    REFUSED_STRAIN_MS,
    REMEMBERED_MAX,
    STRAIN_MS_MAX,
    STRAIN_POINTS,
    Account,
    Accounts,
    Bucket,
    Patience,
    Rate,
    Standing,
    Strain,
    Traffic,
)
from prsm.node.net.scores import BAN_POINTS
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CTL_FRAME_BYTES_MAX

RATES = st.builds(Rate, st.integers(1, 10**6), st.integers(1, 10**6))
STEPS = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 10**5)), max_size=40)
ONE = PeerId("one")


@given(RATES, STEPS)
def test_taken_within_any_time_is_at_most_burst_and_what_came_back(
    rate: Rate, steps: list[tuple[int, int]]
) -> None:
    """Every window of the history, by brute force."""
    bucket, now, taken = Bucket(rate, now_ms=0), 0, [(0, 0)]
    for wait, amount in steps:
        now += wait
        if not bucket.take(amount, now_ms=now):
            taken.append((now, amount))
    for first, last in itertools.combinations_with_replacement(range(len(taken)), 2):
        used = sum(amount for _, amount in taken[first : last + 1])
        seconds_milli = taken[last][0] - taken[first][0]
        assert used * 1000 <= rate.burst * 1000 + rate.per_s * seconds_milli


@given(RATES, STEPS)
def test_who_waits_as_told_owes_nothing_and_never_waits_longer_than_needed(
    rate: Rate, steps: list[tuple[int, int]]
) -> None:
    bucket, now = Bucket(rate, now_ms=0), 0
    for pause, amount in steps:
        now += pause
        wait = bucket.charge(amount, now_ms=now)
        if wait:
            assert bucket.charge(0, now_ms=now + wait - 1) == 1
        now += wait
        assert bucket.charge(0, now_ms=now) == 0


@given(RATES, st.integers(1, 10**6), st.integers(0, 10_000))
def test_refused_amount_is_there_after_the_time_it_was_told(
    rate: Rate, amount: int, now: int
) -> None:
    amount = min(amount, rate.burst)
    bucket = Bucket(rate, now_ms=0)
    bucket.charge(rate.burst, now_ms=now)
    wait = bucket.take(amount, now_ms=now)
    assert wait > 0
    assert bucket.take(amount, now_ms=now + wait - 1) > 0
    assert bucket.take(amount, now_ms=now + wait) == 0


@given(RATES, RATES, st.integers(0, 10**7))
def test_change_of_rate_neither_forgives_nor_fills(old: Rate, new: Rate, used: int) -> None:
    bucket = Bucket(old, now_ms=0)
    owed = bucket.charge(used, now_ms=0) > 0
    bucket.change(new, now_ms=0)
    assert (bucket.charge(0, now_ms=0) > 0) == owed
    bucket.change(Rate(new.per_s, 1), now_ms=0)
    assert bucket.take(2, now_ms=10**9) > 0


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = Bucket(Rate(1, 1), now_ms=5_000)
    assert bucket.take(1, now_ms=5_000) == 0
    assert bucket.take(1, now_ms=0) == 1_000
    assert bucket.take(1, now_ms=5_999) == 1


def test_strain_forgives_a_burst_and_bans_who_goes_on() -> None:
    """Waiting without an end: no points within the first twenty seconds, a ban within forty."""
    strain, points, now = Strain(now_ms=0), 0, 0
    assert strain.add(STRAIN_MS_MAX, now_ms=0) == 0
    strain = Strain(now_ms=0)
    while points < BAN_POINTS:
        now += 100
        points += strain.add(100, now_ms=now)
        assert not (points and now < 2 * STRAIN_MS_MAX)
    assert points % STRAIN_POINTS == 0
    assert 20_000 <= now <= 40_000


def test_strain_of_who_keeps_asking_a_little_too_often_is_forgiven() -> None:
    strain = Strain(now_ms=0)
    for now in range(0, 600_000, 20):  # fifty refused calls a second, for ten minutes
        assert strain.add(REFUSED_STRAIN_MS, now_ms=now) == 0


def test_frames_of_full_size_fit_every_budget() -> None:
    caps = {Traffic.CONSENSUS: CTL_FRAME_BYTES_MAX}
    for budgets in BUDGETS.values():
        assert set(budgets) == set(Traffic)
        for traffic, budget in budgets.items():
            cap = caps.get(traffic, BULK_FRAME_BYTES_MAX)
            assert budget.bytes.burst >= cap
            assert budget.bytes_out.burst >= cap
            assert budget.calls.per_s <= budget.messages.per_s


def test_validators_are_allowed_more_than_others_in_everything() -> None:
    for traffic in Traffic:
        wide, narrow = BUDGETS[Standing.VALIDATOR][traffic], BUDGETS[Standing.OTHER][traffic]
        for name in ("bytes", "messages", "calls", "bytes_out"):
            most, least = getattr(wide, name), getattr(narrow, name)
            assert most.per_s > least.per_s
            assert most.burst > least.burst


def test_classes_and_directions_have_buckets_of_their_own() -> None:
    account = Account(Standing.OTHER, now_ms=0)
    budget = BUDGETS[Standing.OTHER]
    assert account.read(Traffic.STORAGE, 2 * budget[Traffic.STORAGE].bytes.burst, now_ms=0) > 0
    assert account.read(Traffic.INFERENCE, 1, now_ms=0) == 0
    assert account.write(Traffic.STORAGE, 1, now_ms=0) == 0
    assert account.heard(Traffic.STORAGE, now_ms=0) == 0
    for _ in range(budget[Traffic.CONSENSUS].calls.burst):
        assert account.called(Traffic.CONSENSUS, now_ms=0) == 0
    assert account.called(Traffic.CONSENSUS, now_ms=0) > 0
    assert account.called(Traffic.STORAGE, now_ms=0) == 0


def test_consensus_never_waits_on_the_way_out() -> None:
    account = Account(Standing.OTHER, now_ms=0)
    assert account.write(Traffic.CONSENSUS, 1 << 40, now_ms=0) == 0
    assert account.write(Traffic.INFERENCE, 1 << 40, now_ms=0) > 0


def test_dialling_anew_fills_no_bucket() -> None:
    accounts = Accounts()
    first = accounts.open(ONE, now_ms=0)
    while not first.called(Traffic.CONSENSUS, now_ms=0):
        pass
    assert accounts.open(ONE, now_ms=0) is first
    accounts.close(ONE)
    accounts.close(ONE)
    assert accounts.open(ONE, now_ms=0).called(Traffic.CONSENSUS, now_ms=0) > 0


def test_what_is_kept_of_lost_peers_is_bounded_and_live_ones_stay() -> None:
    accounts = Accounts()
    live = accounts.open(ONE, now_ms=0)
    for number in range(REMEMBERED_MAX + 50):
        peer = PeerId(f"peer{number}")
        accounts.open(peer, now_ms=0)
        accounts.close(peer)
    assert len(accounts) == REMEMBERED_MAX + 1
    assert accounts.open(ONE, now_ms=0) is live


def test_account_of_a_peer_takes_at_most_four_kibibytes() -> None:
    account = Account(Standing.OTHER, now_ms=0)
    size = sys.getsizeof(account)
    for meter in account._meters:
        size += sys.getsizeof(meter)
        size += 4 * (sys.getsizeof(meter.bytes) + 2 * sys.getsizeof(1 << 40))
    assert size <= 4096


def test_who_becomes_a_validator_gets_its_budgets_at_once_and_loses_them_again() -> None:
    accounts = Accounts()
    account = accounts.open(ONE, now_ms=0)
    wide = BUDGETS[Standing.VALIDATOR][Traffic.CONSENSUS].messages.burst
    accounts.trust([ONE], now_ms=0)
    assert all(account.heard(Traffic.CONSENSUS, now_ms=0) == 0 for _ in range(wide))
    accounts.trust([], now_ms=0)
    assert account.heard(Traffic.CONSENSUS, now_ms=0) > 0


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=100))
def test_patience_is_bounded_and_comes_back_with_calm_only(steps: list[tuple[int, bool]]) -> None:
    """Waits of any window are at most `PATIENCE_MS` and half of the calm in it."""
    patience, now, history = Patience(), 0, list[tuple[int, int]]()  # waited, calm before
    loud_until = 0
    for pause, is_word in steps:
        now += pause
        calm = max(0, now - loud_until) if is_word else 0
        if is_word:
            patience.stir(now_ms=now)
            loud_until = now + CALM_MS
        wait = patience.wait_ms(now_ms=now)
        assert wait <= max(0, loud_until - now)
        history.append((wait, calm))
    for first, last in itertools.combinations_with_replacement(range(len(history)), 2):
        window = history[first : last + 1]
        calm = sum(calm for _, calm in window[1:])
        assert 2 * sum(wait for wait, _ in window) <= 2 * PATIENCE_MS + calm


def test_patience_waits_for_a_whole_round_and_no_longer_than_it_lasts() -> None:
    patience, now, waited = Patience(), 1000, 0
    while now < 1013:
        patience.stir(now_ms=now)
        wait = patience.wait_ms(now_ms=now)
        assert wait == CALM_MS
        waited, now = waited + wait, now + wait
    assert patience.wait_ms(now_ms=now) == 0
    assert waited <= PATIENCE_MS


def test_under_votes_without_an_end_nothing_waits() -> None:
    patience, waited = Patience(), 0
    for now in range(0, 10_000, CALM_MS - 1):
        patience.stir(now_ms=now)
        waited += patience.wait_ms(now_ms=now)
    assert waited <= PATIENCE_MS
