"""Headers of epochs: which block brings one, and ledgers from before they were kept."""

from pathlib import Path

from prsm.node.chain.history import epoch_header_of, note_first_epoch
from prsm.protocol.codec import encode
from prsm.protocol.epochs import EpochState
from prsm.storage.ledger import LedgerStore, StoredBlock
from prsm.testnet.chain import Chain, Made, small_genesis


def stored(made: Made) -> StoredBlock:
    return StoredBlock(
        made.block.header.height,
        made.certificate.block_hash,
        encode(made.block),
        encode(made.certificate),
        encode(made.outcome.receipts),
    )


async def test_first_block_of_an_epoch_brings_its_header(tmp_path: Path) -> None:
    """Height 1 begins epoch 0, height 2 nothing; a ledger without the row gets it at its start."""
    chain = Chain(small_genesis())
    epoch = EpochState.genesis(chain.genesis)
    first, second = chain.add(), chain.add()
    kept = epoch_header_of(epoch, first.block.header, first.certificate)
    assert kept is not None
    assert (kept.epoch, kept.height, kept.header) == (0, 1, encode(first.block.header))
    assert kept.members == encode(epoch.validators.members)
    assert epoch_header_of(epoch, second.block.header, second.certificate) is None
    store = await LedgerStore.open(tmp_path / "ledger.db")
    try:
        await note_first_epoch(store, chain.genesis)
        assert await store.epoch_header(0) is None
        for made in (first, second):
            await store.commit(stored(made), changes=[], tx_ids=[])
        await note_first_epoch(store, chain.genesis)
        assert await store.epoch_header(0) == kept
    finally:
        await store.close()
