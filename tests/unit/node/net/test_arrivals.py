"""Sockets that are let in: caps, rates, and handshakes that never end, with time handed in."""

import random

import pytest

from prsm.node.net.arrivals import (
    ARRIVALS_BURST,
    ARRIVALS_PER_S,
    HANDSHAKES_MAX,
    PATIENCE_MS,
    PER_ADDRESS_BURST,
    PER_ADDRESS_MAX,
    PER_NETWORK_MAX,
    SOCKETS_MAX,
    Arrivals,
    Visit,
    place_of,
)
from prsm.node.net.suspects import GAP_MS, OFFENCES_FORGIVEN, WAIT_MS_MAX

LOOP = "127.0.0.1"


def let_in(arrivals: Arrivals, ip: str, *, now_ms: int = 0) -> Visit:
    entry = arrivals.enter(ip, now_ms=now_ms)
    assert entry.visit is not None, entry.why
    arrivals.settle(entry.visit)
    return entry.visit


@pytest.mark.parametrize(
    "ip",
    [LOOP, "::1", "10.1.2.3", "192.168.0.9", "172.16.5.5", "fe80::1%eth0", "fd00::1", "nowhere"],
)
def test_loopback_and_private_ranges_have_no_caps_of_their_own(ip: str) -> None:
    assert place_of(ip) == ("", "")


def test_public_addresses_count_for_themselves_and_their_network() -> None:
    assert place_of("8.8.4.4") == ("8.8.4.4/32", "8.8.4.0/24")
    assert place_of("::ffff:8.8.4.4") == ("8.8.4.4/32", "8.8.4.0/24")
    assert place_of("2a00:1450::7") == ("2a00:1450::/64", "2a00:1450::/48")


def test_one_public_address_has_few_places() -> None:
    arrivals = Arrivals(now_ms=0)
    visits = [let_in(arrivals, "8.8.4.4") for _ in range(PER_ADDRESS_MAX)]
    assert arrivals.enter("8.8.4.4", now_ms=0).why == "address"
    arrivals.leave(visits[0])
    arrivals.leave(visits[0])
    let_in(arrivals, "8.8.4.4")
    assert arrivals.enter("8.8.4.4", now_ms=0).why == "address"


def test_one_public_network_has_some_more() -> None:
    arrivals = Arrivals(now_ms=0)
    for number in range(PER_NETWORK_MAX):
        let_in(arrivals, f"8.8.4.{number}")
    assert arrivals.enter("8.8.4.200", now_ms=0).why == "network"
    let_in(arrivals, "8.8.5.1")


def test_public_address_that_comes_again_and_again_is_slowed() -> None:
    arrivals = Arrivals(now_ms=0)
    for _ in range(PER_ADDRESS_BURST):
        arrivals.leave(let_in(arrivals, "8.8.4.4"))
    assert arrivals.enter("8.8.4.4", now_ms=0).why == "address_rate"
    arrivals.leave(let_in(arrivals, "8.8.4.4", now_ms=1000))
    assert arrivals.refused["address_rate"] == 1


def test_whole_network_on_loopback_comes_at_once_but_not_for_ever() -> None:
    arrivals = Arrivals(now_ms=0)
    for _ in range(SOCKETS_MAX):
        let_in(arrivals, LOOP)
    assert arrivals.enter(LOOP, now_ms=0).why == "sockets"
    again = Arrivals(now_ms=0)
    for _ in range(ARRIVALS_BURST):
        again.leave(let_in(again, LOOP))
    assert again.enter(LOOP, now_ms=0).why == "rate"
    for _ in range(ARRIVALS_PER_S):
        again.leave(let_in(again, LOOP, now_ms=1000))
    assert again.enter(LOOP, now_ms=1000).why == "rate"


