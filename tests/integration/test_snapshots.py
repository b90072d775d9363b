"""Nodes that lost their disk, or found only pruned peers: real stores and drivers, memory wire."""

import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.chain.chain import ChainParts
from prsm.node.chain.snapshots.keeper import SnapshotRules
from prsm.node.chain.snapshots.make import keep_latest
from prsm.node.net.interface import Answer, CallRefused, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import Status
from prsm.protocol.messages.sync import (
    GetBlocks,
    GetChunk,
    GetEpochHeaders,
    GetSnapshot,
    GotBlocks,
    GotChunk,
    Snapshot,
    SnapshotMeta,
)
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.protocol.transactions.results import Code
from prsm.storage.errors import NotFound
from tests.tools.labs import MICRO, Cluster, Lab, make_cluster, transfer

pytestmark = pytest.mark.slow
EVERY = 4


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds; the caller sets the deadline."""
    while not condition():  # noqa: ASYNC110 - states of rooms, which have no event for tests
        await trio.sleep(0.02)


async def pay(node: ChainParts, to: Lab, *, times: int = 1) -> None:
    """Payments one after the other: at least a block each."""
    for _ in range(times):
        tx = await node.wallet.submit(TRANSFER, transfer(to, MICRO))
        done = await node.wallet.wait_committed(tx)
        assert done.receipt.code is Code.DONE


def wipe(lab: Lab) -> None:
    """Lose everything but the keys."""
    for path in lab.folder.iterdir():
        if path.name != "wallet.key":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def cluster_of(folder: Path, *, others: int = 0) -> Cluster:
    cluster = make_cluster(folder, others=others)
    cluster.snapshots = SnapshotRules(every=EVERY)
    return cluster


async def test_wiped_validator_comes_back_by_a_snapshot_and_signs_nothing(tmp_path: Path) -> None:
    """All of its folder is gone: snapshot, then blocks, then live; same root, and an observer."""
    cluster = cluster_of(tmp_path)
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                await pay(nodes[0], cluster.labs[3], times=5)
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
            await pay(nodes[0], cluster.labs[1], times=2 * EVERY)
            await until(lambda: all(node.driver.held[0] > EVERY for node in nodes))
            wipe(cluster.labs[3])
            async with cluster.node(3) as fourth:
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
                await until(lambda: fourth.snapshots.taker.taken > EVERY)  # after it is published
                taken = fourth.snapshots.taker.taken
                assert await fourth.driver.store.first_height() == taken
                assert fourth.driver.stopped
                await pay(fourth, cluster.labs[0], times=2)
                height = fourth.driver.ledger.height
                await nodes[0].driver.wait_height(height)
                await until(lambda: len({n.driver.ledger.height for n in (*nodes, fourth)}) == 1)
                assert nodes[0].driver.ledger.state_root == fourth.driver.ledger.state_root
                assert fourth.driver.ledger.validators(height) == nodes[0].driver.validators
                own = fourth.driver.validators.validators[3].consensus
                assert all(own not in node.driver.state.highest for node in nodes[1:]) or all(
                    node.driver.state.highest[own].message.height <= taken
                    for node in nodes
                    if own in node.driver.state.highest
                )
                kept = [await n.driver.store.epoch_header(0) for n in (fourth, nodes[0])]
                assert None not in kept
                # Of one block two honest nodes may hold different certificates.
                assert len({held.header for held in kept if held is not None}) == 1
            # Again from its own file, and an observer again.
            async with cluster.node(3) as fourth:
                assert fourth.driver.stopped
                await pay(nodes[0], cluster.labs[3])
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
                assert fourth.snapshots.taker.taken == 0


async def test_fresh_node_walks_along_the_epochs_to_a_snapshot(tmp_path: Path) -> None:
    """Several epochs have passed and no block of the first ones is held by anybody."""
    cluster = cluster_of(tmp_path, others=1)
    parameters = msgspec.structs.replace(
        cluster.genesis.parameters, epoch_ms=1_000, unbonding_ms=10_000
    )
    genesis = msgspec.structs.replace(cluster.genesis, parameters=parameters)
    cluster = Cluster(genesis, cluster.labs, cluster.hub, cluster.snapshots)
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            while nodes[0].driver.ledger.epoch.number < 3:
                await pay(nodes[0], cluster.labs[1])
                await trio.sleep(0.05)
            await until(lambda: all(node.driver.held[0] > 2 * EVERY for node in nodes))
            for node in nodes:
                node.snapshots._horizon_ms = 0
                while await node.snapshots.prune():
                    continue
            async with cluster.node(4, votes=False) as light:
                await light.driver.wait_height(nodes[0].driver.ledger.height)
                assert light.snapshots.taker.taken > 2 * EVERY
                assert light.driver.ledger.epoch.number >= 3
                kept = await light.driver.store.epoch_headers(0, count_max=9)
                assert [item.epoch for item in kept[:3]] == [0, 1, 2]
                assert kept[:3] == (await nodes[0].driver.store.epoch_headers(0, count_max=9))[:3]
                await pay(light, cluster.labs[0])
                assert not light.driver.stopped


async def test_node_far_behind_with_its_log_takes_a_snapshot_and_votes_again(
    tmp_path: Path,
) -> None:
    """Away for two snapshots, nothing lost: it takes one and is a voting member afterwards."""
    cluster = cluster_of(tmp_path)
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            async with cluster.node(3) as fourth:
                own = fourth.driver.validators.validators[3].consensus
                while own not in nodes[0].driver.state.highest:  # its log must hold a vote
                    await pay(nodes[0], cluster.labs[3])
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
            behind = nodes[0].driver.ledger.height
            await pay(nodes[0], cluster.labs[1], times=3 * EVERY)
            await until(lambda: nodes[0].driver.held[0] > behind + EVERY)
            async with cluster.node(3) as fourth:
                await fourth.driver.wait_height(nodes[0].driver.ledger.height)
                await until(lambda: fourth.snapshots.taker.taken > behind)
                assert not fourth.driver.stopped
                await pay(nodes[0], cluster.labs[1], times=3)
                await until(
                    lambda: (
                        own in nodes[0].driver.state.highest
                        and nodes[0].driver.state.highest[own].message.height
                        > fourth.snapshots.taker.taken + 1
                    )
                )


async def test_pruned_peers_refuse_by_name_and_a_fresh_node_takes_their_snapshot(
    tmp_path: Path,
) -> None:
    """Blocks below the oldest snapshot are gone; headers of epochs stay; STATUS says the first."""
    cluster = cluster_of(tmp_path, others=1)
    light_rules = SnapshotRules(every=0)  # far behind is 1,000 heights for this one
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            await pay(nodes[0], cluster.labs[4], times=3 * EVERY)
            await until(lambda: all(node.driver.held[0] >= 3 * EVERY for node in nodes))
            for node in nodes:
                assert await node.snapshots.prune() == 0  # still evidence
                node.snapshots._horizon_ms = 0
                while await node.snapshots.prune():
                    continue
                await keep_latest(node.driver, node.snapshots._files)
                first = node.driver.held[1]
                assert first > 1
                assert await node.driver.store.first_height() == first
                assert await node.driver.store.epoch_header(0) is not None
            with pytest.raises(CallRefused, match=f"first one held is {nodes[1].driver.held[1]}"):
                await nodes[0].driver.network.call(
                    cluster.labs[1].peer, GetBlocks(first=1, count=9), channel=Channel.BULK
                )
            cluster.snapshots = light_rules
            async with cluster.node(4, votes=False) as light:
                await light.driver.wait_height(nodes[0].driver.ledger.height)
                await until(lambda: light.snapshots.taker.taken >= EVERY)
                assert not light.driver.stopped
                await pay(light, cluster.labs[0])
                await until(lambda: light.driver.ledger.height == nodes[0].driver.ledger.height)
                assert light.driver.ledger.state_root == nodes[0].driver.ledger.state_root


class Liar:
    """A peer that claims a snapshot, shows what a test says, and sends wrong chunks."""

    def __init__(self, network: PeerNetwork, shown: bytes) -> None:
        self.network = network
        self.asked: list[Record] = []
        self._shown = shown
        for cls in (GetSnapshot, GetChunk, GetEpochHeaders, GetBlocks):
            network.on_call(cls, self._answer)
        network.on_message(Status, lambda _incoming: None)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        ask = incoming.message
        self.asked.append(ask)
        match ask:
            case GetSnapshot():
                return SnapshotMeta(height=ask.height), self._shown
            case GetChunk():
                return GotChunk(height=ask.height, index=ask.index), b"\x92\xc4\x01k\xc4\x01v"
            case GetEpochHeaders():
                raise NotFound("none")
            case _:
                return GotBlocks(blocks=()), b""

    async def claim(self, lab: Lab, height: int) -> None:
        """Say it again and again, as STATUS does."""
        status = Status(height + 1, 0, bytes(32), height, height, height, None)
        while True:
            self.network.send_nowait(lab.peer, status, channel=Channel.CTL)
            await trio.sleep(0.05)

    def count(self, cls: type[Record]) -> int:
        return sum(isinstance(ask, cls) for ask in self.asked)


@pytest.mark.parametrize("lie", ["height", "certificate", "chunk"])
async def test_liar_about_a_snapshot_is_dropped_and_honest_peers_are_followed(
    tmp_path: Path, lie: str
) -> None:
    """A height nobody has, a forged certificate, wrong chunks: asked once, nothing of it used."""
    cluster = cluster_of(tmp_path, others=2)
    lab = cluster.labs[4]
    with trio.fail_after(90):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            await pay(nodes[0], lab, times=2 * EVERY + 1)
            await until(lambda: all(node.driver.held[0] > EVERY for node in nodes))
            height = nodes[0].driver.held[0]
            shown = nodes[0].snapshots._files.meta(height)
            if lie == "certificate":
                found = decode(shown, Snapshot, size_max=BULK_FRAME_BYTES_MAX)
                certificate = msgspec.structs.replace(
                    found.certificate, signatures=(bytes(64),) * 4, signers=15
                )
                shown = encode(msgspec.structs.replace(found, certificate=certificate))
            liar = Liar(cluster.network(5), shown)
            claimed = 1_000_000 if lie == "height" else height
            honest = [each.peer for each in cluster.labs[:4]]
            for peer in honest:  # else it may be done before the liar opens its mouth
                cluster.hub.cut(peer, lab.peer)
            async with cluster.node(4, votes=False) as light, trio.open_nursery() as nursery:
                await nursery.start(liar.network.run)
                await liar.network.connect(cluster.hub.address(lab.peer))
                nursery.start_soon(liar.claim, lab, claimed)
                await until(lambda: liar.count(GetSnapshot) + liar.count(GetChunk) > 0)
                for peer in honest:
                    cluster.hub.heal(peer, lab.peer)
                await light.driver.wait_height(nodes[0].driver.ledger.height)
                await until(
                    lambda: light.driver.ledger.state_root == nodes[0].driver.ledger.state_root
                )
                assert (liar.count(GetSnapshot) <= 1, liar.count(GetChunk) <= 1) == (True, True)
                assert not light.driver.stopped
                nursery.cancel_scope.cancel()
