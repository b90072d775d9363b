"""The set after next: slashing at once, wishes by a third, 32 members at most, never nobody."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.consensus.ledger.records import Bond, Leaving
from prsm.consensus.ledger.succession import members_after
from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.validators import STAKE_TOTAL_MAX, Members, Validator, ValidatorSet

NO_CAP = STAKE_TOTAL_MAX


def name(number: int) -> bytes:
    return bytes([number + 1]) * 32


def bond(number: int, target: int, *, stake: int | None = None, **more: object) -> Bond:
    """Somebody's bond; order is the number unless given."""
    fields: dict[str, object] = {"order": number, "leaving": (), "tombstoned": False} | more
    held = target if stake is None else stake
    return Bond(stake=held, target=target, consensus=name(number), peer_id=f"p{number}", **fields)  # type: ignore[arg-type]  # a test's shorthand


def base_of(stakes: Mapping[int, int]) -> ValidatorSet:
    members = (Validator(name(i), name(i), f"p{i}", stake) for i, stake in stakes.items())
    return ValidatorSet(Members(epoch=4, validators=tuple(members)))


def after(base: ValidatorSet, *bonds: tuple[int, Bond], cap: int = NO_CAP) -> dict[int, int]:
    """Weights in the next set, in the order of its members."""
    members = members_after(base, {name(i): found for i, found in sorted(bonds)}, cap)
    assert members.epoch == base.epoch + 1
    return {each.operator[0] - 1: each.stake for each in members.validators}


def same(stakes: Mapping[int, int]) -> list[tuple[int, Bond]]:
    return [(i, bond(i, stake)) for i, stake in stakes.items()]


FOUR = {0: 100, 1: 100, 2: 100, 3: 100}


def test_nothing_changes_without_a_wish() -> None:
    assert after(base_of(FOUR), *same(FOUR)) == FOUR


def test_newcomers_stand_behind_by_operator_and_keep_the_order() -> None:
    base = base_of({3: 100, 1: 100})
    bonds = [(1, bond(1, 100)), (3, bond(3, 100)), (5, bond(5, 20, order=9)), (4, bond(4, 20))]
    assert list(after(base, *bonds).items()) == [(3, 100), (1, 100), (4, 20), (5, 20)]


def test_increases_share_a_third_in_the_order_of_their_wish() -> None:
    bonds = same(FOUR)[2:]
    first, second = bond(0, 200, order=8), bond(1, 200, order=7)
    assert after(base_of(FOUR), (0, first), (1, second), *bonds) == FOUR | {0: 133, 1: 200}


def test_decreases_have_a_third_of_their_own() -> None:
    bonds = [(0, bond(0, 0, stake=100)), (1, bond(1, 0, stake=100)), *same(FOUR)[2:]]
    bonds.append((4, bond(4, 500)))
    assert after(base_of(FOUR), *bonds) == {1: 67, 2: 100, 3: 100, 4: 133}


def test_who_is_no_member_has_nothing_to_go_down_from() -> None:
    """A bond that is all on its way out, of somebody who never came in."""
    bonds = [*same(FOUR)[:3], (3, bond(3, 0, stake=100)), (4, bond(4, 0, stake=50, order=0))]
    assert after(base_of(FOUR), *bonds) == {0: 100, 1: 100, 2: 100}


def test_slashing_and_tombstones_have_no_limit_and_come_first() -> None:
    bonds = [
        (0, bond(0, 0, stake=100, tombstoned=True)),
        (1, bond(1, 100, stake=10)),
        (2, bond(2, 0, stake=100)),
        (3, bond(3, 100)),
    ]
    assert after(base_of(FOUR), *bonds) == {1: 10, 3: 100}


def test_what_leaves_does_not_weigh() -> None:
    parts = (Leaving(30, 5), Leaving(30, 6))
    bonds = [(0, bond(0, 100, stake=100, leaving=parts)), *same(FOUR)[1:]]
    assert after(base_of(FOUR), *bonds) == FOUR | {0: 40}


def test_cap_holds_and_a_lower_cap_is_reached_by_thirds() -> None:
    assert after(base_of(FOUR), (0, bond(0, 200)), *same(FOUR)[1:], cap=110) == FOUR | {0: 110}
    assert after(base_of(FOUR), *same(FOUR), cap=50) == {0: 50, 1: 50, 2: 67, 3: 100}


def test_if_all_would_leave_all_stay_until_somebody_comes() -> None:
    leaving = [(i, bond(i, 0, stake=100)) for i in range(4)]
    assert after(base_of(FOUR), *leaving) == FOUR
    assert after(base_of(FOUR), *leaving, (4, bond(4, 50))) == {1: 67, 2: 100, 3: 100, 4: 50}


