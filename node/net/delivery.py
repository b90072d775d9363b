"""What became of announcements: seen, repaired, late and missing, by topic and author.

Pure: times are handed in. Knows sequence numbers and delays. Must not know records or peers.
What is missing is read off an author's sequence numbers; delays are by the author's clock, so
they say something where clocks agree.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

AUTHORS_MAX: Final = 1_024  # of a topic; who was not heard of for longest is forgotten
WINDOW: Final = 4_096  # sequence numbers of an author that may still arrive
DELAYS_MAX: Final = 2_048  # the latest of a topic
LATE_MS: Final = 1_000


class Fate(Enum):
    """What happened to a record that did not count."""

    STALE = "stale"  # it, or a later one, was here
    EXPIRED = "expired"
    EARLY = "early"  # made too far ahead of our clock
    CROWDED = "crowded"  # no room for it
    UNCHECKED = "unchecked"  # its bringer had used up its share of signatures
    REFUSED = "refused"  # not well-formed, or not signed by whom it names


@dataclass(slots=True)
class Author:
    """The records of one author on one topic.

    Attributes:
        first, highest: sequence numbers of this run of the author.
        seen: records that arrived, once each.
        repaired: of those, by pull repair.
        late: of those, more than `LATE_MS` after they were made.
        lost: missing of earlier runs, and from before the window.
    """

    first: int
    highest: int
    made_ms: int
    seen: int = 0
    repaired: int = 0
    late: int = 0
    lost: int = 0
    _mask: int = 0  # bit i: highest - i has arrived

    @property
    def missing(self) -> int:
        """Records that were published, as later ones show, and never arrived."""
        return self.lost + self.highest - self.first + 1 - self._mask.bit_count()

    def note(self, sequence: int, made_ms: int) -> bool:
        """Count a sequence number; False for one that was counted."""
        ahead = sequence - self.highest
        is_restart = ahead <= 0 and made_ms > self.made_ms
        if is_restart or abs(ahead) >= WINDOW:
            self._restart(sequence, made_ms)
        elif ahead > 0:
            self._mask = (self._mask << ahead) | 1
            self.highest, self.made_ms = sequence, made_ms
            self._slide()
        else:
            bit = 1 << -ahead
            if self._mask & bit:
                return False
            self._mask |= bit
            self.first = min(self.first, sequence)
        return True

    def _restart(self, sequence: int, made_ms: int) -> None:
        if self._mask:
            self.lost = self.missing
        self.first = self.highest = sequence
        self.made_ms, self._mask = made_ms, 1

    def _slide(self) -> None:
        oldest = self.highest - WINDOW + 1
        if self.first < oldest:
            gone = self._mask >> WINDOW
            self.lost += oldest - self.first - gone.bit_count()
            self._mask &= (1 << WINDOW) - 1
            self.first = oldest


@dataclass(slots=True)
class Topic:
    """The records of one topic.

    Attributes:
        published: by this node.
        authors: by key, who was heard of last at the end.
        fates: of what did not count.
    """

    published: int = 0
    authors: OrderedDict[bytes, Author] = field(default_factory=OrderedDict)
    fates: Counter[Fate] = field(default_factory=Counter)
    delays_ms: deque[int] = field(default_factory=lambda: deque(maxlen=DELAYS_MAX))

    def see(
        self, author: bytes, *, sequence: int, made_ms: int, arrived_ms: int, repaired: bool
    ) -> None:
        """Count a record that arrived and counts.

        Args:
            author: who made it.
            sequence: of the author's records on this topic.
            made_ms: author's wall clock.
            arrived_ms: our wall clock.
            repaired: whether it was pulled.
        """
        known = self.authors.get(author)
        if known is None:
            known = self.authors[author] = Author(sequence, sequence, made_ms)
            if len(self.authors) > AUTHORS_MAX:
                self.authors.popitem(last=False)
        self.authors.move_to_end(author)
        if not known.note(sequence, made_ms):
            return
        delay_ms = max(0, arrived_ms - made_ms)
        known.seen += 1
        known.repaired += repaired
        known.late += delay_ms > LATE_MS
        self.delays_ms.append(delay_ms)

    def delay_ms(self, percent: int) -> int | None:
        """A percentile of the latest delays; None before the first."""
        if not self.delays_ms:
            return None
        ordered = sorted(self.delays_ms)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
