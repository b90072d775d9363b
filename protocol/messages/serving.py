"""Between a requester and a worker: a request is not wanted any more; a worker goes away.

`CancelBatch` is one-way on bulk, behind the push it takes back; `Draining` is one-way on ctl.
Source: docs/spec/work.md, "Serving" and "Draining".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32
from prsm.protocol.limits import WORK_BATCHES_MAX

LEFT_MS_MAX: Final = 86_400_000  # who says that it ends later says nothing yet


class CancelBatch(Record, frozen=True):
    """Stop a micro-batch that was pushed: out of the line, or out of its run.

    It gets no answer, is in no receipt and is never pushed again; its credit is free at once.
    """

    job: Bytes32
    unit: U32
    batch: Annotated[int, msgspec.Meta(ge=0, lt=WORK_BATCHES_MAX)]


class Draining(Record, frozen=True):
    """The sender takes no new work; what it holds for the receiver is finished in that time.

    Then it is closed and claimed as far as it was done. Binds nobody: it is no receipt, and frees
    the sender of none.
    """

    left_ms: Annotated[int, msgspec.Meta(ge=0, le=LEFT_MS_MAX)] | None  # None: it works again


KINDS: Final[dict[int, type[Record]]] = {150: CancelBatch, 151: Draining}
