"""The ledger file: a block and all it changes, or nothing of it."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import trio

from prsm.storage.errors import Conflict, Corrupt, StoreUnavailable
from prsm.storage.ledger import EpochHeader, LedgerStore, StoredBlock


def block(height: int, *, size: int = 10) -> StoredBlock:
    return StoredBlock(
        height, b"h%031d" % height, b"b" * size, b"cert%d" % height, b"receipts%d" % height
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LedgerStore]:
    opened = await LedgerStore.open(tmp_path / "ledger.db")
    yield opened
    await opened.close()


async def test_ledger_keeps_blocks_state_and_transactions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = await LedgerStore.open(path)
    assert await store.tip() is None
    assert await store.load_state() == {}
    await store.put_meta("genesis", b"g")
    await store.put_state([(b"supply", b"7")])
    await store.commit(block(1), changes=[(b"a", b"1"), (b"b", b"2")], tx_ids=[b"t1", b"t2"])
    await store.commit(block(2), changes=[(b"a", None), (b"b", b"3"), (b"x", None)], tx_ids=[b"t3"])
    await store.close()
    store = await LedgerStore.open(path)
    assert await store.tip() == (2, block(2).block_hash)
    assert await store.load_state() == {b"supply": b"7", b"b": b"3"}
    assert await store.block(1) == block(1)
    assert await store.block(3) is None
    assert await store.block_by_hash(block(2).block_hash) == block(2)
    assert await store.block_by_hash(b"?") is None
    assert [await store.find_tx(tx) for tx in (b"t1", b"t2", b"t3", b"t4")] == [
        (1, 0),
        (1, 1),
        (2, 0),
        None,
    ]
    assert (await store.get_meta("genesis"), await store.get_meta("none")) == (b"g", None)
    with pytest.raises(Conflict, match="height 2"):
        await store.put_state([])
    await store.close()


async def test_blocks_come_in_order_and_bounded(store: LedgerStore) -> None:
    for height in range(5, 10):
        await store.commit(block(height, size=100), changes=[], tx_ids=[])
    assert [b.height for b in await store.blocks(5, 7, bytes_max=9999)] == [5, 6, 7]
    assert [b.height for b in await store.blocks(6, 99, bytes_max=9999)] == [6, 7, 8, 9]
    assert [b.height for b in await store.blocks(5, 9, bytes_max=215)] == [5, 6]
    assert [b.height for b in await store.blocks(5, 9, bytes_max=0)] == [5]
    assert not await store.blocks(1, 9, bytes_max=9999)
    assert not await store.blocks(10, 20, bytes_max=9999)


@pytest.mark.parametrize(
    ("wrong", "tx_ids"),
    [
        (block(1), [b"new"]),
        (block(3), [b"new"]),
        (block(2), [b"new", b"t1"]),
        (block(2), [b"new", b"new"]),
        (StoredBlock(2, block(1).block_hash, b"", b"", b""), [b"new"]),
    ],
)
async def test_commit_that_is_refused_changes_nothing(
    store: LedgerStore, wrong: StoredBlock, tx_ids: list[bytes]
) -> None:
    await store.commit(block(1), changes=[(b"a", b"1")], tx_ids=[b"t1"])
    with pytest.raises(Conflict):
        await store.commit(wrong, changes=[(b"a", b"2")], tx_ids=tx_ids)
    assert await store.tip() == (1, block(1).block_hash)
    assert await store.load_state() == {b"a": b"1"}
    assert await store.find_tx(b"new") is None


async def test_cancelled_commit_is_whole(store: LedgerStore) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit_many, store, 200)
        await trio.testing.wait_all_tasks_blocked(0.001)
        nursery.cancel_scope.cancel()
    tip = await store.tip()
    if tip is not None:
        assert await store.load_state() == {b"height": b"%d" % tip[0]}
        assert await store.find_tx(b"tx%d" % tip[0]) == (tip[0], 0)


async def commit_many(store: LedgerStore, count: int) -> None:
    for height in range(1, count):
        changes = [(b"height", b"%d" % height)]
        await store.commit(block(height), changes=changes, tx_ids=[b"tx%d" % height])


async def test_count_of_transactions_moves_with_blocks_and_never_with_refused_ones(
    store: LedgerStore,
) -> None:
    """Counted by a scan once; afterwards each answer is the same as a scan's."""
    assert await store.count_transactions() == 0
    await store.commit(block(1), changes=[], tx_ids=[b"t1", b"t2"])
    assert await store.count_transactions() == 2
    with pytest.raises(Conflict):
        await store.commit(block(2), changes=[], tx_ids=[b"t3", b"t1"])
    assert await store.count_transactions() == 2
    store._counted = (2, 99)  # what a commit that the disk refused at its very end leaves
    assert await store.count_transactions() == 2
    store._counted = (2, 99)
    await store.commit(block(2), changes=[], tx_ids=[b"t3"])
    assert await store.count_transactions() == 3
    await store.commit(block(3), changes=[], tx_ids=[])
    await store.commit(block(4), changes=[], tx_ids=[b"t%d" % n for n in range(10, 20)])
    assert store._counted == (4, 13)
    assert await store.count_transactions() == 13


async def test_ledger_with_a_hole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = await LedgerStore.open(path)
    await commit_many(store, 5)
    await store.checkpoint()
    await store.close()
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM block WHERE height=2")
    raw.commit()
    raw.close()
    with pytest.raises(Corrupt, match="3 blocks between heights 1 and 4"):
        await LedgerStore.open(path)


