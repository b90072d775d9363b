"""The score of a model on a dataset: counted by everybody alike, bound into the roots of the work.

An evaluating unit's batches are slices of a dataset. The output root of a batch covers the model's
outputs and the score of that slice, so that two workers who agree on a root agree on the score.
Source: docs/spec/work.md, "Evaluation".
"""

import struct
from collections.abc import Sequence
from math import isqrt
from typing import Annotated, Final

import msgspec

from prsm.protocol import merkle
from prsm.protocol.codec import Record, encode
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import U32, Digest, UInt
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.slices import ROWS_MAX
from prsm.protocol.tensors import Dtype, Tensor

MILLION: Final = 1_000_000
_FORMATS: Final = {
    Dtype.F32: "f",
    Dtype.F16: "e",
    Dtype.U8: "B",
    Dtype.I8: "b",
    Dtype.I32: "i",
    Dtype.I64: "q",
}
# z of a two-sided 95 % interval, squared, in millionths: 1.959964^2.
_Z2: Final = 3_841_459
CELLS_MAX: Final = 2**24  # outputs of one slice that are compared: a second of Python


class NotScorable(LocalError):
    """Outputs from which no class can be read."""

    reason = "not_scorable"


class ScoreRow(Record, frozen=True):
    """How many rows of one slice a model got right."""

    dataset: CidBytes
    slice: U32
    rows: UInt
    correct: Annotated[int, msgspec.Meta(ge=0, le=ROWS_MAX)]


def score_root(outputs: bytes, row: ScoreRow) -> Digest:
    """The output root of an evaluated slice: over the root of the model's outputs, and the score.

    Args:
        outputs: Merkle root over the row roots of the model's outputs, as of any other work.
        row: the score.
    """
    leaf = merkle.leaf_hash(encode(("score", *msgspec.structs.astuple(row))))
    return merkle.root_of_leaves([Digest(outputs), leaf])


def count_correct(output: Tensor, labels: Tensor) -> int:
    """Rows whose predicted class is their label.

    Args:
        output: the model's first output: scores (rows, classes), the highest is the class and ties
            go to the lower one; or classes (rows,) of whole numbers.
        labels: int64 (rows,).

    Raises:
        NotScorable: another form, other rows, or more than 16,777,216 scores.
    """
    wanted = struct.unpack(f"<{labels.head.shape[0]}q", labels.data)
    head = output.head
    form = _FORMATS.get(head.dtype)
    whole = head.dtype in (Dtype.I32, Dtype.I64, Dtype.U8, Dtype.I8)
    is_classes = len(head.shape) == 1 and whole
    is_scores = len(head.shape) == 2 and head.shape[-1] > 0
    if form is None or not (is_classes or is_scores) or head.shape[0] != len(wanted):
        raise NotScorable(
            f"{head.name} is {head.dtype.name.lower()} {list(head.shape)}, classes of "
            f"{len(wanted)} rows are read from scores [rows, classes] or whole numbers [rows]"
        )
    if output.head.nbytes // struct.calcsize(form) > CELLS_MAX:
        raise NotScorable(f"{head.name} has more than {CELLS_MAX} numbers in one slice")
    if is_classes:
        given: Sequence[float] = struct.unpack(f"<{len(wanted)}{form}", output.data)
        return sum(a == b for a, b in zip(given, wanted, strict=True))
    rows = struct.iter_unpack(f"<{head.shape[1]}{form}", output.data)
    return sum(row.index(max(row)) == label for row, label in zip(rows, wanted, strict=True))


def wilson(correct: int, total: int) -> tuple[int, int]:
    """The 95 % interval of Wilson around a share, in millionths, rounded outwards.

    Whole numbers alone, so that every node shows the same.

    Args:
        correct: rows that were right.
        total: rows; none gives the whole range.
    """
    if not total:
        return 0, MILLION
    # (p + z2/2n ± z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n), all times n and a million.
    middle = 2 * correct * MILLION + _Z2
    root = isqrt(_Z2 * (_Z2 * total + 4 * correct * (total - correct) * MILLION) // total) + 1
    below = 2 * (total * MILLION + _Z2)
    low = (middle - root) * MILLION // below
    high = -(-(middle + root) * MILLION // below)
    return max(0, low), min(MILLION, high)
