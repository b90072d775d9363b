"""What a job, plan or generation came to in the end, by the ledger's escrow, and our fees for it.

Knows: who runs them here, the escrows. Must not know: tokens, calls.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prsm.consensus.ledger.records import Job as Escrow
from prsm.node.chain.wallet import VALID_MS
from prsm.node.clock import Clock
from prsm.node.inference.generate.service import Generations
from prsm.node.inference.job import JobState
from prsm.node.inference.jobs import Jobs
from prsm.node.workplans.plans import Plans
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError, PrsmError

# An escrow by its id, as the ledger has it now.
FindEscrow = Callable[[bytes], Escrow | None]
_OVER: Final = frozenset((JobState.DONE, JobState.FAILED))
_FEES_MAX: Final = 10_000  # jobs whose fees are kept, of this process
# Ends of work for which no lock was sent.
_NEVER_SENT: Final = frozenset(
    (
        *("wallet_locked", "insufficient_funds", "price_over_cap", "no_placement", "no_bond"),
        *("input_mismatch", "model_not_found", "policy_refused", "price_below_ask"),
    )
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Micro-FTNS, and whether that may still change."""

    amount: int
    is_final: bool


@dataclass(frozen=True, slots=True)
class _Locks:
    """The escrows of a thing, as whoever runs it knows them.

    `was_locked`: one of them was in a block. `never_sent`: it ended before any was sent.
    """

    ids: tuple[bytes, ...]
    was_locked: bool
    never_sent: bool = False


class Costs:
    """Looks costs up."""

    def __init__(
        self, find: FindEscrow, clock: Clock, jobs: Jobs, plans: Plans, generations: Generations
    ) -> None:
        self._find, self._clock = find, clock
        self._fees: OrderedDict[bytes, int] = OrderedDict()
        self._jobs, self._plans, self._generations = jobs, plans, generations

    def note_sent(self, payload: Record, fee: int) -> None:
        """Count the fee of a transaction of ours for the job its payload names."""
        job = getattr(payload, "job", None)
        if isinstance(job, bytes):
            self._fees[job] = self._fees.get(job, 0) + fee
            while len(self._fees) > _FEES_MAX:
                self._fees.popitem(last=False)

    def is_over(self, kind: str, name: bytes) -> bool:
        """Is it at work no more? What nobody knows is not at work."""
        try:
            match kind:
                case "job":
                    return self._jobs.get(name).state in _OVER
                case "plan":
                    return self._plans.get(name).is_over
                case _:
                    return self._generations.get(name).is_over
        except LocalError:
            return True

    def look(self, kind: str, name: bytes, *, reserved: int, made_ms: int) -> Cost:
        """What it came to, or what is to be counted until that is known.

        Args:
            kind: `job`, `plan` or `generation`.
            name: 32 bytes.
            reserved: counted so far.
            made_ms: when it was reserved.
        """
        if not self.is_over(kind, name):
            return Cost(reserved, is_final=False)
        locks = self._locks(kind, name)
        fees = sum(self._fees.get(one, 0) for one in locks.ids)
        found = [lock for one in locks.ids if (lock := self._find(one))]
        if found:
            amount = spent_of(found) + fees
            return Cost(amount, is_final=not any(lock.is_open for lock in found))
        if locks.never_sent:
            return Cost(fees, is_final=True)
        # A lock that was sent may come into a block until it is too old for one.
        if self._clock.wall_ms() - made_ms <= 2 * VALID_MS:
            return Cost(reserved, is_final=False)
        # The ledger forgets what is long over: then what was reserved is what is known.
        return Cost(reserved if locks.was_locked else fees, is_final=True)

    def _locks(self, kind: str, name: bytes) -> _Locks:
        try:
            match kind:
                case "job":
                    job = self._jobs.get(name)
                    early = job.amount == 0 or _is_early(job.error)
                    ids, is_locked = (name, *job.leases), job.lock_height > 0
                case "plan":
                    plan = self._plans.get(name)
                    made = (job for step in plan.steps.values() for job in step.jobs)
                    early, ids = _is_early(plan.error), (name, *made)
                    is_locked = plan.lock_height > 0
                case _:
                    one = self._generations.get(name)
                    early, ids, is_locked = _is_early(one.error), tuple(one.jobs), bool(one.jobs)
            return _Locks(ids, is_locked, never_sent=early and not is_locked)
        except LocalError:
            return _Locks((name,), was_locked=True)


def _is_early(error: PrsmError | None) -> bool:
    return error is not None and error.reason in _NEVER_SENT


def spent_of(locks: Iterable[Escrow]) -> int:
    """Micro-FTNS that left these escrows for good, and those still in them.

    A child's money comes out of its parent's budget and goes back there, so what a parent still
    holds and what its children paid never count twice.
    """
    total = 0
    for lock in locks:
        settled = (
            lock.reserve(unit) - verdict.returned
            for unit, verdict in enumerate(lock.verdicts)
            if verdict is not None
        )
        total += sum(settled) + lock.locked
    return total
