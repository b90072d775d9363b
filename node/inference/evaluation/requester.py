"""Evaluations of ours: asked for, drawn, locked, gathered, settled, recorded.

Knows: the order of the steps, and what a drawn worker is asked. Must not know: RPC, how a worker
counts.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.commits import NoBlock, commit, find_lock
from prsm.node.inference.evaluation.dataset import open_dataset, whole_shard
from prsm.node.inference.evaluation.ports import EvaluationChain
from prsm.node.inference.interface import Models, TransactionFailed, UnitIncomplete
from prsm.node.inference.planner import PriceOverCap, TooFewPeers, WorkerOffer
from prsm.node.net.interface import Busy, CallRefused, Channel, Network
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import LocalError, PrsmError, WireError
from prsm.protocol.ids import FTNS, PeerId, format_ftns
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.evaluation import AskEvaluated, Evaluated, OpenEvaluation
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.work import Open, open_statement
from prsm.protocol.receipts import WorkKind, WorkReceipt, is_signed
from prsm.protocol.scores import ScoreRow, score_root
from prsm.protocol.transactions.evaluations import Draw, RecordScore, SliceScore
from prsm.protocol.transactions.payloads import (
    DRAW,
    LOCK,
    RECORD_SCORE,
    REFUND,
    SETTLE,
    Lock,
    Refund,
    Settle,
    Unit,
)

WORKERS: Final = 3
NEEDED: Final = 2
RUNNING_MAX: Final = 4
DRAW_S: Final = 60.0
_POLL_S: Final = (0.05, 1.0)  # between two questions to a worker: at first, at most

log = logging.getLogger(__name__)


class NothingEvaluated(LocalError):
    """No two of the drawn workers agree on every slice."""

    reason = "no_quorum_of_results"


@dataclass(frozen=True, slots=True)
class EvaluationWish:
    """What to evaluate, and for how much.

    Attributes:
        model: CID of the manifest.
        dataset: CID of the manifest.
        price_cap: micro-FTNS the escrow may hold, None for no bound.
        deadline_ms: block time from now on.
    """

    model: bytes
    dataset: bytes
    price_cap: int | None = None
    deadline_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Found:
    """What an evaluation found, and who says so."""

    job: bytes
    correct: int
    total: int
    workers: tuple[bytes, ...]  # whose receipts hold the settled roots
    height: int  # of the block that recorded it


@dataclass(frozen=True, slots=True)
class _Answer:
    receipt: WorkReceipt
    raw: bytes
    slices: tuple[SliceScore, ...]


@dataclass(slots=True, eq=False)
class _Round:
    job: bytes
    wish: EvaluationWish
    unit: Unit
    rows: tuple[int, ...]
    peers: dict[bytes, PeerId]
    answers: dict[bytes, _Answer] = field(default_factory=dict)

    @property
    def amount(self) -> int:
        """Micro-FTNS of the escrow."""
        return self.unit.price_per_row * sum(self.rows) * len(self.unit.workers)


class Evaluations:
    """Runs our evaluations side by side.

    Args:
        network: to the workers.
        chain: the ledger, and our account on it.
        models: models and datasets by CID.
        verifier: of receipts.
        new_id: makes 32-byte job ids; random outside tests.
    """

    def __init__(
        self,
        network: Network,
        chain: EvaluationChain,
        models: Models,
        verifier: Verifier,
        *,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._network, self._chain, self._models = network, chain, models
        self._verifier, self._new_id = verifier, new_id
        self._nursery: trio.Nursery | None = None
        self._running = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch back what was locked and not earned, of earlier processes too, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for job in self._chain.evaluations():
                nursery.start_soon(self._reclaim, job)
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def evaluate(self, wish: EvaluationWish) -> Found:
        """Let drawn workers evaluate a model, and record what they found.

        Raises:
            Unsupported, BadSlices: no model with a whole graph, or no dataset of labelled slices.
            TooFewPeers, PriceOverCap: of those drawn, too few are there, or they ask too much.
            NothingEvaluated: no two agree.
            TransactionFailed: the ledger refused a step.
            Busy: too many run, or the service does not.
        """
        if self._nursery is None or self._running >= RUNNING_MAX:
            raise Busy(f"{self._running} evaluations run, at most {RUNNING_MAX}")
        self._running += 1
        try:
            manifest = await self._models.manifest(wish.model)
            shard = whole_shard(manifest)
            async with open_dataset(self._models, wish.dataset) as data:
                await data.read(0, shard.inputs)  # of another form: refused before money moves
                rows = data.head.batch_rows
            round_ = await self._draw(wish, manifest, rows)
            self._nursery.start_soon(self._reclaim, round_.job)  # also of a lock that comes late
            await self._lock(round_)
            with _costing(round_.amount):
                await self._gather(round_)
                await self._settle(round_)
                return await self._record(round_)
        finally:
            self._running -= 1

    async def _draw(
        self, wish: EvaluationWish, manifest: ModelManifest, rows: tuple[int, ...]
    ) -> _Round:
        """Ask for evaluators, and take the first of them who are there."""
        job = self._new_id()
        asked = await commit(self._chain, DRAW, Draw(job, wish.model, wish.dataset))
        with _costing(0):  # from here on the fee is gone
            drawn = await self._wait_drawn(job, asked)
            offers = {
                offer.worker: offer
                for offer in await ask_all(self._network, self._chain, self._verifier)
                if offer.runtime == manifest.compute.runtime and offer.slots_free > 0
            }
            chosen = [offers[worker] for worker in drawn if worker in offers][:WORKERS]
            if len(chosen) < NEEDED:
                raise TooFewPeers(
                    f"{len(chosen)} of the {len(drawn)} workers that were drawn are free and run "
                    f"{manifest.compute.runtime}, {NEEDED} are needed",
                    value=len(chosen),
                    limit=NEEDED,
                    hint="connect more workers that are pledged, then ask again",
                )
            peers = {offer.worker: offer.peer for offer in chosen}
            round_ = _Round(job, wish, self._unit(wish, chosen, len(rows)), rows, peers)
            _check_price(wish, round_.amount)
            return round_

    async def _wait_drawn(self, job: bytes, asked: int) -> tuple[bytes, ...]:
        """Those whom the ledger draws, in their order; none if it takes too long."""
        with trio.move_on_after(DRAW_S):
            while (known := self._chain.evaluation(job)) is None or known.drawn is None:
                await self._chain.wait_height(max(asked, self._chain.height()) + 1)
        return () if known is None else known.drawn or ()

    def _unit(self, wish: EvaluationWish, chosen: Sequence[WorkerOffer], slices: int) -> Unit:
        return Unit(
            kind=WorkKind.EVALUATE,
            model=wish.model,
            stages=1,
            stage=0,
            first=0,
            count=slices,
            needed=NEEDED,
            price_per_row=max(offer.price_per_row for offer in chosen),
            rates=None,
            workers=tuple(offer.worker for offer in chosen),
        )

    async def _lock(self, round_: _Round) -> None:
        chain = self._chain
        lock = Lock(
            job=round_.job,
            tenant=b"evaluation",
            asset=FTNS,
            parent=None,
            batch_rows=round_.rows,
            units=(round_.unit,),
            budget=0,
            shares=(),
            deadline_ms=chain.deadline_ms(round_.wish.deadline_ms),
            is_open_ended=False,
        )
        try:
            await commit(chain, LOCK, lock)
        except PrsmError as error:  # what the ledger did not answer may still come into a block
            error.spent = round_.amount if isinstance(error, NoBlock) else 0
            raise

    async def _gather(self, round_: _Round) -> None:
        """Ask every worker until it has answered, failed, or the deadline is near."""
        async with trio.open_nursery() as outer:
            outer.start_soon(self._end_in_time, round_, outer.cancel_scope)
            async with trio.open_nursery() as inner:
                for worker, peer in round_.peers.items():
                    inner.start_soon(self._ask, round_, worker, peer)
            outer.cancel_scope.cancel()
        if _settled_slices(round_) is None:
            raise NothingEvaluated(
                f"{len(round_.answers)} of {len(round_.peers)} workers answered, no {NEEDED} of "
                "them agree on every slice",
                hint="its escrow comes back after the deadline; ask again",
            )

    async def _end_in_time(self, round_: _Round, scope: trio.CancelScope) -> None:
        """End the asking when the escrow's time is over, or co-workers settled it."""
        chain = self._chain
        while (job := chain.job(round_.job)) is not None and job.is_open:
            if chain.block_time_ms() > job.deadline_ms:
                break
            await chain.wait_height(chain.height() + 1)
        scope.cancel()

    async def _ask(self, round_: _Round, worker: bytes, peer: PeerId) -> None:
        try:
            await self._network.call(peer, self._opening(round_, worker), channel=Channel.CTL)
            pause = _POLL_S[0]
            while (answer := await self._answer(round_, worker, peer)) is None:
                await trio.sleep(pause)
                pause = min(_POLL_S[1], 2 * pause)
            round_.answers[worker] = answer
        except PrsmError as error:
            log.warning("drawn worker %s is lost: %s", worker.hex()[:16], error.what)
            del round_.peers[worker]

    def _opening(self, round_: _Round, worker: bytes) -> OpenEvaluation:
        unsigned = Open(round_.job, 0, worker, bytes(64))
        statement = open_statement(
            unsigned, chain_id=self._chain.chain_id, requester_peer=self._network.peer_id
        )
        signature = self._chain.signer.sign(statement)
        return OpenEvaluation(round_.job, 0, worker, signature)

    async def _answer(self, round_: _Round, worker: bytes, peer: PeerId) -> _Answer | None:
        """What a worker found; None while it is at work."""
        try:
            answer, _ = await self._network.call(
                peer, AskEvaluated(round_.job, 0), channel=Channel.CTL
            )
        except CallRefused as refused:
            if refused.refusal in {UnitIncomplete.reason, Busy.reason}:
                return None
            raise
        if not isinstance(answer, Evaluated):
            raise WireError(f"{type(answer).__name__} is no evaluation", peer=peer)
        receipt = decode(answer.receipt, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
        found = _Answer(receipt, answer.receipt, answer.slices)
        if receipt.worker != worker or not is_signed(receipt, self._verifier):
            raise WireError("a receipt by somebody else", peer=peer)
        if not _is_borne_out(found, round_):
            raise WireError("a score that its receipt does not bear out", peer=peer)
        return found

    async def _settle(self, round_: _Round) -> None:
        """Show all receipts; a worker may have done so before us."""
        chain = self._chain
        raws = tuple(answer.raw for answer in round_.answers.values())
        while (job := chain.job(round_.job)) is not None and job.verdicts[0] is None:
            try:
                await commit(chain, SETTLE, Settle(round_.job, 0, raws, ()))
            except PrsmError as error:  # not committed here yet, or a bound worker has its time
                if not job.is_open or chain.block_time_ms() > job.deadline_ms:
                    raise
                log.info("evaluation is not settled yet: %s", error.what)
                await chain.wait_height(chain.height() + 1)

    async def _record(self, round_: _Round) -> Found:
        slices = _settled_slices(round_)
        assert slices is not None, "a settled evaluation has a majority"
        try:
            height = await commit(self._chain, RECORD_SCORE, RecordScore(round_.job, slices))
        except TransactionFailed:
            known = self._chain.evaluation(round_.job)
            if known is None or not known.is_recorded:
                raise
            height = self._chain.height()  # a worker was first
        holders = [worker for worker, answer in round_.answers.items() if answer.slices == slices]
        correct = sum(part.correct for part in slices)
        return Found(round_.job, correct, sum(round_.rows), tuple(holders), height)

    async def _reclaim(self, job_id: bytes) -> None:
        """After the deadline, fetch back what is still locked."""
        chain = self._chain
        await find_lock(chain, job_id)
        while (found := chain.job(job_id)) is not None and found.is_open:
            if chain.block_time_ms() > found.deadline_ms:
                with suppress(PrsmError):  # somebody else may have been first
                    await commit(chain, REFUND, Refund(job_id))
            await chain.wait_height(chain.height() + 1)


@contextmanager
def _costing(amount: int) -> Iterator[None]:
    """Have what fails in here say what it cost beside fees."""
    try:
        yield
    except PrsmError as error:
        error.spent = amount
        raise


def _check_price(wish: EvaluationWish, amount: int) -> None:
    if wish.price_cap is not None and amount > wish.price_cap:
        raise PriceOverCap(
            f"the escrow would be {format_ftns(amount)} FTNS, at most "
            f"{format_ftns(wish.price_cap)} are allowed",
            value=amount,
            limit=wish.price_cap,
            hint="allow more with --max-price",
        )


def _is_borne_out(answer: _Answer, round_: _Round) -> bool:
    """Do the parts of the score give the receipt's roots, slice by slice?"""
    batches = answer.receipt.batches
    if len(answer.slices) != len(round_.rows) or len(batches) != len(round_.rows):
        return False
    dataset = round_.wish.dataset
    return all(
        (batch.index, batch.rows) == (index, rows)
        and batch.output_root
        == score_root(part.outputs, ScoreRow(dataset, index, rows, part.correct))
        for index, (batch, part, rows) in enumerate(
            zip(batches, answer.slices, round_.rows, strict=True)
        )
    )


def _settled_slices(round_: _Round) -> tuple[SliceScore, ...] | None:
    """By slice, what enough receipts hold; None while a slice has no majority."""
    found: list[SliceScore] = []
    for index in range(len(round_.rows)):
        stated = [answer.receipt.batches[index].stated for answer in round_.answers.values()]
        holder = next(
            (
                answer
                for answer in round_.answers.values()
                if stated.count(answer.receipt.batches[index].stated) >= round_.unit.needed
            ),
            None,
        )
        if holder is None:
            return None
        found.append(holder.slices[index])
    return tuple(found)
