"""What a block makes of a state: a tip to build on, and the changes to make durable."""

from dataclasses import dataclass

from prsm.consensus.ledger.context import Event
from prsm.consensus.ledger.state import Change
from prsm.protocol import merkle
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Genesis
from prsm.protocol.ids import Digest, Height, Millis, TxId


@dataclass(frozen=True, slots=True)
class LedgerTip:
    """The last block a state contains."""

    height: Height
    block_hash: Digest  # the genesis digest at height 0
    time_ms: Millis
    receipts_root: Digest  # of this block's receipts


@dataclass(frozen=True, slots=True)
class Outcome:
    """A block executed, not yet committed."""

    parent: Digest  # block hash of the state it was computed on
    tip: LedgerTip
    changes: list[Change]  # ascending by key; None deletes
    receipts: tuple[bytes, ...]  # canonical `TxReceipt`s in the order of the block
    tx_ids: list[TxId]
    events: tuple[Event, ...]
    epoch: EpochState  # of the next height
    senders: frozenset[bytes] = frozenset()  # of the block's transactions

    @property
    def receipts_root(self) -> Digest:
        """Root over `receipts`; the next header carries it."""
        return self.tip.receipts_root


def genesis_tip(genesis: Genesis) -> LedgerTip:
    """The tip before the first block."""
    return LedgerTip(Height(0), genesis.digest, Millis(genesis.time_ms), merkle.EMPTY_ROOT)
