"""One batch of somebody's unit, computed again here from what went in.

The shard runs in this node's own sealed child. Must not know who asked for the check, nor what
follows from it. Source: docs/spec/work.md, "Audits".
"""

from dataclasses import dataclass, replace

from prsm.consensus.ledger.records import Job
from prsm.node.inference.divergence import Boundary
from prsm.node.inference.evidence import Place
from prsm.node.inference.feeds import Target, feed_over
from prsm.node.inference.generate.replay import Replay
from prsm.node.inference.inquiry import Ask, Inquiry, Served
from prsm.node.inference.interface import Models, UnknownJob
from prsm.node.inference.judging import Stated, check_comparable, judge, judge_apart
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.terms import find_shard
from prsm.node.inference.verify import batch_root
from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.audit import Side
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import Feed, WorkKind, is_fed
from prsm.protocol.transactions.audits import Finding


@dataclass(frozen=True, slots=True)
class Recheck:
    """Recomputes batches."""

    inquiry: Inquiry
    models: Models
    shards: ShardCache

    async def compute(self, ask: Ask) -> Boundary:
        """Roots of a batch by our own run, of inputs the requester signed.

        Args:
            ask: for the inputs; the same sources at each try.

        Raises:
            Unserved: nobody gave such inputs.
            NoTimeLeft: there was no time to look for them.
            PrsmError: the shard is not to be had, or does not run here.
        """
        place, job = ask.place, self._job(ask.place)
        await self.inquiry.begin(ask, job.requester)
        if job.units[place.unit].kind is WorkKind.GENERATE:
            return (await self._replay.run(job, ask)).boundary
        shard = await self._shard(job, place)
        rows = _rows(job, place)
        served = await self.inquiry.fetch(
            ask, shard, rows, is_right=lambda served: self._is_fed(job, place, served)
        )
        async with self.shards.use(job.units[place.unit].model, shard) as session:
            made = await session.run(served.tensors)
        before = _fed(job, place, served)
        return Boundary(before.input_root, before.side_root, batch_root(made))

    async def judge(self, ask: Ask, stated: Stated) -> Finding:
        """Compare our own run with what the worker stated.

        Across classes its outputs are fetched too, and their distance decides.

        Args:
            ask: as of `compute`.
            stated: by the receipt.

        Raises:
            Unserved: nobody gave inputs with the stated roots, or the stated outputs.
            NoTimeLeft: there was no time to look for them.
            Unsupported: another class, and integers differ: nobody can tell, and we say nothing.
            PrsmError: as `compute`.
        """
        place, theirs = ask.place, stated.boundary
        job = self._job(place)
        await self.inquiry.begin(ask, job.requester)
        if job.units[place.unit].kind is WorkKind.GENERATE:
            return await self._replay.judge(job, ask, stated)
        shard = await self._shard(job, place)
        rows = _rows(job, place)

        def is_stated(served: Served) -> bool:
            before = _fed(job, place, served)
            roots = (before.input_root, before.side_root)
            wanted = (theirs.input_root, theirs.side_root)
            return roots == wanted and self._is_fed(job, place, served)

        served = await self.inquiry.fetch(ask, shard, rows, is_right=is_stated)
        spec = job.units[place.unit]
        async with self.shards.use(spec.model, shard) as session:
            made = await session.run(served.tensors)
            ours = Boundary(theirs.input_root, theirs.side_root, batch_root(made))
            is_same = session.class_id == stated.class_id
            if ours == theirs or is_same:
                return judge(ours, theirs, is_same_class=is_same, gap_ppb=0)
            check_comparable((await self.models.manifest(spec.model)).compute, shard.outputs)
            out = replace(ask, place=replace(place, side=Side.OUT))
            answered = await self.inquiry.fetch(
                out,
                shard,
                rows,
                is_right=lambda served: batch_root(served.tensors) == theirs.output_root,
            )
            return await judge_apart(session, made, answered.tensors)

    def _job(self, place: Place) -> Job:
        job = self.inquiry.chain.job(place.job)
        if job is None or place.unit >= len(job.units) or place.batch >= len(job.batch_rows):
            raise UnknownJob("the ledger has no such batch")
        kind = job.units[place.unit].kind
        if kind not in (WorkKind.INFER, WorkKind.GENERATE):
            raise Unsupported(f"work of kind {kind.name.lower()} is not checked batch by batch")
        return job

    @property
    def _replay(self) -> Replay:
        return Replay(self.inquiry, self.models, self.shards)

    async def _shard(self, job: Job, place: Place) -> Shard:
        spec = job.units[place.unit]
        manifest = await self.models.manifest(spec.model)
        return find_shard(manifest.shards, spec)

    def _is_fed(self, job: Job, place: Place, served: Served) -> bool:
        return is_fed(
            _fed(job, place, served),
            job.requester,
            chain_id=self.inquiry.chain.chain_id,
            verifier=self.inquiry.verifier,
        )


def _rows(job: Job, place: Place) -> int | None:
    return None if job.is_open_ended else job.batch_rows[place.batch]


def _fed(job: Job, place: Place, served: Served) -> Feed:
    target = Target(place.job, place.unit, place.batch, job.units[place.unit].stage)
    return feed_over(target, served.tensors, served.feed)
