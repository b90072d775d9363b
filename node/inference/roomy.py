"""The policy of a disk that runs full: no work for others until there is room again.

Knows: whether the disk is low. Must not know: how that is found out, jobs. The ledger, which nobody
may refuse, needs the room that is left.
"""

from collections.abc import Callable
from dataclasses import replace

from prsm.node.inference.capacity import Standing
from prsm.node.inference.interface import JobFacts, Policy


class RoomyDisk:
    """Refuses units of others while the disk is low; else another policy decides.

    Args:
        inner: the other policy.
        is_low: asked each time.
    """

    def __init__(self, inner: Policy, is_low: Callable[[], bool]) -> None:
        self._inner = inner
        self._is_low = is_low

    def before(self, facts: JobFacts) -> str:
        """Why the work is refused; empty when it may be done."""
        if self._is_low():
            return "the disk of this machine is nearly full"
        return self._inner.before(facts)

    def after(self, facts: JobFacts, outcome: str) -> None:
        """The inner policy is told."""
        self._inner.after(facts, outcome)

    def offered(self, standing: Callable[[], Standing]) -> Callable[[], Standing]:
        """The same offer, without free places while the disk is low."""

        def now() -> Standing:
            offer = standing()
            return replace(offer, slots_free=0) if self._is_low() else offer

        return now