def test_if_all_are_convicted_the_set_stays() -> None:
    convicted = [(i, bond(i, 0, stake=90, tombstoned=True)) for i in range(4)]
    assert after(base_of(FOUR), *convicted) == FOUR


def test_at_most_32_and_the_heaviest() -> None:
    full = dict.fromkeys(range(VALIDATORS_MAX), 100)
    lighter = bond(40, 99)
    assert after(base_of(full), *same(full), (40, lighter)) == full
    heavier = bond(40, 101)
    left = dict.fromkeys(range(VALIDATORS_MAX - 1), 100)  # of equals the last operator goes
    assert after(base_of(full), *same(full), (40, heavier)) == left | {40: 101}


def test_newcomer_waits_until_a_place_is_empty() -> None:
    """The heaviest leaves in two epochs; only then there are fewer than 32."""
    full = {0: 1_000, **dict.fromkeys(range(1, 31), 100), 31: 3_000}
    bonds = [*same(full)[:-1], (31, bond(31, 0, stake=3_000)), (40, bond(40, 50))]
    slow = after(base_of(full), *bonds)
    assert slow == full | {31: 3_000 - 7_000 // 3}
    assert after(base_of(slow), *bonds) == {i: full[i] for i in range(31)} | {40: 50}


@st.composite
def situations(draw: st.DrawFn) -> tuple[ValidatorSet, dict[bytes, Bond], int]:
    weights = draw(st.lists(st.integers(1, 50), min_size=1, max_size=8))
    base = base_of(dict(enumerate(weights)))
    bonds = {}
    for number in range(len(weights) + draw(st.integers(0, 4))):
        weight = weights[number] if number < len(weights) else 0
        stake = draw(st.integers(0, 80))
        part = draw(st.integers(0, stake))
        bonds[name(number)] = bond(
            number,
            draw(st.sampled_from((0, weight, 10, 40, 90))),
            stake=stake,
            leaving=(Leaving(part, 1),) if part else (),
            tombstoned=draw(st.integers(0, 9)) == 0,
            order=draw(st.integers(0, 99)),
        )
    return base, bonds, draw(st.sampled_from((5, 30, NO_CAP)))


@settings(max_examples=300, deadline=None)
@given(situations())
def test_no_more_than_a_third_moves_by_wish(
    situation: tuple[ValidatorSet, dict[bytes, Bond], int],
) -> None:
    """Forced reductions aside, 3 · max(Σ up, Σ down) <= T; nobody passes his wish."""
    base, bonds, cap = situation
    members = members_after(base, bonds, cap)
    new = {each.operator: each.stake for each in members.validators}
    old = {each.operator: each.stake for each in base.validators}
    forced = {
        operator: 0 if bonds[operator].tombstoned else min(stake, bonds[operator].held)
        for operator, stake in old.items()
    }
    if not any(forced.values()):
        forced = old
    moves = {
        operator: new.get(operator, 0) - forced.get(operator, 0) for operator in {*new, *forced}
    }
    up = sum(move for move in moves.values() if move > 0)
    down = -sum(move for move in moves.values() if move < 0)
    assert 3 * max(up, down) <= base.total
    assert new
    for operator, move in moves.items():
        found = bonds[operator]
        want = 0 if found.tombstoned else min(found.target, found.held, cap)
        assert move == 0 or (forced.get(operator, 0) - want) * (new.get(operator, 0) - want) >= 0


@settings(max_examples=60, deadline=None)
@given(situations())
def test_repeated_it_reaches_what_everybody_wants(
    situation: tuple[ValidatorSet, dict[bytes, Bond], int],
) -> None:
    """With wishes left alone, the set ends at the wishes (bar the crumbs of T / 3 = 0)."""
    base, bonds, cap = situation
    for _ in range(60):
        base = ValidatorSet(members_after(base, bonds, cap))
    wants = {
        operator: min(found.target, found.held, cap)
        for operator, found in bonds.items()
        if not found.tombstoned and min(found.target, found.held, cap)
    }
    reached = {each.operator: each.stake for each in base.validators}
    if wants and base.total >= 3:
        assert reached == wants


@pytest.mark.parametrize("total", range(1, 40))
def test_third_of_every_total(total: int) -> None:
    """The room is the largest integer r with 3r <= T."""
    [(_, stake)] = after(base_of({0: total}), (0, bond(0, 10 * total))).items()
    assert stake == total + total // 3
