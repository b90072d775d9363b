"""Four nodes on a memory network: real ledger, log, store and driver; only the wire is memory."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.node.net.interface import Channel
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX, MIB, SYNC_BLOCKS_MAX
from prsm.protocol.messages.sync import GetBlocks, GotBlocks
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.protocol.transactions.results import Code
from tests.tools.labs import MICRO, make_cluster, transfer


@pytest.mark.slow
async def test_chain_agrees_on_transfers_when_all_are_up(tmp_path: Path) -> None:
    """Every node pays the next one; all end with the same root and the same balances."""
    cluster = make_cluster(tmp_path)
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            for i, node in enumerate(nodes):
                tx = await node.wallet.submit(TRANSFER, transfer(cluster.labs[(i + 1) % 4], MICRO))
                result = await node.wallet.wait_committed(tx)
                assert result.receipt.code is Code.DONE
            height = max(node.driver.ledger.height for node in nodes)
            for node in nodes:
                await node.driver.wait_height(height)
            assert len({node.driver.ledger.tip.block_hash for node in nodes}) == 1
            assert len({node.driver.ledger.state_root for node in nodes}) == 1
            supply = nodes[0].driver.ledger.view.supply()
            assert supply.minted == cluster.genesis.minted


@pytest.mark.slow
async def test_chain_goes_on_and_catches_up_when_one_stops_and_returns(tmp_path: Path) -> None:
    """The fourth node stops, the others agree without it; reopened, it has their state."""
    cluster = make_cluster(tmp_path)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                tx = await fourth.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
                await fourth.wallet.wait_committed(tx)
                before = fourth.driver.ledger.height
            for _ in range(5):
                tx = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
                await nodes[0].wallet.wait_committed(tx)
            height = nodes[0].driver.ledger.height
            assert height >= before + 5
            async with cluster.node(3) as fourth:
                await fourth.driver.wait_height(height)
                tx = await fourth.wallet.submit(TRANSFER, transfer(cluster.labs[2], MICRO))
                done = await fourth.wallet.wait_committed(tx)
                assert done.receipt.code is Code.DONE
                await nodes[0].driver.wait_height(fourth.driver.ledger.height)
                assert nodes[0].driver.ledger.state_root == fourth.driver.ledger.state_root
                assert not fourth.driver.stopped


@pytest.mark.slow
async def test_chain_is_followed_by_a_node_that_never_votes(tmp_path: Path) -> None:
    """A fifth node with the genesis and addresses only ends with the same state root."""
    cluster = make_cluster(tmp_path, others=1)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            for _ in range(3):
                tx = await nodes[1].wallet.submit(TRANSFER, transfer(cluster.labs[4], MICRO))
                await nodes[1].wallet.wait_committed(tx)
            async with cluster.node(4, votes=False) as light:
                await light.driver.wait_height(nodes[1].driver.ledger.height)
                tx = await light.wallet.submit(TRANSFER, transfer(cluster.labs[0], 2 * MICRO))
                done = await light.wallet.wait_committed(tx)
                assert done.receipt.code is Code.DONE
                assert light.driver.ledger.height >= done.height


@pytest.mark.slow
async def test_node_is_an_observer_when_its_log_is_gone(tmp_path: Path) -> None:
    """A validator whose consensus log vanished follows and signs nothing."""
    cluster = make_cluster(tmp_path)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                tx = await fourth.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
                await fourth.wallet.wait_committed(tx)
            (cluster.labs[3].folder / "consensus.wal").unlink()
            async with cluster.node(3) as fourth:
                assert "log is gone" in fourth.driver.stopped
                tx = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
                done = await nodes[0].wallet.wait_committed(tx)
                await fourth.driver.wait_height(done.height)
                assert all(
                    vote.message.signer != 3
                    for node in nodes
                    for vote in node.driver.state.highest.values()
                    if vote.message.height > done.height
                )


@pytest.mark.slow
async def test_late_node_takes_in_more_than_one_answer_holds(tmp_path: Path) -> None:
    """Some large blocks fill several frames; the rest is asked for again."""
    cluster = make_cluster(tmp_path, validators=1, others=30)
    payment = transfer(cluster.labs[1], 1)
    with trio.fail_after(60):
        async with cluster.node(0) as busy:
            ledger = busy.driver.ledger
            for turn in range(4):
                first, end = 60 * turn, 60 * turn + 60
                for lab in cluster.labs:
                    for nonce in range(first, end):
                        busy.admission.admit_own(cluster.signed(lab, payment, nonce=nonce))
                while any(ledger.view.nonce(lab.wallet.public_key) < end for lab in cluster.labs):
                    await busy.driver.wait_head()
            blocks = await busy.driver.store.blocks(1, SYNC_BLOCKS_MAX, bytes_max=8 * MIB)
            assert sum(len(item.block) for item in blocks) > FRAME_HEAD_BYTES_MAX
            async with cluster.node(1, votes=False) as late:
                tip = ledger.tip  # the validator goes on: both are asked of this height
                await late.driver.wait_height(tip.height)
                (there,) = await late.driver.store.blocks(tip.height, tip.height, bytes_max=MIB)
                assert there.block_hash == tip.block_hash
                ask = GetBlocks(first=1, count=SYNC_BLOCKS_MAX)
                network, peer = late.driver.network, cluster.labs[0].peer
                answer, _ = await network.call(peer, ask, channel=Channel.BULK)
                assert isinstance(answer, GotBlocks)
                assert 0 < len(answer.blocks) < len(blocks)
