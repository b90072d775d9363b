"""Nodes that halted, or were cut off while the others went far ahead: real stores and drivers."""

import dataclasses
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.consensus.pbft.transitions import Phase
from prsm.node.chain.chain import ChainParts
from prsm.node.chain.wallet import TransactionUnseen
from prsm.node.net.network import PeerNetwork
from prsm.protocol.transactions.payloads import TRANSFER
from tests.integration.test_snapshots import EVERY, cluster_of, pay, until
from tests.tools.labs import MICRO, transfer

pytestmark = pytest.mark.slow


async def test_replica_that_halts_halts_its_node(tmp_path: Path) -> None:
    """Its state contradicts a certificate: no more blocks, and no snapshot over what it holds."""

    def spoil(parts: ChainParts) -> None:
        state = parts.driver.state
        state.tip = dataclasses.replace(state.tip, state_root=bytes(32))

    cluster = cluster_of(tmp_path)
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                await pay(nodes[0], cluster.labs[3], times=3)
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
            async with cluster.node(3, prepare=spoil) as fourth:
                driver = fourth.driver
                was_halted = driver.is_halted
                await pay(nodes[0], cluster.labs[1])
                await until(lambda: driver.state.instance.phase is Phase.HALTED)
                assert (was_halted, driver.is_halted) == (False, True)
                assert driver.stopped


async def test_payment_whose_block_went_by_unseen_is_not_said_to_be_void(tmp_path: Path) -> None:
    """Paid while the sender was cut off, which then took a snapshot: it must not pay again."""
    cluster = cluster_of(tmp_path, others=1)
    light_lab, validators = cluster.labs[4], cluster.labs[:4]
    sender = light_lab.wallet.public_key
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            async with cluster.node(4, votes=False) as light:
                await pay(light, cluster.labs[0])
                sent = await light.wallet.submit(TRANSFER, transfer(cluster.labs[0], 7 * MICRO))
                view = nodes[0].driver.ledger.view
                await until(lambda: sent in nodes[0].driver.mempool or view.nonce(sender) > 1)
                for lab in validators:
                    cluster.hub.cut(lab.peer, light_lab.peer)
                assert light.wallet.pending(sent) is not None
                await pay(nodes[0], cluster.labs[1], times=4 * EVERY)
                for node in nodes:
                    node.snapshots._horizon_ms = 0
                assert nodes[0].driver.ledger.view.nonce(sender) == 2, "it was paid"
                for lab in validators:
                    cluster.hub.heal(lab.peer, light_lab.peer)
                assert isinstance(light.driver.network, PeerNetwork)
                await cluster.connect(light.driver.network, 4)
                await until(lambda: light.snapshots.taker.taken > 0)
                with pytest.raises(TransactionUnseen, match="may hold it"):
                    await light.wallet.wait_committed(sent)
