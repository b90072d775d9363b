"""A requester's own checks of work that is not compared: a batch run again here, by chance.

The ledger draws some work to be audited; a requester need not wait for that. Whatever it has the
model for it may run again, of all stages or one, from what it fed itself, and nobody can tell which
batch that will be. Must not know money, nor what follows from a finding. Source: docs/spec/work.md,
"Audits".
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prsm.node.inference.batches import Batch
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.judging import check_comparable, judge, judge_apart
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.verify import batch_root, input_root, side_root
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.messages.models import Shard
from prsm.protocol.transactions.audits import Finding

log = logging.getLogger(__name__)


class WrongResult(LocalError):
    """A worker's answer is not what its shard makes of the inputs."""

    reason = "wrong_result"


@dataclass(frozen=True, slots=True)
class Sample:
    """One stage's work on one micro-batch, as the requester has it.

    Attributes:
        model: CID of the manifest.
        shard: the stage.
        inputs: in the order of the shard's io table.
        outputs: as the worker answered.
        class_id: determinism class of the worker.
    """

    model: bytes
    shard: Shard
    inputs: Batch
    outputs: Batch
    class_id: bytes


class Checks:
    """Runs samples again.

    Args:
        shards: loads and runs shards here; None: this node runs no models, and checks nothing.
        percent: of jobs of which a batch is run again.
        dice: a number below the one given; secret, so that no worker can foresee it.
    """

    def __init__(
        self,
        shards: ShardCache | None,
        *,
        percent: int,
        dice: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        assert 0 <= percent <= 100
        self._shards, self._percent, self._dice = shards, percent, dice

    @property
    def can_run(self) -> bool:
        """Does this node run models?"""
        return self._shards is not None

    def draw(self, batches: Sequence[int]) -> int | None:
        """The batch of a job to run again; None for none of them."""
        if self._shards is None or not batches or self._dice(100) >= self._percent:
            return None
        return batches[self._dice(len(batches))]

    async def first_wrong(self, samples: Sequence[Sample]) -> int | None:
        """The place of the first sample that is wrong; each is run from its own inputs.

        Args:
            samples: the stages of one batch, in their order.

        Raises:
            PrsmError: a shard is not to be had, or does not run here.
        """
        for place, sample in enumerate(samples):
            try:
                if await self.check(sample) is Finding.DIFFERENT:
                    return place
            except Unsupported as error:  # the other stages may still be told apart
                log.info("stage %d is not checked here: %s", sample.shard.index, error.what)
        return None

    async def check(self, sample: Sample) -> Finding:
        """Run one sample again and compare.

        Raises:
            Unsupported: of another class, and integers differ: nobody can tell.
            PrsmError: as `first_wrong`.
        """
        assert self._shards is not None
        stage = sample.shard.index
        before = input_root(sample.inputs, stage=stage), side_root(sample.inputs, stage=stage)
        theirs = Boundary(*before, batch_root(sample.outputs))
        async with self._shards.use(sample.model, sample.shard) as session:
            made = await session.run(sample.inputs)
            ours = Boundary(*before, batch_root(made))
            is_same = session.class_id == sample.class_id
            if ours == theirs or is_same:
                return judge(ours, theirs, is_same_class=is_same, gap_ppb=0)
            check_comparable(await self._shards.compute(sample.model), sample.shard.outputs)
            return await judge_apart(session, made, sample.outputs)
