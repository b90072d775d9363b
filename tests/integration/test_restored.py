"""A validator restored from a copy of its ledger: it follows, serves, and signs nothing."""

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.storage.database import copy_database
from tests.tools.labs import MICRO, make_cluster, transfer


@pytest.mark.slow
async def test_validator_restored_under_transfers_follows_and_signs_nothing(tmp_path: Path) -> None:
    """The fourth node's ledger is copied while it runs and commits; its log and guard are not.

    Restored with its consensus key it reaches the others' state, twice, and no vote of it is
    seen at any height after the copy.
    """
    cluster = make_cluster(tmp_path)
    restored = tmp_path / "restored"
    restored.mkdir(mode=0o700)
    shutil.copy(tmp_path / "lab3" / "wallet.key", restored / "wallet.key")
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]

            async def pay(count: int) -> int:
                height = 0
                for _ in range(count):
                    tx = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
                    height = (await nodes[0].wallet.wait_committed(tx)).height
                return height

            async with cluster.node(3) as fourth, trio.open_nursery() as nursery:
                await fourth.driver.wait_height(await pay(1))
                nursery.start_soon(pay, 5)
                source, target = cluster.labs[3].folder / "ledger.db", restored / "ledger.db"
                await trio.to_thread.run_sync(copy_database, source, target)
            # Its last vote may be for the block after the newest one.
            voted_up_to = 1 + max(node.driver.ledger.height for node in nodes)
            cluster.labs[3].folder = restored
            for _ in range(2):
                async with cluster.node(3) as fourth:
                    assert "gone" in fourth.driver.stopped
                    paid = await pay(3)
                    own, other = fourth.driver, nodes[0].driver
                    await own.wait_height(paid)
                    while own.ledger.height != other.ledger.height:
                        await own.wait_height(other.ledger.height)
                        await other.wait_height(own.ledger.height)
                    assert own.ledger.state_root == other.ledger.state_root
                    key = Ed25519Signer(cluster.labs[3].consensus_seed).public_key
                    votes = [node.driver.state.highest.get(key) for node in nodes]
                    heights = [vote.message.height for vote in votes if vote is not None]
                    assert paid > voted_up_to >= max(heights, default=0)
