"""When peers hear where a node stands: 2 times a second while it moves, seldom at rest."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.chain.tidings import MOVING_EVERY_MS, MOVING_FOR_MS, REST_EVERY_MS, Tidings
from prsm.protocol.ids import PeerId

PEERS = [PeerId("a"), PeerId("b"), PeerId("c")]


def times(tidings: Tidings, standings: dict[int, int], *, until_ms: int) -> list[int]:
    """When all are told, each ms looked at; `standings`: from when which one holds."""
    told, standing = [], 0
    for now_ms in range(0, until_ms, 10):
        standing = standings.get(now_ms, standing)
        tidings.note(standing, now_ms=now_ms)
        if now_ms >= tidings.due_ms and tidings.whom(PEERS, now_ms=now_ms):
            told.append(now_ms)
    return told


def test_node_at_rest_says_it_seldom() -> None:
    told = times(Tidings(), {0: 1}, until_ms=20_000)
    moving = [at for at in told if at < MOVING_FOR_MS]
    assert moving == list(range(0, MOVING_FOR_MS, MOVING_EVERY_MS))
    assert told[len(moving) :] == list(range(MOVING_FOR_MS, 20_000, REST_EVERY_MS))


def test_change_is_told_soon_and_then_again() -> None:
    """At rest, in the middle of a long pause."""
    told = times(Tidings(), {0: 1, 8_000: 2}, until_ms=12_000)
    after = [at for at in told if at > 8_000]
    assert after[:4] == [8_500, 9_000, 9_500, 10_000]


def test_new_link_is_told_at_once_and_alone() -> None:
    tidings = Tidings()
    tidings.note(1, now_ms=0)
    assert tidings.whom(PEERS, now_ms=0) == PEERS
    tidings.meet(PEERS[1])
    assert tidings.due_ms == 0
    assert tidings.whom(PEERS, now_ms=20) == [PEERS[1]]
    assert tidings.due_ms == MOVING_EVERY_MS
    assert tidings.whom(PEERS, now_ms=30) == []


def test_link_that_was_lost_before_it_was_told_is_forgotten() -> None:
    tidings = Tidings()
    tidings.whom(PEERS, now_ms=0)
    tidings.meet(PeerId("gone"))
    assert tidings.whom(PEERS, now_ms=10) == []
    assert tidings.due_ms > 10


@given(st.dictionaries(st.integers(0, 1500).map(lambda ten: 10 * ten), st.integers(0, 9)))
def test_every_standing_that_lasts_is_told_in_time(standings: dict[int, int]) -> None:
    """Never more often than while moving, never later than half a second after a change."""
    told = times(Tidings(), standings, until_ms=20_000)
    assert all(b - a >= MOVING_EVERY_MS for a, b in pairwise(told))
    assert all(b - a <= REST_EVERY_MS for a, b in pairwise(told))
    standing = 0
    for at in sorted(standings):
        if standings[at] != standing:
            standing = standings[at]
            assert any(at <= said <= at + MOVING_EVERY_MS for said in told)
