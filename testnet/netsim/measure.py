"""Who got which record when, and the figures of a run.

Knows numbers of nodes and records, and times. Must not know how a record travels. A node is
steady for a record when it was up from its publication until it had it, or for six seconds; one
that was away, or went away sooner, counts apart, from the moment it is back.
"""

import math
from array import array
from dataclasses import dataclass, field
from typing import Final, final

SOON_MS: Final = 1_000
ATTACKED_MS: Final = 6_000  # what a network under attack is held to
_NEVER: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run showed; all of it simulated.

    Attributes:
        expected: pairs of a record and a steady honest node.
        delivered: share of them that was delivered.
        within_1s: share delivered within a second of virtual time.
        within_6s: share delivered within six.
        p50_ms: half of the expected have it by then; None when fewer ever had.
        p99_ms: of 99 in 100.
        away_expected: pairs of a record and a node that was away.
        away_delivered: share of them that was delivered.
        away_p99_ms: 99 in 100 of them had it so long after they were back.
    """

    expected: int
    delivered: float
    within_1s: float
    within_6s: float
    p50_ms: int | None
    p99_ms: int | None
    away_expected: int
    away_delivered: float
    away_p99_ms: int | None


@final
class Deliveries:
    """Arrivals of every record at every counted node.

    Args:
        counted: numbers of the nodes that should get each record.
        nodes: how many numbers there are.
    """

    def __init__(self, counted: list[int], nodes: int) -> None:
        self._counted = counted
        self._nodes = nodes
        self._published: list[tuple[int, int]] = []  # author, when
        self._arrivals: list[array[int]] = []
        self._away: dict[int, list[tuple[int, int]]] = {}
        self.ways: dict[str, int] = {}  # how records came: mesh, told, replayed, pulled

    def published(self, author: int, now_ms: int) -> int:
        """Count a record; return its number."""
        self._published.append((author, now_ms))
        arrivals = array("q", (_NEVER,)) * self._nodes
        arrivals[author] = now_ms
        self._arrivals.append(arrivals)
        return len(self._published) - 1

    def author(self, record: int) -> int:
        """Who published it."""
        return self._published[record][0]

    def arrived(self, node: int, record: int, now_ms: int) -> None:
        """Note the first arrival of a record at a node."""
        arrivals = self._arrivals[record]
        if arrivals[node] == _NEVER:
            arrivals[node] = now_ms

    def away(self, node: int, from_ms: int, until_ms: int) -> None:
        """Note that a node is down for a while."""
        self._away.setdefault(node, []).append((from_ms, until_ms))

    def is_away(self, node: int, at_ms: int) -> bool:
        """Whether a node is to be down at a moment."""
        return any(from_ms <= at_ms < until_ms for from_ms, until_ms in self._away.get(node, ()))

    def figures(self, *, records: range | None = None) -> Figures:
        """Add up some records, or all of them."""
        steady: list[int] = []
        later: list[int] = []
        expected = away_expected = 0
        for record in records if records is not None else range(len(self._published)):
            author, made_ms = self._published[record]
            arrivals = self._arrivals[record]
            for node in self._counted:
                if node == author:
                    continue
                back_ms = self._back_ms(node, made_ms, arrivals[node])
                waited = arrivals[node] - (made_ms if back_ms is None else back_ms)
                if back_ms is None:
                    expected += 1
                    if arrivals[node] != _NEVER:
                        steady.append(waited)
                else:
                    away_expected += 1
                    if arrivals[node] != _NEVER:
                        later.append(waited)
        steady.sort()
        later.sort()
        return Figures(
            expected=expected,
            delivered=_share(len(steady), expected),
            within_1s=_share(_within(steady, SOON_MS), expected),
            within_6s=_share(_within(steady, ATTACKED_MS), expected),
            p50_ms=_percentile(steady, expected, 0.5),
            p99_ms=_percentile(steady, expected, 0.99),
            away_expected=away_expected,
            away_delivered=_share(len(later), away_expected),
            away_p99_ms=_percentile(later, away_expected, 0.99),
        )

    def soon(self) -> tuple[tuple[int, int], ...]:
        """For each record when it was published, and the per mille that had it within a second."""
        return tuple(
            (
                self._published[record][1],
                int(1000 * self.figures(records=range(record, record + 1)).within_1s),
            )
            for record in range(len(self._published))
        )

    def _back_ms(self, node: int, made_ms: int, arrived_ms: int) -> int | None:
        """When the node came back if it was away for this record; None if it was steady."""
        for from_ms, until_ms in self._away.get(node, ()):
            had_time = made_ms + ATTACKED_MS <= from_ms
            if made_ms < until_ms and not had_time and not made_ms <= arrived_ms <= from_ms:
                return until_ms
        return None


@dataclass(slots=True)
class Trace:
    """What happened in a run, line by line, for those who compare two runs."""

    lines: list[str] = field(default_factory=list)
    is_on: bool = False

    def add(self, now_ms: int, what: str) -> None:
        """Note an event."""
        if self.is_on:
            self.lines.append(f"{now_ms} {what}")


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 1.0


def _within(waits: list[int], limit_ms: int) -> int:
    return sum(1 for wait in waits if wait <= limit_ms)


def _percentile(waits: list[int], expected: int, share: float) -> int | None:
    """The wait that `share` of all expected were not above; the missing ones waited for ever."""
    rank = math.ceil(share * expected) - 1
    return waits[rank] if 0 <= rank < len(waits) else None
