"""Four nodes on a memory network, and what must not hurt them: deaths, lies, a refusing disk."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.consensus.pbft.opened import Opened, open_message
from prsm.node.chain.chain import open_chain
from prsm.node.chain.wallet import TransactionExpired, TxResult
from prsm.node.clock import TrioClock
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.genesis import BadGenesis
from prsm.protocol.headers import Block
from prsm.protocol.ids import TxId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import Accusation, SignedMessage, Status, sign_message
from prsm.protocol.messages.sync import Certified, GetBlocks, GotBlock, GotBlocks, Submit
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.payloads import TRANSFER
from prsm.protocol.transactions.results import Code
from prsm.storage.errors import StoreUnavailable
from prsm.testnet.sim.disk import FaultyDisk
from tests.tools.labs import BALANCE, MICRO, STAKE, Cluster, make_cluster, transfer

pytestmark = pytest.mark.slow
FAR = 1_000_000


def status_of(height: int) -> Status:
    return Status(
        height=height,
        view=0,
        tip_hash=bytes(32),
        low_mark=0,
        snapshot_height=0,
        first_height=1,
        your_highest=None,
    )


async def until(condition: Callable[[], bool]) -> None:
    """Look at a condition until it holds; the caller sets the deadline."""
    while not condition():  # noqa: ASYNC110 - states of rooms, which have no event for tests
        await trio.sleep(0.02)


async def test_transaction_is_sent_again_until_committed_when_its_proposer_dies(
    tmp_path: Path,
) -> None:
    """Only one validator gets it, and dies at once; the sender's node hands it to the others."""
    cluster = make_cluster(tmp_path, others=1)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            light = await stack.enter_async_context(cluster.node(4, votes=False))
            dying, got = cluster.network(3), trio.Event()
            dying.on_message(Submit, lambda _incoming: got.set())
            dying.on_message(Status, lambda _incoming: None)
            async with trio.open_nursery() as nursery:
                await nursery.start(dying.run)
                await dying.connect(cluster.hub.address(cluster.labs[4].peer))
                await until(lambda: len(light.driver.network.peers()) == 1)
                tx = await light.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
                await got.wait()
                nursery.cancel_scope.cancel()
            for index in range(3):
                await stack.enter_async_context(cluster.node(index))
            done = await light.wallet.wait_committed(tx)
            assert done.receipt.code is Code.DONE
            assert light.wallet.pending(tx) is None


async def test_nonces_are_in_order_when_fifty_submit_at_once(tmp_path: Path) -> None:
    """50 tasks pay from one wallet at once: nonces 0 to 49, each committed, none twice."""
    cluster = make_cluster(tmp_path)
    done: list[tuple[TxId, TxResult]] = []
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            wallet = nodes[0].wallet

            async def pay(amount: int) -> None:
                tx = await wallet.submit(TRANSFER, transfer(cluster.labs[1], amount))
                done.append((tx, await wallet.wait_committed(tx)))

            async with trio.open_nursery() as nursery:
                for amount in range(1, 51):
                    nursery.start_soon(pay, amount)
            assert {result.receipt.code for _, result in done} == {Code.DONE}
            view = nodes[0].driver.ledger.view
            assert view.nonce(cluster.labs[0].wallet.public_key) == 50
            assert view.account(cluster.labs[1].wallet.public_key) == BALANCE + sum(range(1, 51))
            places = [(result.height, result.index) for _, result in done]
            assert len(set(places)) == 50


async def hostile(cluster: Cluster, nursery: trio.Nursery, network: PeerNetwork) -> None:
    """Run the network of the last lab and link it to the first."""
    await nursery.start(network.run)
    await network.connect(cluster.hub.address(cluster.labs[0].peer))


