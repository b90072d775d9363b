"""Penalties, bans and buckets, with time handed in."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.scores import (
    BAN_FIRST_MS,
    BAN_LONGEST_MS,
    PEERS_REMEMBERED_MAX,
    POINT_FADES_MS,
    SERVED_MS,
    Scores,
    Service,
    TokenBucket,
    TokenBuckets,
)
from prsm.protocol.ids import PeerId

PEER = PeerId("peer")


def test_hundred_points_ban_for_a_minute() -> None:
    scores = Scores()
    assert scores.penalise(PEER, 99, now_ms=0) == 0
    assert scores.penalise(PEER, 1, now_ms=0) == BAN_FIRST_MS
    assert scores.banned_ms(PEER, now_ms=BAN_FIRST_MS - 1) == 1
    assert scores.banned_ms(PEER, now_ms=BAN_FIRST_MS) == 0


def test_bans_double_up_to_a_day() -> None:
    scores, now, lengths = Scores(), 0, []
    for _ in range(14):
        lengths.append(scores.penalise(PEER, 100, now_ms=now))
        now += lengths[-1]
    assert lengths[:4] == [BAN_FIRST_MS, 2 * BAN_FIRST_MS, 4 * BAN_FIRST_MS, 8 * BAN_FIRST_MS]
    assert lengths[-1] == BAN_LONGEST_MS


def test_faults_during_a_ban_do_not_lengthen_it() -> None:
    scores = Scores()
    scores.penalise(PEER, 100, now_ms=0)
    assert scores.penalise(PEER, 100, now_ms=1000) == BAN_FIRST_MS - 1000


def test_points_fade() -> None:
    scores = Scores()
    scores.penalise(PEER, 60, now_ms=0)
    assert scores.points(PEER, now_ms=10 * POINT_FADES_MS) == 50
    assert scores.penalise(PEER, 60, now_ms=30 * POINT_FADES_MS) == 0
    assert scores.penalise(PEER, 60, now_ms=30 * POINT_FADES_MS) == BAN_FIRST_MS


def test_no_points_leave_no_trace() -> None:
    scores = Scores()
    assert scores.penalise(PEER, 0, now_ms=0) == 0
    assert scores.points(PEER, now_ms=0) == 0


def test_memory_is_bounded_and_keeps_the_worst() -> None:
    scores = Scores()
    scores.penalise(PEER, 100, now_ms=0)
    for number in range(PEERS_REMEMBERED_MAX + 10):
        scores.penalise(PeerId(str(number)), 1, now_ms=0)
    assert scores.banned_ms(PEER, now_ms=0) == BAN_FIRST_MS
    assert len(scores._records) == PEERS_REMEMBERED_MAX


@given(st.lists(st.integers(0, 2000), max_size=200))
def test_bucket_never_gives_more_than_rate_and_burst(gaps: list[int]) -> None:
    """Against the dumb bound: in any run from the start, at most burst + rate · time."""
    bucket = TokenBucket(rate_per_s=10, burst=5, now_ms=0)
    now = given_out = 0
    for gap in gaps:
        now += gap
        given_out += bucket.take(now_ms=now)
        assert given_out <= 5 + 10 * now / 1000


def test_bucket_refills() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=2, now_ms=0)
    assert [bucket.take(now_ms=0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(now_ms=99)
    assert bucket.take(now_ms=100)


def test_each_peer_has_a_bucket_and_those_used_longest_ago_are_forgotten() -> None:
    buckets = TokenBuckets(rate_per_s=1, burst=1, peers_max=2)
    one, two, three = (PeerId(name) for name in ("one", "two", "three"))
    assert buckets.take(one, now_ms=0)
    assert buckets.take(two, now_ms=0)
    assert not buckets.take(one, now_ms=0)
    assert buckets.take(three, now_ms=0)
    assert not buckets.take(one, now_ms=0)
    assert buckets.take(two, now_ms=0), "it was forgotten"


def test_service_is_worth_one_for_a_while_and_its_memory_is_bounded() -> None:
    service = Service()
    assert service.worth(PEER, now_ms=0) == 0
    service.note(PEER, now_ms=1_000)
    service.note(PEER, now_ms=2_000)
    assert service.worth(PEER, now_ms=2_000 + SERVED_MS) == 1
    assert service.worth(PEER, now_ms=2_001 + SERVED_MS) == 0
    for number in range(PEERS_REMEMBERED_MAX):
        service.note(PeerId(str(number)), now_ms=3_000)
    assert service.worth(PEER, now_ms=3_000) == 0
    assert service.worth(PeerId("0"), now_ms=3_000) == 1
