"""A stage of a job of ours while it runs, and the units that do parts of it.

A stage keeps its inputs until settlement: whoever replaces a worker may have to redo all of them.
Its outputs are those of the unit that decided a batch first. Every change wakes who waits. Must
not know the network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from prsm.node.inference.gauges import WEIGHT
from prsm.node.inference.links import Opinion
from prsm.node.inference.verify import Ballot
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import Shard
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import Unit

Batch = tuple[Tensor, ...]
_AGED: Final = 1 - WEIGHT


@dataclass(slots=True)
class Lapse:
    """From the first beginning of something to its last end, as `with` blocks mark them.

    Times are those of the loop, in seconds; `ended_s` is None before the end, and while it goes on
    again.
    """

    began_s: float | None = None
    ended_s: float | None = None
    _open: int = 0

    def __enter__(self) -> None:
        """It begins, or goes on."""
        if self.began_s is None:
            self.began_s = trio.current_time()
        self.ended_s = None
        self._open += 1

    def __exit__(self, *_error: object) -> None:
        """It ends, whichever way, unless it goes on elsewhere."""
        self._open -= 1
        if not self._open:
            self.ended_s = trio.current_time()


@dataclass(slots=True)
class WorkerCount:
    """What one worker did for one unit, and when."""

    batches: int = 0
    rows: int = 0
    compute_ms: int = 0
    opening: Lapse = field(default_factory=Lapse)  # until its shard is loaded
    working: Lapse = field(default_factory=Lapse)  # first batch asked to last answered
    showing: Lapse = field(default_factory=Lapse)  # its receipt


@dataclass(slots=True, eq=False)
class StageRun:
    """One stage over all micro-batches of the job."""

    index: int
    shard: Shard
    batch_rows: tuple[int, ...]
    inputs: list[Batch | None] = field(init=False)
    outputs: list[Batch | None] = field(init=False)
    answer_s: float | None = None  # moving average, push to answer, of all its workers
    at_home: Lapse = field(default_factory=Lapse)  # what of it this node computed itself
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.inputs = [None] * len(self.batch_rows)
        self.outputs = [None] * len(self.batch_rows)

    async def wait(self, is_so: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at after every change."""
        await trio.lowlevel.checkpoint()
        while not is_so():
            await self._changed.wait()

    def wake(self) -> None:
        """Something changed."""
        self._changed.set()
        self._changed = trio.Event()

    def feed(self, batch: int, tensors: Batch) -> None:
        """The inputs of a batch are there."""
        self.inputs[batch] = tensors
        self.wake()

    def has_inputs(self, batch: int) -> bool:
        """Are the inputs of a batch there?"""
        return self.inputs[batch] is not None

    def decide(self, batch: int, tensors: Batch) -> bool:
        """The outputs of a batch are there; False when they were already."""
        is_new = self.outputs[batch] is None
        if is_new:
            self.outputs[batch] = tensors
        self.wake()
        return is_new

    def note_answer(self, seconds: float) -> None:
        """A worker took so long for a micro-batch."""
        old = self.answer_s
        self.answer_s = seconds if old is None else _AGED * old + WEIGHT * seconds


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A micro-batch on its way: since when (loop time), and how it is called back."""

    since: float
    scope: trio.CancelScope


@dataclass(slots=True, eq=False)
class UnitRun:
    """One unit on its way: who was asked what, and what they said.

    Attributes:
        number: among all units of the job, leased ones too.
        job: the lock that pays it: of the job itself, or of the lease.
        index: in that lock.
        spec: as locked.
        stage: it is a part of.
        peers: of its workers.
        is_open_ended: of its lock.
    """

    number: int
    job: bytes
    index: int
    spec: Unit
    stage: StageRun
    peers: Mapping[bytes, PeerId]
    is_open_ended: bool = False
    is_replaced: bool = False  # its open batches are leased to others
    shown: dict[bytes, WorkReceipt] = field(default_factory=dict)  # by worker
    ballot: Ballot = field(init=False)
    counts: dict[bytes, WorkerCount] = field(init=False)
    classes: dict[bytes, bytes] = field(default_factory=dict)
    given: dict[tuple[bytes, int], Opinion] = field(default_factory=dict)  # without tensors
    asked: set[tuple[bytes, int]] = field(default_factory=set)
    flying: dict[tuple[bytes, int], Flight] = field(default_factory=dict)  # without an answer
    _refusers: set[bytes] = field(default_factory=set)
    _held: dict[int, dict[bytes, Batch]] = field(default_factory=dict)  # by root, until decided

    def __post_init__(self) -> None:
        spec = self.spec
        self.ballot = Ballot(
            spec.workers,
            spec.count,
            needed=spec.needed,
            first=spec.first,
            is_open_ended=self.is_open_ended,
        )
        self.counts = {worker: WorkerCount() for worker in spec.workers}

    @property
    def shard(self) -> Shard:
        """Of its stage."""
        return self.stage.shard

    @property
    def batches(self) -> range:
        """Indices of its micro-batches."""
        return self.spec.batches

    async def wait(self, is_so: Callable[[], bool]) -> None:
        """As `StageRun.wait`."""
        await self.stage.wait(is_so)

    def wake(self) -> None:
        """As `StageRun.wake`."""
        self.stage.wake()

    def lose(self, worker: bytes, why: str) -> None:
        """The worker does no more."""
        self.ballot.lose(worker, why)
        self.wake()

    def refused(self, worker: bytes) -> bool:
        """The worker refuses the values of a batch; do as many say so as must agree?"""
        self._refusers.add(worker)
        return len(self._refusers) >= self.spec.needed

    def vote(self, worker: bytes, batch: int, opinion: Opinion) -> Batch | None:
        """Take an opinion; the outputs when it decided the batch."""
        count, rows = self.counts[worker], self.stage.batch_rows[batch]
        count.batches += 1
        count.rows += rows
        count.compute_ms += opinion.compute_ms
        self.given[worker, batch] = opinion.bare()
        was_open = self.ballot.decided(batch) is None
        self.ballot.add(worker, batch, opinion.output_root)
        held = self._held.setdefault(batch, {})
        if was_open:
            held.setdefault(opinion.output_root, opinion.tensors)
        right = self.ballot.decided(batch)
        self.wake()
        if right is None or not was_open:
            return None
        found = held[right]
        held.clear()
        return found

    def leave(self, batch: int) -> None:
        """The batch is decided elsewhere: call back what is on its way."""
        self.ballot.leave(batch)
        for (worker, asked), flight in self.flying.items():
            is_late = (worker, batch) in self.ballot.slow
            if asked == batch and (batch in self.ballot.left or is_late):
                flight.scope.cancel()

    def opened(self, worker: bytes, class_id: bytes) -> None:
        """The worker has loaded the shard and proved its determinism class."""
        self.classes[worker] = class_id
        if len(set(self.classes.values())) > 1:
            self.ballot.is_split = True
        self.wake()

    def next_for(self, worker: bytes, asked: set[int]) -> int | None:
        """The first batch this worker must do whose inputs are there."""
        for batch in self.batches:
            is_there = self.stage.inputs[batch] is not None
            if is_there and batch not in asked and self.ballot.wants(worker, batch):
                return batch
        return None

    def overdue(self, since: float) -> list[tuple[bytes, int]]:
        """Who was asked by then for which batch, has not answered, and is not late already."""
        return [
            key
            for key, flight in self.flying.items()
            if flight.since <= since and key not in self.ballot.slow
        ]

    def class_ruling(self, worker: bytes) -> bool | None:
        """Is the worker of the class as many share as must agree? None while that is open.

        Bits are only promised equal inside a class, so an honest worker of another class must
        not be asked: it would look like a liar.
        """
        live = [w for w in self.spec.workers if w not in self.ballot.lost]
        seen = [self.classes[w] for w in live if w in self.classes]
        shared = next((c for c in seen if seen.count(c) >= self.spec.needed), None)
        if shared is not None:
            return self.classes[worker] == shared
        return False if len(seen) == len(live) else None


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


def is_all_answered(receipt: WorkReceipt, unit: UnitRun, worker: bytes) -> bool:
    """Does the receipt say what the worker answered, no less, and no more than it was asked?

    What was called back may have been done just before.
    """
    listed = {b.index: (b.input_root, b.side_root, b.output_root) for b in receipt.batches}
    answered = {batch: unit.given[worker, batch].roots for batch in unit.ballot.done(worker)}
    asked = {batch for who, batch in unit.asked if who == worker}
    is_same = all(listed.get(batch) == roots for batch, roots in answered.items())
    return is_same and listed.keys() <= asked