async def test_bad_transactions_of_a_peer_are_refused_and_ban_it(tmp_path: Path) -> None:
    """Wrong signature, wrong network, garbage: nothing enters the mempool, the peer is dropped."""
    cluster = make_cluster(tmp_path, validators=1, others=1)
    lab, rogue = cluster.labs
    good = cluster.signed(rogue, transfer(lab, 1), nonce=0)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    foreign = cluster.signed(rogue, transfer(lab, 1), nonce=0, chain_id=b"elsewher")
    with trio.fail_after(30):
        async with cluster.node(0) as node, trio.open_nursery() as nursery:
            network = cluster.network(1)
            await hostile(cluster, nursery, network)
            await until(lambda: len(node.driver.network.peers()) == 1)
            for raw in (forged, foreign, b"no transaction", bytes(65 * 1024), b"\x99" + forged):
                network.send_nowait(lab.peer, Submit(transactions=(raw,)), channel=Channel.CTL)
            await until(lambda: not node.driver.network.peers())
            assert len(node.driver.mempool) == 0
            assert node.driver.ledger.view.nonce(rogue.wallet.public_key) == 0
            nursery.cancel_scope.cancel()


class Claimant:
    """A peer that claims a height and answers range calls with what a test chose."""

    def __init__(self, network: PeerNetwork, answer: Callable[[GetBlocks], Record]) -> None:
        self.network = network
        self.asked = 0
        self._answer_with = answer
        network.on_call(GetBlocks, self._answer)
        network.on_message(Status, lambda _incoming: None)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        assert isinstance(incoming.message, GetBlocks)
        self.asked += 1
        return self._answer_with(incoming.message), b""


async def test_false_height_is_asked_once_and_honest_peers_are_followed(tmp_path: Path) -> None:
    """A peer claims height 1,000,000 and shows nothing; the newcomer still syncs from others."""
    cluster = make_cluster(tmp_path, others=2)
    lab = cluster.labs[4]
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(4)]
            for _ in range(3):
                tx = await nodes[0].wallet.submit(TRANSFER, transfer(lab, MICRO))
                await nodes[0].wallet.wait_committed(tx)
            height = nodes[0].driver.ledger.height
            liar = Claimant(cluster.network(5), lambda _ask: GotBlocks(blocks=()))
            async with cluster.node(4, votes=False) as light, trio.open_nursery() as nursery:
                await nursery.start(liar.network.run)
                await liar.network.connect(cluster.hub.address(lab.peer))
                liar.network.send_nowait(lab.peer, status_of(FAR), channel=Channel.CTL)
                await until(lambda: liar.asked == 1)
                await light.driver.wait_height(height)
                for _ in range(20):
                    liar.network.send_nowait(lab.peer, status_of(FAR), channel=Channel.CTL)
                    await trio.sleep(0.02)
                assert liar.asked == 1
                assert light.sync.target_height < FAR
                assert not light.sync.is_syncing
                nursery.cancel_scope.cancel()


def tampered(genuine: Certified) -> bytes:
    """The same header and certificate over another body."""
    body = genuine.block.body
    other = type(body)(prev_cert=body.prev_cert, evidence=(), transactions=(b"stolen",))
    return encode(Certified(Block(genuine.block.header, other), genuine.certificate))


@pytest.mark.parametrize("lie", ["body", "order", "kind", "forged"])
async def test_wrong_blocks_of_a_peer_are_never_applied(tmp_path: Path, lie: str) -> None:
    """Another body, another height, another record, forged votes: the newcomer stays at 0."""
    cluster = make_cluster(tmp_path, validators=1, others=2)
    lab = cluster.labs[2]
    with trio.fail_after(30):
        async with cluster.node(0) as honest:
            for _ in range(2):
                tx = await honest.wallet.submit(TRANSFER, transfer(lab, MICRO))
                await honest.wallet.wait_committed(tx)
            stored = [await honest.driver.store.block(height) for height in (1, 2)]
        blocks = [
            Certified(
                decode(item.block, Block, size_max=BULK_FRAME_BYTES_MAX),
                decode(item.certificate, Certificate, size_max=BULK_FRAME_BYTES_MAX),
            )
            for item in stored
            if item is not None
        ]
        forged = encode(blocks[0])
        answers: dict[str, Record] = {
            "body": GotBlocks(blocks=(tampered(blocks[0]),)),
            "order": GotBlocks(blocks=(encode(blocks[1]), encode(blocks[0]))),
            "kind": GotBlock(block=blocks[0].block),
            "forged": GotBlocks(blocks=(forged[:-4] + bytes(4),)),
        }
        liar = Claimant(cluster.network(1), lambda _ask: answers[lie])
        async with cluster.node(2, votes=False) as light, trio.open_nursery() as nursery:
            await nursery.start(liar.network.run)
            await liar.network.connect(cluster.hub.address(lab.peer))
            liar.network.send_nowait(lab.peer, status_of(FAR), channel=Channel.CTL)
            await until(lambda: liar.asked == 1)
            await until(lambda: light.sync.target_height == 0)
            is_banned = lie != "kind"  # that may be a fault of a version
            network = light.driver.network
            assert isinstance(network, PeerNetwork)
            assert [ban.peer for ban in network.bans()] == [liar.network.peer_id] * is_banned
            assert light.driver.ledger.height == 0
            assert not light.driver.stopped
            assert all(keeper.restarts == 0 for keeper in light.keepers.values())
            nursery.cancel_scope.cancel()


