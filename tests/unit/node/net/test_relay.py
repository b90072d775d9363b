"""Places and rates of a relay, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.interface import Busy
from prsm.node.net.relay import NoPlace, Places, RelayRules, Throttle
from prsm.protocol.ids import PeerId

RULES = RelayRules(places_max=3, places_per_ip_max=2, lifetime_ms=1000)


def peer(number: int) -> PeerId:
    return PeerId(f"peer{number}")


def test_places_are_bounded_and_say_when_one_is_free() -> None:
    places = Places(RULES)
    for number in range(3):
        places.reserve(peer(number), f"8.8.{number}.8", now_ms=100 * number)
    with pytest.raises(Busy, match="3 places are taken, at most 3") as caught:
        places.reserve(peer(9), "9.9.9.9", now_ms=300)
    assert caught.value.retry_after_ms == 700
    assert [place.peer for place in places.all()] == [peer(0), peer(1), peer(2)]


def test_one_ip_cannot_take_all_places_but_loopback_may() -> None:
    places = Places(RULES)
    places.reserve(peer(0), "8.8.8.8", now_ms=0)
    places.reserve(peer(1), "8.8.8.8", now_ms=0)
    with pytest.raises(Busy, match=r"2 places are of 8\.8\.8\.8, at most 2"):
        places.reserve(peer(2), "8.8.8.8", now_ms=0)
    local = Places(RULES)
    for number in range(3):
        local.reserve(peer(number), "127.0.0.1", now_ms=0)
    assert len(local) == 3


def test_all_ips_of_one_machine_over_ip6_have_the_places_of_one() -> None:
    places = Places(RelayRules(places_per_ip_max=2))
    for number in range(2):
        places.reserve(peer(number), f"2a00:1::{number}", now_ms=0)
    with pytest.raises(Busy, match="of 2a00:1::/64, at most 2"):
        places.reserve(peer(2), "2a00:1::2", now_ms=0)
    places.reserve(peer(2), "2a00:1:0:1::2", now_ms=0)
    for number in range(3, 8):
        places.reserve(peer(number), "fd00::1", now_ms=0)


def test_renewing_takes_no_second_place_and_moves_the_end() -> None:
    places = Places(RULES)
    first = places.reserve(peer(0), "8.8.8.8", now_ms=0)
    assert places.reserve(peer(0), "8.8.8.8", now_ms=900) is first
    assert places.expired(now_ms=1899) == ()
    assert places.expired(now_ms=1900) == (first,)
    with pytest.raises(NoPlace):
        places.find(peer(0))
    assert places.drop(peer(0)) is None


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 70_000)), max_size=60),
    st.integers(1_000, 1_000_000),
)
def test_throttle_keeps_the_rate_whatever_the_pieces(
    pieces: list[tuple[int, int]], rate: int
) -> None:
    """Who waits as long as told sends at most the rate times the time, and a second's worth."""
    throttle, now_ms, sent = Throttle(rate, now_ms=0), 0, 0
    for pause_ms, size in pieces:
        now_ms += pause_ms
        now_ms += throttle.take(size, now_ms=now_ms)
        sent += size
        # Each piece is counted in whole milliseconds, rounded down.
        assert sent <= rate * (now_ms + 1000 + len(pieces)) // 1000 + 1


def test_throttle_lets_a_burst_of_a_second_pass_at_once() -> None:
    throttle = Throttle(1_000_000, now_ms=5_000)
    assert [throttle.take(250_000, now_ms=5_000) for _ in range(6)] == [0, 0, 0, 0, 250, 500]
