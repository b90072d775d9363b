"""What a unit of work may be checked by: its inputs and outputs, kept until it is settled.

Only units that are not compared (one of one) are kept: they are checked by sampling. The requester
keeps what it fed and got, the worker what it was fed and answered, so that neither can withhold it
to the other's harm. Must not know who may ask. Source: docs/spec/work.md, "Audits".
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

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

log = logging.getLogger(__name__)


class Pieces(Protocol):
    """Where pieces of bytes are kept, by unit; `storage.evidence` on disk."""

    def units(self) -> tuple[tuple[bytes, int], ...]:
        """Units of which something is kept."""
        ...

    def names(self, job: bytes, unit: int) -> tuple[bytes, ...]:
        """Names of the pieces of a unit."""
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


class Evidence:
    """Tensors of checked units, until the ledger has settled them."""

    def __init__(self, pieces: Pieces, chain: Chain) -> None:
        self._pieces, self._chain = pieces, chain

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drop what nobody can ask for any more, after each block."""
        task_status.started()
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
        if spec.needed > 1:
            return
        out = replace(place, side=Side.OUT)
        pieces = (*_pieces(place, sides[0], feed.signature), *_pieces(out, sides[1], NO_FEED))
        await self._pieces.keep_all(place.job, place.unit, pieces)

    def batches(self, job: bytes, unit: int, worker: bytes) -> tuple[int, ...]:
        """Batches of a unit that the worker answered, ascending; as far as is kept here."""
        found = []
        for name in self._pieces.names(job, unit):
            piece = decode(name, _Name, size_max=len(name))
            if (piece.side, piece.worker, piece.part) == (Side.OUT, worker, "head"):
                found.append(piece.batch)
        return tuple(sorted(found))

    async def chunk(self, place: Place, chunk: int) -> tuple[InputChunk, bytes] | None:
        """One chunk as it is answered; None where nothing is kept."""
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
