"""Who is right: opinions of up to three workers on the micro-batches of one unit.

Pure. Two equal output roots from distinct workers decide a batch; where the first two differ,
the third is asked for that batch; where one is lost, the third does every batch, so that two
full receipts exist for the ledger. Source: docs/spec/work.md, "Redundancy".
"""

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

    Invariants: a worker has one opinion on a batch, its first; a lost worker is asked nothing
    more; a decided batch stays decided.
    """

    workers: tuple[bytes, ...]  # primary, replica, third
    batches: int
    lost: dict[bytes, str] = field(default_factory=dict)
    is_split: bool = False  # the first two are of different determinism classes
    _roots: list[dict[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._roots = [{} for _ in range(self.batches)]

    def add(self, worker: bytes, batch: int, root: bytes) -> None:
        """Take a worker's opinion on a batch."""
        assert worker in self.workers
        self._roots[batch].setdefault(worker, root)

    def lose(self, worker: bytes, why: str) -> None:
        """The worker is gone, or will show no receipt; what it said still counts for bytes."""
        self.lost.setdefault(worker, why)

    def opinion(self, worker: bytes, batch: int) -> bytes | None:
        """The root a worker gave for a batch."""
        return self._roots[batch].get(worker)

    def decided(self, batch: int) -> bytes | None:
        """The root two distinct workers hold, if there is one."""
        held = list(self._roots[batch].values())
        return next((root for root in held if held.count(root) >= OPINIONS_NEEDED), None)

    def wants(self, worker: bytes, batch: int) -> bool:
        """Must this worker give an opinion on the batch, and has not yet?"""
        if worker in self.lost or worker in self._roots[batch]:
            return False
        if worker in self.workers[:OPINIONS_NEEDED]:
            return True
        is_short = self.is_split or any(w in self.lost for w in self.workers[:OPINIONS_NEEDED])
        return is_short or len(set(self._roots[batch].values())) > 1

    def wanted(self) -> frozenset[bytes]:
        """Workers who have something to do."""
        return frozenset(
            worker
            for worker in self.workers
            if any(self.wants(worker, batch) for batch in range(self.batches))
        )

    def hopeless(self) -> int | None:
        """A batch that can get no two equal opinions any more, if there is one."""
        for batch, roots in enumerate(self._roots):
            to_come = sum(w not in self.lost and w not in roots for w in self.workers)
            if self.decided(batch) is None and to_come < (1 if roots else OPINIONS_NEEDED):
                return batch
        return None

    def done(self, worker: bytes) -> tuple[int, ...]:
        """Batches the worker gave an opinion on, ascending."""
        return tuple(b for b, roots in enumerate(self._roots) if worker in roots)

    def minority(self) -> frozenset[bytes]:
        """Workers who held another root than the one that was decided."""
        wrong: set[bytes] = set()
        for batch, roots in enumerate(self._roots):
            right = self.decided(batch)
            if right is not None:
                wrong |= {worker for worker, root in roots.items() if root != right}
        return frozenset(wrong)

    def disputes(self) -> tuple[Dispute, ...]:
        """Batches with different roots, as evidence for a person."""
        return tuple(
            Dispute(batch, dict(roots))
            for batch, roots in enumerate(self._roots)
            if len(set(roots.values())) > 1
        )

    def payable(self) -> tuple[bytes, ...] | None:
        """Workers whose receipts decide every batch, if there are such: all that are not lost."""
        left = [worker for worker in self.workers if worker not in self.lost]
        for roots in self._roots:
            held = [roots[worker] for worker in left if worker in roots]
            if not any(held.count(root) >= OPINIONS_NEEDED for root in held):
                return None
        return tuple(worker for worker in left if any(worker in roots for roots in self._roots))
