"""Evaluation between a requester and the workers that were drawn: begin, and what was found.

No tensor travels: model and dataset are registered, and every worker fetches them by their CIDs.
`OpenEvaluation` and `AskEvaluated` are calls on ctl. Source: docs/spec/work.md, "Evaluation".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, Signature
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.slices import SLICES_MAX
from prsm.protocol.transactions.evaluations import SliceScore


class OpenEvaluation(Record, frozen=True):
    """Call: begin this unit of a locked evaluation; signed as `Open` is."""

    job: Bytes32
    unit: U32
    worker: Bytes32
    signature: Signature


class EvaluationOpened(Record, frozen=True):
    """Answer to `OpenEvaluation`: it is at work."""

    job: Bytes32
    unit: U32


class AskEvaluated(Record, frozen=True):
    """Call of who opened it: what was found? `unit_incomplete` while it is at work.

    Answered once the other workers are bound to their receipts too, so that none can be copied.
    """

    job: Bytes32
    unit: U32


class Evaluated(Record, frozen=True):
    """Answer to `AskEvaluated`: canonical bytes of the receipt, and what its roots are made of."""

    receipt: Annotated[bytes, msgspec.Meta(max_length=TRANSACTION_BYTES_MAX)]
    slices: Annotated[tuple[SliceScore, ...], msgspec.Meta(min_length=1, max_length=SLICES_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    160: OpenEvaluation,
    161: EvaluationOpened,
    162: AskEvaluated,
    163: Evaluated,
}
