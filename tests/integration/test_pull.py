"""Transactions whose frames are lost still come to every validator: on a memory network."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.chain.chain import ChainParts
from prsm.node.net.interface import Channel
from prsm.protocol.codec import Record, decode
from prsm.protocol.headers import Block
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.sync import Submit
from prsm.protocol.transactions.payloads import TRANSFER
from tests.tools.labs import MICRO, Cluster, make_cluster, transfer


class Losing:
    """Loses a node's transactions on their way to everybody but a few."""

    def __init__(self, patch: pytest.MonkeyPatch, reached: set[PeerId]) -> None:
        self.patch = patch
        self.reached = reached
        self.lost = 0

    def __call__(self, parts: ChainParts) -> None:
        network = parts.driver.network
        send = network.send_nowait

        def lossy(
            peer: PeerId,
            message: Record,
            *,
            channel: Channel,
            tail: bytes = b"",
            trace: bytes = b"",
        ) -> bool:
            if isinstance(message, Submit) and peer not in self.reached:
                self.lost += 1
                return True
            return send(peer, message, channel=channel, tail=tail, trace=trace)

        self.patch.setattr(network, "send_nowait", lossy)


def patient(cluster: Cluster) -> Cluster:
    """The same network with timeouts so long that no view changes during a test."""
    slow = msgspec.structs.replace(
        cluster.genesis.parameters, timeout_base_ms=60_000, timeout_cap_ms=60_000
    )
    cluster.genesis = msgspec.structs.replace(cluster.genesis, parameters=slow)
    return cluster


@pytest.mark.slow
async def test_transaction_is_proposed_by_one_whose_frames_were_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower's payment reaches the fourth validator only; the first proposes it, in view 0."""
    cluster = patient(make_cluster(tmp_path, others=1))
    losing = Losing(monkeypatch, {cluster.labs[3].peer})
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            for index in range(4):
                await stack.enter_async_context(cluster.node(index))
            follower = await stack.enter_async_context(cluster.node(4, votes=False, prepare=losing))
            tx = await follower.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
            done = await follower.wallet.wait_committed(tx)
            block = await follower.driver.store.block(done.height)
            assert block is not None
            header = decode(block.block, Block, size_max=BULK_FRAME_BYTES_MAX).header
            assert (header.view, header.proposer) == (0, 0)
            assert losing.lost >= 3


@pytest.mark.slow
async def test_proposer_that_was_down_learns_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts after the payment was sent, which nobody sends again: peers tell it the id."""
    cluster = patient(make_cluster(tmp_path))
    losing = Losing(monkeypatch, set())
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(cluster.node(1, prepare=losing))
            for index in (2, 3):
                await stack.enter_async_context(cluster.node(index))
            tx = await sender.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
            await stack.enter_async_context(cluster.node(0))
            done = await sender.wallet.wait_committed(tx)
            assert done.height == 1
            assert losing.lost >= 2
