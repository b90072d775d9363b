"""Blocks are pruned below the oldest snapshot that is kept, where there are such blocks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import stored_block
from prsm.node.chain.snapshots.evidence import Shown
from prsm.node.chain.snapshots.keeper import SnapshotRules, Snapshots
from prsm.node.clock import TrioClock
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.consensus import Status
from prsm.storage.ledger import LedgerStore
from prsm.storage.snapshots import SnapshotFiles
from tests.tools.offers import chain_of
from tests.tools.wires import Wire

HEIGHT = 6


@dataclass
class Replica:
    """What the room sees of a driver."""

    store: LedgerStore
    ledger: Ledger
    network: Wire = field(default_factory=Wire)
    clock: TrioClock = field(default_factory=TrioClock)
    held: tuple[int, int] = (0, 1)
    on_durable: Callable[[int], Awaitable[None]] | None = None

    def on_status(self, peer: PeerId, status: Status) -> None:
        raise AssertionError((peer, status))


def no_ledger(_state: dict[bytes, bytes], _tip: LedgerTip) -> Ledger:
    raise AssertionError


async def no_distrust(_certificates: Shown) -> str | None:
    raise AssertionError


@pytest.mark.parametrize(("kept", "below"), [((), 0), ((4,), 4), ((9, 12), 0)])
async def test_only_blocks_below_the_oldest_snapshot_are_pruned(
    tmp_path: Path, kept: tuple[int, ...], below: int
) -> None:
    """Also beside snapshots of a higher ledger, whose file gave way to an older one: none is."""
    chain = chain_of(HEIGHT)
    store = await LedgerStore.open(tmp_path / "ledger.db")
    for made in chain.made:
        stored = stored_block(made.block, made.certificate, made.outcome.receipts)
        await store.commit(stored, changes=made.outcome.changes, tx_ids=made.outcome.tx_ids)
    files = SnapshotFiles(tmp_path / "snapshots")
    for height in kept:
        files.staging("making").put(b"root", b"chunk")
        files.staging("making").publish(height, b"meta", [b"root"])
    driver = cast("Driver", Replica(store, chain.ledger))
    rules = SnapshotRules(every=2, prune=True)
    room = Snapshots(driver, files, rules, rebuild=no_ledger, distrust_log=no_distrust)
    room._horizon_ms = 0
    with trio.fail_after(20):
        assert await room.prune() == max(0, below - 1)
        assert await room.prune() == 0
    assert driver.held == (0, below or 1)
    assert await store.first_height() == (below or 1)
    await store.close()
