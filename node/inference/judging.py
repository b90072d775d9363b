"""What a check says of a worker's batch: equal, close enough, or different.

Pure. Inside a determinism class bits decide; across classes the distance of the tensors does.
Source: docs/spec/work.md, "Audits".
"""

from dataclasses import dataclass

from prsm.node.inference.divergence import Boundary
from prsm.protocol.limits import TOLERANCE_PPB
from prsm.protocol.transactions.audits import Finding


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
