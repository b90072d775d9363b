"""The schedule of faults, and options no history is made with."""

from collections import Counter
from itertools import islice

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet.histories.faults import Kind, Round, schedule
from prsm.testnet.histories.run import CLIENTS_MAX, Options, check_options


def rounds(seed: int, count: int, *, scale: float = 1.0) -> list[Round]:
    return list(islice(schedule(seed, 5, scale=scale), count))


def test_same_seed_gives_the_same_rounds() -> None:
    """And another seed others."""
    assert rounds(7, 50) == rounds(7, 50)
    assert rounds(7, 50) != rounds(8, 50)


def test_each_cycle_does_everything_once_in_its_own_order() -> None:
    """The first one thing at a time, later sometimes two at once; victims are nodes."""
    cycles = [rounds(3, 40)[start : start + 10] for start in range(0, 40, 10)]
    for cycle in cycles:
        assert Counter(each.faults[0][0] for each in cycle) == Counter(Kind)
    assert all(len(each.faults) == 1 for each in cycles[0])
    later = [each for cycle in cycles[1:] for each in cycle]
    assert {len(each.faults) for each in later} == {1, 2}
    assert {place for each in later for _, place in each.faults} == {0, 1, 2, 3, 4}
    assert cycles[0] != cycles[1]


def test_scale_shortens_all_durations() -> None:
    """For the gate; what happens stays the same."""
    for short, long in zip(rounds(3, 20, scale=0.5), rounds(3, 20), strict=True):
        assert short.faults == long.faults
        assert short.seconds == pytest.approx(long.seconds / 2)
        assert short.rest_seconds == pytest.approx(long.rest_seconds / 2)


@pytest.mark.parametrize(
    "bad",
    [
        Options(operations=0),
        Options(operations=10_000_001),
        Options(nodes=3),
        Options(nodes=14),
        Options(clients=0),
        Options(clients=CLIENTS_MAX + 1),
    ],
)
def test_options_no_history_is_made_with_are_refused(bad: Options) -> None:
    """Before any key is made."""
    with pytest.raises(LocalError, match=r"at (least|most)|4 to 13"):
        check_options(bad)
