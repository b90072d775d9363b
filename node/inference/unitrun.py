"""One unit of a job of ours while it runs: inputs as they come, opinions, decided outputs.

Shared by the tasks that ask its workers; every change wakes them. Keeps each stage's inputs
until settlement: a third worker may have to redo all of them. Must not know the network.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from prsm.node.inference.links import Opinion
from prsm.node.inference.verify import OPINIONS_NEEDED, Ballot
from prsm.protocol.messages.models import Shard
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import Unit

Batch = tuple[Tensor, ...]


@dataclass(slots=True)
class WorkerCount:
    """What one worker did for one unit."""

    batches: int = 0
    rows: int = 0
    compute_ms: int = 0


@dataclass(slots=True, eq=False)
class UnitRun:
    """Invariant: outputs of a batch are those of a root two distinct workers hold."""

    index: int
    spec: Unit
    shard: Shard
    batch_rows: tuple[int, ...]
    ballot: Ballot = field(init=False)
    inputs: list[Batch | None] = field(init=False)
    outputs: list[Batch | None] = field(init=False)
    counts: dict[bytes, WorkerCount] = field(init=False)
    classes: dict[bytes, bytes] = field(default_factory=dict)
    given: dict[tuple[bytes, int], tuple[bytes, bytes, bytes]] = field(default_factory=dict)
    _held: list[dict[bytes, Batch]] = field(init=False)  # by root, until decided
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        count = len(self.batch_rows)
        self.ballot = Ballot(self.spec.workers, count)
        self.inputs = [None] * count
        self.outputs = [None] * count
        self.counts = {worker: WorkerCount() for worker in self.spec.workers}
        self._held = [{} for _ in range(count)]

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

    def lose(self, worker: bytes, why: str) -> None:
        """The worker does no more."""
        self.ballot.lose(worker, why)
        self.wake()

    def vote(self, worker: bytes, batch: int, opinion: Opinion) -> bool:
        """Take an opinion; True when it decided the batch."""
        count = self.counts[worker]
        count.batches += 1
        count.rows += self.batch_rows[batch]
        count.compute_ms += opinion.compute_ms
        self.given[worker, batch] = (opinion.input_root, opinion.side_root, opinion.output_root)
        self.ballot.add(worker, batch, opinion.output_root)
        held = self._held[batch]
        if self.outputs[batch] is None:
            held.setdefault(opinion.output_root, opinion.tensors)
        right = self.ballot.decided(batch)
        is_new = right is not None and self.outputs[batch] is None
        if right is not None and is_new:
            self.outputs[batch] = held[right]
            held.clear()
        self.wake()
        return is_new

    def opened(self, worker: bytes, class_id: bytes) -> None:
        """The worker has loaded the shard and proved its determinism class."""
        self.classes[worker] = class_id
        if len(set(self.classes.values())) > 1:
            self.ballot.is_split = True
        self.wake()

    def next_for(self, worker: bytes, asked: set[int]) -> int | None:
        """The first batch this worker must do whose inputs are there."""
        for batch, tensors in enumerate(self.inputs):
            if tensors is not None and batch not in asked and self.ballot.wants(worker, batch):
                return batch
        return None

    def class_ruling(self, worker: bytes) -> bool | None:
        """Is the worker of the class two of them share? None while that is open.

        Bits are only promised equal inside a class, so an honest worker of another class must
        not be asked: it would look like a liar.
        """
        live = [w for w in self.spec.workers if w not in self.ballot.lost]
        seen = [self.classes[w] for w in live if w in self.classes]
        shared = next((c for c in seen if seen.count(c) >= OPINIONS_NEEDED), None)
        if shared is not None:
            return self.classes[worker] == shared
        return False if len(seen) == len(live) else None
