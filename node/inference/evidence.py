"""What a unit of work may be checked by: its inputs and outputs, kept until it is settled.

Only units that are not compared (one of one) are kept: they are checked by sampling. The requester
keeps what it fed and got, the worker what it was fed and answered, so that neither can withhold it
to the other's harm. Must not know who may ask. Source: docs/spec/work.md, "Audits".

Invariants: batches handed over are written in their order; none is waited for by who gave it, and
all of a unit by who binds itself to its receipt.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from prsm.node.inference.feeds import NO_FEED
from prsm.node.inference.interface import Chain
from prsm.node.inference.transfer import count_chunks
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.ids import U32, Bytes32, Signature
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX, TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.audit import InputChunk, Side
from prsm.protocol.receipts import Feed
from prsm.protocol.tensors import Tensor, TensorHead
from prsm.protocol.transactions.payloads import Unit

# A batch of a generation has at most 256 KiB on each side; a node that is so far behind waits.
BEHIND_MAX: Final = 64
_LAST_S: Final = 1.0  # what is handed over is still written when the node stops

log = logging.getLogger(__name__)


class Pieces(Protocol):
    """Where pieces of bytes are kept, by unit; `storage.evidence` on disk."""

    def units(self) -> tuple[tuple[bytes, int], ...]:
        """Units of which something is kept."""
        ...

    async def keep_all(self, job: bytes, unit: int, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep named pieces once.

        Raises:
            LocalError: full, or the disk refused.
        """
        ...

    async def read(
        self, job: bytes, unit: int, name: bytes, *, start: int = 0, size: int | None = None
    ) -> bytes | None:
        """A part of a piece, or None."""
        ...

    async def drop(self, job: bytes, unit: int) -> None:
        """Forget a unit."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """One side of a batch of one worker's unit."""

    job: bytes
    unit: int
    batch: int
    side: Side
    worker: bytes


class _Name(Record, frozen=True):
    batch: U32
    side: Side
    worker: Bytes32
    part: str


class _Head(Record, frozen=True):
    tensors: tuple[TensorHead, ...]
    feed: Signature
    size: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that one worker does alone: of which unit, and what is kept of it."""

    place: Place
    sides: tuple[Sequence[Tensor], Sequence[Tensor]]
    feed: Feed

    @property
    def unit(self) -> tuple[bytes, int]:
        return (self.place.job, self.place.unit)


class Evidence:
    """Tensors of checked units, until the ledger has settled them."""

    def __init__(self, pieces: Pieces, chain: Chain) -> None:
        self._pieces, self._chain = pieces, chain
        self._behind: deque[_Batch] = deque()  # the first is being written
        self._is_writing = False
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what was handed over; drop what nobody can ask for any more, after each block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_behind)
            task_status.started()
            await self._drop_old()

    async def _drop_old(self) -> None:
        while True:
            for job, unit in self._pieces.units():
                if self._is_over(job, unit):
                    try:
                        await self._pieces.drop(job, unit)
                    except PrsmError as error:
                        log.warning("evidence of unit %d stays: %s", unit, error.what)
            await self._chain.wait_height(self._chain.height() + 1)

    async def keep(
        self, place: Place, tensors: Sequence[Tensor], feed: Signature = NO_FEED
    ) -> None:
        """Keep one side of a batch.

        Args:
            place: what it is of.
            tensors: in the order of the shard's io table.
            feed: the requester's signature, of what went in.

        Raises:
            LocalError: no room, or the disk refused.
        """
        await self._pieces.keep_all(place.job, place.unit, _pieces(place, tensors, feed))

    async def keep_batch(
        self, place: Place, spec: Unit, sides: tuple[Sequence[Tensor], Sequence[Tensor]], feed: Feed
    ) -> None:
        """Keep both sides of a batch that one worker does alone; nothing of others.

        Args:
            place: of the inputs.
            spec: the unit as locked.
            sides: inputs and outputs.
            feed: the requester's word for the inputs.

        Raises:
            LocalError: no room, or the disk refused.
        """
        if spec.needed == 1:
            await self._keep_batch(_Batch(place, sides, feed))

    async def hand_over(
        self, place: Place, spec: Unit, sides: tuple[Sequence[Tensor], Sequence[Tensor]], feed: Feed
    ) -> None:
        """As `keep_batch`, but nobody waits for the disk; what it refuses is logged.

        No checkpoint while the disk keeps up. `wait_kept` before anybody binds himself to it.
        """
        if spec.needed > 1:
            return
        batch = _Batch(place, sides, feed)
        while self._is_writing and len(self._behind) >= BEHIND_MAX:
            await self._changed.wait()
        if not self._is_writing:
            await self._write(batch)
            return
        self._behind.append(batch)
        self._wake()

    async def wait_kept(self, job: bytes, unit: int) -> None:
        """Return once all that was handed over of a unit is written."""
        await trio.lowlevel.checkpoint()
        while any(batch.unit == (job, unit) for batch in self._behind):
            await self._changed.wait()

    async def chunk(self, place: Place, chunk: int) -> tuple[InputChunk, bytes] | None:
        """One chunk as it is answered; None where nothing is kept."""
        await self.wait_kept(place.job, place.unit)
        raw = await self._pieces.read(place.job, place.unit, _name(place, "head"))
        if raw is None:
            return None
        head = decode(raw, _Head, size_max=FRAME_HEAD_BYTES_MAX)
        chunks = count_chunks(head.size)
        if chunk >= chunks:
            return None
        start, name = chunk * TENSOR_CHUNK_BYTES_MAX, _name(place, "data")
        data = await self._pieces.read(
            place.job, place.unit, name, start=start, size=TENSOR_CHUNK_BYTES_MAX
        )
        if data is None:
            return None
        first = chunk == 0
        heads, feed = (head.tensors, head.feed) if first else ((), NO_FEED)
        return InputChunk(chunk, chunks, heads, feed), data

    async def _write_behind(self) -> None:
        self._is_writing = True
        try:
            while True:
                while not self._behind:
                    await self._changed.wait()
                await self._write_first()
        finally:
            self._is_writing = False
            try:
                with trio.move_on_after(_LAST_S, shield=True):
                    while self._behind:
                        await self._write_first()
            finally:
                self._behind.clear()
                self._wake()

    async def _write_first(self) -> None:
        await self._write(self._behind[0])  # until it is written, it is waited for
        self._behind.popleft()
        self._wake()

    async def _write(self, batch: _Batch) -> None:
        try:
            await self._keep_batch(batch)
        except PrsmError as error:
            log.warning("batch %d is not kept for checks: %s", batch.feed.batch, error.what)

    async def _keep_batch(self, batch: _Batch) -> None:
        place, (inputs, outputs) = batch.place, batch.sides
        out = replace(place, side=Side.OUT)
        pieces = (*_pieces(place, inputs, batch.feed.signature), *_pieces(out, outputs, NO_FEED))
        await self._pieces.keep_all(place.job, place.unit, pieces)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _is_over(self, job_id: bytes, unit: int) -> bool:
        job = self._chain.job(job_id)
        return job is None or not job.is_open or job.verdicts[unit] is not None


def _name(place: Place, part: str) -> bytes:
    return encode(_Name(place.batch, place.side, place.worker, part))


def _pieces(
    place: Place, tensors: Sequence[Tensor], feed: Signature
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """The data, then the head: where the head is, the data is whole."""
    data = b"".join(tensor.data for tensor in tensors)
    head = _Head(tuple(tensor.head for tensor in tensors), feed, len(data))
    return (_name(place, "data"), data), (_name(place, "head"), encode(head))
