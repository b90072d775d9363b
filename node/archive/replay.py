"""Committed blocks executed one after the other, each believed for its certificate and roots only.

Knows: certificates, the ledger's judgement, the proposer schedule's note. Must not know: files.
The same checks as a replica that catches up, without a network (docs/spec/storage.md).
"""

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import Outcome
from prsm.consensus.pbft.tip import Tip
from prsm.node.chain.history import stored_block
from prsm.protocol.certificates import check_certificate
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import LocalError, PrsmError, WireError
from prsm.protocol.headers import block_hash
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import Certified
from prsm.protocol.signing import Kind
from prsm.storage.ledger import StoredBlock


class BadChain(LocalError):
    """A block that breaks the chain: its certificate, its links or its roots do not hold."""

    reason = "bad_chain"


class Replay:
    """A ledger that takes the next block of a chain, and the next."""

    def __init__(self, ledger: Ledger, tip: Tip) -> None:
        """Go on from a ledger and the tip that belongs to it."""
        self.ledger = ledger
        self.tip = tip
        self._verifier = Ed25519Verifier()

    def judge(self, item: Certified) -> tuple[StoredBlock, Outcome]:
        """Check and execute the block of the next height; the ledger stays as it is.

        Returns:
            What a ledger file keeps of it, and what it changes.

        Raises:
            BadChain: it does not hold; the text names height and reason.
        """
        block, certificate, height = item.block, item.certificate, self.ledger.height + 1
        name = block_hash(block.header)
        if (certificate.height, certificate.block_hash) != (block.header.height, name):
            raise bad_block(height, "its certificate speaks of another block")
        try:
            check_certificate(
                certificate,
                self.ledger.validators(height),
                chain_id=self.ledger.genesis.chain_id,
                verifier=self._verifier,
                kind=Kind.COMMIT,
            )
            fault = self.ledger.judge(block, wall_ms=None)
        except PrsmError as error:
            raise bad_block(height, error.what) from error
        if fault is not None:
            raise bad_block(height, fault)
        outcome = self.ledger.apply(block)
        return stored_block(block, certificate, outcome.receipts), outcome

    def commit(self, item: Certified, outcome: Outcome) -> None:
        """Make a judged block the tip."""
        self.ledger.commit(outcome)
        self.tip = self.tip.after(
            item.block,
            item.certificate,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
            epoch=self.ledger.epoch,
        )


def decode_certified(raw: bytes, height: int) -> Certified:
    """Read one record of a chain.

    Raises:
        BadChain: not the canonical bytes of a block of that height and its certificate.
    """
    try:
        item = decode(raw, Certified, size_max=BULK_FRAME_BYTES_MAX)
    except WireError as error:
        raise bad_block(height, error.what) from error
    if item.block.header.height != height:
        raise bad_block(height, f"the block of height {item.block.header.height} in its place")
    return item


def bad_block(height: int, why: str) -> BadChain:
    """The error that names a height and what is wrong with it."""
    return BadChain(f"block {height} does not hold: {why}")
