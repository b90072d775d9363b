"""Claims of heights: who is asked, who waits, what is forgotten."""

import pytest

from prsm.node.chain.claims import (
    CLAIMS_MAX,
    DISTRUST_MS,
    PAUSE_MS,
    SIZE_FIRST,
    SLOW_MS,
    Claims,
    Contradiction,
    Standing,
)
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import SYNC_BLOCKS_MAX

ONE, TWO, THREE = PeerId("one"), PeerId("two"), PeerId("three")
ALL = {ONE, TWO, THREE}


def standing(height: int, *, tip: bytes = b"tip", first: int = 1) -> Standing:
    return Standing(height, tip, first)


def claims(**heights: int) -> Claims:
    found = Claims()
    for name, height in heights.items():
        found.hear(PeerId(name), standing(height), 0)
    return found


def test_only_live_peers_ahead_are_sources() -> None:
    found = claims(one=5, two=9, three=2)
    assert found.sources(ALL, least=3, now_ms=0) == [TWO, ONE]
    assert found.sources({ONE}, least=3, now_ms=0) == [ONE]
    assert found.top({ONE, THREE}, own=3, now_ms=0) == 5
    assert found.top({THREE}, own=3, now_ms=0) == 3
    assert (found.target(ALL, 0), found.target(set(), 0)) == (9, 0)


def test_who_showed_a_block_comes_first_then_the_faster() -> None:
    found = claims(one=5, two=9, three=7)
    found.showed(ONE)
    found.showed(THREE)
    found.answered(ONE, blocks=8, took_ms=80)
    found.answered(THREE, blocks=8, took_ms=40)
    assert found.sources(ALL, least=1, now_ms=0) == [THREE, ONE, TWO]


def test_who_drips_is_asked_while_it_is_alone() -> None:
    found = claims(one=9, two=9)
    found.answered(TWO, blocks=1, took_ms=4_900)
    found.showed(TWO)
    assert found.sources(ALL, least=1, now_ms=0) == [ONE, TWO]  # nobody is known to be faster
    found.answered(ONE, blocks=8, took_ms=80)
    assert found.sources(ALL, least=1, now_ms=0) == [ONE]
    assert found.sources({TWO}, least=1, now_ms=0) == [TWO]


def test_only_who_answered_in_time_is_quick() -> None:
    """Not who never did, nor who was silent last: its line may be what all others come by."""
    found = claims(one=9, two=9)

    def quick(now_ms: int) -> list[PeerId]:
        return found.sources(ALL, least=1, now_ms=now_ms, is_quick=True)

    assert quick(0) == []
    found.showed(ONE)
    found.answered(ONE, blocks=8, took_ms=80)
    assert quick(0) == [ONE]
    found.pause(ONE, 0, silent=False)
    assert quick(PAUSE_MS) == [ONE]
    found.pause(ONE, 0, silent=True)
    assert quick(3 * PAUSE_MS) == []
    assert ONE in found.sources(ALL, least=1, now_ms=3 * PAUSE_MS)
    found.answered(ONE, blocks=4, took_ms=SLOW_MS + 1)
    assert quick(3 * PAUSE_MS) == []


def test_size_follows_what_a_peer_does_in_time() -> None:
    found = claims(one=9)
    assert found.size(ONE) == found.size(THREE) == SIZE_FIRST
    for _ in range(9):
        found.answered(ONE, blocks=8, took_ms=10)
    assert found.size(ONE) == SYNC_BLOCKS_MAX
    found.answered(ONE, blocks=8, took_ms=SLOW_MS + 1)
    assert found.size(ONE) == SYNC_BLOCKS_MAX // 2
    for _ in range(9):
        found.pause(ONE, 0, silent=True)
    assert found.size(ONE) == 1


def test_pause_doubles_and_ends_with_what_it_shows() -> None:
    found = claims(one=9)
    found.pause(ONE, 0, silent=False)
    assert found.sources(ALL, least=1, now_ms=PAUSE_MS - 1) == []
    assert found.sources(ALL, least=1, now_ms=PAUSE_MS) == [ONE]
    found.pause(ONE, PAUSE_MS, silent=False)
    assert found.sources(ALL, least=1, now_ms=3 * PAUSE_MS - 1) == []
    found.showed(ONE)
    found.pause(ONE, 3 * PAUSE_MS, silent=True)
    assert found.sources(ALL, least=1, now_ms=4 * PAUSE_MS) == [ONE]
    assert found.target(ALL, 3 * PAUSE_MS) == 9  # it has shown blocks: it is believed to be there


def test_mute_one_counts_only_when_nobody_else_is_there() -> None:
    found = claims(one=9, two=3)
    found.pause(ONE, 0, silent=True)
    now_ms = PAUSE_MS
    assert found.target(ALL, now_ms) == 3
    assert found.sources(ALL, least=1, now_ms=now_ms) == [TWO]
    assert found.sources(ALL, least=4, now_ms=now_ms) == []
    assert found.sources({ONE}, least=4, now_ms=now_ms) == [ONE]
    assert found.sources(ALL, least=4, now_ms=DISTRUST_MS) == [ONE]


def test_distrusted_one_is_not_asked_though_it_connects_anew() -> None:
    found = claims(one=9)
    found.distrust(ONE, 0)
    found.meet(ONE)
    found.hear(ONE, standing(9), 1)
    assert found.sources(ALL, least=1, now_ms=DISTRUST_MS - 1) == []
    assert found.sources(ALL, least=1, now_ms=DISTRUST_MS) == [ONE]


def test_two_words_that_cannot_both_be_true_are_named() -> None:
    found = claims(one=5)
    found.hear(ONE, standing(5), 1)
    with pytest.raises(Contradiction, match="two blocks of height 5") as lie:
        found.hear(ONE, standing(5, tip=b"other"), 2)
    assert (lie.value.peer, lie.value.penalty) == (ONE, 100)
    with pytest.raises(Contradiction, match="height 4 after height 5") as fall:
        found.hear(ONE, standing(4), 3)
    assert fall.value.penalty == 20
    found.meet(ONE)
    found.hear(ONE, standing(0), 4)
    found.hear(ONE, standing(1), 5)


def test_oldest_claim_is_forgotten_first() -> None:
    found = Claims()
    for number in range(CLAIMS_MAX + 10):
        found.hear(PeerId(f"peer{number}"), standing(number), number)
    assert len(found) == CLAIMS_MAX
    assert PeerId("peer9") not in found
    assert PeerId("peer10") in found


def test_strangers_are_nobody() -> None:
    found = Claims()
    found.pause(ONE, 0, silent=True)
    found.distrust(ONE, 0)
    found.showed(ONE)
    found.meet(ONE)
    found.answered(ONE, blocks=1, took_ms=1)
    assert (len(found), found.height(ONE)) == (0, 0)


def test_announced_block_counts_until_the_status_says_more() -> None:
    """Gossip may overtake a STATUS on its way: a lower one after it is no contradiction."""
    found = claims(one=5)
    assert found.announce(ONE, 7)
    assert (found.height(ONE), found.top(ALL, own=5, now_ms=0)) == (7, 7)
    assert not found.announce(ONE, 7)
    assert not found.announce(TWO, 7), "it never said where it stands"
    found.hear(ONE, standing(6), 0)
    assert found.height(ONE) == 7
    found.hear(ONE, standing(9), 0)
    assert found.height(ONE) == 9
    found.meet(ONE)
    assert found.height(ONE) == 0
