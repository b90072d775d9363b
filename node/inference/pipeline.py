"""Runs a planned job: every stage's workers get every micro-batch, decided outputs go on.

One task for each worker of each stage; each keeps the credit of its worker full, so several
micro-batches are in flight at every stage, and a third worker that joins late redoes what it
must from the recorded inputs. Must not know money. Source: docs/spec/work.md, "Redundancy".
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.inference.links import Link, Links, WorkerLost
from prsm.node.inference.planner import Plan
from prsm.node.inference.unitrun import Batch, UnitRun
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.tensors import Tensor

WINDOW: Final = 4  # micro-batches without an answer; 2 give 1.80 of 2 cores, 4 give 1.85

log = logging.getLogger(__name__)


class NoQuorumOfResults(LocalError):
    """Fewer than two equal opinions are possible; what is locked comes back at the deadline."""

    reason = "no_quorum_of_results"


class JobTooLarge(LocalError):
    """The tensors between the stages would take more memory than a job may."""

    reason = "job_too_large"


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of one job of ours.

    Attributes:
        open_s: for a worker to fetch and load its shard.
        answer_s: for one micro-batch, from its push.
        finish_s: for a worker to commit and show its receipt.
        bytes_max: inputs and boundary tensors kept until settlement.
    """

    open_s: float = 120.0
    answer_s: float = 60.0
    finish_s: float = 60.0
    bytes_max: int = 1024 * MIB


