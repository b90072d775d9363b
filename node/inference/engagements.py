"""Units this node took on and is not bound for yet: what they will hold of its pledge.

Work that nobody compares holds a bond from its commitment on, not from its opening. Without this
a worker takes on more than its pledge covers, and waits for the bond of one unit before it can be
paid for another. Must not know what the work is. Source: docs/spec/work.md, "Messages".
"""

from collections.abc import Callable, Iterable

from prsm.consensus.ledger.records import Job
from prsm.node.inference.interface import Chain, NoBond

Key = tuple[bytes, int]  # job and unit


class Engagements:
    """All units of this node that a commitment is still to come for, whoever works on them."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._sources: list[Callable[[], Iterable[Key]]] = []

    def add(self, source: Callable[[], Iterable[Key]]) -> None:
        """Count what this names: units that are open, done, or claimed; each counts once."""
        self._sources.append(source)

    def check(self, job: Job, unit: int) -> None:
        """Does our pledge cover this unit, too?

        Raises:
            NoBond: not beside what was taken on before.
        """
        due = self._chain.bond_of(job, unit)
        if not due:
            return
        own = job.job, unit
        others = {key for source in self._sources for key in source() if key != own}
        taken = sum(self._still_due(key) for key in others)
        if (missing := due + taken - self._chain.free_pledge()) > 0:
            raise NoBond(
                f"{missing} micro-FTNS more must be pledged to do this unit alone: its bond is "
                f"{due}, {taken} are for units taken on before",
                hint="ask again when those are settled, or ask for 2 of 3",
            )

    def _still_due(self, key: Key) -> int:
        """What a commitment to it would hold; 0 if it is bound or over."""
        job = self._chain.job(key[0])
        if job is None or not job.is_open or job.verdicts[key[1]] is not None:
            return 0
        if self._chain.committed(*key, self._chain.address) is not None:
            return 0  # the ledger holds it
        return self._chain.bond_of(job, key[1])
