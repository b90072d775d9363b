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
    first = ranges.ask(1, 8, ONE)
    assert ranges.gap(0, 20) == (9, 20)
    ranges.ask(9, 16, TWO)
    assert ranges.gap(0, 20) == (17, 20)
    assert ranges.keep(first, Numbers(1, 3).of())
    assert ranges.gap(0, 20) == (4, 8)
    assert cast("object", ranges.next_block(0)) == (1, ONE)
    assert ranges.next_block(3) is None
    ranges.advance(3)
    assert ranges.gap(3, 20) == (4, 8)
    assert ranges.gap(16, 16) is None


def test_what_a_peer_sent_is_forgotten_as_a_whole() -> None:
    ranges = Ranges()
    kept, late = ranges.ask(1, 2, ONE), ranges.ask(3, 4, TWO)
    ranges.keep(kept, Numbers(1, 2).of())
    later = ranges.ask(5, 6, ONE)
    ranges.drop_of(ONE)
    assert ranges.gap(0, 9) == (1, 2)
    assert not ranges.keep(later, Numbers(5, 2).of())
    assert ranges.keep(late, Numbers(3, 2).of())


@pytest.mark.slow
@given(STEPS)
def test_any_order_of_answers_brings_every_height_once(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Peers answer in any order, shorter or not at all; blocks come out in order, none twice."""
    ranges, own, open_segments = Ranges(), 0, list[Segment]()
    for peer_number, size, fails in steps:
        peer = PeerId(f"peer{peer_number}")
        gap = ranges.gap(own, own + 40)
        if gap is not None and peer not in ranges.asked:
            open_segments.append(ranges.ask(gap[0], min(gap[1], gap[0] + size - 1), peer))
        elif open_segments:
            segment = open_segments.pop(size % len(open_segments))
            if fails:
                ranges.drop(segment)
            else:
                count = min(size, segment.last - segment.first + 1)
                ranges.keep(segment, Numbers(segment.first, count).of())
        assert len(ranges) <= SEGMENTS_MAX
        while (found := ranges.next_block(own)) is not None:
            assert cast("object", found[0]) == own + 1
            own += 1
            ranges.advance(own)
