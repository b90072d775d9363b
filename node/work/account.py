"""The ledger as work sees it: this node's account, escrows, commitments, halts.

Joins the port `Chain` of node/inference to driver and wallet. Must not know: jobs.
"""

from prsm.consensus.ledger.audits import Sampling
from prsm.consensus.ledger.evaluations import Evaluation
from prsm.consensus.ledger.records import Committed, Job
from prsm.node.chain.driver import Driver
from prsm.node.chain.wallet import VALID_MS, Wallet
from prsm.node.inference.commits import LOCKED_WITHIN_MS
from prsm.node.inference.interface import TxResult
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Signer
from prsm.protocol.ids import TxId
from prsm.protocol.transactions.results import Code

assert LOCKED_WITHIN_MS >= VALID_MS


class Account:
    """Driver and wallet of this node, for requesters and workers."""

    def __init__(self, driver: Driver, wallet: Wallet, *, chain_id: bytes) -> None:
        self._driver = driver
        self._wallet = wallet
        self._chain_id = chain_id

    @property
    def chain_id(self) -> bytes:
        """8 bytes that name the network."""
        return self._chain_id

    @property
    def signer(self) -> Signer:
        """The payment key.

        Raises:
            WalletLocked: nobody unlocked it.
        """
        return self._wallet.signer

    @property
    def address(self) -> bytes:
        """The payment key's account."""
        return self._wallet.address

    def height(self) -> int:
        """Of the last executed block."""
        return self._driver.ledger.height

    def block_time_ms(self) -> int:
        """Time of the last executed block."""
        return self._driver.ledger.tip.time_ms

    def deadline_ms(self, after_ms: int) -> int:
        """Block time so far from now, or as far as the ledger lets a deadline be."""
        ledger = self._driver.ledger
        # The clock of the node that makes the block may be so much behind ours.
        most_ms = ledger.parameters.escrow_ms_max - ledger.parameters.clock_window_ms
        now_ms = max(self._driver.clock.wall_ms(), ledger.tip.time_ms)
        return now_ms + min(after_ms, most_ms)

    async def wait_height(self, height: int) -> None:
        """Return once a block of at least this height is executed here."""
        await self._driver.wait_height(height)

    def job(self, job: bytes) -> Job | None:
        """The escrow of that name."""
        return self._driver.ledger.view.job(job)

    def committed(self, job: bytes, unit: int, worker: bytes) -> Committed | None:
        """The commitment of a worker to a receipt."""
        return self._driver.ledger.view.committed(job, unit, worker)

    def bound(self) -> tuple[tuple[bytes, int], ...]:
        """Units our account is bound to a receipt of."""
        view, us = self._driver.ledger.view, self.address
        return tuple(key for key in view.bound() if view.committed(*key, us) is not None)

    def settle_grace_ms(self) -> int:
        """How long a bound worker may not be left out of a settlement."""
        return self._driver.ledger.parameters.settle_grace_ms

    def sampling(self, job: bytes, unit: int) -> Sampling | None:
        """Where a bound unit that nobody compares stands with its audit."""
        return self._driver.ledger.view.sampling(job, unit)

    def may_settle(self, job: bytes, unit: int) -> bool:
        """Would the ledger take our settlement now?"""
        now = self.block_time_ms()
        view = self._driver.ledger.view
        return view.may_settle(job, unit, sender=self.address, time_ms=now)

    def bond_of(self, job: Job, unit: int) -> int:
        """Micro-FTNS of our pledge a commitment to a unit holds."""
        due = self._driver.ledger.parameters.audit_bond_multiple * job.reserve(unit)
        return due if job.is_sampled(unit) else 0

    def free_pledge(self) -> int:
        """Micro-FTNS of our pledge that nothing holds."""
        pledge = self._driver.ledger.view.pledge(self.address)
        return pledge.amount - pledge.held

    def evaluation(self, job: bytes) -> Evaluation | None:
        """What evaluators were asked for under this id."""
        return self._driver.ledger.view.evaluation(job)

    def evaluations(self) -> tuple[bytes, ...]:
        """What this account asked for."""
        found = self._driver.ledger.view.evaluations(self.address)
        return tuple(each.job for each in found)

    def bonded_for(self, worker: bytes) -> int:
        """The highest reserve of a sampled unit that a worker's free pledge covers."""
        ledger = self._driver.ledger
        found = ledger.view.pledge(worker)
        return (found.amount - found.held) // ledger.parameters.audit_bond_multiple

    def is_halted(self, cid: bytes) -> bool:
        """Must executors refuse this manifest?"""
        return self._driver.ledger.view.halted(cid)

    async def submit(self, kind: int, payload: Record) -> TxId:
        """Sign with the payment key and send to the validators.

        Raises:
            LocalError: locked key, too small balance, full mempool, invalid payload.
        """
        return await self._wallet.submit(kind, payload)

    async def wait_committed(self, tx: TxId) -> TxResult:
        """Return once the transaction is executed here; the caller sets the deadline."""
        result = await self._wallet.wait_committed(tx)
        code = result.receipt.code
        return TxResult(result.height, code is Code.DONE, code.name.lower())
