"""How a requester finds out whether those who worked alone for it answered rightly.

By chance, and before the answer is used: a batch is run again here by all stages that were not
compared, or a batch with a known answer went along with the job's own. Must not know money; whoever
asks draws the consequences. Source: docs/spec/work.md, "Audits".
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import trio

from prsm.node.inference.batches import BatchPlan
from prsm.node.inference.canaries import Canaries, Canary, Salted
from prsm.node.inference.checks import Checks, Sample, WrongResult
from prsm.node.inference.commits import commit
from prsm.node.inference.interface import Chain
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.unitrun import UnitRun
from prsm.node.inference.verify import batch_root
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.transactions.audits import Dispute
from prsm.protocol.transactions.payloads import DISPUTE

DRAW_S: Final = 60.0  # a draw is known one or two blocks after the commitment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A batch that was answered wrongly.

    Attributes:
        batch: index in the job.
        unit: whose worker is to blame; None where only the whole chain is known to be wrong.
    """

    batch: int
    unit: UnitRun | None


@dataclass(frozen=True, slots=True)
class Reviewer:
    """What a node's reviews have in common.

    Attributes:
        checks: runs batches again.
        canaries: known answers of earlier jobs.
    """

    checks: Checks
    canaries: Canaries

    @classmethod
    def of(cls, shards: ShardCache | None, *, percent: int) -> Self:
        """Checks of so many of a hundred jobs, and canaries in as many."""
        return cls(Checks(shards, percent=percent), Canaries(percent=percent))

    def begin(self, model: bytes) -> "Review":
        """The review of one job."""
        return Review(self, model)


class Review:
    """One job's canary and checks."""

    def __init__(self, own: Reviewer, model: bytes) -> None:
        self._own, self._model = own, model
        self._salted: Salted | None = None

    def salt(self, plan: BatchPlan) -> BatchPlan:
        """Hide a batch with a known answer among those of a job, by chance.

        It has no rows of the job, so it is left out when the answer is put together.
        """
        salted = self._own.canaries.salt(self._model, plan.batches)
        if salted.place is None:
            return plan
        self._salted = salted
        rows = (*plan.rows[: salted.place], (), *plan.rows[salted.place :])
        return replace(plan, rows=rows, batches=salted.batches)

    async def find_wrong(self, units: Sequence[UnitRun]) -> Wrong | None:
        """Look at a batch of those who worked alone; None if nothing is wrong, or nothing is drawn.

        Args:
            units: all of the job, with every batch answered.
        """
        alone = [unit for unit in units if unit.spec.needed == 1]
        if not alone:
            return None
        batch = self._own.checks.draw(range(len(alone[0].stage.outputs)))
        place = self._betrayed(alone)
        if place is not None:
            return Wrong(place, await self._first_wrong(alone, place))
        if batch is None:
            return None
        unit = await self._first_wrong(alone, batch)
        return None if unit is None else Wrong(batch, unit)

    def learn(self, plan: BatchPlan, units: Sequence[UnitRun]) -> None:
        """Keep an answer that several workers of one class gave, for a later job."""
        last = [unit for unit in units if unit.spec.stage == unit.spec.stages - 1]
        if any(unit.spec.needed == 1 for unit in units) or not last:
            return
        batch = last[0].spec.first
        outputs, classes = last[0].stage.outputs[batch], set(last[0].classes.values())
        if outputs is not None and len(classes) == 1:
            inputs = plan.batches[batch]
            self._own.canaries.learn(Canary(self._model, inputs, outputs, classes.pop()))

    def _betrayed(self, alone: Sequence[UnitRun]) -> int | None:
        """The place of the canary, where its answer is not the known one."""
        salted = self._salted
        if salted is None:
            return None
        for unit in alone:
            [worker] = unit.spec.workers
            is_last = unit.spec.stage == unit.spec.stages - 1
            if is_last and salted.place in unit.spec.batches:
                class_id = unit.classes.get(worker, b"")
                if salted.is_caught(unit.stage.outputs, class_id):
                    return salted.place
        return None

    async def _first_wrong(self, alone: Sequence[UnitRun], batch: int) -> UnitRun | None:
        if not self._own.checks.can_run:
            return None
        answered = sorted(_answered(alone, batch), key=lambda unit: unit.spec.stage)
        samples = [_sample(unit, batch) for unit in answered]
        try:
            place = await self._own.checks.first_wrong(samples)
        except PrsmError as error:
            log.info("batch %d is not checked here: %s", batch, error.what)
            return None
        return None if place is None else answered[place]


async def dispute(chain: Chain, unit: UnitRun, receipt: WorkReceipt, batch: int) -> None:
    """Have a committee compute again what we know to be wrong; we stand for it with a deposit.

    Raises:
        WrongResult: always; it is not for us to settle this unit.
        PrsmError: the ledger does not take the dispute.
    """
    with trio.move_on_after(DRAW_S):
        while (found := chain.sampling(unit.job, unit.index)) is None or found.draw is None:
            await chain.wait_height(chain.height() + 1)
        await commit(chain, DISPUTE, Dispute(unit.job, unit.index, batch, encode(receipt)))
    raise WrongResult(f"batch {batch} of unit {unit.number} is wrong: a committee looks at it")


def _answered(alone: Sequence[UnitRun], batch: int) -> list[UnitRun]:
    """Units whose worker gave the outputs that were used."""
    found = []
    for unit in alone:
        said = unit.given.get((unit.spec.workers[0], batch))
        outputs = unit.stage.outputs[batch]
        if said is not None and outputs and said.output_root == batch_root(outputs):
            found.append(unit)
    return found


def _sample(unit: UnitRun, batch: int) -> Sample:
    inputs, outputs = unit.stage.inputs[batch], unit.stage.outputs[batch]
    assert inputs is not None
    assert outputs is not None
    class_id = unit.classes.get(unit.spec.workers[0], b"")
    return Sample(unit.spec.model, unit.shard, inputs, outputs, class_id)
