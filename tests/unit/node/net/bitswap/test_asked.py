"""Asking in whole windows, and again when nothing comes."""

from prsm.node.net.bitswap.asked import (
    PENDING_MAX,
    REASK_MS,
    REASKS_MAX,
    WINDOW,
    WINDOW_WIDE,
    Ask,
    Asked,
)
from prsm.storage.cid import Cid, Codec

MEBI = bytes(1 << 20)


def cids(*numbers: int) -> tuple[Cid, ...]:
    return tuple(Cid(Codec.RAW, number.to_bytes(32, "big")) for number in numbers)


def test_next_window_is_asked_when_the_last_is_empty() -> None:
    """Helia sends every unfinished block again on each further message of wants."""
    asked = Asked()
    wanted = cids(*range(WINDOW + 3))
    assert asked.add(Ask(wanted))
    assert asked.window(now_ms=0) == list(wanted[:WINDOW])
    for cid in wanted[: WINDOW - 1]:
        asked.settle(cid.digest, MEBI, now_ms=1)
        assert asked.window(now_ms=1) == []
    asked.settle(wanted[WINDOW - 1].digest, MEBI, now_ms=1)
    assert asked.window(now_ms=1) == list(wanted[WINDOW:])


def test_small_blocks_widen_the_window() -> None:
    asked = Asked()
    asked.add(Ask(cids(*range(200))))
    for cid in asked.window(now_ms=0):
        asked.settle(cid.digest, MEBI[: 1 << 18], now_ms=0)
    wide = asked.window(now_ms=0)
    assert len(wide) == WINDOW_WIDE
    for cid in wide:
        asked.settle(cid.digest, MEBI, now_ms=0)
    assert len(asked.window(now_ms=0)) == WINDOW


def test_what_is_late_is_asked_again_and_then_given_up() -> None:
    """js-ipfs loses wants."""
    asked = Asked()
    asked.add(Ask(cids(1, 2)))
    asked.window(now_ms=0)
    asked.settle(cids(1)[0].digest, b"", now_ms=100)
    at = 100
    for _ in range(REASKS_MAX):
        assert asked.window(now_ms=at + REASK_MS - 1) == []
        at += REASK_MS
        assert asked.window(now_ms=at) == list(cids(2))
        assert not asked.stalled(now_ms=at)
    assert asked.window(now_ms=at + REASK_MS) == []
    assert asked.stalled(now_ms=at + REASK_MS)


def test_two_who_want_one_block_get_it_by_one_want() -> None:
    asked = Asked()
    one, two = Ask(cids(1)), Ask(cids(1, 2))
    asked.add(one)
    assert asked.window(now_ms=0) == list(cids(1))
    asked.add(two)
    assert asked.settle(cids(1)[0].digest, b"one", now_ms=0) == [one]
    assert asked.window(now_ms=0) == list(cids(2))
    assert asked.settle(cids(2)[0].digest, None, now_ms=0) == [two]
    assert (one.prefix(), two.prefix()) == ([b"one"], [b"one"])
    assert not two.is_refused


def test_dropped_ask_cancels_what_nobody_else_waits_for() -> None:
    asked = Asked()
    one, two = Ask(cids(1, 2)), Ask(cids(2))
    asked.add(one)
    asked.add(two)
    asked.window(now_ms=0)
    assert asked.drop(one) == list(cids(1))
    assert asked.expects(cids(2)[0].digest)
    assert not asked.expects(cids(1)[0].digest)
    assert asked.drop(two) == list(cids(2))
    assert asked.is_idle


def test_refused_first_block_is_not_found_and_a_later_one_ends_the_prefix() -> None:
    asked, ask = Asked(), Ask(cids(1, 2, 3))
    asked.add(ask)
    asked.window(now_ms=0)
    asked.settle(cids(2)[0].digest, None, now_ms=0)
    asked.settle(cids(3)[0].digest, b"3", now_ms=0)
    asked.settle(cids(1)[0].digest, b"1", now_ms=0)
    assert (ask.is_done, ask.prefix(), ask.is_refused) == (True, [b"1"], False)


def test_too_much_is_refused() -> None:
    asked = Asked()
    assert asked.add(Ask(cids(*range(PENDING_MAX))))
    assert not asked.add(Ask(cids(PENDING_MAX)))