class Pipeline:
    """One job on its way through the stages."""

    def __init__(
        self,
        job: bytes,
        plan: Plan,
        batches: Sequence[Batch],
        links: Links,
        *,
        patience: Patience,
    ) -> None:
        """Prepare; `run` starts it.

        Args:
            job: its id on the ledger, where it is locked.
            plan: units, shards and peers.
            batches: graph inputs of each micro-batch.
            links: conversations with the workers.
            patience: bounds.
        """
        self._job, self._plan, self._links = job, plan, links
        self._batches, self._patience = tuple(batches), patience
        rows = tuple(batch[0].head.shape[0] for batch in batches)
        self.units = tuple(
            UnitRun(index, spec, shard, rows)
            for index, (spec, shard) in enumerate(zip(plan.units, plan.shards, strict=True))
        )
        self._kept_bytes = 0
        self._error: PrsmError | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask the workers until cancelled."""
        async with trio.open_nursery() as nursery:
            for unit in self.units:
                for worker in unit.spec.workers:
                    nursery.start_soon(self._staff, unit, worker)
            for batch, tensors in enumerate(self._batches):
                self._feed(self.units[0], batch, tensors)
            task_status.started()
            await trio.sleep_forever()

    async def wait_outputs(self) -> tuple[Batch, ...]:
        """Outputs of the last stage, by micro-batch, each held by two workers.

        Raises:
            NoQuorumOfResults: a batch can get no two equal opinions any more.
            JobTooLarge: over `bytes_max`.
        """
        last = self.units[-1]
        await last.wait(lambda: self._error is not None or None not in last.outputs)
        if self._error is not None:
            raise self._error
        return tuple(batch for batch in last.outputs if batch is not None)

    async def collect(self, unit: UnitRun) -> tuple[WorkReceipt, ...]:
        """Receipts that settle a unit: two full ones at least, and those of outvoted workers.

        Raises:
            NoQuorumOfResults: too few workers show theirs.
        """
        shown: dict[bytes, WorkReceipt] = {}
        while True:
            await unit.wait(lambda: self._error is not None or not unit.ballot.wanted())
            if self._error is not None:
                raise self._error
            payable = unit.ballot.payable()
            if payable is None:
                raise NoQuorumOfResults(f"stage {unit.index}: too few receipts agree")
            due = [w for w in payable if w not in shown or not _is_all(shown[w], unit, w)]
            async with trio.open_nursery() as nursery:
                for worker in due:
                    nursery.start_soon(self._finish, unit, worker, shown)
            if not unit.ballot.wanted() and unit.ballot.payable() == payable:
                return tuple(shown[worker] for worker in payable)

    def close(self) -> None:
        """Tell every worker that no more comes."""
        for unit in self.units:
            for worker in unit.spec.workers:
                if unit.counts[worker].batches or worker in unit.classes:
                    self._link(unit, worker).close()

    # -- asking

    def _link(self, unit: UnitRun, worker: bytes) -> Link:
        return Link(
            links=self._links,
            peer=self._plan.peers[worker],
            job=self._job,
            unit=unit.index,
            worker=worker,
            spec=unit.spec,
            shard=unit.shard,
        )

    async def _staff(self, unit: UnitRun, worker: bytes) -> None:
        """Keep one worker of a unit busy; the third waits until it is needed."""
        await unit.wait(lambda: worker in unit.ballot.wanted())
        link = self._link(unit, worker)
        try:
            with trio.fail_after(self._patience.open_s):
                accepted = await link.open()
                unit.opened(worker, accepted.class_id)
                await unit.wait(lambda: unit.class_ruling(worker) is not None)
        except trio.TooSlowError:
            self._lose(unit, worker, f"not open after {self._patience.open_s:g} s")
            return
        except WorkerLost as error:
            self._lose(unit, worker, error.what)
            return
        if not unit.class_ruling(worker):
            self._lose(unit, worker, "class_missing: another determinism class than the others")
            return
        credit = trio.Semaphore(min(WINDOW, accepted.credit))
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
        tensors = unit.inputs[batch]
        assert tensors is not None
        try:
            with trio.fail_after(self._patience.answer_s):
                opinion = await link.ask(batch, unit.batch_rows[batch], tensors)
        except trio.TooSlowError:
            self._lose(unit, link.worker, f"no answer within {self._patience.answer_s:g} s")
            return
        except PrsmError as error:
            self._lose(unit, link.worker, error.what)
            return
        finally:
            credit.release()
        if unit.vote(link.worker, batch, opinion):
            self._decided(unit, batch)
        self._check_hope(unit)

    async def _finish(self, unit: UnitRun, worker: bytes, shown: dict[bytes, WorkReceipt]) -> None:
        try:
            with trio.fail_after(self._patience.finish_s):
                receipt = await self._link(unit, worker).finish()
        except trio.TooSlowError:
            self._lose(unit, worker, f"no receipt within {self._patience.finish_s:g} s")
            return
        except WorkerLost as error:
            self._lose(unit, worker, error.what)
            return
        if not _is_all(receipt, unit, worker):
            self._lose(unit, worker, "its receipt is not of what it answered")
            return
        shown[worker] = receipt

    # -- deciding

    def _decided(self, unit: UnitRun, batch: int) -> None:
        """Hand the outputs of a batch to the next stage."""
        outputs = unit.outputs[batch]
        assert outputs is not None
        if unit.index + 1 == len(self.units):
            return
        following = self.units[unit.index + 1]
        try:
            self._feed(following, batch, pick(following.shard, outputs, self._batches[batch]))
        except LocalError as error:
            self._fail(error)

    def _feed(self, unit: UnitRun, batch: int, tensors: Batch) -> None:
        # Graph inputs are shared by all stages: only the cut tensor is new.
        fresh = tensors if unit.index == 0 else tensors[:1]
        self._kept_bytes += sum(len(tensor.data) for tensor in fresh)
        if self._kept_bytes > self._patience.bytes_max:
            self._fail(
                JobTooLarge(
                    f"{self._kept_bytes} bytes between the stages, at most "
                    f"{self._patience.bytes_max}",
                    hint="send the rows in several jobs",
                )
            )
            return
        unit.feed(batch, tensors)

    def _lose(self, unit: UnitRun, worker: bytes, why: str) -> None:
        log.warning("stage %d loses worker %s: %s", unit.index, worker.hex()[:16], why)
        unit.lose(worker, why)
        self._check_hope(unit)

    def _check_hope(self, unit: UnitRun) -> None:
        batch = unit.ballot.hopeless()
        if batch is not None:
            lost = "; ".join(f"{w.hex()[:8]}: {why}" for w, why in unit.ballot.lost.items())
            self._fail(
                NoQuorumOfResults(
                    f"stage {unit.index}, batch {batch}: no two workers can agree any more"
                    + (f" (lost {lost})" if lost else ""),
                    hint="the escrow comes back at its deadline; send the job to other workers",
                )
            )

    def _fail(self, error: PrsmError) -> None:
        self._error = self._error or error
        for unit in self.units:
            unit.wake()


def pick(shard: Shard, carried: Sequence[Tensor], graph_inputs: Sequence[Tensor]) -> Batch:
    """Inputs of a shard in the order of its io table: the cut tensor, then graph inputs.

    Raises:
        LocalError: an input nobody made.
    """
    by_name = {tensor.head.name: tensor for tensor in (*graph_inputs, *carried)}
    missing = [spec.name for spec in shard.inputs if spec.name not in by_name]
    if missing:
        raise LocalError(f"inputs {missing} of stage {shard.index} are missing")
    return tuple(by_name[spec.name] for spec in shard.inputs)


def _is_all(receipt: WorkReceipt, unit: UnitRun, worker: bytes) -> bool:
    """Does the receipt say what the worker answered, no more and no less?"""
    listed = {b.index: (b.input_root, b.side_root, b.output_root) for b in receipt.batches}
    answered = {batch: unit.given[worker, batch] for batch in unit.ballot.done(worker)}
    return listed == answered
