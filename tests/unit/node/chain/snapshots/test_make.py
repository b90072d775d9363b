"""Snapshots of a node's own state: at due heights, and only if the next header agrees."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import trio

from prsm.consensus.ledger import chunks
from prsm.consensus.ledger.chunks import open_chunk
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import stored_block
from prsm.node.chain.snapshots import make as module
from prsm.node.chain.snapshots.evidence import Sets, check_snapshot
from prsm.node.chain.snapshots.make import Maker
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.limits import BUCKET_BYTES_MAX, BULK_FRAME_BYTES_MAX, SYNC_BYTES_MAX
from prsm.protocol.messages.sync import ChunkHead, Snapshot
from prsm.protocol.proofs import bucket_index
from prsm.protocol.transactions.payloads import Transfer
from prsm.storage.ledger import LedgerStore
from prsm.storage.snapshots import SnapshotFiles
from prsm.testnet.chain import Chain, small_genesis

EVERY = 2


@dataclass
class Replica:
    """What a maker sees of a driver."""

    store: LedgerStore
    chain: Chain
    on_durable: Callable[[int], Awaitable[None]] | None = None
    held: tuple[int, int] = (0, 1)

    async def wait_height(self, height: int) -> None:
        while self.chain.ledger.height < height:  # noqa: ASYNC110 - a test's own clock
            await trio.sleep(0.001)

    async def add(self, *, lost: bytes | None = None) -> None:
        """Commit a block; `lost` is an entry that the disk forgets."""
        number = self.chain.ledger.height + 1
        pay = Transfer(asset=0, to=bytes([number]) * 32, amount=1, memo=b"")
        made = self.chain.add(self.chain.order(64, pay))
        changes = [*made.outcome.changes, *([(lost, None)] if lost else [])]
        stored = stored_block(made.block, made.certificate, made.outcome.receipts)
        await self.store.commit(stored, changes=changes, tx_ids=made.outcome.tx_ids)
        if self.on_durable is not None:
            await self.on_durable(number)


async def made_by(files: SnapshotFiles, height: int) -> None:
    with trio.fail_after(20):
        while height not in files.heights():  # noqa: ASYNC110 - files have no event
            await trio.sleep(0.01)


@pytest.fixture
async def replica(tmp_path: Path) -> Replica:
    chain = Chain(small_genesis())
    store = await LedgerStore.open(tmp_path / "ledger.db")
    await store.put_state(sorted(chain.ledger._state.items()))
    return Replica(store, chain)


async def test_snapshot_of_a_due_height_is_whole_and_proven(
    replica: Replica, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Made while later blocks are committed; the last two are kept; STATUS says the latest."""
    genesis = replica.chain.genesis
    bits = genesis.parameters.tree_bits
    files = SnapshotFiles(tmp_path / "snapshots")
    maker = Maker(cast("Driver", replica), files, every=EVERY, bits=bits)
    assert maker.bucket_entries == 0
    await nursery.start(maker.run)
    states = {}
    for height in range(1, 8):
        await replica.add()
        states[height] = dict(replica.chain.ledger._state)
        if height % EVERY and height > 1:
            await made_by(files, height - 1)
    with trio.fail_after(20):
        while replica.held != (6, 1):  # noqa: ASYNC110 - said after the oldest is gone
            await trio.sleep(0.01)
    assert files.heights() == [4, 6]
    for height in files.heights():
        found = decode(files.meta(height), Snapshot, size_max=BULK_FRAME_BYTES_MAX)
        sets = Sets(genesis, Ed25519Verifier(), (genesis.validators_of(0),))
        check_snapshot(found, height, sets, bits=bits)
        (head,) = found.chunks
        raw = files.part(height, head.root, at=0, size_max=SYNC_BYTES_MAX)
        pairs = open_chunk(raw, head, first=0, bits=bits)
        assert dict(pairs) == states[height]
    crowds = Counter(bucket_index(key, bits) for key in states[6])
    assert maker.bucket_entries == max(crowds.values())
    await replica.store.close()
    nursery.cancel_scope.cancel()


async def test_state_that_differs_from_the_next_header_is_never_shown(
    replica: Replica, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """The disk forgot an entry: block H + 1 names another root, so nothing is published."""
    bits = replica.chain.genesis.parameters.tree_bits
    files = SnapshotFiles(tmp_path / "snapshots")
    await nursery.start(Maker(cast("Driver", replica), files, every=EVERY, bits=bits).run)
    key = next(iter(replica.chain.ledger._state))
    await replica.add()
    await replica.add(lost=key)
    await replica.add()
    with trio.fail_after(20):
        while not (tmp_path / "snapshots").exists() or any((tmp_path / "snapshots").iterdir()):  # noqa: ASYNC110 - files have no event
            await trio.sleep(0.01)
    assert files.heights() == []
    assert replica.held == (0, 1)
    await replica.store.close()
    nursery.cancel_scope.cancel()


async def test_snapshot_nobody_could_fetch_leaves_the_ones_before(
    replica: Replica, tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket beyond its bound at height 6: 2 and 4 stay; at 8 it is smaller, and 2 goes."""
    bits = replica.chain.genesis.parameters.tree_bits
    files = SnapshotFiles(tmp_path / "snapshots")
    judged: list[Sequence[ChunkHead]] = []

    def root_of(heads: Sequence[ChunkHead], *, bits: int) -> bytes:
        judged.append(heads)  # what follows is decided before anybody else has a turn
        return chunks.root_of(heads, bits=bits)

    monkeypatch.setattr(module, "root_of", root_of)
    await nursery.start(Maker(cast("Driver", replica), files, every=EVERY, bits=bits).run)
    await replica.add()
    for last, bound, kept in ((5, BUCKET_BYTES_MAX, [2, 4]), (7, 1, [2, 4]), (9, 4096, [4, 8])):
        monkeypatch.setattr(module, "BUCKET_BYTES_MAX", bound)
        while replica.chain.ledger.height < last:
            await replica.add()
            await replica.add()
            with trio.fail_after(20):
                while len(judged) < (replica.chain.ledger.height - 1) // EVERY:  # noqa: ASYNC110 - a maker has no event
                    await trio.sleep(0.01)
        with trio.fail_after(20):
            while files.heights() != kept:  # noqa: ASYNC110 - files have no event
                await trio.sleep(0.01)
    await replica.store.close()
    nursery.cancel_scope.cancel()
