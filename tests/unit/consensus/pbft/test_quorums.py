"""Quorum arithmetic against brute force, for every total up to 300 and random stakes."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.validators import (
    Members,
    Validator,
    ValidatorSet,
    quorum_of,
    weak_quorum_of,
)


def test_quorums_of_every_total_up_to_300() -> None:
    """The definitions, by search: B is the largest Byzantine weight with 3B < T."""
    for total in range(1, 301):
        byzantine = max(b for b in range(total + 1) if 3 * b < total)
        quorum, weak = quorum_of(total), weak_quorum_of(total)
        # Two quorums share more than B in every case; one less would not do.
        assert 2 * quorum - total > byzantine
        assert quorum <= total - byzantine, "the honest alone reach it"
        assert weak > byzantine, "it holds an honest signer"
        assert weak == total // 3 + 1
        assert min(q for q in range(1, total + 1) if 3 * q > 2 * total) == quorum


def _set(stakes: list[int]) -> ValidatorSet:
    return ValidatorSet(
        Members(
            0,
            tuple(
                Validator(bytes([i]) * 32, bytes([i + 1]) * 32, f"p{i}", stake)
                for i, stake in enumerate(stakes)
            ),
        )
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_quorums_of_real_sets_overlap_in_an_honest_signer(stakes: list[int]) -> None:
    validators = _set(stakes)
    indexes = range(len(stakes))
    groups = [set(c) for n in range(1, len(stakes) + 1) for c in combinations(indexes, n)]
    quorums = [group for group in groups if validators.is_quorum(group)]
    harmless = [group for group in groups if 3 * validators.weight(group) < validators.total]
    for first in quorums:
        for second in quorums:
            assert (first & second) not in harmless
            assert first & second
    for group in harmless:
        assert validators.is_quorum(set(indexes) - group)


def test_weight_counts_a_signer_once_and_no_stranger() -> None:
    validators = _set([3, 2, 2, 2])
    assert validators.weight([0, 0, 0]) == 3
    assert validators.weight([0, 9, -1]) == 3
    assert validators.quorum == 7
    assert not validators.is_quorum([0, 1])
    assert validators.is_quorum([0, 1, 2])
