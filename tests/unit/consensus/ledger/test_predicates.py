"""Conditions as truth tables, bounds one by one, and schedules to the micro-FTNS."""

from fractions import Fraction
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.consensus.ledger.predicates import Shown, is_met, is_ordered, is_sound, vested
from prsm.protocol.codec import decode, encode
from prsm.protocol.errors import WireError
from prsm.protocol.limits import CONDITION_STEPS_MAX
from prsm.protocol.transactions.conditions import (
    After,
    AtLeast,
    HashLock,
    Predicate,
    Signers,
    Vesting,
    depth_of,
    steps_of,
)

A, B, C = (bytes([byte]) * 32 for byte in b"ABC")
TIME: Final = 1_000


def shown(*, time_ms: int = 0, digests: tuple[bytes, ...] = (), approved: bytes = b"") -> Shown:
    keys = frozenset(bytes([byte]) * 32 for byte in approved)
    return Shown(time_ms=time_ms, digests=frozenset(digests), approved=keys)


def test_after_is_met_from_its_millisecond_on() -> None:
    assert not is_met(After(TIME), shown(time_ms=TIME - 1))
    assert is_met(After(TIME), shown(time_ms=TIME))
    assert is_met(After(TIME), shown(time_ms=TIME + 1))


def test_hash_lock_is_met_by_its_digest_only() -> None:
    assert is_met(HashLock(A), shown(digests=(B, A)))
    assert not is_met(HashLock(A), shown(digests=(B,)))
    assert not is_met(HashLock(A), shown())


@pytest.mark.parametrize("least", [1, 2, 3])
def test_signers_count_their_own_keys_only(least: int) -> None:
    """All subsets of three keys, with and without a stranger's approval."""
    condition = Signers(least=least, keys=(A, B, C))
    for chosen in product((False, True), repeat=3):
        keys = bytes(key for key, takes in zip(b"ABC", chosen, strict=True) if takes)
        assert is_met(condition, shown(approved=keys)) is (sum(chosen) >= least)
        assert is_met(condition, shown(approved=keys + b"Z")) is (sum(chosen) >= least)


@pytest.mark.parametrize("least", [1, 2, 3])
def test_at_least_is_the_table_of_its_parts(least: int) -> None:
    condition = AtLeast(least=least, parts=(After(TIME), HashLock(A), Signers(1, (B,))))
    for late, known, signed in product((False, True), repeat=3):
        seen = shown(
            time_ms=TIME if late else 0,
            digests=(A,) if known else (),
            approved=b"B" if signed else b"",
        )
        assert is_met(condition, seen) is (late + known + signed >= least)


def nested(levels: int) -> Predicate:
    condition: Predicate = After(0)
    for _ in range(levels - 1):
        condition = AtLeast(1, (condition,))
    return condition


def wide(steps: int) -> Predicate:
    """Exactly so many steps: one node, parts of 17 steps, and leaves."""
    full = (steps - 1) // 17
    keys = tuple(bytes([number]) * 32 for number in range(16))
    parts = (Signers(1, keys),) * full + (After(0),) * ((steps - 1) % 17)
    return AtLeast(1, parts)


@pytest.mark.parametrize(
    ("condition", "sound"),
    [
        (After(0), True),
        (HashLock(A), True),
        (nested(4), True),
        (nested(5), False),
        (wide(CONDITION_STEPS_MAX), True),
        (wide(CONDITION_STEPS_MAX + 1), False),
        (Signers(2, (A, B)), True),
        (Signers(3, (A, B)), False),
        (Signers(1, (A, A)), False),
        (AtLeast(2, (After(0), After(1))), True),
        (AtLeast(3, (After(0), After(1))), False),
        (AtLeast(1, (After(0), Signers(2, (A,)))), False),
    ],
)
def test_sound_is_small_and_possible(condition: Predicate, sound: bool) -> None:
    assert is_sound(condition) is sound


def test_steps_and_depth_are_counted_on_the_tree() -> None:
    assert steps_of(wide(CONDITION_STEPS_MAX)) == CONDITION_STEPS_MAX
    assert [depth_of(nested(levels)) for levels in (1, 2, 4)] == [1, 2, 4]
    assert steps_of(Signers(1, (A, B))) == 3


