"""The course of agreement as this node sees it: heights, views, phases, and how long each took.

Pure: told of the replica's state after each step, with times handed in. Must not know who listens
for what.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prsm.consensus.pbft.state import Instance
from prsm.consensus.pbft.transitions import Phase


@dataclass(frozen=True, slots=True)
class Passed:
    """A phase of a height that was left, or the whole of a view that ended without a block.

    Attributes:
        height, view: of the phase.
        proposer: signer index of the view's proposer.
        phase: which was left.
        entered: which one came after it.
        took_ms: how long it lasted.
        at_ms: monotonic, when it was left.
    """

    height: int
    view: int
    proposer: int
    phase: Phase
    entered: Phase
    took_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class ViewLost:
    """A view of a height that ended without a block.

    Attributes:
        height, view: of it.
        proposer: signer index of its proposer.
        reason: `silent` no proposal was accepted, `refused` its proposal breaks a rule, `stalled`
            the votes were too few.
    """

    height: int
    view: int
    proposer: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Seen:
    height: int
    view: int
    phase: Phase
    proposer: int
    is_refused: bool
    since_ms: int


class Rounds:
    """Compares each state with the one before.

    Attributes:
        on_phase: told of each phase that was left.
        on_view_lost: told of each view that ended without a block.
    """

    def __init__(self) -> None:
        self.on_phase: list[Callable[[Passed], None]] = []
        self.on_view_lost: list[Callable[[ViewLost], None]] = []
        self._seen: _Seen | None = None
        self._furthest = Phase.WAITING  # of the view, so that a lost one says what was missing

    def look(self, instance: Instance, now_ms: int) -> None:
        """Take note of where the replica stands after a step."""
        seen = self._seen
        is_same = seen is not None and (seen.height, seen.view, seen.phase) == (
            *(instance.height, instance.view),
            instance.phase,
        )
        if is_same:
            return
        self._seen = _Seen(
            instance.height,
            instance.view,
            instance.phase,
            instance.schedule.at(instance.view),
            instance.refused_view == instance.view,
            now_ms,
        )
        if seen is not None:
            self._left(seen, self._seen)
        if instance.phase is not Phase.CHANGING:
            self._furthest = instance.phase

    def _left(self, seen: _Seen, now: _Seen) -> None:
        took_ms = max(0, now.since_ms - seen.since_ms)
        passed = Passed(
            *(seen.height, seen.view, seen.proposer, seen.phase, now.phase),
            took_ms=took_ms,
            at_ms=now.since_ms,
        )
        for tell in self.on_phase:
            tell(passed)
        if now.height == seen.height and now.view > seen.view:
            lost = ViewLost(seen.height, seen.view, seen.proposer, self._reason(seen))
            for tell_lost in self.on_view_lost:
                tell_lost(lost)

    def _reason(self, seen: _Seen) -> str:
        if seen.is_refused:
            return "refused"
        return "silent" if self._furthest is Phase.WAITING else "stalled"
