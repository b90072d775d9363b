"""Which heights are being asked of whom, and which blocks wait for the ones before them.

Pure: times are monotonic milliseconds handed in. Must not know peers' claims or certificates.
Invariants: segments do not overlap; a peer has one question without an answer, and a segment is
asked of two peers at most, of whom the first answer counts; at most `SEGMENTS_MAX` in all, so what
waits is bounded by as many answers. Source: docs/spec/wire.md, "Catching up".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import Certified

SEGMENTS_MAX: Final = 4  # answers of at most 1 MiB
ASKED_MAX: Final = 2  # of how many peers one segment is asked


@dataclass(slots=True, eq=False)
class Segment:
    """Heights `first` to `last`.

    Attributes:
        first: the lowest.
        last: the highest.
        peers: who is asked for them; who sent them, once they are here.
        asked_ms: when the last of them was.
        blocks: None until one answered.
    """

    first: int
    last: int
    peers: list[PeerId]
    asked_ms: int
    blocks: Sequence[Certified] | None = None


@final
class Ranges:
    """The segments above our own height."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []  # ascending
        self._asked: set[PeerId] = set()

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def asked(self) -> frozenset[PeerId]:
        """Peers that have not answered yet."""
        return frozenset(self._asked)

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

    def ask(self, first: int, last: int, peer: PeerId, now_ms: int) -> Segment:
        """Note that a peer is asked for a gap."""
        assert all(s.last < first or s.first > last for s in self._segments)
        segment = Segment(first, last, [], now_ms)
        self.ask_too(segment, peer, now_ms)
        self._segments.append(segment)
        self._segments.sort(key=lambda s: s.first)
        return segment

    def ask_too(self, segment: Segment, peer: PeerId, now_ms: int) -> None:
        """Note that a peer is asked for a segment: whose answer comes first is taken."""
        assert peer not in self._asked
        assert len(segment.peers) < ASKED_MAX
        segment.peers.append(peer)
        segment.asked_ms = now_ms
        self._asked.add(peer)

    def stalled(self, own: int, before_ms: int) -> Segment | None:
        """The segment all others wait for, if one peer alone was asked, before that time."""
        for segment in self._segments:
            if segment.first <= own + 1 <= segment.last:
                is_open = segment.blocks is None and len(segment.peers) < ASKED_MAX
                return segment if is_open and segment.asked_ms <= before_ms else None
        return None

    def keep(self, segment: Segment, peer: PeerId, blocks: Sequence[Certified]) -> bool:
        """Keep an answer: a prefix of what was asked for; the rest is a gap again.

        Returns:
            False if another answer is here, or the segment was dropped meanwhile.
        """
        is_awaited = self._awaits(segment, peer)
        self._asked.discard(peer)
        if is_awaited:
            assert 0 < len(blocks) <= segment.last - segment.first + 1
            segment.peers, segment.blocks = [peer], blocks
            segment.last = segment.first + len(blocks) - 1
        return is_awaited

    def fail(self, segment: Segment, peer: PeerId) -> None:
        """A peer has no answer: if nobody else is asked, the segment is a gap again."""
        self._asked.discard(peer)
        self._leave(segment, peer)

    def drop_of(self, peer: PeerId) -> None:
        """Forget all that a peer is to show; what is on its way from it too."""
        for segment in tuple(self._segments):
            self._leave(segment, peer)

    def next_block(self, own: int) -> tuple[Certified, PeerId] | None:
        """The block above our own height, and who sent it, if it is here."""
        for segment in self._segments:
            if segment.blocks is not None and segment.first <= own + 1 <= segment.last:
                return segment.blocks[own + 1 - segment.first], segment.peers[0]
        return None

    def _awaits(self, segment: Segment, peer: PeerId) -> bool:
        is_open = segment.blocks is None and peer in segment.peers
        return is_open and any(known is segment for known in self._segments)

    def _leave(self, segment: Segment, peer: PeerId) -> None:
        if peer in segment.peers:
            segment.peers.remove(peer)
        if not segment.peers:
            self._segments = [s for s in self._segments if s is not segment]
