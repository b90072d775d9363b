"""Four nodes on a memory network: real ledger, log, store and driver; only the wire is memory."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from prsm.node.chain import ChainConfig, ChainParts, open_chain
from prsm.node.clock import TrioClock
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import PrsmError
from prsm.protocol.genesis import Allocation, Genesis, Parameters
from prsm.protocol.identity import peer_id_of
from prsm.protocol.transactions.payloads import TRANSFER, Transfer
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import Validator
from prsm.storage.keystore import Cost, KeyFile, save_key

PASSWORD = "correct horse"
MICRO = 1_000_000


@dataclass
class Lab:
    """Keys and folders of one node."""

    index: int
    folder: Path

    @property
    def node(self) -> Ed25519Signer:
        return Ed25519Signer(bytes([self.index, 1] * 16))

    @property
    def consensus_seed(self) -> bytes:
        return bytes([self.index, 2] * 16)

    @property
    def wallet(self) -> Ed25519Signer:
        return Ed25519Signer(bytes([self.index, 3] * 16))

    def write_keys(self) -> None:
        self.folder.mkdir(mode=0o700)
        save_key(
            self.folder / "wallet.key",
            bytes([self.index, 3] * 16),
            password=PASSWORD,
            key_file=KeyFile("wallet", self.wallet.public_key, Cost.DEVELOPMENT),
        )


@dataclass
class Cluster:
    """Labs of one genesis on one hub."""

    genesis: Genesis
    labs: list[Lab]
    hub: MemoryHub

    @asynccontextmanager
    async def node(self, index: int, *, votes: bool = True) -> AsyncIterator[ChainParts]:
        """Run one node and connect it to the others that were ever made."""
        lab = self.labs[index]
        identity = ChainIdentity(self.genesis.chain_id, self.genesis.digest)
        network = self.hub.network(lab.node.public_key, identity)
        config = ChainConfig(
            self.genesis,
            lab.folder,
            lab.folder / "wallet.key",
            lab.consensus_seed if votes else None,
        )
        async with (
            open_chain(config, network, TrioClock()) as parts,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(network.run)
            await nursery.start(parts.run)
            await parts.wallet.unlock(PASSWORD)
            nursery.start_soon(self.connect, network, index)
            yield parts
            nursery.cancel_scope.cancel()

    async def connect(self, network: PeerNetwork, index: int) -> None:
        """Dial every other lab that is there."""
        for other in self.labs:
            if other.index != index:
                try:
                    await network.connect(self.hub.address(peer_id_of(other.node.public_key)))
                except (KeyError, PrsmError):
                    continue


def make_cluster(folder: Path, *, validators: int = 4, others: int = 0) -> Cluster:
    labs = [Lab(i, folder / f"lab{i}") for i in range(validators + others)]
    for lab in labs:
        lab.write_keys()
    genesis = Genesis(
        version=1,
        name="test",
        development=True,
        time_ms=1_700_000_000_000,
        validators=tuple(
            Validator(
                operator=lab.wallet.public_key,
                consensus=Ed25519Signer(lab.consensus_seed).public_key,
                peer_id=peer_id_of(lab.node.public_key),
                stake=1000 * MICRO,
            )
            for lab in labs[:validators]
        ),
        allocations=tuple(Allocation(lab.wallet.public_key, 100 * MICRO) for lab in labs),
        parameters=Parameters(tree_bits=6),
    )
    return Cluster(genesis, labs, MemoryHub())


def transfer(to: Lab, amount: int) -> Transfer:
    return Transfer(asset=0, to=to.wallet.public_key, amount=amount, memo=b"")


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