async def test_disk_that_refuses_stops_votes_and_reads_go_on(tmp_path: Path) -> None:
    """The log's disk fails on a fourth of four: it votes no more, serves on; the others agree."""
    cluster = make_cluster(tmp_path)
    disk = FaultyDisk(seed=1)
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            fourth = await stack.enter_async_context(cluster.node(3, disk=disk))
            tx = await fourth.wallet.submit(TRANSFER, transfer(cluster.labs[0], MICRO))
            before = await fourth.wallet.wait_committed(tx)
            disk.fail_at = dict.fromkeys(range(disk.operations, 10**6), StoreUnavailable)
            paid = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
            done = await nodes[0].wallet.wait_committed(paid)
            await until(lambda: fourth.driver.is_halted)
            assert "disk refused" in fourth.driver.stopped
            assert done.receipt.code is Code.DONE
            # Reads: its ledger, its store, its peers.
            assert await fourth.wallet.find(tx) == before
            assert fourth.driver.ledger.height >= before.height
            assert len(fourth.driver.network.peers()) == 3
            ask = GetBlocks(first=1, count=1)
            answer, _ = await nodes[0].driver.network.call(
                cluster.labs[3].peer, ask, channel=Channel.BULK
            )
            assert isinstance(answer, GotBlocks)
            assert len(answer.blocks) == 1
            # More events than its queue holds do it no harm, and nobody is blamed.
            for _ in range(20):
                for _ in range(500):
                    fourth.driver.hear_vote(vote(cluster, height=9, digest=b"x" * 32))
                await trio.sleep(0.001)
            assert fourth.driver.dropped == 0
            assert fourth.sync.target_height >= done.height


def vote(cluster: Cluster, *, height: int, digest: bytes) -> Opened:
    """A PREPARE of the last validator in view 0."""
    unsigned = SignedMessage(
        kind=Kind.PREPARE,
        epoch=0,
        height=height,
        view=0,
        body=digest,
        signer=3,
        signature=bytes(64),
    )
    key = Ed25519Signer(cluster.labs[3].consensus_seed)
    return open_message(sign_message(unsigned, key, cluster.genesis.chain_id))


async def test_two_conflicting_votes_cost_the_bond_once(tmp_path: Path) -> None:
    """The fourth validator says two things at one height and view to all: evidence, one slash."""
    cluster = make_cluster(tmp_path)
    operator = cluster.labs[3].wallet.public_key
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(cluster.node(i)) for i in range(3)]
            network = cluster.network(3)
            network.on_message(Status, lambda _incoming: None)
            network.on_message(SignedMessage, lambda _incoming: None)
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(network.run)
            await cluster.connect(network, 3)
            height = nodes[0].driver.ledger.height + 1
            for _ in range(3):  # said again and again: one slash all the same
                for digest in (b"a" * 32, b"b" * 32, b"c" * 32):
                    said = vote(cluster, height=height, digest=digest).message
                    for lab in cluster.labs[:3]:
                        network.send_nowait(lab.peer, said, channel=Channel.CTL)
            views = [node.driver.ledger.view for node in nodes]
            await until(lambda: all(view.double_votes(operator) for view in views))
            slashed = STAKE - views[0].bond(operator)
            assert slashed > 0
            tx = await nodes[0].wallet.submit(TRANSFER, transfer(cluster.labs[1], MICRO))
            done = await nodes[0].wallet.wait_committed(tx)
            for node in nodes:
                await node.driver.wait_height(done.height)
            assert [STAKE - view.bond(operator) for view in views] == [slashed] * 3
            assert len(views[0].double_votes(operator)) == 1
            assert len({node.driver.ledger.state_root for node in nodes}) == 1
            nursery.cancel_scope.cancel()


