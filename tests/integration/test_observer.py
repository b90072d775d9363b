"""A validator that lost its log follows, and signs again by itself, on real drivers and files."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from prsm.consensus.pbft.state import State
from prsm.node.chain.chain import ChainParts
from prsm.protocol.genesis import Parameters
from tests.tools.labs import Cluster, make_cluster

_FAST = Parameters(tree_bits=6, epoch_ms=1_000, heartbeat_block_ms=100)


def _state(node: ChainParts) -> State:
    return node.driver.state


async def _wait_vote(node: ChainParts, cluster: Cluster, *, above: int) -> int:
    """Wait until validator 3 stands in a certificate above a height; returns that height."""
    key = cluster.genesis.validators[3].consensus
    while True:
        tip = _state(node).tip
        index = tip.certifiers.index_of(key)
        if tip.height > above and tip.certificate and index in tip.certificate.signer_indexes():
            return tip.height
        await node.driver.wait_head()


@pytest.mark.slow
async def test_validator_whose_log_is_gone_signs_again_in_a_later_epoch(tmp_path: Path) -> None:
    """Its log is deleted while it is down; the three others go on; nobody has anything on it."""
    cluster = make_cluster(tmp_path, parameters=_FAST)
    data = cluster.labs[3].folder
    operator = cluster.labs[3].wallet.public_key
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                await _wait_vote(nodes[0], cluster, above=3)
                voted = fourth.driver.ledger.height + 1
            (data / "consensus.wal").unlink()
            async with cluster.node(3) as fourth:
                assert "log is gone" in fourth.driver.stopped
                while "at height" not in fourth.driver.stopped:
                    await fourth.driver.wait_head()
                probation = _state(fourth).probation
                assert probation is not None
                assert probation.voted >= voted - 1
                while fourth.driver.stopped:
                    await fourth.driver.wait_head()
                first = _state(fourth).tip.epoch.first
                assert first >= voted + 1
                again = await _wait_vote(nodes[0], cluster, above=first - 1)
                assert again >= first
                assert list(data.glob("*.kept-*"))
            async with cluster.node(3) as fourth:
                assert fourth.driver.stopped == ""
                await _wait_vote(nodes[0], cluster, above=again)
            assert all(not node.driver.ledger.view.double_votes(operator) for node in nodes)
            assert all(not len(node.driver.drafts.evidence) for node in nodes)


@pytest.mark.slow
async def test_validator_that_lost_everything_is_told_by_blocks(tmp_path: Path) -> None:
    """Nobody makes snapshots and all peers started again, so no memory holds a vote of it.

    It goes on to say nothing after a start at which no certificate shows it one either.
    """
    cluster = make_cluster(tmp_path, parameters=_FAST)
    data = cluster.labs[3].folder
    operator = cluster.labs[3].wallet.public_key
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3):
                for node in nodes:  # each has certificates of its own
                    await _wait_vote(node, cluster, above=1)
        for path in data.glob("*"):
            if path.name != "wallet.key":
                path.unlink()
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                while not fourth.driver.stopped:
                    await fourth.driver.wait_head()
                assert "a certificate has my COMMIT" in fourth.driver.stopped
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
            async with cluster.node(3) as fourth:
                assert "guard" in fourth.driver.stopped
                while fourth.driver.stopped:
                    await fourth.driver.wait_head()
                first = _state(fourth).tip.epoch.first
                assert await _wait_vote(nodes[0], cluster, above=first - 1) >= first
            assert all(not node.driver.ledger.view.double_votes(operator) for node in nodes)
            assert all(not len(node.driver.drafts.evidence) for node in nodes)
