"""What this node can show a stranger: state under a certified root, and the receipt of a job.

Knows: where blocks, receipts and proofs are. Must not know: how they are checked.
"""

from typing import Final

import trio

from prsm.consensus.ledger.receipt_document import (
    Json,
    Settlement,
    proof_keys,
    receipt_document,
    settlement_heights,
)
from prsm.consensus.ledger.records import Job
from prsm.consensus.light import Trust
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of, certificate_of, receipts_of
from prsm.node.chain.snapshots.serve import proof_of
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import Unsupported
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import address_text
from prsm.protocol.messages.sync import Certified, EpochProof
from prsm.protocol.proofs import ProvenState, StateProof
from prsm.protocol.validators import ValidatorSet
from prsm.storage.errors import NotFound
from prsm.storage.ledger import StoredBlock

# An empty block follows each block that held transactions, so the wait is short.
FOLLOWING_SECONDS: Final = 8.0


class Proofs:
    """Gathers what a proof is made of from ledger and store."""

    def __init__(self, genesis: Genesis, driver: Driver) -> None:
        self._genesis = genesis
        self._driver = driver

    async def of_state(self, key: bytes) -> ProvenState:
        """Proof of an entry, or of its absence, under the newest header's state root.

        Raises:
            Unsupported: right after a start; the next block makes it possible.
        """
        proof = self._prove(key)
        tip = await self.certified(self._driver.ledger.height)
        return ProvenState(proof=proof, header=tip.block.header, certificate=tip.certificate)

    async def trust(self, epoch: int) -> Trust:
        """Who signs an epoch, as this node knows it from its own chain.

        Raises:
            NotFound: an epoch that has not begun here.
        """
        validators = self._driver.validators_of(epoch)
        if validators is None:
            (kept,) = await self.epochs(epoch, epoch)
            validators = ValidatorSet(kept.members)
        return Trust(self._genesis.chain_id, validators, Ed25519Verifier())

    async def epochs(self, first: int, last: int) -> list[EpochProof]:
        """First header, certificate and set of each epoch, kept for ever.

        Raises:
            NotFound: one of them is not here.
        """
        kept = await self._driver.store.epoch_headers(first, count_max=last - first + 1)
        if len(kept) != last - first + 1:
            raise NotFound(
                f"epochs {first} to {last} are not all here", hint="see: prsm chain status"
            )
        return [proof_of(entry) for entry in kept]

    async def of_job(self, job_id: bytes, *, epoch: int = 0) -> Json:
        """The receipt document of a settled job.

        Args:
            job_id: of the job.
            epoch: whose validators the reader trusts; not after the first settlement.

        Raises:
            NotFound: the ledger has no such job.
            EscrowState: it is not settled.
            Unsupported: right after a start; the next block makes it possible.
        """
        job = self._driver.ledger.view.job(job_id)
        if job is None:
            raise NotFound(f"the ledger has no job {address_text(job_id)}", hint="see: prsm job ls")
        heights = settlement_heights(job)
        with trio.move_on_after(FOLLOWING_SECONDS):
            await self._driver.wait_height(heights[-1] + 1)
        settlements = {height: await self._settlement(height) for height in heights}
        # Proofs first and the tip after them, with no await between: both are of one state.
        proofs, height = self._prove_job(job), self._driver.ledger.height
        proven_by = await self.certified(height)
        settled_in = settlements[heights[0]].block.block.header.epoch
        if epoch > settled_in:
            raise NotFound(
                f"the job was settled in epoch {settled_in}, before epoch {epoch}",
                hint=f"trust the validators of epoch {settled_in} or of an earlier one",
            )
        return receipt_document(
            self._genesis,
            job,
            settlements,
            proofs=proofs,
            proven_by=proven_by,
            epochs=await self.epochs(epoch, proven_by.block.header.epoch),
        )

    async def certified(self, height: int) -> Certified:
        """A committed block with its certificate.

        Raises:
            NotFound: no such height here.
        """
        stored = await self._stored(height)
        return Certified(block=block_of(stored), certificate=certificate_of(stored))

    async def _settlement(self, height: int) -> Settlement:
        return Settlement(
            block=await self.certified(height),
            receipts=receipts_of(await self._stored(height)),
            following=await self.certified(height + 1),
        )

    async def _stored(self, height: int) -> StoredBlock:
        stored = await self._driver.store.block(height)
        if stored is None:
            raise NotFound(
                f"no block {height} here, the newest is {self._driver.ledger.height}",
                hint="see: prsm chain status",
            )
        return stored

    def _prove_job(self, job: Job) -> list[StateProof]:
        return [self._prove(key) for key in proof_keys(job)]

    def _prove(self, key: bytes) -> StateProof:
        proof = self._driver.ledger.prove_certified(key)
        if proof is None:
            raise Unsupported(
                "no block was agreed on since this node started, so nothing can be proven yet",
                hint="ask again after the next block; see: prsm chain status",
            )
        return proof