async def test_evidence_reaches_a_block_within_three_heights_from_locked_nodes(
    tmp_path: Path,
) -> None:
    """Two of three honest nodes see a double vote; nobody can sign a transaction, nobody must."""
    cluster = make_cluster(tmp_path)
    operator = cluster.labs[3].wallet.public_key
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(cluster.node(i, unlocked=False)) for i in range(3)
            ]
            network = cluster.network(3)
            network.on_message(Status, lambda _incoming: None)
            network.on_message(SignedMessage, lambda _incoming: None)
            network.on_message(Accusation, lambda _incoming: None)
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(network.run)
            await cluster.connect(network, 3)
            seen_at = nodes[0].driver.ledger.height
            for digest in (b"a" * 32, b"b" * 32):
                said = vote(cluster, height=seen_at + 1, digest=digest).message
                for lab in cluster.labs[:2]:
                    network.send_nowait(lab.peer, said, channel=Channel.CTL)
            views = [node.driver.ledger.view for node in nodes]
            await until(lambda: all(view.double_votes(operator) for view in views))
            (conviction,) = views[2].double_votes(operator)
            assert seen_at < conviction.height <= seen_at + 3
            stored = await nodes[2].driver.store.block(conviction.height)
            assert stored is not None
            body = decode(stored.block, Block, size_max=BULK_FRAME_BYTES_MAX).body
            assert (len(body.evidence), body.transactions) == (1, ())
            # Nothing waits for a block any more, so the chain rests.
            await until(lambda: all(not len(node.driver.drafts.evidence) for node in nodes))
            nursery.cancel_scope.cancel()


async def test_transaction_ends_when_another_one_took_its_nonce(tmp_path: Path) -> None:
    """Two nodes sign with one key: the loser hears it at once, not after ten minutes."""
    cluster = make_cluster(tmp_path, validators=1)
    lab = cluster.labs[0]
    with trio.fail_after(30):
        async with cluster.node(0) as node:
            mine = cluster.signed(lab, transfer(lab, 1), nonce=0)
            theirs = cluster.signed(lab, transfer(lab, 2), nonce=1)
            lost = node.wallet.submit_signed(theirs)  # waits behind the missing nonce 0
            node.driver.mempool.drop(lost)
            first = node.wallet.submit_signed(mine)
            await node.wallet.wait_committed(first)
            node.driver.mempool.drop(lost)
            other = cluster.signed(lab, transfer(lab, 3), nonce=1)
            won = node.wallet.submit_signed(other)
            result = await node.wallet.wait_committed(won)
            assert result.receipt.code is Code.DONE
            with pytest.raises(TransactionExpired, match="nonce 1"):
                await node.wallet.wait_committed(lost)


async def test_node_starts_again_when_it_never_saw_a_block(tmp_path: Path) -> None:
    """Stopped before the first block: the state of the genesis is there already, and it is fine."""
    cluster = make_cluster(tmp_path, others=1)
    roots = set()
    for index in (0, 0, 4):  # alone of four: nothing can be decided
        async with cluster.node(index, votes=index == 0) as node:
            assert node.driver.ledger.height == 0
            roots.add(node.driver.ledger.state_root)
    assert len(roots) == 1


@pytest.mark.parametrize("blocks", [0, 1])
async def test_folder_of_another_genesis_is_refused(tmp_path: Path, blocks: int) -> None:
    """A ledger that began with another document: typed, and it opens with the right one."""
    cluster = make_cluster(tmp_path, validators=1)
    lab = cluster.labs[0]
    with trio.fail_after(10):
        async with cluster.node(0) as node:
            for _ in range(blocks):
                tx = await node.wallet.submit(TRANSFER, transfer(lab, 1))
                await node.wallet.wait_committed(tx)
        other = Cluster(
            msgspec.structs.replace(cluster.genesis, name="other"), cluster.labs, cluster.hub
        )
        with pytest.raises(BadGenesis, match=other.genesis.digest.hex()[:16]):
            async with open_chain(other.config(0), other.network(0), TrioClock()):
                raise AssertionError("opened")
        async with cluster.node(0) as node:
            assert node.driver.ledger.height >= blocks
