"""Routes: the shortest path against trying all, bans that double, habits that hold."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.inference.routing import (
    BAN_MS,
    BAN_MS_MAX,
    CHECK_MS,
    CHECKS,
    Bans,
    Habit,
    StageCost,
    cheapest,
)
from prsm.protocol.ids import PeerId

PEERS = tuple(PeerId(name) for name in "abcd")
ONE = PEERS[0]
_ms = st.integers(0, 50).map(float)
_costs = st.builds(StageCost, rtt_ms=_ms, transfer_ms=_ms, compute_ms=_ms, queue_ms=_ms)
_stages = st.lists(st.dictionaries(st.sampled_from(PEERS), _costs, max_size=4), max_size=4)


@given(_stages)
def test_route_is_the_shortest_of_all(stages: list[dict[PeerId, StageCost]]) -> None:
    lengths = []
    for path in product(*stages):
        ms = 0.0
        for place, peer in enumerate(path):
            again = place > 0 and path[place - 1] == peer
            cost = stages[place][peer]
            ms += cost.total_ms - (cost.queue_ms if again else 0.0)
        lengths.append(ms)
    route = cheapest(stages)
    assert (route is None) == (not lengths)
    if route is not None:
        assert route.ms == min(lengths)
        assert len(route.peers) == len(stages)


def test_every_term_lengthens_the_edge() -> None:
    assert StageCost(2.0, 3.0, 5.0, 7.0, 11.0, 13.0).total_ms == 40.0


def test_ban_doubles_to_its_bound_and_one_answer_clears_it() -> None:
    bans, now = Bans(), 0
    lengths = [bans.strike(ONE, now) for _ in range(12)]
    assert lengths[:3] == [BAN_MS, 2 * BAN_MS, 4 * BAN_MS]
    assert lengths[-1] == BAN_MS_MAX
    assert bans.is_out(ONE, BAN_MS_MAX - 1)
    assert not bans.is_out(ONE, BAN_MS_MAX)
    bans.clear(ONE)
    assert not bans.is_out(ONE, 0)
    assert bans.strike(ONE, now) == BAN_MS


def test_route_is_left_after_three_checks_a_minute_apart() -> None:
    habit = Habit()
    looks = [habit.leave(now * CHECK_MS // 2, held_ms=100, best_ms=75) for now in range(6)]
    assert looks == [False] * (2 * (CHECKS - 1)) + [True, False]


def test_route_that_is_hardly_better_or_only_once_is_not_left() -> None:
    habit = Habit()
    for now in range(20):
        assert not habit.leave(now * CHECK_MS, held_ms=100, best_ms=76)
    for now in range(20, 40):
        assert not habit.leave(now * CHECK_MS, held_ms=100, best_ms=50 if now % 3 else 90)
