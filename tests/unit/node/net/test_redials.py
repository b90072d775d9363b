"""Pauses before dials: they double, and end as soon as anybody is there again."""

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.net.redials import (
    HASTEN_EVERY_S,
    HASTEN_OVER_S,
    REDIAL_FIRST_S,
    REDIAL_LONGEST_S,
    Redials,
)
from prsm.protocol.ids import PeerId

US = PeerId("m")
PEERS = [PeerId(letter) for letter in "abcxyz"]


def gone(peers: list[PeerId], *, until_s: float) -> Redials:
    """Peers that have answered no dial for so long."""
    redials = Redials(US)
    for peer in peers:
        redials.begin(peer, now_s=0)
        while redials.due_s(peer) < until_s:
            redials.fail(peer, now_s=redials.due_s(peer))
    return redials


def test_pause_doubles_up_to_the_longest() -> None:
    redials, at_s, pauses = Redials(US), 0.0, []
    redials.begin(PEERS[0], now_s=0)
    for _ in range(40):
        pauses.append(round(redials.due_s(PEERS[0]) - at_s, 3))
        at_s = redials.due_s(PEERS[0])
        redials.fail(PEERS[0], now_s=at_s)
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    for pause, longest in zip(pauses[4:], [3.2, 6.4, *[REDIAL_LONGEST_S] * 34], strict=True):
        assert longest / 2 <= pause <= longest
    assert max(pauses) > 9, "some are long"
    assert min(pauses[6:]) < 6, "some are short: peers lost together are not dialled together"


def test_who_comes_back_has_all_others_dialled_within_half_a_second() -> None:
    """After 45 s of a partition; spread, and the two ends of a pair at different times."""
    redials = gone(PEERS, until_s=45)
    redials.end(PEERS[0])
    late = [peer for peer in PEERS[1:] if redials.due_s(peer) > 45 + HASTEN_OVER_S]
    assert len(late) >= 3
    assert redials.hear(now_s=45)
    dues = {peer: redials.due_s(peer) - 45 for peer in late}
    assert max(dues.values()) <= HASTEN_OVER_S
    assert len(set(dues.values())) == len(dues)
    for peer, due in dues.items():
        assert (due < HASTEN_OVER_S / 2) is (peer > US), "of a pair the lower id dials first"


def test_dial_that_began_in_the_partition_is_made_again_soon_after_it() -> None:
    """It hangs for its five seconds although the way is free again."""
    redials = gone(PEERS, until_s=45)
    redials.start(PEERS[0], now_s=44)
    redials.start(PEERS[1], now_s=46)
    redials.hear(now_s=45)
    redials.fail(PEERS[0], now_s=49)
    assert redials.due_s(PEERS[0]) == 49 + HASTEN_OVER_S
    redials.fail(PEERS[1], now_s=51)
    assert redials.due_s(PEERS[1]) >= 51 + REDIAL_LONGEST_S / 2


def test_flapping_link_hastens_the_others_seldom() -> None:
    redials = gone(PEERS, until_s=45)
    hastened = []
    for tenth in range(200):
        now_s = 45 + tenth / 10
        for peer in PEERS:
            if redials.due_s(peer) <= now_s:
                redials.fail(peer, now_s=now_s)
        if redials.hear(now_s=now_s):
            hastened.append(now_s)
    assert len(hastened) == 20 / HASTEN_EVERY_S


def test_pause_after_it_was_hastened_is_the_long_one() -> None:
    redials = gone(PEERS, until_s=45)
    redials.hear(now_s=45)
    for peer in PEERS:
        redials.fail(peer, now_s=redials.due_s(peer))
        assert redials.due_s(peer) >= 45 + REDIAL_LONGEST_S / 2


def test_nobody_waits_long_and_nothing_is_hastened() -> None:
    redials = Redials(US)
    assert not redials.hear(now_s=100)
    redials.begin(PEERS[0], now_s=100)
    assert not redials.hear(now_s=100)
    assert redials.due_s(PEERS[0]) == 100 + REDIAL_FIRST_S


@given(st.lists(st.tuples(st.sampled_from([*PEERS, None]), st.integers(0, 3_000)), max_size=60))
def test_two_dials_of_a_peer_are_never_close(steps: list[tuple[PeerId | None, int]]) -> None:
    """However often links come up in between; None: one did."""
    redials, now_s = Redials(US), 0.0
    dialled = dict.fromkeys(PEERS, -1.0)
    for peer in PEERS:
        redials.begin(peer, now_s=now_s)
    for heard, ms in steps:
        now_s += ms / 1000
        if heard is None:
            redials.hear(now_s=now_s)
        elif redials.due_s(heard) <= now_s:
            assert now_s - dialled[heard] >= REDIAL_FIRST_S - 1e-9
            dialled[heard] = now_s
            redials.fail(heard, now_s=now_s)
            assert redials.due_s(heard) <= now_s + REDIAL_LONGEST_S