@pytest.mark.parametrize(
    "value",
    [
        (5, 0),  # no such predicate
        (1, -1),
        (1,),
        (1, 0, 0),
        (2, b"short"),
        (3, 0, (A,)),
        (3, 17, (A,)),
        (3, 1, ()),
        (3, 1, (A,) * 17),
        (4, 1, ()),
        (True, 0),
        (4, 1, (((1, 0)),) * 17),
    ],
)
def test_malformed_predicates_do_not_decode(value: tuple[object, ...]) -> None:
    with pytest.raises(WireError):
        decode(encode((1, value)), tuple[int, Predicate], size_max=4_096)


def test_every_predicate_comes_back_from_its_bytes() -> None:
    whole = AtLeast(2, (After(1), HashLock(A), Signers(1, (B,)), nested(3)))
    raw = encode((1, whole))
    assert decode(raw, tuple[int, Predicate], size_max=len(raw)) == (1, whole)


def leaves() -> st.SearchStrategy[Predicate]:
    keys = st.lists(st.sampled_from((A, B, C)), min_size=1, max_size=3, unique=True)
    return st.one_of(
        st.builds(After, st.integers(0, 5)),
        st.builds(HashLock, st.sampled_from((A, B, C))),
        keys.map(lambda found: Signers(1 + len(found) // 2, tuple(found))),
    )


def trees() -> st.SearchStrategy[Predicate]:
    return st.recursive(
        leaves(),
        lambda inner: st.lists(inner, min_size=1, max_size=3).map(
            lambda parts: AtLeast(1 + len(parts) // 2, tuple(parts))
        ),
        max_leaves=6,
    )


@given(
    trees(),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sets(st.sampled_from(b"ABC")),
    st.sets(st.sampled_from(b"ABC")),
)
def test_more_time_and_more_proof_never_unmeet(
    condition: Predicate, early: int, later: int, some: set[int], more: set[int]
) -> None:
    def seen(time_ms: int, proofs: set[int]) -> Shown:
        digests = tuple(bytes([byte]) * 32 for byte in proofs)
        return shown(time_ms=time_ms, digests=digests, approved=bytes(proofs))

    if is_met(condition, seen(early, some)):
        assert is_met(condition, seen(early + later, some | more))


@pytest.mark.parametrize(
    ("schedule", "ordered"),
    [
        (Vesting(1, 1, 2), True),
        (Vesting(1, 2, 2), True),
        (Vesting(0, 5, 10), True),
        (Vesting(2, 1, 3), False),
        (Vesting(1, 4, 3), False),
        (Vesting(3, 3, 3), False),
    ],
)
def test_schedule_is_ordered(schedule: Vesting, ordered: bool) -> None:
    assert is_ordered(schedule) is ordered


@pytest.mark.parametrize(
    ("time_ms", "amount"),
    [(0, 0), (100, 0), (249, 0), (250, 15), (251, 15), (300, 20), (399, 29), (1_099, 99)],
)
def test_vested_by_hand(time_ms: int, amount: int) -> None:
    assert vested(Vesting(100, 250, 1_100), 100, time_ms=time_ms) == amount


@pytest.mark.parametrize("time_ms", [1_100, 9_999])
def test_all_has_vested_from_the_end_on(time_ms: int) -> None:
    assert vested(Vesting(100, 250, 1_100), 100, time_ms=time_ms) == 100


@given(
    st.integers(1, 10**18),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.lists(st.integers(0, 4 * 10**6), min_size=1, max_size=8),
)
def test_vested_meets_its_twin_in_fractions(
    amount: int, start: int, cliff: int, length: int, times: list[int]
) -> None:
    """Exact, never more than the whole, never less later."""
    schedule = Vesting(start, start + min(cliff, length), start + length)
    previous = 0
    for time_ms in sorted(times):
        found = vested(schedule, amount, time_ms=time_ms)
        part = min(Fraction(1), max(Fraction(0), Fraction(time_ms - start, length)))
        assert found == (0 if time_ms < schedule.cliff_ms else int(amount * part))
        assert previous <= found <= amount
        previous = found
