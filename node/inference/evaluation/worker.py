"""Evaluations done for others: model and dataset by CID, run slice by slice, one receipt.

Every worker counts the score from its own outputs and its own copy of the labels, and records it
where the requester does not. Nothing a peer sends raises here beyond a typed answer. Must not know:
who else was drawn.
"""

import logging
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.consensus.ledger.evaluations import Evaluation
from prsm.consensus.ledger.records import Job
from prsm.node.inference.claims import Claim
from prsm.node.inference.commits import commit
from prsm.node.inference.desk import Desk
from prsm.node.inference.evaluation.dataset import DatasetFile, open_dataset, whole_shard
from prsm.node.inference.evaluation.ports import EvaluationChain
from prsm.node.inference.interface import (
    Halted,
    NotNamed,
    PolicyRefused,
    UnitIncomplete,
    UnknownJob,
)
from prsm.node.inference.line import Line
from prsm.node.inference.terms import Terms, check_caller, check_terms, facts_of, wait_lock
from prsm.node.inference.verify import batch_root, input_root, side_root
from prsm.node.inference.worked import receipt_of
from prsm.node.net.interface import Answer, Busy, Incoming
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.evaluation import (
    AskEvaluated,
    Evaluated,
    EvaluationOpened,
    OpenEvaluation,
)
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.messages.work import Open
from prsm.protocol.receipts import (
    BatchResult,
    WorkKind,
)
from prsm.protocol.scores import ScoreRow, count_correct, score_root
from prsm.protocol.transactions.evaluations import RecordScore, SliceScore
from prsm.protocol.transactions.payloads import RECORD_SCORE, Unit

EVALUATIONS_MAX: Final = 4  # at one time; each holds one shard and reads one file
KEPT_MAX: Final = 64  # with those that are done and may still be asked for
# Block time a requester has to record the score; each worker of the unit waits once more.
RECORD_AFTER_MS: Final = 15_000

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Work:
    peer: PeerId
    job: Job
    unit: int
    evaluation: Evaluation
    started_height: int
    scores: list[SliceScore] = field(default_factory=list)
    results: list[BatchResult] = field(default_factory=list)
    class_id: bytes = b""
    compute_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    claim: Claim | None = None
    error: PrsmError | None = None

    @property
    def spec(self) -> Unit:
        return self.job.units[self.unit]

    @property
    def is_over(self) -> bool:
        return self.claim is not None or self.error is not None


