"""Tensors on the wire: name, dtype, shape in the head; raw little-endian bytes in the tail.

Knows sizes before memory is taken. Must not know numpy: the daemon handles tensors as bytes.
"""

from enum import IntEnum
from math import prod
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.errors import WireError
from prsm.protocol.limits import NAME_BYTES_MAX, TENSOR_BYTES_MAX, TENSOR_DIM_MAX, TENSOR_RANK_MAX


class Dtype(IntEnum):
    """Element types a boundary may carry; numbers as in ONNX TensorProto.DataType."""

    F32 = 1
    U8 = 2
    I8 = 3
    I32 = 6
    I64 = 7
    BOOL = 9
    F16 = 10


ITEM_BYTES: Final = {
    Dtype.F32: 4,
    Dtype.U8: 1,
    Dtype.I8: 1,
    Dtype.I32: 4,
    Dtype.I64: 8,
    Dtype.BOOL: 1,
    Dtype.F16: 2,
}
# Each row is hashed, and a shape such as (2^31 - 1, 0) would announce them for nothing.
ROWS_EMPTY_MAX: Final = 4096
_Dim = Annotated[int, msgspec.Meta(ge=0, le=TENSOR_DIM_MAX)]


class TensorHead(Record, frozen=True):
    """What a tensor is; its bytes travel raw, C order, little-endian."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=4 * NAME_BYTES_MAX)]
    dtype: Dtype
    shape: Annotated[tuple[_Dim, ...], msgspec.Meta(max_length=TENSOR_RANK_MAX)]

    @property
    def nbytes(self) -> int:
        """Bytes of the raw tensor: product of the dimensions times the item size."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


class Tensor(msgspec.Struct, frozen=True):
    """A named array as bytes; `data` has exactly `head.nbytes` bytes."""

    head: TensorHead
    data: bytes


def split_tail(heads: tuple[TensorHead, ...], tail: bytes | memoryview) -> tuple[Tensor, ...]:
    """Cut a raw tail into the tensors its heads announce.

    Raises:
        WireError: a tensor over the limit, rows without bytes over theirs, or a tail of another
            length than announced.
    """
    tensors, offset = [], 0
    for head in heads:
        size = head.nbytes
        if size > TENSOR_BYTES_MAX:
            raise WireError(f"tensor {head.name} of {size} bytes, at most {TENSOR_BYTES_MAX}")
        if not size and head.shape[0] > ROWS_EMPTY_MAX:
            raise WireError(f"{head.shape[0]} rows without a byte, at most {ROWS_EMPTY_MAX}")
        tensors.append(Tensor(head, bytes(tail[offset : offset + size])))
        offset += size
    if offset != len(tail):
        raise WireError(f"tail of {len(tail)} bytes, the heads announce {offset}")
    return tuple(tensors)
