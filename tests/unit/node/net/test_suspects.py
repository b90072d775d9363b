"""Places banned peers come from: turns, bounds, forgetting, with time handed in."""

import pytest

from prsm.node.net.suspects import (
    GAP_MS,
    OFFENCE_FADES_MS,
    OFFENCES_FORGIVEN,
    OFFENCES_MAX,
    PLACES_MAX,
    WAIT_MS_MAX,
    Suspects,
    place_of,
)

LOOP = "127.0.0.1"


def suspects(offences: int = OFFENCES_FORGIVEN + 1, ip: str = LOOP) -> Suspects:
    made = Suspects()
    for _ in range(offences):
        made.offend(ip, now_ms=0)
    return made


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        (LOOP, LOOP),
        ("::ffff:8.8.4.4", "8.8.4.4"),
        ("2a00:1450::7", "2a00:1450::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nowhere", "nowhere"),
    ],
)
def test_an_address_counts_for_itself(ip: str, place: str) -> None:
    assert place_of(ip) == place


def test_nobody_waits_where_few_were_banned() -> None:
    few = suspects(OFFENCES_FORGIVEN)
    assert {few.wait_ms(LOOP, now_ms=0) for _ in range(100)} == {0}
    many = suspects()
    assert many.wait_ms(LOOP, now_ms=0) == 0
    assert many.wait_ms(LOOP, now_ms=0) == GAP_MS
    assert many.wait_ms("127.0.0.2", now_ms=0) == 0, "another place"


def test_newcomers_take_turns_and_too_many_are_sent_away() -> None:
    made = suspects()
    waits = [made.wait_ms(LOOP, now_ms=0) for _ in range(20)]
    turns = WAIT_MS_MAX // GAP_MS + 1
    assert waits == [GAP_MS * turn for turn in range(turns)] + [None] * (20 - turns)
    assert made.wait_ms(LOOP, now_ms=GAP_MS) == WAIT_MS_MAX, "one turn is over"


def test_an_attack_stays_slow_and_is_forgotten_afterwards() -> None:
    """Whoever is let in is banned at once; the place is like others again 20 s later."""
    made, now_ms, let_in = suspects(), 0, 0
    while now_ms < 60_000:
        if made.wait_ms(LOOP, now_ms=now_ms) == 0:
            made.offend(LOOP, now_ms=now_ms)
            let_in += 1
        now_ms += GAP_MS // 5
    assert let_in <= 60_000 // GAP_MS + 1
    over = now_ms + (OFFENCES_MAX - OFFENCES_FORGIVEN) * OFFENCE_FADES_MS
    assert {made.wait_ms(LOOP, now_ms=over) for _ in range(9)} == {0}
    assert made.wait_ms(LOOP, now_ms=now_ms + (OFFENCES_MAX + 1) * OFFENCE_FADES_MS) == 0
    assert len(made) == 0


def test_a_ban_now_and_then_slows_nobody() -> None:
    made = Suspects()
    for turn in range(100):
        made.offend(LOOP, now_ms=turn * OFFENCE_FADES_MS)
        assert made.wait_ms(LOOP, now_ms=turn * OFFENCE_FADES_MS) == 0


def test_places_are_bounded_and_the_oldest_goes() -> None:
    made = suspects()
    for number in range(PLACES_MAX):
        made.offend(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", now_ms=1)
    assert len(made) == PLACES_MAX
    assert {made.wait_ms(LOOP, now_ms=1) for _ in range(9)} == {0}