async def test_ledger_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = await LedgerStore.open(path)
    await commit_many(store, 50)
    await store.close()
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2 + 100])
    with pytest.raises(Corrupt):
        await LedgerStore.open(path)


def epoch(number: int, *, mark: bytes = b"") -> EpochHeader:
    return EpochHeader(number, 10 * number + 1, b"header" + mark, b"certificate", b"members")


async def test_header_of_an_epoch_is_kept_with_its_first_block(store: LedgerStore) -> None:
    """One row an epoch, in one transaction with the block; the first one stays."""
    await store.commit(block(1), changes=[], tx_ids=[b"t1"], epoch=epoch(0))
    await store.commit(block(2), changes=[], tx_ids=[])
    assert await store.epoch_header(0) == epoch(0)
    assert await store.epoch_header(1) is None
    with pytest.raises(Conflict):
        await store.commit(block(3), changes=[], tx_ids=[b"t1"], epoch=epoch(1))
    assert await store.epoch_header(1) is None
    await store.put_epoch_headers([epoch(0, mark=b"other"), epoch(2), epoch(3)])
    assert await store.epoch_headers(0, count_max=9) == [epoch(0), epoch(2), epoch(3)]
    assert await store.epoch_headers(1, count_max=1) == [epoch(2)]


async def test_header_of_an_epoch_with_other_members_gives_way(store: LedgerStore) -> None:
    """An epoch has one set, and what is written was checked: so it is the old row that is wrong."""
    wrong = EpochHeader(1, 11, b"header", b"certificate", b"strangers")
    await store.put_epoch_headers([epoch(0), wrong])
    state = {b"x": b"y"}
    await store.install(block(100), state=state, epochs=[epoch(0, mark=b"other"), epoch(1)])
    assert await store.epoch_headers(0, count_max=9) == [epoch(0), epoch(1)]


async def test_view_is_the_state_of_its_moment(store: LedgerStore) -> None:
    """Later blocks are not in it; entries come by place, then by key."""
    first = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    await store.commit(block(1), changes=first, tx_ids=[])
    view = await store.view()
    await store.commit(block(2), changes=[(b"a", None), (b"b", b"9"), (b"d", b"4")], tx_ids=[])
    assert view.height == 1
    assert list(view.pairs(lambda key: key == b"a")) == [(b"b", b"2"), (b"c", b"3"), (b"a", b"1")]
    view.close()
    with pytest.raises(StoreUnavailable):
        list(view.pairs(len))
    later = await store.view()
    assert (later.height, dict(later.pairs(len))) == (2, {b"b": b"9", b"c": b"3", b"d": b"4"})
    later.close()


async def test_installed_state_takes_the_place_of_all_but_epochs(store: LedgerStore) -> None:
    """Blocks, transactions and state are those of the snapshot; it must be above the tip."""
    await store.commit(block(1), changes=[(b"a", b"1")], tx_ids=[b"t1"], epoch=epoch(0))
    await store.commit(block(2), changes=[(b"b", b"2")], tx_ids=[b"t2"])
    with pytest.raises(Conflict, match="height 2"):
        await store.install(block(2), state={b"x": b"y"}, epochs=[])
    assert await store.load_state() == {b"a": b"1", b"b": b"2"}
    await store.install(block(100), state={b"x": b"y", b"b": b"3"}, epochs=[epoch(0), epoch(1)])
    assert await store.load_state() == {b"x": b"y", b"b": b"3"}
    assert await store.tip() == (100, block(100).block_hash)
    assert await store.first_height() == 100
    assert await store.find_tx(b"t1") is None
    assert await store.count_transactions() == 0
    assert await store.epoch_headers(0, count_max=9) == [epoch(0), epoch(1)]
    await store.commit(block(101), changes=[(b"x", None)], tx_ids=[b"t1"])
    assert await store.load_state() == {b"b": b"3"}


async def test_failed_install_leaves_everything(store: LedgerStore) -> None:
    """An entry that cannot be written: the old state and block are there, whole."""
    await store.commit(block(1), changes=[(b"a", b"1")], tx_ids=[b"t1"])
    broken = {b"k": b"v", b"l": cast("bytes", None)}
    with pytest.raises(Conflict):
        await store.install(block(9), state=broken, epochs=[])
    assert await store.load_state() == {b"a": b"1"}
    assert await store.tip() == (1, block(1).block_hash)
    assert await store.find_tx(b"t1") == (1, 0)


async def test_pruned_blocks_are_gone_in_slices_and_the_tip_stays(tmp_path: Path) -> None:
    """Lowest first, at most so many at once; what is left opens again without a hole."""
    path = tmp_path / "ledger.db"
    store = await LedgerStore.open(path)
    assert await store.first_height() is None
    assert await store.prune(5, count_max=9) == 0
    for height in range(1, 11):
        await store.commit(block(height), changes=[], tx_ids=[b"t%d" % height])
    assert [await store.prune(6, count_max=3) for _ in range(3)] == [3, 2, 0]
    assert await store.first_height() == 6
    assert (await store.find_tx(b"t5"), await store.find_tx(b"t6")) == (None, (6, 0))
    assert await store.count_transactions() == 5
    assert [b.height for b in await store.blocks(1, 9, bytes_max=999)] == []
    assert await store.prune(99, count_max=99) == 4
    assert await store.first_height() == 10
    await store.close()
    store = await LedgerStore.open(path)
    assert await store.tip() == (10, block(10).block_hash)
    await store.close()