def test_handshakes_that_do_not_end_make_room_for_newcomers() -> None:
    """Slow-loris: all places taken by silence; an honest peer comes in all the same."""
    arrivals = Arrivals(now_ms=0)
    silent = [arrivals.enter(LOOP, now_ms=0).visit for _ in range(HANDSHAKES_MAX)]
    assert arrivals.shaking == HANDSHAKES_MAX
    assert arrivals.enter(LOOP, now_ms=PATIENCE_MS - 1).why == "handshakes"
    entry = arrivals.enter(LOOP, now_ms=PATIENCE_MS)
    assert entry.visit is not None
    assert entry.evicted is silent[0]
    assert arrivals.shaking == HANDSHAKES_MAX
    arrivals.leave(silent[0] or entry.visit)  # its task ends later
    assert arrivals.open == HANDSHAKES_MAX


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_in_any_order_and_nothing_stays(seed: int) -> None:
    dice, arrivals, now_ms = random.Random(seed), Arrivals(now_ms=0), 0
    inside: list[Visit] = []
    for _ in range(2000):
        now_ms += dice.randrange(100)
        if inside and dice.random() < 0.4:
            visit = inside.pop(dice.randrange(len(inside)))
            if dice.random() < 0.5:
                arrivals.settle(visit)
                inside.append(visit)
            else:
                arrivals.leave(visit)
            continue
        ip = dice.choice([LOOP, f"8.8.{dice.randrange(3)}.{dice.randrange(9)}"])
        entry = arrivals.enter(ip, now_ms=now_ms)
        if entry.evicted is not None:
            inside.remove(entry.evicted)
        if entry.visit is not None:
            inside.append(entry.visit)
        assert arrivals.open == len(inside) <= SOCKETS_MAX
        assert arrivals.shaking <= HANDSHAKES_MAX
    for visit in inside:
        arrivals.leave(visit)
    assert arrivals.open == arrivals.shaking == 0
    assert not arrivals._held


def slow(arrivals: Arrivals) -> list[Visit]:
    """A place whose newcomers take turns, and those of them that wait for theirs."""
    for _ in range(OFFENCES_FORGIVEN + 1):
        arrivals.suspects.offend(LOOP, now_ms=0)
    waiting = []
    while (entry := arrivals.enter(LOOP, now_ms=0)).visit is not None:
        if entry.wait_ms:
            waiting.append(entry.visit)
    assert entry.why == "suspects"
    return waiting


def test_who_waits_holds_a_socket_and_no_handshake() -> None:
    arrivals = Arrivals(now_ms=0)
    waiting = slow(arrivals)
    assert len(waiting) == WAIT_MS_MAX // GAP_MS
    assert (arrivals.open, arrivals.shaking) == (len(waiting) + 1, 1)
    assert arrivals.begin(waiting[0], now_ms=GAP_MS).visit is waiting[0]
    assert arrivals.shaking == 2
    for visit in waiting:
        arrivals.leave(visit)
    assert (arrivals.open, arrivals.shaking) == (1, 1)
    assert arrivals.enter("8.8.4.4", now_ms=0).wait_ms == 0


def test_patience_with_who_waited_begins_with_his_handshake() -> None:
    arrivals = Arrivals(now_ms=0)
    waited = slow(arrivals)[-1]
    arrivals.leave(next(iter(arrivals._shaking)))
    assert arrivals.begin(waited, now_ms=WAIT_MS_MAX).visit is waited
    for number in range(HANDSHAKES_MAX - 1):
        assert arrivals.enter(f"10.0.0.{number}", now_ms=WAIT_MS_MAX).visit is not None
    late_ms = WAIT_MS_MAX + PATIENCE_MS
    assert arrivals.enter("10.9.9.9", now_ms=late_ms - 1).why == "handshakes"
    assert arrivals.enter("10.9.9.9", now_ms=late_ms).evicted is waited


def test_who_finds_no_handshake_free_after_his_wait_is_refused() -> None:
    arrivals = Arrivals(now_ms=0)
    waited = slow(arrivals)[0]
    arrivals.leave(next(iter(arrivals._shaking)))
    for number in range(HANDSHAKES_MAX):
        assert arrivals.enter(f"10.0.0.{number}", now_ms=GAP_MS).visit is not None
    assert arrivals.begin(waited, now_ms=GAP_MS).why == "handshakes"
    assert arrivals.refused["handshakes"] == 1
