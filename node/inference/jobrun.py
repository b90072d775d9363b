"""One job of ours, step by step: batches, plan, lock, pipeline, receipts, settlement, refund.

Everything that can be refused is refused before money is locked. Must not know how steps are
done, only their order.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.inference.batches import BatchPlan, check_inputs, split_rows
from prsm.node.inference.capacity import ask_all
from prsm.node.inference.commits import COMMIT_S, commit
from prsm.node.inference.interface import (
    Chain,
    Halted,
    JobFacts,
    Models,
    Policy,
    PolicyRefused,
    Runner,
)
from prsm.node.inference.job import Job, JobState
from prsm.node.inference.links import Links
from prsm.node.inference.pipeline import Patience, Pipeline
from prsm.node.inference.planner import Plan, Refused, Wish, plan
from prsm.node.inference.unitrun import UnitRun
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import PrsmError, Unsupported
from prsm.protocol.ids import FTNS
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.pipe import BATCH_ROWS_MAX, InputMismatch
from prsm.protocol.receipts import WorkKind, WorkReceipt, receipt_hash
from prsm.protocol.transactions.payloads import LOCK, REFUND, SETTLE, Lock, Refund, Settle

DEFAULT_PATIENCE: Final = Patience()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requester:
    """What our jobs work with."""

    links: Links
    chain: Chain
    models: Models
    runner: Runner
    policy: Policy
    clock: Clock
    patience: Patience = DEFAULT_PATIENCE


class JobRun:
    """The steps of one job."""

    def __init__(self, job: Job, requester: Requester) -> None:
        self._job, self._with = job, requester

    def facts(self) -> JobFacts:
        """What a policy judges."""
        request = self._job.request
        return JobFacts(
            job=self._job.id,
            tenant=request.tenant,
            requester=self._with.chain.address,
            kind=request.kind,
            model=request.model,
            rows=sum(self._job.batches.counts) if self._job.batches else 0,
        )

    async def run(self) -> None:
        """All steps; the job is done, or the error says why not.

        Raises:
            PrsmError: refused before the lock, or no two workers agreed after it.
        """
        job = self._job
        manifest = await self._prepare()
        job.plan = await self._plan(manifest)
        job.enter(JobState.LOCKING)
        await self._lock(job.plan)
        assert job.batches is not None
        pipeline = Pipeline(
            job.id,
            job.plan,
            job.batches.batches,
            self._with.links,
            patience=self._with.patience,
        )
        job.units = pipeline.units
        job.enter(JobState.RUNNING)
        failure: PrsmError | None = None
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(pipeline.run)
                try:
                    await self._finish(pipeline)
                except PrsmError as error:  # out of the nursery it would be a group
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            pipeline.close()
        if failure is not None:
            raise failure
        job.enter(JobState.DONE)

    async def reclaim(self) -> None:
        """After the deadline, fetch back what is still locked; anybody else may do so, too."""
        chain, job = self._with.chain, self._job
        if not job.lock_height:
            return
        while (found := chain.job(job.id)) is not None and found.is_open:
            if chain.block_time_ms() > found.deadline_ms:
                try:
                    await self._commit(REFUND, Refund(job.id))
                except PrsmError as error:
                    log.warning("job %s is not refunded yet: %s", job.id.hex()[:16], error.what)
            await chain.wait_height(chain.height() + 1)

    # -- before money moves

    async def _prepare(self) -> ModelManifest:
        job, request = self._job, self._job.request
        if request.kind is not WorkKind.INFER:
            raise Unsupported(
                f"jobs of kind {request.kind.name.lower()} are not run by this version",
                hint="submit a job of kind infer",
            )
        if not 1 <= request.rows_per_batch <= BATCH_ROWS_MAX:
            raise InputMismatch(
                f"{request.rows_per_batch} rows in a micro-batch, 1 to {BATCH_ROWS_MAX} go"
            )
        if self._with.chain.is_halted(request.model):
            raise Halted(f"model {request.model.hex()[:16]} is halted on the ledger")
        manifest = await self._with.models.manifest(request.model)
        whole = next((s for s in manifest.shards if s.stages == 1), None)
        batches = await self._batches(manifest)
        if whole is not None:
            batches = check_inputs(batches, whole.inputs)
        job.batches = batches
        if why := self._with.policy.before(self.facts()):
            raise PolicyRefused(why)
        return manifest

    async def _batches(self, manifest: ModelManifest) -> BatchPlan:
        request = self._job.request
        if not request.texts:
            return split_rows(request.inputs, request.rows_per_batch)
        if request.inputs:
            raise InputMismatch("a job takes texts or arrays, not both")
        if manifest.tokenizer is None:
            raise Unsupported(
                f"model {manifest.name} has no tokenizer", hint="give arrays instead of texts"
            )
        tokenizer = await self._with.models.file(request.model, manifest.tokenizer)
        made = await self._with.runner.tokenise(
            tokenizer, request.texts, rows_per_batch=request.rows_per_batch
        )
        return BatchPlan(
            tuple(batch.rows for batch in made.batches),
            tuple(batch.tensors for batch in made.batches),
        )

    async def _plan(self, manifest: ModelManifest) -> Plan:
        request, batches = self._job.request, self._job.batches
        assert batches is not None
        links = self._with.links
        offers = await ask_all(links.network, links.chain, links.verifier)
        if request.only:
            offers = tuple(offer for offer in offers if offer.worker in request.only)
        wish = Wish(
            model=request.model,
            batch_rows=batches.counts,
            stages=request.stages,
            redundancy=request.redundancy,
            price_cap=request.price_cap,
            time_left_ms=request.deadline_ms,
        )
        found = plan(manifest, offers, wish)
        if isinstance(found, Refused):
            for reason in found.reasons[1:]:
                log.info("job %s: also %s", self._job.id.hex()[:16], reason.what)
            raise found.reasons[0]
        return found

    async def _lock(self, found: Plan) -> None:
        job = self._job
        assert job.batches is not None
        lock = Lock(
            job=job.id,
            tenant=job.request.tenant,
            asset=FTNS,
            parent=job.request.parent,
            batch_rows=job.batches.counts,
            units=found.units,
            budget=0,
            shares=(),
            deadline_ms=self._deadline_ms(),
            is_open_ended=False,
        )
        job.lock_height = await self._commit(LOCK, lock)

    def _deadline_ms(self) -> int:
        """In block time; a child's is never after its parent's."""
        chain, request = self._with.chain, self._job.request
        wanted = chain.block_time_ms() + request.deadline_ms
        parent = None if request.parent is None else chain.job(request.parent)
        return wanted if parent is None else min(wanted, parent.deadline_ms)

    # -- after

    async def _finish(self, pipeline: Pipeline) -> None:
        self._job.outputs = await pipeline.wait_outputs()
        self._job.enter(JobState.SETTLING)
        async with trio.open_nursery() as nursery:
            for unit in pipeline.units:
                nursery.start_soon(self._settle, pipeline, unit)

    async def _settle(self, pipeline: Pipeline, unit: UnitRun) -> None:
        """Settle one unit; a failure leaves the answer as it is, and the others alone."""
        job, chain = self._job, self._with.chain
        try:
            receipts = await pipeline.collect(unit)
            job.receipts[unit.index] = receipts
            await self._wait_commitments(receipts)
            await self._wait_left_out(unit, receipts)
            settle = Settle(job.id, unit.index, tuple(map(encode, receipts)), ())
            await self._commit(SETTLE, settle)
        except PrsmError as error:
            log.warning("stage %d is not settled by us: %s", unit.index, error.what)
            job.unsettled[unit.index] = error
        found = chain.job(job.id)
        verdict = found.verdicts[unit.index] if found is not None else None
        if verdict is not None:
            job.verdicts[unit.index] = verdict
            job.unsettled.pop(unit.index, None)

    async def _wait_commitments(self, receipts: Sequence[WorkReceipt]) -> None:
        """Wait until our ledger has what the workers' ledgers had when they showed their receipts.

        Sent earlier, the settlement could land in the block of a commitment, or be refused here.
        """
        chain = self._with.chain
        with trio.move_on_after(COMMIT_S):
            for receipt in receipts:
                while not self._is_bound(receipt):
                    await chain.wait_height(chain.height() + 1)

    async def _wait_left_out(self, unit: UnitRun, receipts: Sequence[WorkReceipt]) -> None:
        """Give a worker that is bound, and whose receipt we do not have, its time to show it."""
        chain, shown = self._with.chain, {receipt.worker for receipt in receipts}
        for worker in set(unit.spec.workers) - shown:
            while (found := chain.committed(self._job.id, unit.index, worker)) is not None:
                if chain.block_time_ms() >= found.time_ms + chain.settle_grace_ms():
                    break
                await chain.wait_height(chain.height() + 1)

    def _is_bound(self, receipt: WorkReceipt) -> bool:
        """Is the receipt committed on our ledger, or its unit settled by a worker meanwhile?"""
        chain = self._with.chain
        found = chain.committed(receipt.job, receipt.unit, receipt.worker)
        if found is not None:
            return found.receipt_hash == receipt_hash(receipt)
        job = chain.job(receipt.job)
        return job is not None and job.verdicts[receipt.unit] is not None

    async def _commit(self, kind: int, payload: Record) -> int:
        """Submit and wait; the height of the block.

        Raises:
            LocalError: not accepted.
            TransactionFailed: executed with another code than done, or in no block in time.
        """
        return await commit(self._with.chain, kind, payload)
