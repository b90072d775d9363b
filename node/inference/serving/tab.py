"""A tab: one open-ended lock that stands for many requests, its workers held warm until it closes.

Each request is a micro-batch of the lock. What was answered is paid when the tab closes; what was
not comes back. One worker answers alone (then it is audited by sampling), or two must agree and a
third decides. Must not know who asks, nor when a tab is opened or closed.
Source: docs/spec/work.md, "Serving".
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from prsm.node.inference.commits import NoBlock, commit
from prsm.node.inference.joining import rows_of
from prsm.node.inference.links import InputRefused, Link, Links, Opinion, WorkerLost
from prsm.node.inference.pipeline import NoQuorumOfResults
from prsm.node.inference.planner import WorkerOffer
from prsm.node.net.interface import Busy
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import FTNS
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import ModelManifest, Shard
from prsm.protocol.receipts import WorkKind
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import (
    LOCK,
    Lock,
    Unit,
)

NEEDED: Final = 2  # equal answers, where more than one worker is named
BYTES_MAX: Final = 64 * MIB  # inputs kept until the tab is settled: an auditor may ask for them

log = logging.getLogger(__name__)
Tensors = tuple[Tensor, ...]


class TabState(Enum):
    """Where a tab stands; only forward."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"  # takes no more; what is under way is awaited, then settled
    SETTLED = "settled"
    FAILED = "failed"  # what was locked comes back after the deadline


@dataclass(frozen=True, slots=True)
class TabKind:
    """What requests share to stand in one tab.

    Attributes:
        model: CID of the manifest.
        rows: most rows of a request, a power of two; what a slot reserves.
        opinions: workers named: 1, or 2, or 3 of which the last decides.
    """

    model: bytes
    rows: int
    opinions: int


@dataclass(frozen=True, slots=True)
class TabRules:
    """Bounds of a tab.

    Attributes:
        life_ms: deadline of the lock, in block time from now.
        spare_ms: before the deadline it takes no more: receipts, audit, settlement follow.
        open_s: for a worker to load the shard.
        answer_s: for one request.
        finish_s: for a receipt, from its asking.
    """

    life_ms: int = 900_000
    spare_ms: int = 300_000
    open_s: float = 120.0
    answer_s: float = 20.0
    finish_s: float = 60.0


@dataclass(frozen=True, slots=True)
class TabAnswer:
    """What a tab answered to one request."""

    outputs: Tensors
    workers: tuple[bytes, ...]  # who held it
    took_ms: float


