"""One unit of a locked job that this node works on: what came in, what was done, what it cost.

State only; no tasks, no network. Invariants: a batch is unanswered from its first chunk until
the last chunk of its result, or its failure, is queued for the requester; at most `credit`
batches are unanswered; the inputs held for them are inside the reserve.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from prsm.consensus.ledger.records import Job
from prsm.node.inference.feeds import Target, feed_over
from prsm.node.inference.transfer import Assembly, batch_bytes, bytes_due, check_heads, row_axes
from prsm.node.inference.verify import batch_root
from prsm.node.inference.worked import receipt_of
from prsm.node.net.interface import Busy
from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId, Signature
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import WorkerFailed
from prsm.protocol.messages.work import Push
from prsm.protocol.receipts import BatchResult, Feed, WorkReceipt
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.payloads import Unit

Inputs = tuple[int, tuple[Tensor, ...]]  # batch and its tensors


@dataclass(frozen=True, slots=True)
class Reserve:
    """Bytes of inputs that may wait here: of all peers, and of one."""

    all_bytes: int
    peer_bytes: int


@dataclass(slots=True, eq=False)
class Lease:
    """Work on one unit for one requester."""

    peer: PeerId
    job: Job
    unit: int
    shard: Shard
    credit: int
    started_height: int
    queue: trio.MemorySendChannel[Inputs]
    begun_ms: int = 0  # block time
    class_id: bytes = b""
    done: dict[int, BatchResult] = field(default_factory=dict)
    compute_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    is_closed: bool = False
    is_held: bool = True  # until what was done is claimed
    rows: dict[int, int] = field(default_factory=dict)  # of the batches that came
    due: dict[int, int] = field(default_factory=dict)  # bytes their outputs have, at most
    words: dict[int, Signature] = field(default_factory=dict)  # of the feeds of these batches
    feeds: dict[int, Feed] = field(default_factory=dict)  # the requester's, of what was done
    cancelled: set[int] = field(default_factory=set)  # batches that are not wanted any more
    _sizes: dict[int, int] = field(default_factory=dict)  # unanswered batches, bytes of inputs
    _arriving: dict[int, Assembly] = field(default_factory=dict)
    _scopes: dict[int, trio.CancelScope] = field(default_factory=dict)  # of batches in work

    @property
    def key(self) -> tuple[bytes, int]:
        """Names the unit."""
        return (self.job.job, self.unit)

    def claim_ms(self, most: int) -> int:
        """How long before the deadline it is claimed: a quarter of a short job's time."""
        return min(most, (self.job.deadline_ms - self.begun_ms) // 4)

    @property
    def spec(self) -> Unit:
        """The unit as locked."""
        return self.job.units[self.unit]

    @property
    def waiting_bytes(self) -> int:
        """Bytes of inputs held for unanswered batches."""
        return sum(self._sizes.values())

    @property
    def unanswered(self) -> int:
        """Batches that came and have no answer yet."""
        return len(self._sizes)

    @property
    def is_complete(self) -> bool:
        """Was every micro-batch of the unit done here?"""
        return len(self.done) == self.spec.count

    @property
    def is_idle(self) -> bool:
        """Is nothing in work, nor on its way out?"""
        return not self._scopes

    def take(self, push: Push, data: bytes, *, room: Reserve) -> bool:
        """Take a chunk; False when it belongs to nothing that is awaited.

        Raises:
            WireError: no such batch, or chunks that do not fit together.
            InputMismatch: tensors that are not those of the io table.
            BatchTooLarge: over the bound of one micro-batch.
            Busy: beyond the credit, or no room for so many bytes now.
        """
        batches = self.spec.batches
        if push.batch not in batches:
            raise WireError(
                f"batch {push.batch}, the unit has {batches.start} to {batches.stop - 1}"
            )
        if push.chunk == 0:
            if any(push.batch in known for known in (self.done, self.cancelled, self._sizes)):
                return False
            self._begin(push, room)
        assembly = self._arriving.get(push.batch)
        if assembly is None:
            return False
        tensors = assembly.add(push.chunk, data)
        if tensors is not None:
            del self._arriving[push.batch]
            self.queue.send_nowait((push.batch, tensors))  # has room for `credit`
        return True

    def check_made(self, batch: int, outputs: tuple[Tensor, ...]) -> None:
        """Are the outputs those for which room was set aside? No requester takes others.

        Raises:
            BatchTooLarge: over the bound of one micro-batch.
            WorkerFailed: more bytes than the io table says.
        """
        size = batch_bytes([tensor.head for tensor in outputs])
        if size > self.due[batch]:
            raise WorkerFailed(f"{size} bytes of outputs, the io table says {self.due[batch]}")

    def forget(self, batch: int) -> None:
        """The batch has its answer."""
        self._sizes.pop(batch, None)
        self._arriving.pop(batch, None)

    @contextmanager
    def scope_of(self, batch: int) -> Iterator[None]:
        """What `cancel` ends: the work on one micro-batch."""
        with trio.CancelScope() as scope:
            self._scopes[batch] = scope
            try:
                yield
            finally:
                del self._scopes[batch]

    def cancel(self, batch: int) -> None:
        """The requester does not want it any more; done or unknown, nothing happens."""
        if batch in self.done or batch not in self._sizes:
            return
        self.cancelled.add(batch)
        if batch in self._scopes:
            self._scopes[batch].cancel()  # its task forgets it
        elif batch in self._arriving:
            self.forget(batch)

    def close(self) -> None:
        """Take no more; what is queued is dropped, what runs is ended."""
        self.is_closed = True
        self._sizes.clear()
        self._arriving.clear()
        self.queue.close()
        for scope in self._scopes.values():
            scope.cancel()

    def feed(self, batch: int, tensors: tuple[Tensor, ...]) -> Feed:
        """The requester's word for a batch that came, not verified."""
        target = Target(self.job.job, self.unit, batch, self.spec.stage)
        return feed_over(target, tensors, self.words[batch])

    def note(self, feed: Feed, outputs: tuple[Tensor, ...], *, bytes_in: int, cpu_us: int) -> None:
        """A batch was done: what it was made from, what came out, what it cost."""
        self.compute_us += cpu_us
        self.bytes_in += bytes_in
        self.bytes_out += sum(len(tensor.data) for tensor in outputs)
        self.feeds[feed.batch] = feed
        self.done[feed.batch] = BatchResult(
            index=feed.batch,
            rows=self.rows[feed.batch],
            input_root=feed.input_root,
            side_root=feed.side_root,
            output_root=batch_root(outputs),
        )

    def receipt(self, *, chain_id: bytes, worker: bytes, height: int) -> WorkReceipt:
        """What was done so far, not signed yet."""
        batches = [self.done[batch] for batch in sorted(self.done)]
        return receipt_of(self, batches, chain_id=chain_id, worker=worker, height=height)

    def _begin(self, push: Push, room: Reserve) -> None:
        if len(self._sizes) >= self.credit:
            raise Busy(f"{len(self._sizes)} micro-batches have no answer, credit is {self.credit}")
        rows = self._rows_of(push)
        axes = row_axes(self.shard.inputs, rows)
        check_heads(push.tensors, self.shard.inputs, axes=axes)
        assembly = Assembly(push.tensors, push.chunks)
        if assembly.size > min(room.all_bytes, room.peer_bytes):
            raise Busy(f"no room for {assembly.size} bytes of inputs now")
        self.rows[push.batch] = rows
        self.due[push.batch] = bytes_due(self.shard.outputs, axes)
        self.words[push.batch] = push.feed
        self._sizes[push.batch] = assembly.size
        self._arriving[push.batch] = assembly

    def _rows_of(self, push: Push) -> int:
        """Rows a batch must have; where the lock is open-ended, any number up to that."""
        most = self.job.batch_rows[push.batch]
        shape = push.tensors[0].shape if push.tensors else ()
        return shape[0] if self.job.is_open_ended and shape and 0 < shape[0] < most else most
