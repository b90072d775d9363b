"""One job of ours, step by step: batches, plan, lock, pipeline, receipts, settlement, refund.

Everything that can be refused is refused before money is locked. Must not know how steps are
done, only their order.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.inference.batches import BatchPlan, check_inputs, split_rows
from prsm.node.inference.checks import WrongResult
from prsm.node.inference.commits import COMMIT_S, NoBlock, commit, find_lock
from prsm.node.inference.interface import (
    Chain,
    Halted,
    JobFacts,
    Models,
    Policy,
    PolicyRefused,
    Runner,
)
from prsm.node.inference.job import Job, JobState, check_request, shown_by
from prsm.node.inference.leases import LEASES_MAX, Leases, lease_id
from prsm.node.inference.links import Links
from prsm.node.inference.market import Market
from prsm.node.inference.means import DEFAULT_PATIENCE, Means, Patience
from prsm.node.inference.pipeline import Pipeline
from prsm.node.inference.planning import Planning, wish_of
from prsm.node.inference.review import Reviewer, Wrong, dispute
from prsm.node.inference.shards import ShardCache
from prsm.node.inference.unitrun import Lapse, UnitRun
from prsm.node.inference.wishes import Plan
from prsm.node.telemetry import metrics, traces
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError, PrsmError, Unsupported
from prsm.protocol.ids import FTNS
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.receipts import WorkKind, WorkReceipt, receipt_hash
from prsm.protocol.transactions.payloads import (
    LOCK,
    REFUND,
    SETTLE,
    Lock,
    Refund,
    Settle,
)

DRAW_S: Final = 3.0  # the draw is known one or two blocks after the commitment

log = logging.getLogger(__name__)


class AuditPending(LocalError):
    """A unit is drawn for an audit: it is settled when that is over."""

    reason = "audit_pending"


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
    shards: ShardCache | None = None  # our own children, for stages that stay at home
    market: Market = field(default_factory=Market)
    reviewer: Reviewer | None = None  # None: what one worker does alone is taken on trust

    @property
    def planning(self) -> Planning:
        """Makes plans."""
        return Planning(self.links, self.clock, self.market)


class JobRun:
    """The steps of one job."""

    def __init__(self, job: Job, requester: Requester) -> None:
        self._job, self._with = job, requester
        reviewer = requester.reviewer
        self._checked = None if reviewer is None else reviewer.begin(job.request.model)
        self._later: list[Settle] = []

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

    async def dry(self) -> Plan:
        """All steps before the lock: what the job would be, and cost at most.

        Raises:
            PrsmError: why it cannot run.
        """
        manifest = await self._prepare()
        return await self._plan(manifest)

    async def run(self) -> None:
        """All steps; the job is done, or the error says why not.

        Raises:
            PrsmError: refused before the lock, or too few workers agreed after it.
        """
        job = self._job
        with traces.span("plan", gen_ai__request__model=job.request.model.hex()):
            job.plan = await self.dry()
        job.enter(JobState.LOCKING)
        with traces.span("lock"):
            await self._lock(job.plan)
        pipeline = self._pipeline(job.plan)
        job.stages, job.units = pipeline.stages, pipeline.units
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

    def _pipeline(self, found: Plan) -> Pipeline:
        job, own = self._job, self._with
        assert job.batches is not None
        leases = Leases(
            job.id,
            own.chain,
            replace(wish_of(job.request, job.batches), sizes=found.sizes),
            runtime=found.runtime,
            offers=lambda: own.planning.offers(job.request.model),
            commit=self._commit,
        )
        job.leases = leases.locked
        means = Means(
            own.links,
            lessor=leases,
            home=own.shards,
            market=own.market,
            patience=own.patience,
            window=job.request.window,
            is_open_ended=_is_open_ended(found),
        )
        return Pipeline(job.id, found, job.batches.batches, means)

    async def reclaim(self) -> None:
        """After the deadline, fetch back what is still locked; anybody else may do so, too."""
        chain, job = self._with.chain, self._job
        if not job.may_be_locked:
            return
        if (lock := await find_lock(chain, job.id)) is not None:
            job.lock_height = lock.opened_height
        while (found := chain.job(job.id)) is not None and found.is_open:
            await self._settle_later()
            if chain.block_time_ms() > found.deadline_ms:
                for each in (*self._open_leases(), job.id):  # a parent closes after its children
                    try:
                        await self._commit(REFUND, Refund(each))
                    except PrsmError as error:
                        log.warning("%s is not refunded yet: %s", each.hex()[:16], error.what)
            await chain.wait_height(chain.height() + 1)

    async def _settle_later(self) -> None:
        """Settle what waited for its audit."""
        chain = self._with.chain
        for settle in list(self._later):
            found = chain.job(settle.job)
            if found is None or not found.is_open or found.verdicts[settle.unit] is not None:
                self._later.remove(settle)
            elif chain.may_settle(settle.job, settle.unit):
                self._later.remove(settle)
                try:
                    await self._commit(SETTLE, settle)
                except PrsmError as error:
                    log.warning("unit %d is not settled by us: %s", settle.unit, error.what)

    def _open_leases(self) -> list[bytes]:
        ids = [lease_id(self._job.id, number) for number in range(LEASES_MAX)]
        found = [(each, self._with.chain.job(each)) for each in ids]
        return [each for each, lease in found if lease is not None and lease.is_open]

    # -- before money moves

    async def _prepare(self) -> ModelManifest:
        job, request = self._job, self._job.request
        check_request(request)
        if request.kind is not WorkKind.INFER:
            raise Unsupported(
                f"jobs of kind {request.kind.name.lower()} are not run by this version",
                hint="submit a job of kind infer",
            )
        if self._with.chain.is_halted(request.model):
            raise Halted(f"model {request.model.hex()[:16]} is halted on the ledger")
        manifest = await self._with.models.manifest(request.model)
        whole = next((s for s in manifest.shards if s.stages == 1), None)
        batches = await self._batches(manifest)
        if whole is not None:
            batches = check_inputs(batches, whole.inputs)
        if request.redundancy == 1 and self._checked is not None:
            batches = self._checked.salt(batches)
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
        return await self._with.planning.plan(manifest, wish_of(request, batches))

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
            budget=found.budget,
            is_open_ended=_is_open_ended(found),
            shares=(),
            deadline_ms=self._deadline_ms(),
        )
        job.may_be_locked = True
        try:
            job.lock_height = await self._commit(LOCK, lock)
        except PrsmError as error:
            job.may_be_locked = isinstance(error, NoBlock)
            raise

    def _deadline_ms(self) -> int:
        """In block time; a child's is never after its parent's."""
        chain, request = self._with.chain, self._job.request
        wanted = chain.deadline_ms(request.deadline_ms)
        parent = chain.job(request.parent) if request.parent else None
        return min(wanted, parent.deadline_ms) if parent else wanted

    # -- after

    async def _finish(self, pipeline: Pipeline) -> None:
        began_ms = self._with.clock.monotonic_ms()
        outputs = await pipeline.wait_outputs()
        self._job.run_ms = self._with.clock.monotonic_ms() - began_ms
        with traces.span("verify"):
            wrong = await self._review(pipeline)
        self._job.outputs = outputs if wrong is None else None
        self._job.enter(JobState.SETTLING)
        async with trio.open_nursery() as nursery:
            for unit in pipeline.units:
                is_wrong = wrong is not None and wrong.unit is unit
                batch = wrong.batch if wrong is not None and is_wrong else None
                nursery.start_soon(self._end, pipeline, unit, batch)
        if wrong is not None:
            raise WrongResult(
                f"batch {wrong.batch} was answered wrongly",
                hint="run it again with --redundancy 2-of-3",
            )

    async def _review(self, pipeline: Pipeline) -> Wrong | None:
        """What our own checks say of the answer, before anybody reads it."""
        review, batches = self._checked, self._job.batches
        if review is None or batches is None:
            return None
        wrong = await review.find_wrong(pipeline.units)
        if wrong is None:
            review.learn(batches, pipeline.units)
        return wrong

    async def _end(self, pipeline: Pipeline, unit: UnitRun, wrong: int | None) -> None:
        lapse = self._job.settling.setdefault(unit.number, Lapse())
        with traces.span("settle", prsm__unit=unit.number), lapse:
            await self._settle(pipeline, unit, wrong)

    async def _settle(self, pipeline: Pipeline, unit: UnitRun, wrong: int | None) -> None:
        """Settle one unit, or dispute its wrong batch; a failure leaves the others alone."""
        job, chain = self._job, self._with.chain
        try:
            receipts = await pipeline.collect(unit)
            job.receipts[unit.number] = receipts
            await self._wait_commitments(receipts)
            await self._wait_left_out(unit, receipts)
            if wrong is not None:
                await dispute(chain, unit, receipts[0], wrong)
            settle = Settle(unit.job, unit.index, tuple(map(encode, receipts)), ())
            if not await self._is_settleable(unit):
                self._later.append(settle)
                raise AuditPending(
                    f"unit {unit.number} is drawn for an audit, and settled after it",
                    hint="its workers, or this node, settle it within some minutes",
                )
            await self._commit(SETTLE, settle)
        except PrsmError as error:
            log.warning("unit %d is not settled by us: %s", unit.number, error.what)
            job.unsettled[unit.number] = error
        found = chain.job(unit.job)
        verdict = None if found is None else found.verdicts[unit.index]
        metrics.inc("prsm_verification_total", shown_by(verdict, is_wrong=wrong is not None))
        if verdict is not None:
            job.verdicts[unit.number] = verdict
            job.unsettled.pop(unit.number, None)

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
            while (found := chain.committed(unit.job, unit.index, worker)) is not None:
                if chain.block_time_ms() >= found.time_ms + chain.settle_grace_ms():
                    break
                await chain.wait_height(chain.height() + 1)

    async def _is_settleable(self, unit: UnitRun) -> bool:
        """May the unit be settled now, or when its draw is known some blocks later?"""
        chain = self._with.chain
        with trio.move_on_after(DRAW_S):
            while not chain.may_settle(unit.job, unit.index):
                await chain.wait_height(chain.height() + 1)
        return chain.may_settle(unit.job, unit.index)

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
            TransactionFailed: as `commit`.
        """
        return await commit(self._with.chain, kind, payload)


def _is_open_ended(found: Plan) -> bool:
    """May batches be missing at settlement? Where others may take them over."""
    return bool(found.budget) or all(unit.needed == 1 for unit in found.units)