class Evaluator:
    """Evaluates models for peers.

    Args:
        desk: what the executor works with, too.
        chain: the ledger, with evaluations.
        terms: of the executor.
    """

    def __init__(self, desk: Desk, chain: EvaluationChain, terms: Terms) -> None:
        self._desk, self._chain, self._terms = desk, chain, terms
        self._works: dict[tuple[bytes, int], _Work] = {}  # the oldest first
        self._nursery: trio.Nursery | None = None
        desk.hold(self)
        desk.network.on_call(OpenEvaluation, self._open)
        desk.network.on_call(AskEvaluated, self._answer)

    def held(self) -> list[PeerId]:
        """Whose evaluations are at work."""
        return [work.peer for work in self._works.values() if not work.is_over]

    def end(self) -> None:
        """A part of an evaluation is worth nothing: what is not done is dropped with the node."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Evaluate until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _open(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, OpenEvaluation)
        work = await self._begin(message, incoming.peer)
        return EvaluationOpened(work.job.job, work.unit), b""

    async def _begin(self, message: OpenEvaluation, peer: PeerId) -> _Work:
        desk, key = self._desk, (message.job, message.unit)
        _ = self._chain.signer  # a locked wallet could sign no receipt for the work
        job = await wait_lock(self._chain, message.job, within_s=self._terms.lock_wait_s)
        opening = Open(message.job, message.unit, message.worker, message.signature)
        check_caller(opening, job, peer, chain=self._chain, verifier=desk.verifier)
        check_terms(opening, job, chain=self._chain, terms=self._terms, kind=WorkKind.EVALUATE)
        evaluation = self._drawn(job, job.units[message.unit])
        known = self._works.get(key)
        if known is not None and known.error is None:
            known.peer = peer  # the same account from another peer: it moved
            return known
        desk.take_on(job, message.unit)
        if self._nursery is None or self._running >= EVALUATIONS_MAX:
            raise Busy(f"{self._running} evaluations run, at most {EVALUATIONS_MAX}")
        if why := desk.policy.before(facts_of(job, job.units[message.unit])):
            raise PolicyRefused(why)
        work = _Work(peer, job, message.unit, evaluation, self._chain.height())
        self._works[key] = work
        self._forget_old()
        self._nursery.start_soon(self._do, work)
        return work

    async def _answer(self, incoming: Incoming) -> Answer:
        message = incoming.message
        assert isinstance(message, AskEvaluated)
        work = self._works.get((message.job, message.unit))
        if work is None or work.peer != incoming.peer:
            raise UnknownJob("no such evaluation was opened by this peer")
        if work.error is not None:
            raise work.error
        if work.claim is None or not work.claim.committed.is_set():
            count = len(work.spec.batches)
            raise UnitIncomplete(f"{len(work.results)} of {count} slices are done")
        receipt = await self._desk.claims.show(work.claim)
        if not self._may_show(work, work.claim):
            raise UnitIncomplete("other workers are not bound to their receipts yet")
        return Evaluated(receipt, tuple(work.scores)), b""

    @property
    def _running(self) -> int:
        return sum(not work.is_over for work in self._works.values())

    def _forget_old(self) -> None:
        over = [key for key, work in self._works.items() if work.is_over]
        for key in over[: max(0, len(self._works) - KEPT_MAX)]:
            del self._works[key]

    def _drawn(self, job: Job, spec: Unit) -> Evaluation:
        """What is evaluated; it must be what was asked for, by those who were drawn."""
        evaluation = self._chain.evaluation(job.job)
        if evaluation is None or evaluation.requester != job.requester:
            raise UnknownJob("nobody was drawn for this job")
        if spec.model != evaluation.model or not set(spec.workers) <= set(evaluation.drawn or ()):
            raise NotNamed("the lock names another model, or workers that were not drawn")
        if self._chain.is_halted(evaluation.dataset):
            raise Halted(f"dataset {evaluation.dataset.hex()[:16]} is halted on the ledger")
        return evaluation

    def _may_show(self, work: _Work, claim: Claim) -> bool:
        """Are all others bound, or enough of them and the others late?"""
        chain, spec = self._chain, work.spec
        job = chain.job(work.job.job)
        if job is None or not job.is_open or job.verdicts[work.unit] is not None:
            return True
        bound = [chain.committed(work.job.job, work.unit, worker) for worker in spec.workers]
        if all(bound):
            return True
        is_late = chain.block_time_ms() >= claim.committed_ms + chain.settle_grace_ms()
        return is_late and sum(one is not None for one in bound) >= spec.needed

    async def _do(self, work: _Work) -> None:
        facts, outcome = facts_of(work.job, work.spec), "done"
        desk = self._desk
        try:
            manifest = await desk.models.manifest(work.spec.model)
            shard = whole_shard(manifest)
            async with (
                open_dataset(desk.models, work.evaluation.dataset) as data,
                desk.shards.use(work.spec.model, shard) as line,
            ):
                for index in work.spec.batches:
                    await self._slice(work, index, data, line, shard)
                work.class_id, chain = line.class_id, self._chain
                receipt = receipt_of(
                    work,
                    work.results,
                    chain_id=chain.chain_id,
                    worker=chain.address,
                    height=chain.height(),
                )
            work.claim = await desk.claim_in_time(receipt)
        except PrsmError as error:
            work.error, outcome = error, error.reason
        except Exception as error:  # one evaluation must not take the others down
            log.exception("evaluation %s", work.job.job.hex()[:16])
            work.error = WorkerFailed(f"{type(error).__name__} inside the node")
            outcome = "internal"
        desk.policy.after(facts, outcome)
        if work.claim is not None:
            await self._see_recorded(work)

    async def _see_recorded(self, work: _Work) -> None:
        """Record the score of a settled evaluation if nobody else does.

        A requester that is gone, or does not like what it found, would keep it from everybody.
        """
        chain, job_id = self._chain, work.job.job
        while (job := chain.job(job_id)) is not None and job.verdicts[work.unit] is None:
            if not job.is_open:
                return
            await chain.wait_height(chain.height() + 1)
        verdict = None if job is None else job.verdicts[work.unit]
        paid = {each.worker for each in verdict.opinions if each.paid} if verdict else set()
        if chain.address not in paid:  # outvoted, or not worth a fee
            return
        turn = 1 + work.spec.workers.index(chain.address)
        due_ms = chain.block_time_ms() + turn * RECORD_AFTER_MS
        while (known := chain.evaluation(job_id)) is not None and not known.is_recorded:
            if chain.job(job_id) is None:
                return  # forgotten, a week after its deadline: no score is taken any more
            now_ms = chain.block_time_ms()
            if any(map(chain.is_halted, (known.model, known.dataset))):
                due_ms = now_ms + turn * RECORD_AFTER_MS  # the turns begin when that is lifted
            elif now_ms >= due_ms:
                try:
                    await commit(chain, RECORD_SCORE, RecordScore(job_id, tuple(work.scores)))
                except PrsmError as error:
                    log.warning("score %s is not recorded: %s", job_id.hex()[:16], error.what)
                return
            await chain.wait_height(chain.height() + 1)

    async def _slice(
        self, work: _Work, index: int, data: DatasetFile, line: Line, shard: Shard
    ) -> None:
        inputs, labels = await data.read(index, shard.inputs)
        ran = await line.ask(inputs, who=work.job.requester)
        correct = await trio.to_thread.run_sync(count_correct, ran.outputs[0], labels)
        rows, outputs = labels.head.shape[0], batch_root(ran.outputs)
        row = ScoreRow(work.evaluation.dataset, index, rows, correct)
        work.compute_us += ran.cpu_us
        work.bytes_in += sum(len(tensor.data) for tensor in inputs)
        work.bytes_out += sum(len(tensor.data) for tensor in ran.outputs)
        work.scores.append(SliceScore(outputs, correct))
        work.results.append(
            BatchResult(
                index=index,
                rows=rows,
                input_root=input_root(inputs, stage=0),
                side_root=side_root(inputs, stage=0),
                output_root=score_root(outputs, row),
            )
        )
