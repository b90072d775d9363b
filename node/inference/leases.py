"""What a unit left undone, leased to other workers: a child job drawn from the lock's budget.

So the price cap holds whatever happens: a lease can cost no more than the budget the first lock
already holds, and each lock is settled for itself. Must not know tensors.
Source: docs/spec/work.md, "Survival".
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from prsm.node.inference.estimate import Clockwork, memory_needed
from prsm.node.inference.interface import Chain
from prsm.node.inference.layout import rank, reserve_of, substitute
from prsm.node.inference.means import Grant
from prsm.node.inference.obstacles import is_bonded
from prsm.node.inference.refusals import PriceOverCap, TooFewPeers
from prsm.node.inference.unitrun import UnitRun
from prsm.node.inference.wishes import Wish, WorkerOffer
from prsm.protocol.codec import Record
from prsm.protocol.ids import FTNS, format_ftns
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import LOCK, Lock, Unit

LEASES_MAX: Final = 16  # of one job; a network that loses more workers than that is no network

log = logging.getLogger(__name__)


def lease_id(job: bytes, number: int) -> bytes:
    """Name of a lease on the ledger: from the job's, so that it is found again after a restart."""
    return sha256(b"prsm/lease/1", job, number.to_bytes(4, "big"))


class Leases:
    """The leases of one job.

    Args:
        job: its id, locked.
        chain: the ledger.
        wish: what the job is.
        runtime: of the model.
        offers: asks who could work now.
        commit: submits a transaction and waits for its block.
    """

    def __init__(
        self,
        job: bytes,
        chain: Chain,
        wish: Wish,
        *,
        runtime: str,
        offers: Callable[[], Awaitable[Sequence[WorkerOffer]]],
        commit: Callable[[int, Record], Awaitable[int]],
    ) -> None:
        self._job, self._chain, self._wish = job, chain, wish
        self._offers, self._commit, self._runtime = offers, commit, runtime
        self._one = trio.Lock()  # two at a time would both count on the same budget
        self.locked: list[bytes] = []

    async def lease(self, unit: UnitRun, batches: Sequence[int]) -> Grant:
        """Lock the open batches of a unit for other workers.

        Raises:
            TooFewPeers: nobody else could do it, or too many leases.
            PriceOverCap: the budget that is left does not pay it.
            PrsmError: the ledger refused the lock.
        """
        assert batches
        async with self._one:
            found = self._chain.job(self._job)
            if found is None or not found.is_open or len(self.locked) >= LEASES_MAX:
                raise TooFewPeers(
                    f"{len(self.locked)} leases of this job, at most {LEASES_MAX}",
                    value=len(self.locked),
                    limit=LEASES_MAX,
                )
            workers = self._choose(unit, await self._offers())
            first = batches[0]
            count = batches[-1] + 1 - first
            spec = substitute(unit.spec, first=first, count=count, workers=workers)
            self._check_budget(spec, found.budget)
            lease = lease_id(self._job, len(self.locked))
            lock = Lock(
                job=lease,
                tenant=found.tenant,
                asset=FTNS,
                parent=self._job,
                batch_rows=found.batch_rows,
                units=(spec,),
                budget=0,
                is_open_ended=True,
                shares=found.shares,
                deadline_ms=found.deadline_ms,
            )
            await self._commit(LOCK, lock)
            self.locked.append(lease)
        log.info("unit %d: batches %d to %d are leased", unit.number, first, batches[-1])
        return Grant(lease, spec, {offer.worker: offer.peer for offer in workers})

    async def compare(self, unit: UnitRun) -> tuple[float, float] | None:
        """Ms of a micro-batch at the one worker of a unit, and at the best other one."""
        offers = [o for o in await self._offers() if o.runtime == self._runtime and not o.refused]
        clockwork = Clockwork(unit.spec.model, (unit.shard,), offers, self._wish.sizes)
        key = (unit.spec.model, unit.spec.stages, unit.spec.stage)
        left = max(1, len(unit.ballot.undecided()))
        costs = {
            o.worker: clockwork.cost(o, unit.shard, max(unit.stage.batch_rows), batches=left)
            for o in offers
            if key in o.row_ms
        }
        held = costs.pop(unit.spec.workers[0], None)
        best = min((cost.total_ms for cost in costs.values()), default=None)
        # What waits at the held worker is this very unit, as a rule.
        return None if held is None or best is None else (held.total_ms - held.queue_ms, best)

    def _choose(self, unit: UnitRun, offers: Sequence[WorkerOffer]) -> list[WorkerOffer]:
        """The best others: as many as the unit had, or as must agree."""
        shard = unit.shard
        able = [
            offer
            for offer in offers
            if offer.worker not in unit.spec.workers
            and offer.slots_free > 0
            and not offer.refused
            and offer.runtime == self._runtime
            and (unit.spec.needed > 1 or is_bonded(offer, self._wish))
            and (not self._wish.only or offer.worker in self._wish.only)
            and (not offer.memory_bytes or memory_needed(shard) <= offer.memory_bytes)
        ]
        needed = unit.spec.needed
        if len(able) < needed:
            raise TooFewPeers(
                f"{len(able)} other workers are free, {needed} are needed",
                value=len(able),
                limit=needed,
                hint="connect more workers",
            )
        clockwork = Clockwork(unit.spec.model, (shard,), able, self._wish.sizes)
        return rank(self._wish, able, clockwork, shard)[: len(unit.spec.workers)]

    def _check_budget(self, spec: Unit, budget: int) -> None:
        amount = reserve_of(spec, self._wish.batch_rows)
        if amount > budget:
            raise PriceOverCap(
                f"the lease would lock {format_ftns(amount)} FTNS, {format_ftns(budget)} are left",
                value=amount,
                limit=budget,
                hint="lock more spares",
            )
