"""Rows of several micro-batches in one run, and apart again; only where that changes no bit.

A receipt speaks of each micro-batch alone, and whoever checks it runs it alone. So rows are joined
only in numbers for which this machine has shown, on golden rows of just that shape, that every row
has the same bits as in a run of few. Tensors are bytes here. Must not know who asked.
Source: docs/spec/work.md, "Serving".
"""

import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from prsm.node.inference.interface import Session
from prsm.protocol.codec import decode
from prsm.protocol.errors import PrsmError
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX
from prsm.protocol.messages.models import Shard
from prsm.protocol.messages.pipe import Golden
from prsm.protocol.tensors import Tensor, TensorHead, split_tail

log = logging.getLogger(__name__)

ROWS_MAX: Final = 32
GOLDEN_ROWS: Final = 8  # of a golden file whose batch is free
ELEMENTS_MAX: Final = 4096  # rows x tokens of one run
SIZES: Final = (1, 2, 4, 8, 16, 32)  # numbers of rows that are tried
assert max(SIZES) == ROWS_MAX
SHAPES_MAX: Final = 64  # kinds of rows remembered; the length buckets of texts are 14
_LENGTH: Final = struct.Struct(">I")

Tensors = tuple[Tensor, ...]
RowShape = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of a row, of each input


def row_shape(tensors: Sequence[Tensor]) -> RowShape:
    """What rows must share to stand in one tensor."""
    return tuple((tensor.head.name, tensor.head.shape[1:]) for tensor in tensors)


def rows_of(tensors: Sequence[Tensor]) -> int:
    """Rows of a micro-batch."""
    shape = tensors[0].head.shape if tensors else ()
    return shape[0] if shape else 1


def has_rows(shard: Shard) -> bool:
    """Is the first axis of every input and output that of the rows?"""
    first = shard.inputs[0].shape[:1]
    tensors = (*shard.inputs, *shard.outputs)
    return bool(first) and isinstance(first[0], str) and all(t.shape[:1] == first for t in tensors)


def join(parts: Sequence[Tensors]) -> Tensors:
    """Put rows of one shape one behind the other."""
    total = sum(rows_of(part) for part in parts)
    return tuple(
        Tensor(
            TensorHead(same[0].head.name, same[0].head.dtype, (total, *same[0].head.shape[1:])),
            b"".join(tensor.data for tensor in same),
        )
        for same in zip(*parts, strict=True)
    )


def take_rows(tensors: Sequence[Tensor], first: int, count: int) -> Tensors:
    """Rows first … first + count - 1 of every tensor."""
    found = []
    for tensor in tensors:
        head = tensor.head
        size = len(tensor.data) // head.shape[0]
        shape = (count, *head.shape[1:])
        data = bytes(tensor.data[first * size : (first + count) * size])
        found.append(Tensor(TensorHead(head.name, head.dtype, shape), data))
    return tuple(found)


def read_golden(path: Path) -> Tensors:
    """The rows of a golden file: u32 length | canonical `Golden` | raw tensors.

    Raises:
        WireError: it is none.
        OSError: it cannot be read.
    """
    raw = path.read_bytes()
    (length,) = _LENGTH.unpack_from(raw)
    head = raw[_LENGTH.size : _LENGTH.size + length]
    golden = decode(head, Golden, size_max=FRAME_HEAD_BYTES_MAX)
    return split_tail(golden.tensors, memoryview(raw)[_LENGTH.size + length :])


class Joiner:
    """What may be joined on one loaded shard; proved when it is first asked for.

    Args:
        golden: rows with varied values.
    """

    def __init__(self, golden: Tensors) -> None:
        self._golden = golden
        self._proved: dict[RowShape, frozenset[int]] = {}

    def sizes(self, shape: RowShape) -> frozenset[int] | None:
        """Numbers of rows whose bits are alike; None while that is not known."""
        return self._proved.get(shape)

    async def prove(self, session: Session, tensors: Tensors) -> frozenset[int]:
        """Run golden rows in the shape of these, in several numbers, and keep what is alike."""
        shape = row_shape(tensors)
        most = min(ROWS_MAX, max(1, ELEMENTS_MAX // _elements(tensors)))
        tried = [size for size in SIZES if size <= most]
        rows = self._rows_like(tensors, tried[-1])
        found = await _alike(session, rows, tried)
        if len(self._proved) >= SHAPES_MAX:
            del self._proved[next(iter(self._proved))]
        self._proved[shape] = found
        return found

    def _rows_like(self, tensors: Tensors, count: int) -> Tensors:
        """Golden rows, each repeated or cut to the wanted length, no two of one block alike."""
        golden = {tensor.head.name: tensor for tensor in self._golden}
        found = []
        for tensor in tensors:
            source = golden[tensor.head.name]
            have = source.head.shape[0]
            size = len(tensor.data) // rows_of(tensors)
            step = len(source.data) // have
            rows = [bytes(source.data[i * step : (i + 1) * step]) for i in range(have)]
            data = b"".join(
                (rows[i % have] * (size // max(1, step) + 1))[:size] for i in range(count)
            )
            head = TensorHead(tensor.head.name, tensor.head.dtype, (count, *tensor.head.shape[1:]))
            found.append(Tensor(head, data))
        return tuple(found)


def _elements(tensors: Tensors) -> int:
    """Of a row of the first input."""
    count = 1
    for size in tensors[0].head.shape[1:]:
        count *= size
    return max(1, count)


async def _alike(session: Session, rows: Tensors, sizes: Sequence[int]) -> frozenset[int]:
    """Numbers of rows in which every golden row has the bits it has in the largest run.

    Each is tried on all of the rows: one alone could hold what moves the others (a maximum over
    the run), and look as if nothing did. A run that fails proves nothing for its number.
    """
    found = set[int]()
    try:
        whole = await session.run(rows)
        for size in sizes:
            starts = range(0, max(1, min(GOLDEN_ROWS, sizes[-1]) - size + 1), size)
            if [
                start for start in starts if not await _is_alike(session, rows, whole, start, size)
            ]:
                continue
            found.add(size)
    except PrsmError as error:
        log.info("rows are not joined: %s", error.what)
    return frozenset(found)


async def _is_alike(session: Session, rows: Tensors, whole: Tensors, start: int, size: int) -> bool:
    part = await session.run(take_rows(rows, start, size))
    if any(tensor.head.shape[:1] != (size,) for tensor in part):
        return False
    if any(tensor.head.shape[:1] != (rows_of(rows),) for tensor in whole):
        return False
    return [t.data for t in part] == [t.data for t in take_rows(whole, start, size)]
