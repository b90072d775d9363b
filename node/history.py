"""What a node keeps of its chain for ever: one header, certificate and set of each epoch.

Blocks may be pruned, these may not: whoever trusts an early epoch walks along them to the
present one. Knows: headers and sets. Must not know: who asks.
"""

from collections.abc import Sequence

from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode, encode
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Genesis
from prsm.protocol.headers import Block, Header
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


async def note_first_epoch(store: LedgerStore, genesis: Genesis) -> None:
    """Keep epoch 0 of a ledger that was written before headers of epochs were kept.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    if await store.epoch_header(0) is not None or (first := await store.block(1)) is None:
        return
    block = decode(first.block, Block, size_max=BULK_FRAME_BYTES_MAX)
    certificate = decode(first.certificate, Certificate, size_max=BULK_FRAME_BYTES_MAX)
    kept = epoch_header_of(EpochState.genesis(genesis), block.header, certificate)
    assert kept is not None
    await store.put_epoch_headers((kept,))
