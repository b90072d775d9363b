"""The product's ledger (consensus/ledger) behind the questions a simulated node asks.

Knows: how the driver uses a ledger. Must not know: what a transaction does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.pbft.config import Tip
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX
from prsm.protocol.transactions.envelope import decode_transaction


@dataclass(slots=True)
class MoneyLedger:
    """Blocks executed so far, and the state after them."""

    genesis: Genesis
    verifier: Verifier
    blocks: list[tuple[Block, Certificate]] = field(default_factory=list)
    roots: list[tuple[bytes, bytes]] = field(default_factory=list)
    ledger: Ledger = field(init=False)
    tip: Tip = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.genesis, {}, verifier=self.verifier, tip=None)
        self.tip = Tip.genesis(
            self.genesis,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
        )

    def judge(self, block: Block, wall_ms: int) -> bool:
        """Would this fresh block execute here and now?"""
        return self.ledger.judge(block, wall_ms=wall_ms) is None

    def apply(self, block: Block, certificate: Certificate) -> None:
        """Execute a block; from here on it is durable."""
        outcome = self.ledger.apply(block)
        self.ledger.commit(outcome)
        self.blocks.append((block, certificate))
        state_root, receipts_root = self.ledger.state_root, self.ledger.receipts_root
        self.roots.append((state_root, receipts_root))
        self.tip = self.tip.after(
            block,
            certificate,
            state_root=state_root,
            receipts_root=receipts_root,
            epoch=self.ledger.epoch,
        )

    def forget(self, count: int) -> None:
        """Lose the last blocks: a disk that lied, or an old copy put back."""
        kept = self.blocks[: max(0, len(self.blocks) - count)]
        self.blocks, self.roots = [], []
        self.__post_init__()
        for block, certificate in kept:
            self.apply(block, certificate)

    def is_open(self, transaction: bytes) -> bool:
        """Has its sender not used the nonce yet?"""
        content = decode_transaction(transaction)
        return content.nonce >= self.ledger.view.nonce(content.sender)

    def choose(self, pool: Iterable[bytes], *, time_ms: int, count: int) -> tuple[bytes, ...]:
        """Take what may stand in the next block, of each sender in the order of nonces."""
        ordered = sorted(pool, key=lambda raw: decode_transaction(raw).nonce)
        return self.ledger.select(
            ordered, time_ms=time_ms, bytes_max=BLOCK_BODY_BYTES_MAX // 2, count_max=count
        )

    def convicting(
        self, candidates: Iterable[bytes], *, time_ms: int, proposer: int
    ) -> tuple[bytes, ...]:
        """Take the evidence that convicts somebody who is not punished for it."""
        return self.ledger.select_evidence(candidates, time_ms=time_ms, proposer=proposer)
