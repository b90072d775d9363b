"""A ledger small enough to be obvious: a transaction is counted once, roots chain over blocks.

It stands for the real one (testnet/sim/money) behind the same questions (is this block
executable? what are the roots after it?) where agreement alone is under test. Its list of
blocks is durable.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from prsm.consensus.pbft.tip import Tip
from prsm.protocol.certificates import Certificate
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block
from prsm.protocol.validators import Members, Validator, ValidatorSet

GENESIS_ROOT: Final = bytes(32)
VALID: Final = b"t"  # first byte of a transaction the ledger executes
CLOCK_WINDOW_MS: Final = 5_000


class Chain(Protocol):
    """What a node of a run asks its ledger; all of it survives a crash."""

    tip: Tip
    roots: list[tuple[bytes, bytes]]

    @property
    def first(self) -> int:
        """The lowest height whose block is here."""
        ...

    def block(self, height: int) -> tuple[Block, Certificate] | None:
        """A committed block, None for one that is not here."""
        ...

    def judge(self, block: Block, wall_ms: int) -> bool:
        """Would this fresh block execute here and now?"""
        ...

    def apply(self, block: Block, certificate: Certificate) -> None:
        """Execute a block; from here on it is durable."""
        ...

    def forget(self, count: int) -> None:
        """Lose the last blocks: a disk that lied, or an old copy put back."""
        ...

    def is_open(self, transaction: bytes) -> bool:
        """May it still stand in a block to come?"""
        ...

    def choose(self, pool: Iterable[bytes], *, time_ms: int, count: int) -> tuple[bytes, ...]:
        """Take what may stand in the next block."""
        ...

    def convicting(
        self, candidates: Iterable[bytes], *, time_ms: int, proposer: int
    ) -> tuple[bytes, ...]:
        """Take the evidence that convicts somebody who is not punished for it."""
        ...


@dataclass(slots=True)
class FakeLedger:
    """Blocks executed so far, each with its certificate and the roots after it."""

    genesis: Genesis
    blocks: list[tuple[Block, Certificate]] = field(default_factory=list)
    roots: list[tuple[bytes, bytes]] = field(default_factory=list)
    done: set[bytes] = field(default_factory=set)  # transactions; looked up, never iterated
    # At which heights an epoch ends, and the members of the epoch after the next.
    borders: Mapping[int, tuple[Validator, ...]] = field(default_factory=dict)
    tip: Tip = field(init=False)

    def __post_init__(self) -> None:
        self.tip = Tip.genesis(self.genesis, state_root=GENESIS_ROOT, receipts_root=GENESIS_ROOT)

    @property
    def first(self) -> int:
        """The lowest height whose block is here."""
        return 1

    def block(self, height: int) -> tuple[Block, Certificate] | None:
        """A committed block, None for one that is not here."""
        return self.blocks[height - 1] if 0 < height <= len(self.blocks) else None

    def judge(self, block: Block, wall_ms: int) -> bool:
        """Would this block execute, and is its time near the judge's wall clock?"""
        transactions = block.body.transactions
        return (
            abs(block.header.time_ms - wall_ms) <= CLOCK_WINDOW_MS
            and len(set(transactions)) == len(transactions)
            and all(tx[:1] == VALID and tx not in self.done for tx in transactions)
        )

    def apply(self, block: Block, certificate: Certificate) -> None:
        """Execute a block; from here on it is durable."""
        transactions = block.body.transactions
        state_root = _hash(self.tip.state_root, *transactions)
        receipts_root = _hash(b"receipts", *transactions)
        self.blocks.append((block, certificate))
        self.roots.append((state_root, receipts_root))
        self.done.update(transactions)
        height = block.header.height
        epoch = self.tip.epoch.after(height, block.body.prev_cert)
        if height in self.borders:
            members = Members(epoch=epoch.number + 2, validators=self.borders[height])
            epoch = epoch.next(height + 1, ValidatorSet(members))
        self.tip = self.tip.after(
            block,
            certificate,
            state_root=state_root,
            receipts_root=receipts_root,
            epoch=epoch,
        )

    def forget(self, count: int) -> None:
        """Lose the last blocks: a disk that lied, or an old copy put back."""
        kept = self.blocks[: max(0, len(self.blocks) - count)]
        self.blocks, self.roots, self.done = [], [], set()
        self.__post_init__()
        for block, certificate in kept:
            self.apply(block, certificate)

    def is_open(self, transaction: bytes) -> bool:
        """Was it not counted yet?"""
        return transaction not in self.done

    def choose(self, pool: Iterable[bytes], *, time_ms: int, count: int) -> tuple[bytes, ...]:
        """Take the oldest: here time makes no difference."""
        assert time_ms >= 0 or count
        return tuple(pool)[:count]

    def convicting(
        self, candidates: Iterable[bytes], *, time_ms: int, proposer: int
    ) -> tuple[bytes, ...]:
        """Take nothing: here nobody has anything to lose."""
        del candidates, time_ms, proposer
        return ()


def _hash(*parts: bytes) -> bytes:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(hashlib.sha256(part).digest())
    return hasher.digest()
