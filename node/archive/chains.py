"""Chain files of a stopped node: its blocks written into one, and one executed into its ledger.

Knows: the home, the ledger file, chain files. Must not know: a running node; while it runs, the
client asks it for its blocks (`chain_getCertified`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from prsm.node.archive.ownvotes import OwnVotes, own_votes
from prsm.node.archive.replay import Replay, bad_block, decode_certified
from prsm.node.chain.chain import read_ledger
from prsm.node.chain.history import epoch_header_of
from prsm.node.chain.sync import encode_certified
from prsm.node.home import Home
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Genesis, from_json
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import address_text
from prsm.protocol.messages.sync import Certified
from prsm.storage.chainfile import BadChainFile, ChainFile, ChainHead, write_chain
from prsm.storage.errors import NotFound
from prsm.storage.ledger import LedgerStore

_PAGE_BYTES: Final = 4 * 1024 * 1024
_CHECKPOINT_BLOCKS: Final = 1_000  # SQLite's log is moved into its file that often


class OtherChain(LocalError):
    """A file of another network, or of another history than this ledger's."""

    reason = "other_chain"


class ChainGap(LocalError):
    """Blocks that begin above the height the ledger needs next."""

    reason = "chain_gap"


async def export_chain(home: Home, path: Path, *, first: int, last: int | None) -> object:
    """Write committed blocks with their certificates into a new file.

    Args:
        home: of a stopped node, held by the caller.
        path: the new file.
        first: height of the first block.
        last: of the last one, included; None: the newest.

    Raises:
        NotFound: the ledger lacks a height of the range.
        Conflict: the file exists.
        LocalError: whatever refuses to open the ledger, or the disk.
    """
    genesis = from_json(home.genesis.read_bytes())
    async with opened_ledger(home.data / "ledger.db") as store:
        tip = await store.tip()
        height = tip[0] if tip else 0
        last = height if last is None else last
        if not first <= last <= height:
            raise NotFound(
                f"heights {first} to {last} are not all here, the ledger ends at {height}",
                hint="see: prsm chain status",
            )
        low = await store.first_height() or 1
        if first < low:
            raise NotFound(
                f"blocks below height {low} are not in this ledger: it pruned them, or began with "
                "a snapshot",
                hint=f"prsm chain export FILE --from {low}, or ask a node that keeps all blocks",
            )
        with write_chain(path, ChainHead(1, genesis.digest, first, last)) as writer:
            while writer.next_height <= last:
                page = await store.blocks(writer.next_height, last, bytes_max=_PAGE_BYTES)
                if not page:
                    raise NotFound(f"block {writer.next_height} is not in this ledger")
                for block in page:
                    writer.add(encode_certified(block.block, block.certificate))
    return {"file": str(path), "first": first, "last": last, "size_bytes": writer.size_bytes}


async def import_chain(home: Home, path: Path) -> object:
    """Execute the blocks of a file into the ledger, from where it stands.

    The checksum of the whole file is checked first; then each block is stored by itself, after
    its certificate, links and roots held. What is stored before a fault stays: it is proven.

    Args:
        home: of a stopped node, held by the caller.
        path: a chain file.

    Raises:
        OtherChain: of another network, or another block at a height the ledger has.
        ChainGap: the file begins above the next height.
        BadChainFile, BadChain: damaged or invented; the text names the height.
        LocalError: whatever refuses to open the ledger, or the disk.
    """
    genesis = from_json(home.genesis.read_bytes())
    archive = ChainFile.open(path)
    check_file(archive)
    if archive.head.genesis != genesis.digest:
        raise _other_network(archive, genesis)
    async with opened_ledger(home.data / "ledger.db") as store:
        ledger, tip = await read_ledger(store, genesis)
        before = tip.height
        if archive.head.first > before + 1:
            raise ChainGap(
                f"{path} begins at height {archive.head.first}, the ledger ends at {before}",
                hint=f"export the blocks between: prsm chain export FILE --from {before + 1}",
            )
        replay = Replay(ledger, tip)
        with own_votes(home, genesis, tip) as votes:
            for height, raw in archive.records():
                if height < before:
                    continue
                item = decode_certified(raw, height)
                if height == before:
                    if block_hash(item.block.header) != tip.block_hash:
                        raise OtherChain(
                            f"{path} has another block at height {height} than the ledger"
                        )
                    continue
                await _store(store, replay, item, votes)
                if height % _CHECKPOINT_BLOCKS == 0:
                    await store.checkpoint()
        return {
            "file": str(path),
            "imported": ledger.height - before,
            "height": ledger.height,
            "head_hash": address_text(ledger.tip.block_hash),
            "state_root": address_text(ledger.state_root),
        }


async def _store(
    store: LedgerStore, replay: Replay, item: Certified, votes: OwnVotes | None
) -> None:
    ledger = replay.ledger
    stored, outcome = replay.judge(item)
    if votes is not None:
        votes.check(item.certificate, ledger.validators(item.block.header.height))
    await store.commit(
        stored,
        changes=outcome.changes,
        tx_ids=outcome.tx_ids,
        epoch=epoch_header_of(ledger.epoch, item.block.header, item.certificate),
    )
    replay.commit(item, outcome)


@asynccontextmanager
async def opened_ledger(path: Path) -> AsyncIterator[LedgerStore]:
    """Open a ledger file, and close it whatever happens.

    Raises:
        Conflict, Corrupt, StoreUnavailable: it does not open.
    """
    store = await LedgerStore.open(path)
    try:
        yield store
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


def check_file(archive: ChainFile) -> None:
    """Read the whole file and compare its checksum; a damaged one is told by its height.

    Raises:
        BadChainFile: it was cut off or changed.
        BadChain: the block that was changed, if one can be found.
    """
    try:
        for _ in archive.records():
            pass
    except BadChainFile:
        previous: bytes | None = None
        for height, raw in archive.records():
            item = decode_certified(raw, height)
            name = block_hash(item.block.header)
            if item.certificate.block_hash != name:
                raise bad_block(height, "its certificate speaks of another block") from None
            if previous is not None and item.block.header.prev_hash != previous:
                raise bad_block(height, "it does not follow the block before it") from None
            previous = name
        raise


def _other_network(archive: ChainFile, genesis: Genesis) -> OtherChain:
    return OtherChain(
        f"{archive.path} is of the network with genesis {archive.head.genesis.hex()[:16]}, "
        f"this node is of {genesis.digest.hex()[:16]}",
        hint="import it into a home made with that network's genesis.json",
    )
