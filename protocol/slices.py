"""Tensors in micro-batches as one file: a registered dataset, and what a plan keeps of a step.

Knows: heads, offsets, bounds. Must not know: where the file lies, what a tensor means beyond the
labels of a dataset. Source: docs/spec/storage.md, "Slices".

    b"PRSMSLC1" | u32 length | canonical `SlicesHead` | raw tensors of slice 0, of slice 1, ...
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.limits import (
    FRAME_HEAD_BYTES_MAX,
    TENSOR_BYTES_MAX,
    TENSORS_PER_MESSAGE_MAX,
    WORK_BATCHES_MAX,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead, split_tail

MAGIC: Final = b"PRSMSLC1"
LABEL: Final = "label"  # the last tensor of every slice of a dataset: int64 (rows,)
SLICE_BYTES_MAX: Final = TENSOR_BYTES_MAX  # a slice travels as one micro-batch
ROWS_MAX: Final = 1_000_000  # of one slice, as in a lock
SLICES_MAX: Final = 256  # as batches: one unit of three workers holds them
assert SLICES_MAX <= WORK_BATCHES_MAX
_LENGTH: Final = struct.Struct(">I")
PREFIX_BYTES: Final = len(MAGIC) + _LENGTH.size


class BadSlices(LocalError):
    """Bytes that are no file of slices, or slices that are no dataset."""

    reason = "bad_dataset"


class Slice(Record, frozen=True):
    """One micro-batch: rows along the first axis of every tensor."""

    rows: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)]
    tensors: Annotated[
        tuple[TensorHead, ...], msgspec.Meta(min_length=1, max_length=TENSORS_PER_MESSAGE_MAX)
    ]

    @property
    def nbytes(self) -> int:
        """Raw bytes of all its tensors."""
        return sum(head.nbytes for head in self.tensors)


class SlicesHead(Record, frozen=True):
    """What is in the file, before any of it is read."""

    slices: Annotated[tuple[Slice, ...], msgspec.Meta(min_length=1, max_length=SLICES_MAX)]

    @property
    def rows(self) -> int:
        """Rows of all slices."""
        return sum(part.rows for part in self.slices)

    @property
    def batch_rows(self) -> tuple[int, ...]:
        """Rows of each slice, as a lock names them."""
        return tuple(part.rows for part in self.slices)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each slice lies in the file."""

    head: SlicesHead
    start: int  # byte of the first tensor

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + sum(part.nbytes for part in self.head.slices)

    def place(self, index: int) -> tuple[int, int]:
        """First byte and length of a slice."""
        before = sum(part.nbytes for part in self.head.slices[:index])
        return self.start + before, self.head.slices[index].nbytes

    def read(self, index: int, raw: bytes) -> tuple[Tensor, ...]:
        """The tensors of a slice from exactly its bytes.

        Raises:
            WireError: another length, or a tensor over its limit.
        """
        return split_tail(self.head.slices[index].tensors, raw)


def encode_slices(batches: Sequence[Sequence[Tensor]]) -> bytes:
    """Write a file of slices.

    Raises:
        BadSlices: no slice, a tensor without rows or with other rows than its neighbours, bytes
            of another length than the head announces, or over a limit.
    """
    for batch in batches:
        for tensor in batch:
            if len(tensor.data) != tensor.head.nbytes:
                raise BadSlices(
                    f"{tensor.head.name} has {len(tensor.data)} bytes, its shape needs "
                    f"{tensor.head.nbytes}"
                )
    parts = tuple(_slice(tuple(tensor.head for tensor in batch)) for batch in batches)
    if not 1 <= len(parts) <= SLICES_MAX:
        raise BadSlices(f"{len(parts)} slices, 1 to {SLICES_MAX} go")
    head = SlicesHead(parts)
    check(head)
    raw = encode(head)
    data = (tensor.data for batch in batches for tensor in batch)
    return b"".join((MAGIC, _LENGTH.pack(len(raw)), raw, *data))


def head_bytes(prefix: bytes) -> int:
    """Bytes of the head, from the first `PREFIX_BYTES` of a file.

    Raises:
        BadSlices: another kind of file, or a head over its limit.
    """
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise BadSlices("this is no file of slices", hint=_HINT)
    (length,) = _LENGTH.unpack_from(prefix, len(MAGIC))
    if length > FRAME_HEAD_BYTES_MAX:
        raise BadSlices(f"a head of {length} bytes, at most {FRAME_HEAD_BYTES_MAX}")
    return int(length)


def read_layout(raw: bytes) -> Layout:
    """Read what a file holds from its beginning; what follows the head may be missing.

    Raises:
        BadSlices: another kind of file, or cut short.
        WireError: a head that is not canonical or out of bounds.
    """
    end = PREFIX_BYTES + head_bytes(raw[:PREFIX_BYTES])
    if len(raw) < end:
        raise BadSlices(f"the head ends at byte {end}, the file at {len(raw)}")
    head = decode(raw[PREFIX_BYTES:end], SlicesHead, size_max=FRAME_HEAD_BYTES_MAX)
    check(head)
    return Layout(head, end)


def check(head: SlicesHead) -> None:
    """Hold a head against what its fields alone cannot say.

    Raises:
        BadSlices: rows that differ inside a slice, two tensors of one name, a slice over 64 MiB.
    """
    for index, part in enumerate(head.slices):
        names = [tensor.name for tensor in part.tensors]
        if len(set(names)) != len(names):
            raise BadSlices(f"slice {index} has two tensors of one name: {sorted(names)}")
        if any(tensor.shape[:1] != (part.rows,) for tensor in part.tensors):
            shapes = {tensor.name: list(tensor.shape) for tensor in part.tensors}
            raise BadSlices(f"slice {index} has {part.rows} rows, its tensors are {shapes}")
        if part.nbytes > SLICE_BYTES_MAX:
            raise BadSlices(f"slice {index} of {part.nbytes} bytes, at most {SLICE_BYTES_MAX}")


def check_dataset(head: SlicesHead) -> None:
    """Check that slices can be evaluated: the same inputs in each, and labels last.

    Raises:
        BadSlices: labels are missing or of another form, or a slice has other inputs.
    """
    first = [(t.name, t.dtype, t.shape[1:]) for t in head.slices[0].tensors]
    for index, part in enumerate(head.slices):
        label = part.tensors[-1]
        if (label.name, label.dtype, label.shape) != (LABEL, Dtype.I64, (part.rows,)):
            raise BadSlices(
                f"the last tensor of slice {index} is {label.name!r} {list(label.shape)}, not "
                f"{LABEL!r} of int64 [{part.rows}]",
                hint=_HINT,
            )
        if len(part.tensors) < 2:
            raise BadSlices(f"slice {index} has labels and no input", hint=_HINT)
        # Free axes, such as a padded length, may differ between slices: names and dtypes may not.
        if [(t.name, t.dtype) for t in part.tensors] != [row[:2] for row in first]:
            raise BadSlices(f"slice {index} has other inputs than slice 0", hint=_HINT)


def _slice(heads: tuple[TensorHead, ...]) -> Slice:
    if not heads or not heads[0].shape or not 1 <= heads[0].shape[0] <= ROWS_MAX:
        raise BadSlices(f"a slice needs tensors with 1 to {ROWS_MAX} rows")
    return Slice(heads[0].shape[0], heads)


_HINT: Final = "the form is in docs/spec/storage.md, Slices"
