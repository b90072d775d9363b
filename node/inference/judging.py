"""What a check says of a worker's batch: equal, close enough, or different.

Inside a determinism class bits decide; across classes the distance of float tensors does, and of
integers nobody can tell. Must not know who asked. Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prsm.node.inference.divergence import Boundary
from prsm.node.inference.line import Line
from prsm.protocol.errors import Unsupported
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.messages.models import Compute, TensorSpec, is_comparable
from prsm.protocol.tensors import Dtype, Tensor
from prsm.protocol.transactions.audits import Finding

_FLOATS: Final = frozenset({Dtype.F16, Dtype.F32})


@dataclass(frozen=True, slots=True)
class Stated:
    """What a worker's receipt says of the batch."""

    boundary: Boundary
    class_id: bytes


def judge(ours: Boundary, theirs: Boundary, *, is_same_class: bool, gap_ppb: int) -> Finding:
    """Compare what we computed of the inputs with what a worker stated.

    Args:
        ours: of our own run.
        theirs: of the receipt.
        is_same_class: both proved the same determinism class, so that bits are promised.
        gap_ppb: distance of its outputs from ours; only looked at across classes.
    """
    if ours == theirs:
        return Finding.EQUAL
    is_same_input = (ours.input_root, ours.side_root) == (theirs.input_root, theirs.side_root)
    if is_same_input and not is_same_class and gap_ppb <= TOLERANCE_PPB:
        return Finding.CLOSE
    return Finding.DIFFERENT


def check_comparable(compute: Compute, specs: Sequence[TensorSpec]) -> None:
    """Can anything be said of outputs of another determinism class?

    Raises:
        Unsupported: the model computes in integers, or none of its outputs is of floats.
    """
    if not is_comparable(compute) or not any(spec.dtype in _FLOATS for spec in specs):
        raise _undecided()


async def judge_apart(line: Line, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Finding:
    """Compare outputs of another determinism class with ours of the same inputs.

    An honest label falls otherwise where two scores nearly tie, so integers convict nobody; floats
    beside them do.

    Args:
        line: compares them, in its child.
        ours: of our own run.
        theirs: of the worker, of a model that `check_comparable` let pass.

    Raises:
        Unsupported: the floats are close, and integers differ.
        LocalError: as the line's `compare`.
    """
    if await line.compare(_floats(ours), _floats(theirs)) > TOLERANCE_PPB:
        return Finding.DIFFERENT
    if _integers(ours) != _integers(theirs):
        raise _undecided()
    return Finding.CLOSE


def _floats(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in tensors if tensor.head.dtype in _FLOATS)


def _integers(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor for tensor in tensors if tensor.head.dtype not in _FLOATS)


def _undecided() -> Unsupported:
    return Unsupported(
        "integer results are compared inside a determinism class only, and the worker's is another "
        "than this node's"
    )
