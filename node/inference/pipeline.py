"""Runs a planned job: every stage's workers get their micro-batches, decided outputs go on.

One task for each worker of each unit; each keeps the credit of its worker full, so several
micro-batches are in flight at every stage. What a unit cannot do any more, or does too slowly, is
leased to others, who redo it from the recorded inputs. Must not know money: who leases does.
Source: docs/spec/work.md, "Redundancy" and "Survival".
"""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import trio

from prsm.node.inference.line import Line
from prsm.node.inference.links import InputRefused, Link, Opinion, WorkerLost
from prsm.node.inference.means import JobTooLarge, Means, NoQuorumOfResults, Patience
from prsm.node.inference.rerouting import leave_in_time, watch_for_better
from prsm.node.inference.unitrun import (
    Batch,
    Flight,
    StageRun,
    UnitRun,
    is_all_answered,
    pick,
)
from prsm.node.inference.wishes import Plan
from prsm.node.net.interface import Busy
from prsm.node.telemetry import traces
from prsm.protocol.errors import LocalError, PrsmError, RemoteError, Unsupported
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused
from prsm.protocol.receipts import WorkReceipt

__all__ = ["JobTooLarge", "NoQuorumOfResults", "Patience", "Pipeline", "pick"]

HOME_RUNS: Final = 2  # the next micro-batch waits at our own child while one runs

log = logging.getLogger(__name__)


