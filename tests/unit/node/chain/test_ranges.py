"""Ranges of heights: disjoint, bounded, in order, whatever answers come when."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.node.chain.ranges import SEGMENTS_MAX, Ranges, Segment
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import Certified

ONE, TWO = PeerId("one"), PeerId("two")
STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 9), st.booleans()), min_size=1, max_size=60
)


class Numbers:
    """Stands for blocks: a range never looks into them."""

    def __init__(self, first: int, count: int) -> None:
        self.heights = list(range(first, first + count))

    def of(self) -> list[Certified]:
        return self.heights  # type: ignore[return-value]  # never looked into


def test_gaps_are_filled_from_below() -> None:
    ranges = Ranges()
    first = ranges.ask(1, 8, ONE, 0)
    assert ranges.gap(0, 20) == (9, 20)
    ranges.ask(9, 16, TWO, 0)
    assert ranges.gap(0, 20) == (17, 20)
    assert ranges.keep(first, ONE, Numbers(1, 3).of())
    assert ranges.gap(0, 20) == (4, 8)
    assert cast("object", ranges.next_block(0)) == (1, ONE)
    assert ranges.next_block(3) is None
    ranges.advance(3)
    assert ranges.gap(3, 20) == (4, 8)
    assert ranges.gap(16, 16) is None


def test_what_a_peer_sent_is_forgotten_as_a_whole() -> None:
    ranges = Ranges()
    kept, late = ranges.ask(1, 2, ONE, 0), ranges.ask(3, 4, TWO, 0)
    ranges.keep(kept, ONE, Numbers(1, 2).of())
    later = ranges.ask(5, 6, ONE, 0)
    ranges.drop_of(ONE)
    assert ranges.gap(0, 9) == (1, 2)
    assert not ranges.keep(later, ONE, Numbers(5, 2).of())
    assert ranges.keep(late, TWO, Numbers(3, 2).of())


def test_of_two_answers_the_first_is_taken() -> None:
    """A second peer is asked once the first is late; the other answer changes nothing."""
    ranges = Ranges()
    segment = ranges.ask(1, 4, ONE, 100)
    assert ranges.stalled(0, 99) is None
    assert ranges.stalled(0, 100) is segment
    assert ranges.stalled(4, 100) is None
    ranges.ask_too(segment, TWO, 200)
    assert ranges.asked == {ONE, TWO}
    assert ranges.stalled(0, 1_000) is None  # two are enough
    assert ranges.keep(segment, TWO, Numbers(1, 3).of())
    assert ranges.asked == {ONE}
    assert not ranges.keep(segment, ONE, Numbers(1, 4).of())
    assert ranges.gap(0, 9) == (4, 9)
    assert cast("object", ranges.next_block(0)) == (1, TWO)
    ranges.drop_of(ONE)
    assert ranges.next_block(0) is not None
    assert ranges.asked == frozenset()


def test_who_has_no_answer_leaves_it_to_the_other() -> None:
    """The segment is a gap again only when nobody is asked for it any more."""
    ranges = Ranges()
    segment = ranges.ask(1, 4, ONE, 0)
    ranges.ask_too(segment, TWO, 0)
    ranges.fail(segment, ONE)
    assert ranges.gap(0, 4) is None
    assert ranges.stalled(0, 0) is segment  # a third may be asked
    ranges.drop_of(TWO)
    assert ranges.gap(0, 4) == (1, 4)
    assert ranges.asked == {TWO}  # its call goes on
    ranges.fail(segment, TWO)
    assert ranges.asked == frozenset()


@pytest.mark.slow
@given(STEPS)
def test_any_order_of_answers_brings_every_height_once(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Peers answer in any order, shorter, twice or not at all; blocks come in order, none twice."""
    ranges, own, calls = Ranges(), 0, list[tuple[Segment, PeerId]]()
    for now_ms, (peer_number, size, fails) in enumerate(steps):
        peer = PeerId(f"peer{peer_number}")
        gap, stalled = ranges.gap(own, own + 40), ranges.stalled(own, now_ms - 3)
        if stalled is not None and peer not in ranges.asked:
            ranges.ask_too(stalled, peer, now_ms)
            calls.append((stalled, peer))
        elif gap is not None and peer not in ranges.asked:
            last = min(gap[1], gap[0] + size - 1)
            calls.append((ranges.ask(gap[0], last, peer, now_ms), peer))
        elif calls:
            segment, peer = calls.pop(size % len(calls))
            if fails:
                ranges.fail(segment, peer)
            else:
                count = min(size, segment.last - segment.first + 1)
                ranges.keep(segment, peer, Numbers(segment.first, count).of())
        assert ranges.asked == {peer for _, peer in calls}
        assert len(ranges) <= SEGMENTS_MAX
        while (found := ranges.next_block(own)) is not None:
            assert cast("object", found[0]) == own + 1
            own += 1
            ranges.advance(own)
