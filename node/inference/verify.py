"""Who is right: opinions of up to five workers on the micro-batches of one unit.

Pure. As many equal roots of distinct workers as the unit says decide a batch; where the first
ones differ, or one is slow, the next is asked for that batch; where one is lost, the next does
every batch, so that enough full receipts exist for the ledger. Source: docs/spec/work.md,
"Redundancy".
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prsm.protocol import merkle
from prsm.protocol.ids import Digest
from prsm.protocol.receipts import rows_root
from prsm.protocol.tensors import Tensor

OPINIONS_NEEDED = 2


def batch_root(tensors: Sequence[Tensor]) -> Digest:
    """Root of one side of a micro-batch: Merkle root over the row roots of its tensors.

    Of one tensor it is that tensor's row root, so the output root of a stage is the input root
    of the next, which takes its cut tensor alone into the root.
    """
    roots = [rows_root(tensor.head, tensor.data) for tensor in tensors]
    return merkle.root_of_leaves(roots)


def input_root(tensors: Sequence[Tensor], *, stage: int) -> Digest:
    """Root of the inputs of a stage: all graph inputs for stage 0, else the cut tensor alone.

    Args:
        tensors: in the order of the shard's io table, the cut tensor first.
        stage: index of the stage.
    """
    return batch_root(tensors if stage == 0 else tensors[:1])


def side_root(tensors: Sequence[Tensor], *, stage: int) -> Digest:
    """Root over the graph inputs beside the cut tensor; of stage 0 there are none beside it.

    Args:
        tensors: in the order of the shard's io table, the cut tensor first.
        stage: index of the stage.
    """
    return batch_root(() if stage == 0 else tensors[1:])


@dataclass(frozen=True, slots=True)
class Dispute:
    """A micro-batch on which workers held different roots."""

    batch: int
    roots: Mapping[bytes, bytes]  # by worker


@dataclass(slots=True)
class Ballot:
    """Opinions on one unit.

    Attributes:
        workers: in order: the first `needed` do every batch, the others where these fail.
        batches: how many.
        needed: distinct workers who must hold the same root.
        first: index of the first batch in its job.
        is_open_ended: a batch nobody decides is no fault; what was decided is paid.

    Invariants: a worker has one opinion on a batch, its first; a lost worker is asked nothing
    more; a decided batch stays decided.
    """

    workers: tuple[bytes, ...]
    batches: int
    needed: int = OPINIONS_NEEDED
    first: int = 0
    is_open_ended: bool = False
    lost: dict[bytes, str] = field(default_factory=dict)
    slow: set[tuple[bytes, int]] = field(default_factory=set)  # a next worker is asked as well
    left: set[int] = field(default_factory=set)  # batches another unit decides
    is_split: bool = False  # the first ones are of different determinism classes
    _roots: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._roots = {batch: {} for batch in range(self.first, self.first + self.batches)}

    def add(self, worker: bytes, batch: int, root: bytes) -> None:
        """Take a worker's opinion on a batch."""
        assert worker in self.workers
        self._roots[batch].setdefault(worker, root)

    def lose(self, worker: bytes, why: str) -> None:
        """The worker is gone, or will show no receipt; what it said still counts for bytes."""
        self.lost.setdefault(worker, why)

    def leave(self, batch: int) -> None:
        """Nobody need do a batch that is not decided here: another unit does it."""
        if batch in self._roots and self.decided(batch) is None:
            self.left.add(batch)

    def opinion(self, worker: bytes, batch: int) -> bytes | None:
        """The root a worker gave for a batch."""
        return self._roots[batch].get(worker)

    def decided(self, batch: int) -> bytes | None:
        """The root as many distinct workers hold as must, if there is one."""
        votes = Counter(self._roots[batch].values())
        return next((root for root, count in votes.items() if count >= self.needed), None)

    def wants(self, worker: bytes, batch: int) -> bool:
        """Must this worker give an opinion on the batch, and has not yet?

        It must when those before it, of whom an answer is still to come, cannot be enough.
        """
        if batch not in self._roots or batch in self.left:
            return False
        roots = self._roots[batch]
        if worker in self.lost or worker in roots:
            return False
        if self.is_split:
            return True
        live = [w for w in self.workers if w not in self.lost]
        votes = Counter(roots[w] for w in live if w in roots)
        short = self.needed - max(votes.values(), default=0)
        ahead = live[: live.index(worker)]
        return sum(w not in roots and (w, batch) not in self.slow for w in ahead) < short

    def wanted(self) -> frozenset[bytes]:
        """Workers who have something to do."""
        return frozenset(
            worker
            for worker in self.workers
            if any(self.wants(worker, batch) for batch in self._roots)
        )

    def stranded(self) -> tuple[int, ...]:
        """Batches that can get no such agreement any more."""
        found = []
        for batch, roots in self._roots.items():
            to_come = sum(w not in self.lost and w not in roots for w in self.workers)
            most = max(Counter(roots.values()).values(), default=0)
            if batch not in self.left and most < self.needed and most + to_come < self.needed:
                found.append(batch)
        return tuple(found)

    def hopeless(self) -> int | None:
        """The first such batch, if there is one."""
        return next(iter(self.stranded()), None)

    def undecided(self) -> tuple[int, ...]:
        """Batches that are neither decided nor left to another unit."""
        return tuple(b for b in self._roots if b not in self.left and self.decided(b) is None)

    def done(self, worker: bytes) -> tuple[int, ...]:
        """Batches the worker gave an opinion on, ascending."""
        return tuple(b for b, roots in self._roots.items() if worker in roots)

    def minority(self) -> frozenset[bytes]:
        """Workers who held another root than the one that was decided."""
        wrong: set[bytes] = set()
        for batch, roots in self._roots.items():
            right = self.decided(batch)
            if right is not None:
                wrong |= {worker for worker, root in roots.items() if root != right}
        return frozenset(wrong)

    def disputes(self) -> tuple[Dispute, ...]:
        """Batches with different roots, as evidence for a person."""
        return tuple(
            Dispute(batch, dict(roots))
            for batch, roots in self._roots.items()
            if len(set(roots.values())) > 1
        )

    def payable(self) -> tuple[bytes, ...] | None:
        """Workers whose receipts settle the unit, if they do: all that are not lost.

        They decide every batch, or, where the job is open-ended, one at least.
        """
        left = [worker for worker in self.workers if worker not in self.lost]
        shown = [Counter(roots[w] for w in left if w in roots) for roots in self._roots.values()]
        held = [max(votes.values(), default=0) >= self.needed for votes in shown]
        if not (any(held) if self.is_open_ended else all(held)):
            return None
        return tuple(w for w in left if any(w in roots for roots in self._roots.values()))
