"""One plan, step by step: its escrow, each step when those it needs are done, its checkpoints.

A step that is done is never run again: its output is read by its CID. Must not know: where plans
are kept, how a job or a search is done.
"""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from prsm.node.clock import Clock
from prsm.node.inference.commits import NoBlock, commit, find_lock
from prsm.node.inference.interface import Chain, TransactionFailed
from prsm.node.inference.job import JobRequest, UnknownJobId
from prsm.node.inference.jobs import Jobs, NotKept
from prsm.node.retrieval.search import FoundModel
from prsm.node.workplans.checkpoints import Checkpoints
from prsm.node.workplans.graph import Embed, Infer, Search, WrongFlow
from prsm.node.workplans.progress import (
    TRIES_MAX,
    PlanRun,
    PlanState,
    StepRun,
    StepState,
)
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import FTNS
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.protocol.transactions.payloads import LOCK, REFUND, Lock, Refund
from prsm.storage.cid import decode_cid

HITS: Final = "hits.json"  # the one output of a search: UTF-8, a list of hits for each row

log = logging.getLogger(__name__)


class PlanExpired(LocalError):
    """The escrow of a plan was closed before its steps were done."""

    reason = "plan_expired"


class TooManyTries(LocalError):
    """A step was begun more often than it may be."""

    reason = "too_many_tries"


