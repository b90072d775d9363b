"""The product's ledger (consensus/ledger) behind the questions a simulated node asks.

Knows: how the driver uses a ledger. Must not know: what a transaction does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.consensus.pbft.tip import Tip
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block
from prsm.protocol.ids import Digest, Height, Millis
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX
from prsm.protocol.messages.sync import EpochProof, Snapshot
from prsm.protocol.transactions.envelope import Transaction, decode_transaction


@dataclass(frozen=True, slots=True)
class Base:
    """A state that came as a snapshot, and the block it is the state after."""

    state: dict[bytes, bytes]
    block: Block
    certificate: Certificate
    receipts: tuple[bytes, ...]
    epochs: dict[int, EpochProof]


@dataclass(slots=True)
class MoneyLedger:
    """Blocks executed so far, and the state after them."""

    genesis: Genesis
    verifier: Verifier
    blocks: list[tuple[Block, Certificate]] = field(default_factory=list)  # above the base
    roots: list[tuple[bytes, bytes]] = field(default_factory=list)
    receipts: dict[int, tuple[bytes, ...]] = field(default_factory=dict)  # by height
    epochs: dict[int, EpochProof] = field(default_factory=dict)  # as every node keeps for ever
    state: dict[bytes, bytes] = field(default_factory=dict)  # owned by `ledger`
    base: Base | None = None  # None: the genesis
    ledger: Ledger = field(init=False)
    tip: Tip = field(init=False)

    def __post_init__(self) -> None:
        base = self.base
        self.blocks, self.roots, self.receipts, self.epochs, self.state = [], [], {}, {}, {}
        if base is None:
            self.ledger = Ledger(self.genesis, self.state, verifier=self.verifier, tip=None)
            self.tip = Tip.genesis(
                self.genesis,
                state_root=self.ledger.state_root,
                receipts_root=self.ledger.receipts_root,
            )
            return
        self.state.update(base.state)
        self.epochs.update(base.epochs)
        header = base.block.header
        root, name = merkle.root(base.receipts), Digest(base.certificate.block_hash)
        tip = LedgerTip(Height(header.height), name, Millis(header.time_ms), root)
        self.ledger = Ledger(self.genesis, self.state, verifier=self.verifier, tip=tip)
        self.receipts[header.height] = base.receipts
        self.tip = Tip(
            height=header.height,
            block_hash=name,
            block=base.block,
            certificate=base.certificate,
            state_root=self.ledger.state_root,
            receipts_root=self.ledger.receipts_root,
            epoch=self.ledger.epoch,
            certifiers=self.ledger.validators(header.height),
        )

    @property
    def first(self) -> int:
        """The lowest height whose block is here."""
        return 1 if self.base is None else self.base.block.header.height + 1

    def block(self, height: int) -> tuple[Block, Certificate] | None:
        """A committed block, None for one that is not here."""
        if self.base is not None and height == self.first - 1:
            return self.base.block, self.base.certificate
        at = height - self.first
        return self.blocks[at] if 0 <= at < len(self.blocks) else None

    def install(
        self, proof: Snapshot, state: dict[bytes, bytes], epochs: dict[int, EpochProof]
    ) -> None:
        """Put a proven snapshot in the place of everything."""
        known = {**self.epochs, **epochs}
        self.base = Base(state, proof.block, proof.block_certificate, proof.receipts, known)
        self.__post_init__()

    def judge(self, block: Block, wall_ms: int) -> bool:
        """Would this fresh block execute here and now?"""
        return self.ledger.judge(block, wall_ms=wall_ms) is None

    def apply(self, block: Block, certificate: Certificate) -> None:
        """Execute a block; from here on it is durable."""
        outcome = self.ledger.apply(block)
        epoch, height = self.ledger.epoch, block.header.height
        if height == epoch.first:
            members = epoch.validators.members
            self.epochs[epoch.number] = EpochProof(block.header, certificate, members)
        self.ledger.commit(outcome)
        self.blocks.append((block, certificate))
        self.receipts[height] = outcome.receipts
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
        if count >= self.tip.height:
            self.base = None
            self.__post_init__()
            return
        kept = self.blocks[: max(0, len(self.blocks) - count)]
        self.__post_init__()
        for block, certificate in kept:
            self.apply(block, certificate)

    def is_open(self, transaction: bytes) -> bool:
        """Has its sender not used the nonce yet?"""
        content = _content(transaction)
        return content.nonce >= self.ledger.view.nonce(content.sender)

    def choose(self, pool: Iterable[bytes], *, time_ms: int, count: int) -> tuple[bytes, ...]:
        """Take what may stand in the next block, of each sender in the order of nonces."""
        ordered = sorted(pool, key=lambda raw: _content(raw).nonce)
        return self.ledger.select(
            ordered, time_ms=time_ms, bytes_max=BLOCK_BODY_BYTES_MAX // 2, count_max=count
        )

    def convicting(
        self, candidates: Iterable[bytes], *, time_ms: int, proposer: int
    ) -> tuple[bytes, ...]:
        """Take the evidence that convicts somebody who is not punished for it."""
        return self.ledger.select_evidence(candidates, time_ms=time_ms, proposer=proposer)


@lru_cache(maxsize=1_024)
def _content(transaction: bytes) -> Transaction:
    """What the mempools of all nodes ask of the same bytes after each block."""
    return decode_transaction(transaction)
