"""What checking asks of the ledger: whom it drew to look at what, and where findings go.

A port and its facts. A duty is an audit this node's account was drawn for; a trial is a case on
whose committee an operator of this node sits. Must not know how they are drawn (consensus/ledger),
nor how a check is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prsm.node.inference.divergence import Boundary
from prsm.protocol.ed25519 import Signer
from prsm.protocol.transactions.audits import Finding


@dataclass(frozen=True, slots=True)
class Duty:
    """Recompute one batch of a worker's unit, before its receipt is shown.

    Attributes:
        job: of the unit.
        unit: its index.
        worker: who did it.
        batch: drawn; one of those the worker bound itself to.
        until_ms: block time until which it is heard.
    """

    job: bytes
    unit: int
    worker: bytes
    batch: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Trial:
    """Judge one batch of a receipt that somebody says is wrong.

    Attributes:
        job: of the unit; one case at a time is open for a unit.
        unit: its index.
        worker: whose receipt it is.
        batch: which is to be computed again.
        stated: what the receipt says of it.
        class_id: determinism class the receipt names.
        receipt_hash: of the receipt.
        juror: operator in whose name we judge.
        until_ms: block time until which findings are sealed.
    """

    job: bytes
    unit: int
    worker: bytes
    batch: int
    stated: Boundary
    class_id: bytes
    receipt_hash: bytes
    juror: bytes
    until_ms: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Show what we sealed: nobody can seal any more.

    Attributes:
        job: of the unit.
        unit: its index.
        juror: operator in whose name we sealed.
        seal: hash of what we found.
    """

    job: bytes
    unit: int
    juror: bytes
    seal: bytes


class Court(Protocol):
    """Draws and cases as this node's ledger has them."""

    def duties(self) -> Sequence[Duty]:
        """Audits this node may still do."""
        ...

    def trials(self) -> Sequence[Trial]:
        """Cases this node has not judged yet, and may."""
        ...

    def openings(self) -> Sequence[Opening]:
        """Findings of this node that are sealed, and may be shown now."""
        ...

    def may_see(self, asker: bytes, job: bytes, unit: int, worker: bytes) -> bool:
        """Did the ledger draw this key to check that worker's unit?"""
        ...

    def signer(self, check: Duty | Trial) -> Signer:
        """The key that was drawn for a check; who asks for inputs signs with it.

        Raises:
            LocalError: the key is locked.
        """
        ...

    async def audit(self, duty: Duty, found: Boundary) -> None:
        """Send what we computed of the batch.

        Raises:
            LocalError: refused by the mempool or by the ledger.
        """
        ...

    async def judge(self, trial: Trial, finding: Finding) -> None:
        """Seal what we found.

        Raises:
            LocalError: as `audit`.
        """
        ...

    async def open(self, opening: Opening) -> None:
        """Show what we sealed.

        Raises:
            LocalError: as `audit`.
        """
        ...