class Finder(Protocol):
    """The index of cards of this node."""

    async def nearest(
        self, vectors: Sequence[bytes], *, limit: int
    ) -> list[tuple[FoundModel, ...]]:
        """The nearest entries of each vector, float32 little-endian.

        Raises:
            LocalError: a vector of another width, or the index is not to be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """What the steps of plans work with."""

    jobs: Jobs
    chain: Chain
    checkpoints: Checkpoints
    finder: Finder
    clock: Clock
    new_id: Callable[[], bytes] = field(default=lambda: secrets.token_bytes(32))


class Steps:
    """Runs the steps of one plan.

    Args:
        run: the plan.
        bench: what it works with.
        save: makes the present state of the plan durable.
    """

    def __init__(self, run: PlanRun, bench: Bench, save: Callable[[], Awaitable[None]]) -> None:
        self._run, self._with, self._save = run, bench, save

    async def run(self) -> None:
        """All steps that are not done; a failure stops the others.

        Raises:
            PrsmError: of the first step that failed, or of the escrow.
        """
        run = self._run
        await self._lock()
        run.state = PlanState.RUNNING
        await self._save()
        failures: list[PrsmError] = []
        async with trio.open_nursery() as nursery:

            async def go(step: StepRun) -> None:
                try:
                    await self._go(step)
                except PrsmError as error:
                    step.state, step.error = StepState.FAILED, error
                    failures.append(error)
                    nursery.cancel_scope.cancel()

            for step in run.steps.values():
                if step.state is not StepState.DONE:
                    nursery.start_soon(go, step)
        if failures:
            raise failures[0]

    async def reclaim(self) -> None:
        """Fetch back what the escrow still holds, once no job of the plan is open."""
        chain, run = self._with.chain, self._run
        if run.owes and (lock := await find_lock(chain, run.id)) is not None:
            run.lock_height = lock.opened_height
        while (found := chain.job(run.id)) is not None and found.is_open:
            if not found.children:
                try:
                    await commit(chain, REFUND, Refund(run.id))
                except PrsmError as error:
                    log.warning("plan %s is not refunded yet: %s", run.id.hex()[:16], error.what)
            await chain.wait_height(chain.height() + 1)
        run.owes = False

    async def _lock(self) -> None:
        """Put the budget into escrow, unless an earlier process did."""
        run, chain = self._run, self._with.chain
        if not run.plan.budget or all(step.done.is_set() for step in run.steps.values()):
            return
        found = chain.job(run.id)
        if found is None and run.lock_height == 0:
            lock = Lock(
                job=run.id,
                tenant=b"plan",
                asset=FTNS,
                parent=None,
                batch_rows=(),
                units=(),
                budget=run.plan.budget,
                shares=(),
                deadline_ms=chain.deadline_ms(run.plan.deadline_ms),
                is_open_ended=False,
            )
            owed, run.owes = run.owes, True  # an earlier process may have sent one, too
            try:
                run.lock_height = await self._commit_lock(lock)
            except PrsmError as error:
                run.owes = owed or isinstance(error, NoBlock)
                raise
        elif found is None or not found.is_open:
            raise PlanExpired(
                f"the escrow of plan {run.id.hex()[:16]} is closed", hint="submit it again"
            )
        else:
            run.lock_height, run.owes = found.opened_height, True

    async def _commit_lock(self, lock: Lock) -> int:
        """Height of the lock; it may be one an earlier process sent just before it ended."""
        chain = self._with.chain
        try:
            return await commit(chain, LOCK, lock)
        except TransactionFailed:
            found = chain.job(lock.job)
            if found is None or not found.is_open or found.requester != chain.address:
                raise
            return found.opened_height

    async def _go(self, step: StepRun) -> None:
        for name in step.step.needs:
            await self._run.steps[name].done.wait()
        step.state = StepState.RUNNING
        await self._save()
        output = await self._with.checkpoints.keep(self._run.id, await self._work(step))
        step.finish(output)
        await self._save()

    async def _work(self, step: StepRun) -> tuple[Tensor, ...]:
        match step.step.work:
            case Embed(model=model, texts=texts):
                outputs = await self._job(step, JobRequest(model, texts=texts))
                _check_vectors(step, outputs)
                return outputs
            case Search(source=source, limit=limit):
                return (await self._find(source, limit),)
            case Infer() as work:
                return await self._job(step, await self._request(work))

    async def _request(self, work: Infer) -> JobRequest:
        if not work.source:
            return JobRequest(work.model, inputs=work.inputs, texts=work.texts)
        given = await self._outputs(work.source)
        if not work.renamed:
            return JobRequest(work.model, inputs=given)
        by_name = {tensor.head.name: tensor for tensor in given}
        inputs = []
        for old, new in work.renamed:
            if old not in by_name:
                raise WrongFlow(
                    f"step {work.source} gives no {old!r}",
                    hint=f"it gives: {', '.join(sorted(by_name))}",
                )
            tensor = by_name[old]
            head = TensorHead(new, tensor.head.dtype, tensor.head.shape)
            inputs.append(Tensor(head, tensor.data))
        return JobRequest(work.model, inputs=tuple(inputs))

    async def _outputs(self, source: str) -> tuple[Tensor, ...]:
        output = self._run.steps[source].output
        assert output is not None, "a step waits for those it needs"
        return await self._with.checkpoints.read(output)

    async def _find(self, source: str, limit: int) -> Tensor:
        vectors = (await self._outputs(source))[0]
        size = len(vectors.data) // vectors.head.shape[0]
        rows = [vectors.data[at : at + size] for at in range(0, len(vectors.data), size)]
        found = await self._with.finder.nearest(rows, limit=limit)
        listed = [[_hit(hit) for hit in hits] for hits in found]
        raw = json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()
        return Tensor(TensorHead(HITS, Dtype.U8, (len(raw),)), raw)

    async def _job(self, step: StepRun, request: JobRequest) -> tuple[Tensor, ...]:
        """Outputs of a job of ours: one that is done already, or a new child of the plan."""
        for job_id in reversed(step.jobs):
            if (outputs := await self._finished(job_id)) is not None:
                return outputs
        if len(step.jobs) == TRIES_MAX:
            raise TooManyTries(f"step {step.step.id} was begun {TRIES_MAX} times")
        run, jobs = self._run, self._with.jobs
        job_id = self._with.new_id()
        await jobs.wait_room()  # a step that waits for its turn was not tried
        step.jobs = (*step.jobs, job_id)
        await self._save()  # before money can move: a later process looks for this job
        await jobs.wait_room()
        parent = self._with.chain.job(run.id)
        left = 0 if parent is None else parent.budget
        cap = left if step.step.price_cap is None else min(left, step.step.price_cap)
        jobs.submit(
            JobRequest(
                request.model,
                inputs=request.inputs,
                texts=request.texts,
                price_cap=cap,
                deadline_ms=run.plan.deadline_ms,
                job=job_id,
                parent=None if parent is None else run.id,
            )
        )
        try:
            view = await jobs.wait(job_id)
        except trio.Cancelled:
            jobs.cancel(job_id)
            raise
        if view.error is not None:
            raise view.error
        return await jobs.read_result(job_id)

    async def _finished(self, job_id: bytes) -> tuple[Tensor, ...] | None:
        jobs = self._with.jobs
        try:
            if jobs.get(job_id).error is not None:
                return None
            return await jobs.read_result(job_id)
        except (UnknownJobId, NotKept):
            return None


def _check_vectors(step: StepRun, outputs: Sequence[Tensor]) -> None:
    head = outputs[0].head
    if head.dtype is not Dtype.F32 or len(head.shape) != 2:
        raise WrongFlow(
            f"the model of step {step.step.id} gives {head.dtype.name.lower()} "
            f"{list(head.shape)}, no vectors",
            step=step.step.id,
            hint="embed with a model whose first output is float32 (rows, width)",
        )


def _hit(hit: FoundModel) -> dict[str, object]:
    return {
        "ref": f"{hit.name}@{hit.semver}",
        "cid": str(decode_cid(hit.cid)),
        "score_millionths": round(hit.score * 1_000_000),
        "summary": hit.summary,
    }
