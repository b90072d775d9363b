"""Tensors in chunks: cut for the wire, checked against an io table, put together again.

Everything is checked before memory is taken: names, dtypes, shapes, sizes. Must not know peers
or jobs. Values are not looked at (the daemon has no numpy): a worker refuses NaN and infinity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.limits import TENSOR_CHUNK_BYTES_MAX
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import InputMismatch
from prsm.protocol.messages.work import BATCH_BYTES_MAX
from prsm.protocol.tensors import ITEM_BYTES, Tensor, TensorHead, split_tail


class BatchTooLarge(LocalError):
    """The tensors of one micro-batch are over the bound of the wire."""

    reason = "batch_too_large"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a micro-batch on its way; only the first names the tensors."""

    chunk: int
    chunks: int
    heads: tuple[TensorHead, ...]
    data: bytes


def batch_bytes(heads: Sequence[TensorHead]) -> int:
    """Bytes of all tensors together.

    Raises:
        BatchTooLarge: more than one micro-batch may have.
    """
    size = sum(head.nbytes for head in heads)
    if size > BATCH_BYTES_MAX:
        raise BatchTooLarge(
            f"tensors of {size} bytes in one micro-batch, at most {BATCH_BYTES_MAX}",
            hint="send fewer rows in a micro-batch",
        )
    return size


def bytes_due(specs: Sequence[TensorSpec], axes: Mapping[str, int]) -> int:
    """Bytes of the tensors of an io table; with an axis unknown, all a micro-batch may have."""
    size = 0
    for spec in specs:
        axes_due = [axis if isinstance(axis, int) else axes.get(axis) for axis in spec.shape]
        known = [axis for axis in axes_due if axis is not None]
        if len(known) < len(axes_due):
            return BATCH_BYTES_MAX
        size += prod(known) * ITEM_BYTES[spec.dtype]
    return min(size, BATCH_BYTES_MAX)


def count_chunks(size: int) -> int:
    """How many chunks that many bytes travel in; nothing at all is one empty chunk."""
    return max(1, -(-size // TENSOR_CHUNK_BYTES_MAX))


def cut(tensors: Sequence[Tensor]) -> Iterator[Chunk]:
    """Yield the chunks of a micro-batch; a chunk is copied when it is due, not before.

    Raises:
        BatchTooLarge: more bytes than one micro-batch may have.
    """
    heads = tuple(tensor.head for tensor in tensors)
    chunks = count_chunks(batch_bytes(heads))
    index, room, parts = 0, TENSOR_CHUNK_BYTES_MAX, list[memoryview]()
    for tensor in tensors:
        rest = memoryview(tensor.data)
        while rest:
            parts.append(rest[:room])
            room -= len(parts[-1])
            rest = rest[len(parts[-1]) :]
            if room == 0 and index < chunks - 1:
                yield Chunk(index, chunks, heads if index == 0 else (), b"".join(parts))
                index, room, parts = index + 1, TENSOR_CHUNK_BYTES_MAX, []
    assert index == chunks - 1
    yield Chunk(index, chunks, heads if index == 0 else (), b"".join(parts))


class Assembly:
    """A micro-batch that arrives in chunks, in their order, on one stream."""

    def __init__(self, heads: tuple[TensorHead, ...], chunks: int) -> None:
        """Begin with what the first chunk announces; the caller has checked the heads.

        Raises:
            WireError: another number of chunks than those tensors have.
            BatchTooLarge: more bytes than one micro-batch may have.
        """
        self._heads = heads
        self.size = batch_bytes(heads)
        self._chunks = count_chunks(self.size)
        if chunks != self._chunks:
            raise WireError(f"{chunks} chunks for {self.size} bytes, {self._chunks} are due")
        self._next = 0
        self._data = bytearray()

    def add(self, chunk: int, data: bytes) -> tuple[Tensor, ...] | None:
        """Take the next chunk; the tensors when it was the last.

        Raises:
            WireError: out of order, or of another size than due.
        """
        if chunk != self._next:
            raise WireError(f"chunk {chunk}, {self._next} is due")
        due = min(TENSOR_CHUNK_BYTES_MAX, self.size - len(self._data))
        if len(data) != due:
            raise WireError(f"chunk {chunk} of {len(data)} bytes, {due} are due")
        self._data += data
        self._next += 1
        if self._next < self._chunks:
            return None
        return split_tail(self._heads, memoryview(self._data))


def check_heads(
    heads: Sequence[TensorHead], specs: Sequence[TensorSpec], *, axes: dict[str, int]
) -> None:
    """Compare announced tensors with an io table: number, order, names, dtypes, shapes.

    Args:
        heads: as announced.
        specs: of the shard, from the manifest.
        axes: sizes of free axes known so far, by name; new ones are added.

    Raises:
        InputMismatch: names the tensor, what it has and what the table says.
        BatchTooLarge: all of them together are over the bound.
    """
    names = [head.name for head in heads]
    wanted = [spec.name for spec in specs]
    if names != wanted:
        raise InputMismatch(f"tensors {names}, the io table says {wanted}")
    for head, spec in zip(heads, specs, strict=True):
        if head.dtype != spec.dtype:
            raise InputMismatch(f"{head.name} is {head.dtype.name}, not {spec.dtype.name}")
        if len(head.shape) != len(spec.shape):
            raise InputMismatch(f"{head.name} has shape {head.shape}, not {spec.shape}")
        for size, axis in zip(head.shape, spec.shape, strict=True):
            due = axis if isinstance(axis, int) else axes.setdefault(axis, size)
            if size != due:
                raise InputMismatch(f"{head.name} has shape {head.shape}: {axis} is {due}")
    batch_bytes(heads)


def row_axes(specs: Sequence[TensorSpec], rows: int) -> dict[str, int]:
    """Bind the free axis of rows: the first axis of a shard's first input."""
    first = specs[0].shape[0] if specs and specs[0].shape else rows
    return {first: rows} if isinstance(first, str) else {}
