"""Serving between a requester and a worker: one request of a tab is not wanted any more.

One-way on bulk, behind the push it takes back. Source: docs/spec/work.md, "Serving".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32
from prsm.protocol.limits import WORK_BATCHES_MAX


class CancelBatch(Record, frozen=True):
    """Stop a micro-batch that was pushed: out of the line, or out of its run.

    It gets no answer, is in no receipt and is never pushed again; its credit is free at once.
    """

    job: Bytes32
    unit: U32
    batch: Annotated[int, msgspec.Meta(ge=0, lt=WORK_BATCHES_MAX)]


KINDS: Final[dict[int, type[Record]]] = {150: CancelBatch}
