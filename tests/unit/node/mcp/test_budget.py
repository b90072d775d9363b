"""The tools of one server never spend more than their budget, whatever order calls end in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.mcp.budget import Budget, BudgetSpent

AMOUNTS = st.integers(0, 50)


@settings(max_examples=50)
@given(
    AMOUNTS, st.lists(st.tuples(st.none() | AMOUNTS, st.integers(0, 60), st.booleans()), max_size=9)
)
def test_what_was_used_never_passes_the_limit(
    limit: int, calls: list[tuple[int | None, int, bool]]
) -> None:
    budget, used, open_calls = Budget(limit), 0, list[tuple[int, int]]()
    for wanted, would_use, ends_later in calls:
        try:
            cap = budget.take(wanted)
        except BudgetSpent:
            assert wanted is not None
            continue
        assert cap is not None
        spent = min(would_use, cap)  # the node locks no more than the cap
        used += spent
        if ends_later:
            open_calls.append((cap, spent))
        else:
            budget.give_back(cap, spent)
        assert used <= budget.taken <= limit
    for cap, spent in open_calls:
        budget.give_back(cap, spent)
    assert budget.taken == used


def test_asking_for_more_than_is_left_is_refused_with_both_amounts() -> None:
    budget = Budget(1_500_000)
    assert budget.take(1_000_000) == 1_000_000
    with pytest.raises(BudgetSpent, match=r"1\.00 FTNS are asked for, 0\.50 are left of 1\.50"):
        budget.take(1_000_000)
    assert budget.take(None) == 500_000
    assert budget.left == 0


def test_without_a_limit_the_node_decides_and_what_was_used_is_counted() -> None:
    budget = Budget(None)
    assert (budget.take(None), budget.take(7), budget.left) == (None, 7, None)
    budget.give_back(None, 5)
    budget.give_back(7, 3)
    assert budget.taken == 8
