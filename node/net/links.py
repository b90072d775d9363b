"""A network as the sum of what its nodes see: who has a link to whom, and who only thinks so; pure.

Knows views, as nodes told them. Must not know how they were asked for. A link has two ends; one
that only one of them names is one-sided, if both were heard: half open, or not taken down yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LINKS_TOLD_MAX, PEER_TEXT_MAX
from prsm.protocol.messages.reach import LinkSeen, ViewTold

SAMPLES_MAX: Final = 24


@dataclass(frozen=True, slots=True)
class End:
    """A link as one end of it sees it."""

    dialled: bool  # by this end
    relayed: bool
    rtt_ms: int | None  # median; None: not measured yet


@dataclass(frozen=True, slots=True)
class LinkOf:
    """A link of two nodes, the lower PeerId first."""

    one: PeerId
    other: PeerId
    seen_by_one: End | None
    seen_by_other: End | None
    is_one_sided: bool  # both were heard, and only one names it


class RoundTrips:
    """The last round trips of each linked peer."""

    def __init__(self) -> None:
        self._samples: dict[PeerId, list[int]] = {}

    def note(self, peer: PeerId, rtt_ms: int) -> None:
        """Take a sample."""
        samples = self._samples.setdefault(peer, [])
        samples.append(rtt_ms)
        del samples[:-SAMPLES_MAX]

    def keep(self, peers: Sequence[PeerId]) -> None:
        """Forget all other peers."""
        self._samples = {peer: self._samples[peer] for peer in peers if peer in self._samples}

    def median(self, peer: PeerId) -> tuple[int, int]:
        """Median in ms and number of samples; zeros if there is none."""
        samples = self._samples.get(peer)
        return (median_low(samples), len(samples)) if samples else (0, 0)


def cleaned(view: ViewTold, teller: PeerId) -> ViewTold:
    """A view without links to its own node, without doubles, each peer once: the first counts."""
    found: dict[str, LinkSeen] = {}
    for link in view.links[:LINKS_TOLD_MAX]:
        if link.peer != teller and len(link.peer) <= PEER_TEXT_MAX:
            found.setdefault(link.peer, link)
    return ViewTold(region=view.region, age_ms=view.age_ms, links=tuple(found.values()))


def links_of(views: Mapping[PeerId, ViewTold]) -> tuple[LinkOf, ...]:
    """All links that anybody names, in order of their ends."""
    ends: dict[tuple[PeerId, PeerId], dict[PeerId, End]] = {}
    for teller, view in views.items():
        for link in view.links:
            peer = PeerId(link.peer)
            pair = (min(teller, peer), max(teller, peer))
            rtt_ms = link.rtt_ms if link.samples else None
            ends.setdefault(pair, {})[teller] = End(link.outbound, link.relayed, rtt_ms)
    found = []
    for one, other in sorted(ends):
        seen = ends[one, other]
        is_one_sided = len(seen) == 1 and one in views and other in views
        found.append(LinkOf(one, other, seen.get(one), seen.get(other), is_one_sided))
    return tuple(found)
