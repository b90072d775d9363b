"""Stored blocks, read and written, and what is kept of a chain for ever: a header of each epoch.

Blocks may be pruned, these may not: whoever trusts an early epoch walks along them to the
present one. Knows: headers and sets. Must not know: who asks.
"""

from collections.abc import Sequence

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.consensus.pbft.tip import Tip
from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block, Header
from prsm.protocol.ids import Digest, Height, Millis
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.storage.ledger import EpochHeader, LedgerStore, StoredBlock


def epoch_header_of(
    epoch: EpochState, header: Header, certificate: Certificate
) -> EpochHeader | None:
    """What is kept with a block that begins an epoch, None for any other block.

    Args:
        epoch: of the block's own height.
        header: of the block.
        certificate: of the block, by the epoch's set.
    """
    if header.height != epoch.first:
        return None
    assert header.epoch == epoch.number
    return EpochHeader(
        epoch=epoch.number,
        height=header.height,
        header=encode(header),
        certificate=encode(certificate),
        members=encode(epoch.validators.members),
    )


def stored_block(block: Block, certificate: Certificate, receipts: Sequence[bytes]) -> StoredBlock:
    """What a ledger file keeps of a committed block.

    Args:
        block: as it was agreed on.
        certificate: of COMMIT votes for it.
        receipts: canonical `TxReceipt`s in the order of its transactions.
    """
    return StoredBlock(
        height=block.header.height,
        block_hash=certificate.block_hash,
        block=encode(block),
        certificate=encode(certificate),
        receipts=encode(tuple(receipts)),
    )


def block_of(stored: StoredBlock) -> Block:
    """The block of a stored row."""
    return decode(stored.block, Block, size_max=BULK_FRAME_BYTES_MAX)


def certificate_of(stored: StoredBlock) -> Certificate:
    """The certificate of a stored row."""
    return decode(stored.certificate, Certificate, size_max=BULK_FRAME_BYTES_MAX)


def receipts_of(stored: StoredBlock) -> tuple[bytes, ...]:
    """The canonical `TxReceipt`s of a stored row, in the order of its transactions."""
    return decode(stored.receipts, tuple[bytes, ...], size_max=BULK_FRAME_BYTES_MAX)


def ledger_tip_of(last: StoredBlock) -> LedgerTip:
    """The tip of a state after a stored block."""
    return LedgerTip(
        Height(last.height),
        Digest(last.block_hash),
        Millis(block_of(last).header.time_ms),
        merkle.root(receipts_of(last)),
    )


def tip_of(ledger: Ledger, last: StoredBlock | None) -> Tip:
    """Where a replica begins over a ledger and its last block; None for the genesis."""
    if last is None:
        return Tip.genesis(
            ledger.genesis, state_root=ledger.state_root, receipts_root=ledger.receipts_root
        )
    return Tip(
        height=last.height,
        block_hash=last.block_hash,
        block=block_of(last),
        certificate=certificate_of(last),
        state_root=ledger.state_root,
        receipts_root=ledger.receipts_root,
        epoch=ledger.epoch,
        certifiers=ledger.validators(last.height),
    )


async def note_first_epoch(store: LedgerStore, genesis: Genesis) -> None:
    """Keep epoch 0 of a ledger that was written before headers of epochs were kept.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    if await store.epoch_header(0) is not None or (first := await store.block(1)) is None:
        return
    header, certificate = block_of(first).header, certificate_of(first)
    kept = epoch_header_of(EpochState.genesis(genesis), header, certificate)
    assert kept is not None
    await store.put_epoch_headers((kept,))
