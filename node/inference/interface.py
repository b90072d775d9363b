"""What inference asks of the rest of the node: chain, models, policy, receipts.

Ports only; who runs shards has a port of its own (`runner`). The daemon joins them to the driver,
the model store and the worker pool; tests join them to a ledger in memory. Must not know: who is
behind a port.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prsm.consensus.ledger.audits import Sampling
from prsm.consensus.ledger.records import Committed, Job
from prsm.node.inference.runner import NoRunner, Runner, Session
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.ids import TxId
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.receipts import WorkKind

__all__ = [
    "AllowAll",
    "Chain",
    "Halted",
    "JobClosed",
    "JobFacts",
    "MemoryReceipts",
    "Models",
    "NoRunner",
    "NotNamed",
    "Policy",
    "PolicyRefused",
    "PriceTooLow",
    "ReceiptStore",
    "Runner",
    "Session",
    "TransactionFailed",
    "TxResult",
    "UnitIncomplete",
    "UnknownJob",
    "WorkRefused",
]


class WorkRefused(LocalError):
    """A unit of work is not done here; subclasses say why."""

    reason = "work_refused"


class UnknownJob(WorkRefused):
    """The ledger of this node has no such job, or this node has no such unit open."""

    reason = "unknown_job"


class NotNamed(WorkRefused):
    """The lock does not name this node for that unit, or another account asks."""

    reason = "not_named"


class JobClosed(WorkRefused):
    """Settled, refunded, past its deadline in block time, or done with: its receipt is made."""

    reason = "job_closed"


class Halted(WorkRefused):
    """The network's operators stopped this model."""

    reason = "halted"


class PriceTooLow(WorkRefused):
    """The lock pays less than this node asks."""

    reason = "price_below_ask"


class NoBond(WorkRefused):
    """Work nobody compares needs a bond, and this node's free pledge is below it."""

    reason = "no_bond"


class PolicyRefused(WorkRefused):
    """The operator's rules say no."""

    reason = "policy_refused"


class UnitIncomplete(WorkRefused):
    """Not every micro-batch of the unit was done here."""

    reason = "unit_incomplete"


class TransactionFailed(LocalError):
    """The ledger executed a transaction of ours and refused it."""

    reason = "transaction_failed"


@dataclass(frozen=True, slots=True)
class TxResult:
    """What became of a committed transaction; `code` is the rule's word when it failed."""

    height: int
    ok: bool
    code: str


class Chain(Protocol):
    """The ledger as this node knows it, and its own account on it."""

    @property
    def chain_id(self) -> bytes:
        """8 bytes that name the network."""
        ...

    @property
    def signer(self) -> Signer:
        """The payment key: signs transactions, capacities, openings and receipts."""
        ...

    @property
    def address(self) -> bytes:
        """The payment key's account, 32 bytes."""
        ...

    def height(self) -> int:
        """Of the last executed block."""
        ...

    def block_time_ms(self) -> int:
        """Time of the last executed block."""
        ...

    def deadline_ms(self, after_ms: int) -> int:
        """Block time so far from now, or as far as the ledger lets a deadline be.

        Now is what our clock says, not the last block: that one may be of yesterday.
        """
        ...

    async def wait_height(self, height: int) -> None:
        """Return once a block of at least this height is executed here."""
        ...

    def job(self, job: bytes) -> Job | None:
        """The escrow of that name, if this node's ledger has it."""
        ...

    def committed(self, job: bytes, unit: int, worker: bytes) -> Committed | None:
        """The commitment of a worker to a receipt, if this node's ledger has it."""
        ...

    def bound(self) -> tuple[tuple[bytes, int], ...]:
        """Units our account is bound to a receipt of: job, unit. Reads the whole ledger."""
        ...

    def settle_grace_ms(self) -> int:
        """How long a bound worker may not be left out of a settlement."""
        ...

    def sampling(self, job: bytes, unit: int) -> Sampling | None:
        """Where a bound unit that nobody compares stands with its audit; None for others."""
        ...

    def may_settle(self, job: bytes, unit: int) -> bool:
        """Would the ledger take our settlement now, as far as audits and cases go?"""
        ...

    def bond_of(self, job: Job, unit: int) -> int:
        """Micro-FTNS of our pledge a commitment to a unit holds; 0 if it is compared, or free."""
        ...

    def free_pledge(self) -> int:
        """Micro-FTNS of our pledge that nothing holds."""
        ...

    def bonded_for(self, worker: bytes) -> int:
        """The highest reserve of a sampled unit that a worker's free pledge covers."""
        ...

    def is_halted(self, cid: bytes) -> bool:
        """Must executors refuse this manifest?"""
        ...

    async def submit(self, kind: int, payload: Record) -> TxId:
        """Sign with the payment key and give to the mempool: nonce and fee are chosen there.

        Raises:
            LocalError: locked key, too small balance, full mempool, invalid payload.
        """
        ...

    async def wait_committed(self, tx: TxId) -> TxResult:
        """Return once the transaction is executed here; the caller sets the deadline."""
        ...


class Models(Protocol):
    """Models by the CID of their manifest; files are fetched from peers when missing."""

    async def manifest(self, cid: bytes) -> ModelManifest:
        """The checked manifest.

        Raises:
            PrsmError: unknown, refused or not to be had now.
        """
        ...

    async def file(self, cid: bytes, index: int) -> Path:
        """Local path of a verified file of the model."""
        ...

    def using(self, cid: bytes, index: int, *, holder: str) -> AbstractAsyncContextManager[Path]:
        """The same path, of a file that nobody removes while the block runs."""
        ...

    def held(self) -> tuple[bytes, ...]:
        """Manifests of the models held here completely."""
        ...


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a policy judges: whose job it is and what it would run."""

    job: bytes
    tenant: bytes
    requester: bytes
    kind: WorkKind
    model: bytes
    rows: int


class Policy(Protocol):
    """Asked before a job of ours or a unit of another's, told after it."""

    def before(self, facts: JobFacts) -> str:
        """Why the work is refused; empty when it may be done."""
        ...

    def after(self, facts: JobFacts, outcome: str) -> None:
        """How it ended: `done`, or the reason of the failure."""
        ...


class AllowAll:
    """The policy of a node without rules of its own."""

    def before(self, facts: JobFacts) -> str:
        """Nothing is refused."""
        del facts
        return ""

    def after(self, facts: JobFacts, outcome: str) -> None:
        """Nothing is kept."""


class ReceiptStore(Protocol):
    """Where a worker's receipts survive until they are paid."""

    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        """Make durable, before its hash goes to the ledger."""
        ...

    async def drop(self, job: bytes, unit: int) -> None:
        """Forget: settled, or the escrow is gone."""
        ...

    async def load(self) -> Sequence[bytes]:
        """All kept receipts, canonical bytes."""
        ...


class MemoryReceipts:
    """The port without a disk: for tests, and nodes that do not work for others."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, int], bytes] = {}

    async def keep(self, job: bytes, unit: int, receipt: bytes) -> None:
        """Keep until the process ends."""
        self._kept[job, unit] = receipt

    async def drop(self, job: bytes, unit: int) -> None:
        """Forget."""
        self._kept.pop((job, unit), None)

    async def load(self) -> Sequence[bytes]:
        """All kept receipts."""
        return tuple(self._kept.values())
