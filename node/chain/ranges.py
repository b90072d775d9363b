"""Which heights are being asked of whom, and which blocks wait for the ones before them.

Pure. Must not know peers' claims, certificates or times.
Invariants: segments do not overlap; at most one of a peer is without an answer; at most
`SEGMENTS_MAX` in all, so what waits is bounded by as many answers. Source: docs/spec/wire.md,
"Catching up".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import Certified

SEGMENTS_MAX: Final = 4  # answers of at most 1 MiB


@dataclass(slots=True, eq=False)
class Segment:
    """Heights `first` to `last`, asked of one peer."""

    first: int
    last: int
    peer: PeerId
    blocks: Sequence[Certified] | None = None  # None until it answered


@final
class Ranges:
    """The segments above our own height."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []  # ascending

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def asked(self) -> frozenset[PeerId]:
        """Peers that have not answered yet."""
        return frozenset(s.peer for s in self._segments if s.blocks is None)

    def advance(self, own: int) -> None:
        """Forget what is no longer needed: our own height is there or above."""
        self._segments = [s for s in self._segments if s.last > own or s.blocks is None]

    def gap(self, own: int, top: int) -> tuple[int, int] | None:
        """The lowest heights up to `top` that nobody is asked for; None if there is no room."""
        if len(self._segments) >= SEGMENTS_MAX:
            return None
        first = own + 1
        for segment in self._segments:
            if segment.first > first:
                return first, min(top, segment.first - 1)
            first = max(first, segment.last + 1)
        return (first, top) if first <= top else None

    def ask(self, first: int, last: int, peer: PeerId) -> Segment:
        """Note that a peer is asked for a gap."""
        segment = Segment(first, last, peer)
        assert peer not in self.asked
        assert all(s.last < first or s.first > last for s in self._segments)
        self._segments.append(segment)
        self._segments.sort(key=lambda s: s.first)
        return segment

    def keep(self, segment: Segment, blocks: Sequence[Certified]) -> bool:
        """Keep an answer: a prefix of what was asked for; the rest is a gap again.

        Returns:
            False if the segment was dropped meanwhile.
        """
        assert 0 < len(blocks) <= segment.last - segment.first + 1
        segment.blocks, segment.last = blocks, segment.first + len(blocks) - 1
        return self.holds(segment)

    def holds(self, segment: Segment) -> bool:
        """Is a segment still one of ours?"""
        return any(known is segment for known in self._segments)

    def drop(self, segment: Segment) -> None:
        """Forget a segment: what it was for is a gap again."""
        self._segments = [s for s in self._segments if s is not segment]

    def drop_of(self, peer: PeerId) -> None:
        """Forget all that a peer is to show; what is on its way from it too."""
        self._segments = [s for s in self._segments if s.peer != peer]

    def next_block(self, own: int) -> tuple[Certified, PeerId] | None:
        """The block above our own height, and who sent it, if it is here."""
        for segment in self._segments:
            if segment.blocks is not None and segment.first <= own + 1 <= segment.last:
                return segment.blocks[own + 1 - segment.first], segment.peer
        return None