@dataclass(slots=True, eq=False)
class Tab:
    """One lock and its workers.

    Invariants: a slot is used once; a worker that is lost is asked nothing more; what is locked is
    the price of all slots.
    """

    job: bytes
    kind: TabKind
    manifest: ModelManifest
    shard: Shard
    offers: tuple[WorkerOffer, ...]
    batch_rows: tuple[int, ...]
    links: Links
    rules: TabRules
    state: TabState = TabState.OPENING
    used: int = 1  # the first slot is for golden rows
    under_way: int = 0
    deadline_ms: int = 0
    may_be_locked: bool = False  # its lock was sent, and the ledger did not refuse it
    last_used: float = 0.0  # trio's time
    answered: dict[int, tuple[bytes, ...]] = field(default_factory=dict)  # batch -> who held it
    inputs: dict[int, Tensors] = field(default_factory=dict)
    lost: dict[bytes, str] = field(default_factory=dict)
    classes: dict[bytes, bytes] = field(default_factory=dict)
    error: PrsmError | None = None
    on_lost: Callable[[bytes, str], None] | None = None  # told of each worker once, and why
    _kept_bytes: int = 0
    given: dict[bytes, set[int]] = field(default_factory=dict)  # worker -> batches it answered
    _credit: dict[bytes, trio.Semaphore] = field(default_factory=dict)
    _changed: trio.Event = field(default_factory=trio.Event)

    @property
    def spec(self) -> Unit:
        """The unit that is locked: the whole model over all slots."""
        return Unit(
            kind=WorkKind.INFER,
            model=self.kind.model,
            stages=1,
            stage=0,
            first=0,
            count=len(self.batch_rows),
            needed=1 if len(self.offers) == 1 else NEEDED,
            price_per_row=self.price_per_row,
            rates=None,
            workers=tuple(offer.worker for offer in self.offers),
        )

    @property
    def price_per_row(self) -> int:
        """Micro-FTNS for a row of each worker that answers."""
        return max(offer.price_per_row for offer in self.offers)

    @property
    def slot_price(self) -> int:
        """Micro-FTNS of a slot at most: all its rows, by all its workers."""
        return self.price_per_row * self.kind.rows * len(self.offers)

    @property
    def amount(self) -> int:
        """Micro-FTNS that are locked."""
        return self.price_per_row * len(self.offers) * sum(self.batch_rows)

    @property
    def ready(self) -> tuple[bytes, ...]:
        """Workers that hold the shard for this tab, and are asked."""
        return tuple(w for w in self.active if w in self._credit and w not in self.lost)

    @property
    def active(self) -> tuple[bytes, ...]:
        """Workers that are asked: of the class most share; one not opened yet may be of it."""
        seen = list(self.classes.values())
        shared = max(seen, key=seen.count, default=b"")
        return tuple(w for w in self.spec.workers if self.classes.get(w, shared) == shared)

    @property
    def opened(self) -> tuple[bytes, ...]:
        """Workers that took the unit up."""
        return tuple(self._credit)

    @property
    def is_over(self) -> bool:
        """Does nothing more happen?"""
        return self.state in (TabState.SETTLED, TabState.FAILED)

    @property
    def free(self) -> int:
        """Slots that nobody used."""
        is_full = self._kept_bytes >= BYTES_MAX
        return 0 if self.state is not TabState.OPEN or is_full else len(self.batch_rows) - self.used

    # -- opening

    async def open(self) -> None:
        """Lock, and have the workers load the shard.

        Raises:
            LocalError: the lock was refused: a too small balance, a stopped model.
            WorkerLost: too few workers took it up; what is locked comes back.
        """
        chain = self.links.chain
        self.deadline_ms = chain.deadline_ms(self.rules.life_ms)
        lock = Lock(
            job=self.job,
            tenant=b"serving",
            asset=FTNS,
            parent=None,
            batch_rows=self.batch_rows,
            units=(self.spec,),
            budget=0,
            shares=(),
            deadline_ms=self.deadline_ms,
            is_open_ended=True,
        )
        self.may_be_locked = True
        try:
            await commit(chain, LOCK, lock)
        except PrsmError as error:
            self.may_be_locked = isinstance(error, NoBlock)
            raise
        async with trio.open_nursery() as nursery:
            for offer in self.offers[: self.spec.needed]:
                nursery.start_soon(self._open_worker, offer.worker)
        is_short = len(self.ready) < self.spec.needed
        if is_short and len(self.offers) > self.spec.needed:
            await self._open_worker(self.offers[-1].worker)
        if len(self.ready) < self.spec.needed:
            raise WorkerLost(
                "; ".join(self.lost.values()) or "class_missing: no two of one determinism class"
            )
        self.state = TabState.OPEN
        self.last_used = trio.current_time()

    async def _open_worker(self, worker: bytes) -> None:
        try:
            with trio.fail_after(self.rules.open_s):
                accepted = await self.link(worker).open()
        except trio.TooSlowError:
            self.lose(worker, f"not open after {self.rules.open_s:g} s")
            return
        except WorkerLost as error:
            self.lose(worker, error.what)
            return
        self.classes[worker] = accepted.class_id
        self._credit[worker] = trio.Semaphore(accepted.credit)

    def link(self, worker: bytes) -> Link:
        """The conversation with one of its workers."""
        peer = next(offer.peer for offer in self.offers if offer.worker == worker)
        return Link(self.links, peer, self.job, 0, worker, self.spec, self.shard)

    # -- requests

    def take_slot(self) -> int:
        """The next slot; only while there is a free one."""
        assert self.free
        self.used += 1
        self.under_way += 1
        self.last_used = trio.current_time()
        return self.used - 1

    async def ask(self, slot: int, tensors: Tensors) -> TabAnswer:
        """Have the workers answer a request, in a slot that was taken for it.

        Cancelled, the workers are told to stop; the slot is used up and not paid.

        Raises:
            InputRefused: the worker says that the values are none for this model.
            Busy: its line is full.
            WorkerLost: nobody answers any more.
            NoQuorumOfResults: no two agree.
        """
        began = trio.current_time()
        self.inputs[slot] = tensors
        self._kept_bytes += sum(len(tensor.data) for tensor in tensors)
        try:
            outputs, held = await self._decide(slot, tensors)
        finally:
            self.under_way -= 1
            self.last_used = trio.current_time()
            self._wake()
        self.answered[slot] = held
        return TabAnswer(outputs, held, (trio.current_time() - began) * 1000)

    async def ask_one(self, worker: bytes, slot: int, tensors: Tensors) -> Tensors:
        """Have one worker answer, and pay it if the others answered the same.

        Raises:
            WorkerLost: it did not.
        """
        opinions: dict[bytes, Opinion] = {}
        self.inputs[slot] = tensors
        refusals: list[PrsmError] = []
        await self.ask_worker(worker, slot, tensors, opinions, refusals)
        if worker not in opinions:
            raise WorkerLost(refusals[0].what if refusals else self.lost[worker])
        self.answered[slot] = (*self.answered.get(slot, ()), worker)
        return opinions[worker].tensors

    async def _decide(self, slot: int, tensors: Tensors) -> tuple[Tensors, tuple[bytes, ...]]:
        opinions: dict[bytes, Opinion] = {}
        refusals: list[PrsmError] = []
        needed = self.spec.needed
        waiting = list(self.active)
        while waiting:
            due = needed - _most(opinions)
            now, waiting = waiting[:due], waiting[due:]
            async with trio.open_nursery() as nursery:
                for worker in now:
                    nursery.start_soon(self.ask_worker, worker, slot, tensors, opinions, refusals)
            for root in {opinion.output_root for opinion in opinions.values()}:
                held = tuple(w for w, opinion in opinions.items() if opinion.output_root == root)
                if len(held) >= needed:
                    return opinions[held[0]].tensors, held
        if refusals:
            raise refusals[0]
        if len(opinions) < needed:
            raise WorkerLost("; ".join(self.lost.values()) or "no worker is left")
        raise NoQuorumOfResults(
            "no two workers agree", hint="ask again; other workers will be asked"
        )

    async def ask_worker(
        self,
        worker: bytes,
        slot: int,
        tensors: Tensors,
        opinions: dict[bytes, Opinion],
        refusals: list[PrsmError],
    ) -> None:
        """Add the opinion of one worker to the others', or why it has none."""
        if worker in self.lost:
            return
        if worker not in self._credit:  # the third, now that it is needed
            await self._open_worker(worker)
            if worker in self.lost or worker not in self.active:
                return
        try:
            async with self._credit[worker]:
                with trio.fail_after(self.rules.answer_s):
                    opinion = await self.link(worker).ask(slot, rows_of(tensors), tensors)
        except trio.TooSlowError:
            self.lose(worker, f"no answer within {self.rules.answer_s:g} s")
        except (InputRefused, Busy) as error:  # of this request; the worker goes on
            refusals.append(error)
        except PrsmError as error:
            self.lose(worker, error.what)
        else:
            opinions[worker] = opinion
            self.given.setdefault(worker, set()).add(slot)

    def lose(self, worker: bytes, why: str) -> None:
        """Ask this worker nothing more; the tab takes no new requests then."""
        log.warning("tab %s loses worker %s: %s", self.job.hex()[:8], worker.hex()[:8], why)
        if worker not in self.lost:
            self.lost[worker] = why
            if self.on_lost is not None:
                self.on_lost(worker, why)
        self.seal()

    # -- closing

    def seal(self) -> None:
        """Take no more requests."""
        if self.state is TabState.OPEN:
            self.state = TabState.CLOSING
            self._wake()

    def is_stale(self, idle_s: float) -> bool:
        """Is it full, unused for so long, or near its deadline?"""
        if self.state is not TabState.OPEN:
            return False
        left_ms = self.deadline_ms - self.links.chain.block_time_ms()
        is_idle = not self.under_way and trio.current_time() - self.last_used >= idle_s
        is_full = not self.free and not self.under_way
        return is_idle or is_full or left_ms <= self.rules.spare_ms

    async def wait_idle(self) -> None:
        """Return once nothing is under way."""
        while self.under_way:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _most(opinions: dict[bytes, Opinion]) -> int:
    """How many hold the same."""
    roots = [opinion.output_root for opinion in opinions.values()]
    return max((roots.count(root) for root in roots), default=0)
