"""What checking asks of the ledger: whom it drew to look at what, and where findings go.

A port and its facts. A duty is an audit this node's account was drawn for; a trial is a case on
whose committee this node sits. Must not know how they are drawn (consensus/ledger), nor how a check
is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from prsm.node.inference.divergence import Boundary
from prsm.node.inference.evidence import Place


@dataclass(frozen=True, slots=True)
class Duty:
    """Recompute one batch of a worker's unit, before its receipt is shown."""

    job: bytes
    unit: int
    worker: bytes
    batch: int


@dataclass(frozen=True, slots=True)
class Trial:
    """Judge one batch of a receipt that was disputed."""

    case: bytes
    job: bytes
    unit: int
    worker: bytes
    batch: int
    stated: Boundary  # of the receipt
    class_id: bytes  # of the receipt
    until_ms: int  # block time until which judgements count


class Judgement(IntEnum):
    """What a member of a committee says of a batch; numbers as on the ledger."""

    EQUAL = 1
    CLOSE = 2  # another class, within the tolerance
    DIFFERENT = 3
    UNSERVED = 4  # neither requester nor worker gave what went in


class Court(Protocol):
    """Draws and cases as this node's ledger has them."""

    def duties(self) -> Sequence[Duty]:
        """Audits this node may still do."""
        ...

    def trials(self) -> Sequence[Trial]:
        """Cases this node has not judged yet, and may."""
        ...

    def may_see(self, asker: bytes, place: Place) -> bool:
        """Did the ledger draw this account to check that batch of that worker's unit?"""
        ...

    async def audit(self, duty: Duty, found: Boundary) -> None:
        """Send what we computed.

        Raises:
            LocalError: refused by the mempool or by the ledger.
        """
        ...

    async def judge(self, trial: Trial, judgement: Judgement) -> None:
        """Send our judgement.

        Raises:
            LocalError: as `audit`.
        """
        ...