class Pipeline:
    """One job on its way through the stages."""

    def __init__(self, job: bytes, plan: Plan, batches: Sequence[Batch], means: Means) -> None:
        """Prepare; `run` starts it.

        Args:
            job: its id on the ledger, where it is locked.
            plan: as locked.
            batches: graph inputs of each micro-batch.
            means: what it is run with.
        """
        self._plan, self._with, self._batches = plan, means, tuple(batches)
        rows = tuple(batch[0].head.shape[0] for batch in batches)
        shards = {shard.index: shard for shard in (*plan.home, *plan.shards)}
        self.stages = {index: StageRun(index, shards[index], rows) for index in sorted(shards)}
        self.units = [
            UnitRun(
                number,
                job,
                number,
                spec,
                self.stages[spec.stage],
                plan.peers,
                is_open_ended=means.is_open_ended,
            )
            for number, spec in enumerate(plan.units)
        ]
        self._kept_bytes = 0
        self._error: PrsmError | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask the workers until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for stage in list(self.stages.values())[: len(self._plan.home)]:
                nursery.start_soon(self._at_home, stage)
            for unit in self.units:
                self._start(unit)
            first = next(iter(self.stages.values()))
            for batch, tensors in enumerate(self._batches):
                self._feed(first, batch, tensors)
            task_status.started()
            await trio.sleep_forever()

    async def wait_outputs(self) -> tuple[Batch, ...]:
        """Outputs of the last stage, by micro-batch, each held by as many workers as must agree.

        Raises:
            NoQuorumOfResults: a batch can get no such agreement any more.
            JobTooLarge: over `bytes_max`.
        """
        last = list(self.stages.values())[-1]
        await last.wait(lambda: self._error is not None or None not in last.outputs)
        if self._error is not None:
            raise self._error
        return tuple(batch for batch in last.outputs if batch is not None)

    async def collect(self, unit: UnitRun) -> tuple[WorkReceipt, ...]:
        """Receipts that settle a unit: enough full ones, and those of outvoted workers.

        Raises:
            NoQuorumOfResults: too few workers show theirs.
        """
        shown = unit.shown
        while True:
            await unit.wait(lambda: self._error is not None or not unit.ballot.wanted())
            if self._error is not None:
                raise self._error
            payable = unit.ballot.payable()
            if payable is None:
                raise NoQuorumOfResults(f"unit {unit.number}: too few receipts agree")
            due = [w for w in payable if w not in shown or not is_all_answered(shown[w], unit, w)]
            async with trio.open_nursery() as nursery:
                for worker in due:
                    nursery.start_soon(self._finish, unit, worker)
            if not unit.ballot.wanted() and unit.ballot.payable() == payable:
                return tuple(shown[worker] for worker in payable)

    def close(self) -> None:
        """Tell every worker that no more comes."""
        for unit in self.units:
            for worker in unit.spec.workers:
                if unit.counts[worker].batches or worker in unit.classes:
                    self._link(unit, worker).close()

    # -- asking

    def _start(self, unit: UnitRun) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._watch, unit)
        if self._can_lease(unit) and len(unit.spec.workers) == 1 and self._with.lessor is not None:
            self._nursery.start_soon(watch_for_better, unit, self._with.lessor, self._replace)
            left = self._with.links.departures, self._replace, self._finish
            self._nursery.start_soon(leave_in_time, unit, *left)
        for worker in unit.spec.workers:
            self._nursery.start_soon(self._staff, unit, worker)

    def _link(self, unit: UnitRun, worker: bytes) -> Link:
        return Link(
            *(self._with.links, unit.peers[worker], unit.job, unit.index, worker),
            *(unit.spec, unit.shard),
            quote=self._with.market.quote_of(worker, unit, self._with.links.chain),
        )

    async def _staff(self, unit: UnitRun, worker: bytes) -> None:
        """Keep one worker of a unit busy; those behind the first wait until they are needed."""
        await unit.wait(lambda: worker in unit.ballot.wanted())
        own = traces.shared_id(unit.job, unit.index, worker)
        with traces.span("shard", own=own, prsm__unit=unit.number, prsm__stage=unit.stage.index):
            await self._employ(unit, worker)

    async def _employ(self, unit: UnitRun, worker: bytes) -> None:
        link, patience = self._link(unit, worker), self._with.patience
        try:
            with trio.fail_after(patience.open_s):
                with unit.counts[worker].opening:
                    accepted = await link.open()
                self._note_load(unit, worker, accepted.load_ms)
                unit.opened(worker, accepted.class_id)
                await unit.wait(lambda: unit.class_ruling(worker) is not None)
        except trio.TooSlowError:
            self._lose(unit, worker, f"not open after {patience.open_s:g} s")
            return
        except PrsmError as error:
            self._part(unit, worker, error)
            return
        if not unit.class_ruling(worker):
            self._lose(unit, worker, "class_missing: another determinism class than the others")
            return
        credit = trio.Semaphore(min(self._with.window, accepted.credit))
        asked: set[int] = set()
        async with trio.open_nursery() as nursery:
            while worker not in unit.ballot.lost:
                await credit.acquire()
                await unit.wait(
                    lambda: worker in unit.ballot.lost or unit.next_for(worker, asked) is not None
                )
                batch = unit.next_for(worker, asked)
                if batch is None:
                    break
                asked.add(batch)
                nursery.start_soon(self._ask, unit, link, batch, credit)
            nursery.cancel_scope.cancel()

    async def _ask(self, unit: UnitRun, link: Link, batch: int, credit: trio.Semaphore) -> None:
        stage, key = unit.stage, (link.worker, batch)
        tensors, answer_s = stage.inputs[batch], self._with.patience.answer_s
        assert tensors is not None
        began = trio.current_time()
        opinion: Opinion | None = None
        unit.asked.add(key)
        try:
            working = unit.counts[link.worker].working
            with trio.fail_after(answer_s), trio.CancelScope() as scope, working:
                unit.flying[key] = Flight(began, scope)
                unit.wake()
                opinion = await link.ask(batch, stage.batch_rows[batch], tensors)
        except trio.TooSlowError:
            self._lose(unit, link.worker, f"no answer within {answer_s:g} s")
        except PrsmError as error:
            if isinstance(error, InputRefused) and unit.refused(link.worker):
                self._fail(error)  # as many say so as must agree: the rows are to blame
            self._part(unit, link.worker, error)
        finally:
            unit.flying.pop(key, None)
            credit.release()
            unit.wake()
        if opinion is None:  # lost, or called back
            return
        self._note_answer(unit, link, batch, trio.current_time() - began, opinion.compute_ms)
        outputs = unit.vote(link.worker, batch, opinion)
        if outputs is not None:
            self._decided(unit.stage, batch, outputs)
        self._check_hope(unit)

    async def _at_home(self, stage: StageRun) -> None:
        """Compute a stage ourselves."""
        cache, batches = self._with.home, iter(range(len(stage.batch_rows)))
        try:
            if cache is None:
                raise Unsupported("this node runs no models: no stage can stay at home")
            async with (
                cache.use(self._plan.units[0].model, stage.shard) as session,
                trio.open_nursery() as nursery,
            ):
                for _ in range(HOME_RUNS):
                    nursery.start_soon(self._compute, stage, session, batches)
        except* PrsmError as group:
            self._fail(next(e for e in group.exceptions if isinstance(e, PrsmError)))

    async def _compute(self, stage: StageRun, session: Line, batches: Iterator[int]) -> None:
        for batch in batches:
            await stage.wait(partial(stage.has_inputs, batch))
            tensors = stage.inputs[batch]
            assert tensors is not None
            with stage.at_home:
                outputs = await session.run(tensors)
            self._decided(stage, batch, outputs)

    async def _finish(self, unit: UnitRun, worker: bytes) -> None:
        try:
            with trio.fail_after(self._with.patience.finish_s), unit.counts[worker].showing:
                await unit.wait(lambda: all(who != worker for who, _ in unit.flying))
                receipt = await self._link(unit, worker).finish()
        except trio.TooSlowError:
            self._lose(unit, worker, f"no receipt within {self._with.patience.finish_s:g} s")
            return
        except PrsmError as error:
            self._part(unit, worker, error)
            return
        if not is_all_answered(receipt, unit, worker):
            self._lose(unit, worker, "its receipt is not of what it answered")
            return
        unit.shown[worker] = receipt

    # -- deciding

    def _decided(self, stage: StageRun, batch: int, outputs: Batch) -> None:
        """Hand the outputs of a batch to the next stage."""
        if not stage.decide(batch, outputs):
            return
        for unit in self.units:
            if unit.stage is stage:
                unit.leave(batch)
        following = self.stages.get(stage.index + 1)
        if following is None:
            return
        try:
            self._feed(following, batch, pick(following.shard, outputs, self._batches[batch]))
        except LocalError as error:
            self._fail(error)

    def _feed(self, stage: StageRun, batch: int, tensors: Batch) -> None:
        # Graph inputs are shared by all stages: only the cut tensor is new.
        fresh = tensors if stage.index == 0 else tensors[:1]
        self._kept_bytes += sum(len(tensor.data) for tensor in fresh)
        most = self._with.patience.bytes_max
        if self._kept_bytes > most:
            what = f"{self._kept_bytes} bytes between the stages, at most {most}"
            self._fail(JobTooLarge(what, hint="send the rows in several jobs"))
            return
        stage.feed(batch, tensors)

    # -- what goes wrong

    def _part(self, unit: UnitRun, worker: bytes, error: PrsmError) -> None:
        """Lose a worker that failed; what fails here, as a locked wallet does, ends the job."""
        if isinstance(error, WorkerLost | InputMismatch | Busy | RemoteError):
            self._lose(unit, worker, error.what, getattr(error, "cause", ""))
        else:
            self._fail(error)

    def _lose(self, unit: UnitRun, worker: bytes, why: str, cause: str = "") -> None:
        if worker in unit.ballot.lost:
            return
        log.warning("unit %d loses worker %s: %s", unit.number, worker.hex()[:16], why)
        peer, market = unit.peers[worker], self._with.market
        if not self._with.links.is_closed(unit.job, unit.index, worker, cause=cause):
            market.bans.strike(peer, market.now_ms())
        if f": {ModelRefused.reason}:" in why:
            market.gauges.note_refusal(peer, unit.spec.model, why)
        unit.lose(worker, why)
        self._check_hope(unit)

    def _check_hope(self, unit: UnitRun) -> None:
        if unit.ballot.stranded() and not unit.is_replaced:
            self._replace(unit)

    def _replace(self, unit: UnitRun) -> None:
        assert self._nursery is not None
        unit.is_replaced = True
        self._nursery.start_soon(self._lease, unit)

    async def _lease(self, unit: UnitRun) -> None:
        """Lease what the unit has not decided to others; without it, the job may be lost."""
        lost = "; ".join(f"{w.hex()[:8]}: {why}" for w, why in unit.ballot.lost.items())
        try:
            if self._with.lessor is None:
                raise NoQuorumOfResults("nothing can be leased")
            grant = await self._with.lessor.lease(unit, unit.ballot.undecided())
        except PrsmError as error:
            unit.is_replaced = False
            log.warning("unit %d is not leased to others: %s", unit.number, error.what)
            batch = unit.ballot.hopeless()
            if batch is not None:
                self._fail(
                    NoQuorumOfResults(
                        f"unit {unit.number}, batch {batch}: too few workers can agree any more "
                        f"(lost {lost}), and others do not take it: {error.what}",
                        hint="the escrow comes back at its deadline; send the job again",
                    )
                )
            return
        place = len(self.units), grant.job, 0, grant.unit, unit.stage, grant.peers
        leased = UnitRun(*place, is_open_ended=True)
        flying = {batch for _, batch in unit.flying}
        stranded = unit.ballot.stranded()
        for batch in unit.ballot.undecided():
            if batch not in flying or batch in stranded:
                unit.ballot.leave(batch)
        for batch in leased.batches:
            if unit.stage.outputs[batch] is not None:
                leased.ballot.leave(batch)
        self.units.append(leased)
        self._start(leased)
        unit.wake()

    async def _watch(self, unit: UnitRun) -> None:
        """Give a batch that is late to another worker, too: to the next of the unit, or a lease."""
        patience, stage = self._with.patience, unit.stage

        def first() -> float | None:
            late = unit.ballot.slow
            return min((f.since for key, f in unit.flying.items() if key not in late), default=None)

        while True:
            await unit.wait(lambda: stage.answer_s is not None and first() is not None)
            since = first()
            assert since is not None
            assert stage.answer_s is not None
            slow_s = max(patience.hedge_s, patience.hedge_times * stage.answer_s)
            await trio.sleep_until(since + slow_s)
            for worker, batch in unit.overdue(since):
                log.info("unit %d: batch %d is late", unit.number, batch)
                unit.ballot.slow.add((worker, batch))
                others = [w for w in unit.spec.workers if unit.ballot.wants(w, batch)]
                is_open = batch in unit.ballot.undecided()
                if is_open and others == [worker] and self._can_lease(unit):
                    self._replace(unit)
            unit.wake()

    def _can_lease(self, unit: UnitRun) -> bool:
        return self._with.lessor is not None and unit.is_open_ended and not unit.is_replaced

    def _fail(self, error: PrsmError) -> None:
        self._error = self._error or error
        for stage in self.stages.values():
            stage.wake()

    # -- measuring

    def _note_load(self, unit: UnitRun, worker: bytes, ms: int) -> None:
        self._with.market.gauges.note_load(unit.peers[worker], _key(unit), ms)

    def _note_answer(
        self, unit: UnitRun, link: Link, batch: int, seconds: float, compute_ms: int
    ) -> None:
        market, rows = self._with.market, unit.stage.batch_rows[batch]
        unit.stage.note_answer(seconds)
        market.bans.clear(link.peer)
        market.gauges.note_answer(link.peer, _key(unit), rows=rows, compute_ms=compute_ms)


def _key(unit: UnitRun) -> tuple[bytes, int, int]:
    return (unit.spec.model, unit.spec.stages, unit.spec.stage)
