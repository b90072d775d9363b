"""Turns by stake, from the chain alone: who failed is passed, and skipped in the next epochs."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.schedule import (
    SEQUENCE_MAX,
    STICKY_HEIGHTS,
    VIEWS_BLAMED_MAX,
    Blame,
    Turns,
    first_turns,
    schedule_of,
    sequence_of,
    turns_after,
    turns_of_next,
)
from prsm.protocol.validators import Members, Validator, ValidatorSet


def _set(*stakes: int, epoch: int = 0, order: str = "") -> ValidatorSet:
    names = order or "abcdefgh"[: len(stakes)]
    return ValidatorSet(
        Members(
            epoch=epoch,
            validators=tuple(
                Validator(name.encode() * 32, name.upper().encode() * 32, f"peer {name}", stake)
                for name, stake in zip(names, stakes, strict=True)
            ),
        )
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8).map(tuple))
def test_each_validator_has_its_share(stakes: tuple[int, ...]) -> None:
    sequence = sequence_of(stakes)
    total = sum(stakes)
    assert len(sequence) <= min(total, SEQUENCE_MAX)
    for index, stake in enumerate(stakes):
        assert sequence.count(index) * total == stake * len(sequence)


def test_turns_are_spread_and_ties_go_by_index() -> None:
    assert list(sequence_of((3, 2, 2, 2))) == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert list(sequence_of((1, 1, 1, 1))) == [0, 1, 2, 3]
    assert len(sequence_of((10**15, 10**15 + 1))) == SEQUENCE_MAX


def test_a_proposer_stays_for_some_heights_and_is_passed_after_a_failed_view() -> None:
    validators = _set(1, 1, 1, 1)
    turns = first_turns(validators)

    def at(height: int, turns: Turns = turns) -> int:
        return schedule_of(validators, turns, height=height, first=1).at(0)

    assert [at(height) for height in (1, STICKY_HEIGHTS, STICKY_HEIGHTS + 1)] == [0, 0, 1]
    failed = turns_after(turns, validators, height=3, first=1, prev_view=2)
    assert (failed.failed_views, failed.last_view) == (2, 2)
    assert at(4, failed) == 2
    # Views 0 and 1 of height 2 failed at the turns of validators 0 and 1.
    assert failed.failures == (1, 1, 0, 0)


def test_blame_goes_by_the_schedule_of_the_failed_height() -> None:
    validators = _set(1, 1, 1, 1)
    turns = turns_after(first_turns(validators), validators, height=3, first=1, prev_view=1)
    # a(3) = 0 and a(4) = 1: view 0 of height 3 was still validator 0's turn.
    turns = turns_after(turns, validators, height=4, first=1, prev_view=1)
    assert turns.failures == (2, 0, 0, 0)
    turns = turns_after(turns, validators, height=5, first=1, prev_view=1)
    assert turns.failures == (2, 1, 0, 0)


def test_the_first_block_of_an_epoch_blames_nobody() -> None:
    validators = _set(1, 1)
    turns = first_turns(validators)
    assert turns_after(turns, validators, height=7, first=7, prev_view=5) == turns


def test_a_long_outage_counts_as_two_rounds() -> None:
    validators = _set(1, 1, 1, 1)
    turns = turns_after(first_turns(validators), validators, height=2, first=1, prev_view=10**6)
    assert sum(turns.failures) == VIEWS_BLAMED_MAX == 2 * VALIDATORS_MAX
    assert turns.failed_views == 10**6


def test_who_failed_has_no_turn_in_the_next_two_epochs() -> None:
    ending = _set(1, 1, 1, 1)
    failed = msgspec.structs.replace(first_turns(ending), failures=(0, 3, 0, 0), failed_views=3)
    # Signer indexes differ between epochs: operator b is number 2 now.
    middle = _set(1, 1, 1, 1, epoch=1, order="acbd")
    turns = turns_of_next(failed, ending, middle)
    assert (turns.failed_views, turns.failures, turns.skipped) == (0, (0,) * 4, (2,))
    assert turns.earlier == (Blame(b"b" * 32, 3),)
    schedule = schedule_of(middle, turns, height=5, first=5)
    assert [schedule.at(view) for view in range(4)] == [0, 1, 3, 0]
    after = turns_of_next(turns, middle, ending)
    assert (after.skipped, after.earlier) == ((1,), ())
    assert turns_of_next(after, ending, middle).skipped == ()


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=8, max_size=8),
)
def test_the_skipped_hold_less_than_a_third(stakes: list[int], views: list[int]) -> None:
    ending = _set(*stakes)
    failures = tuple(views[: len(stakes)])
    turns = msgspec.structs.replace(first_turns(ending), failures=failures)
    skipped = turns_of_next(turns, ending, _set(*stakes, epoch=1)).skipped
    assert 3 * sum(stakes[index] for index in skipped) < sum(stakes)
    left = [index for index in range(len(stakes)) if failures[index] and index not in skipped]
    weight = sum(stakes[index] for index in skipped)
    # Whoever failed and is not skipped would have carried the skipped to a third.
    assert all(3 * (weight + stakes[index]) >= sum(stakes) for index in left)
