"""A js-libp2p peer and ours: it dials and is dialled, identifies, pings, gossips, calls.

Needs Node and `python scripts/libp2p_peer.py` once; skipped with that reason otherwise. The peer
speaks our conversation by a reading of docs/spec/wire.md of its own (`wire.mjs`).
"""

import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import trio

from prsm.node.home import Home
from prsm.node.net.handshake import ChainIdentity
from prsm.node.rpc.methods.gossip import Announcements, AnnouncementsParams
from prsm.node.rpc.methods.node import Connected, ConnectParams, Peers
from prsm.node.rpc.methods.wallet import TransferParams, Transferred
from prsm.protocol.codec import decode, encode
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.errors import WireError, WrongChain
from prsm.protocol.genesis import from_json
from prsm.protocol.identity import public_key_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import BLOCKS, Announced, NewBlock
from prsm.protocol.messages.net import SCHEMA_VERSION, GossipRecord, decode_gossip
from prsm.testnet import launch
from tests.tools.js_peer import JsPeer, js_peer, missing
from tests.tools.networks import CHAIN, OTHER, TOPIC, World

pytestmark = [
    pytest.mark.net,
    pytest.mark.e2e,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.Node]:
    """One real daemon, alone in its network."""
    folder = tmp_path_factory.mktemp("libp2p") / "network"
    network = launch.create(folder, 1, rig=launch.Rig(models=False))
    network.start()
    try:
        yield network.nodes[0]
    finally:
        network.stop()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(60):
        yield World(nursery, "libp2p")
        nursery.cancel_scope.cancel()


def chain_of(home: Home) -> ChainIdentity:
    genesis = from_json(home.genesis.read_bytes())
    return ChainIdentity(genesis.chain_id, genesis.digest)


async def peers_of(daemon: launch.Node) -> Peers:
    def ask() -> Peers:
        with daemon.client() as client:
            return client.call("net_getPeers", result=Peers)

    return await trio.to_thread.run_sync(ask)


def text(answer: dict[str, object], name: str) -> str:
    found = answer[name]
    assert isinstance(found, str)
    return found


async def test_peer_dials_a_daemon_identifies_pings_and_calls(daemon: launch.Node) -> None:
    chain = chain_of(daemon.home)
    async with js_peer(chain) as js:
        dialled = await js.ask("dial", address=f"/ip4/127.0.0.1/tcp/{daemon.port}")
        peer = text(dialled, "peer")
        hello = dialled["hello"]
        assert isinstance(hello, dict)
        assert (hello["chain"], hello["genesis"]) == (chain.chain.hex(), chain.genesis.hex())
        assert hello["schema"] == SCHEMA_VERSION
        assert hello["agent"].startswith("prsm/")
        assert isinstance((await js.ask("ping", peer=peer))["ms"], int)
        identity = await js.ask("identify", peer=peer)
        assert text(identity, "peer") == peer
        assert text(identity, "key") == "08011220" + public_key_of(peer).hex()
        assert text(identity, "observed").startswith("/ip4/127.0.0.1/tcp/")
        protocols, listening = identity["protocols"], identity["listening"]
        assert isinstance(protocols, list)
        assert isinstance(listening, list)
        assert f"/ip4/127.0.0.1/tcp/{daemon.port}" in listening[0]
        assert {"/prsm/ctl/1", "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} <= set(
            protocols
        )
        answer = await js.ask("heartbeat", peer=peer, count=300)
        assert answer == {"refused": False, "kind": 91, "answer": [300]}
        [seen] = (await peers_of(daemon)).items
        assert (seen.peer_id, seen.direction, seen.agent) == (js.peer, "in", "js-libp2p")
        assert seen.schema == SCHEMA_VERSION
        assert not [event for event in js.events if event["event"] in ("fault", "closed")]


async def dialled_by(daemon: launch.Node, js: JsPeer) -> str:
    """Let the daemon dial a peer; the daemon's id, as the peer knows it."""

    def connect() -> Connected:
        with daemon.client() as client:
            return client.call("net_connect", ConnectParams(js.address), result=Connected)

    connected = await trio.to_thread.run_sync(connect)
    assert connected.peer_id == js.peer
    return text(await js.event("hello", dialler=False), "peer")


async def test_daemon_dials_the_peer(daemon: launch.Node) -> None:
    async with js_peer(chain_of(daemon.home)) as js:
        peer = await dialled_by(daemon, js)
        assert (await js.ask("identify", peer=peer))["peer"] == peer
        assert isinstance((await js.ask("ping", peer=peer))["ms"], int)
        answer = await js.ask("heartbeat", peer=peer, count=1)
        assert answer == {"refused": False, "kind": 91, "answer": [1]}
        [seen] = (await peers_of(daemon)).items
        assert (seen.peer_id, seen.direction) == (js.peer, "out")


@pytest.mark.long
async def test_peer_that_answers_heartbeats_stays_linked(daemon: launch.Node) -> None:
    """Two missed ones would close the link after fifteen seconds; the first comes after five."""
    async with js_peer(chain_of(daemon.home)) as js:
        await dialled_by(daemon, js)
        await trio.sleep(16)
        [seen] = (await peers_of(daemon)).items
        assert seen.rtt_ms is not None
        assert not [event for event in js.events if event["event"] in ("fault", "closed")]


def record_of(raw: bytes) -> GossipRecord:
    """Read a record as a receiver must: canonical, of this chain, signed by its author."""
    record = decode_gossip(raw)
    if record.chain != CHAIN.chain or not Ed25519Verifier().verify(
        record.author, record.signed_bytes, record.signature
    ):
        raise WireError("a record nobody signed")
    return record


def ours(signer: Ed25519Signer, body: bytes) -> bytes:
    draft = GossipRecord(CHAIN.chain, TOPIC, signer.public_key, 5_000, body, bytes(64))
    return encode(msgspec.structs.replace(draft, signature=signer.sign(draft.signed_bytes)))


async def wait_subscriber(js: JsPeer, peer: PeerId, topic: str = TOPIC) -> None:
    with trio.fail_after(20):
        while True:
            known = (await js.ask("subscribers", topic=topic))["peers"]
            assert isinstance(known, list)
            if peer in known:
                return
            await trio.sleep(0.05)


@pytest.mark.parametrize("dialler", ["js", "node"])
async def test_signed_records_travel_both_ways(world: World, dialler: str) -> None:
    node = await world.start(1)
    async with js_peer(CHAIN, topics=(TOPIC,)) as js:
        if dialler == "js":
            await js.ask("dial", address=node.address)
        else:
            await node.network.connect(js.address)
        await node.wait_up(PeerId(js.peer))
        await wait_subscriber(js, node.peer)
        sent = await js.ask("publish", topic=TOPIC, body=b"from js".hex(), madeMs=70_000)
        assert sent["recipients"] == [node.peer]
        await node.wait(lambda: bool(node.records))
        [(forwarder, raw)] = node.records
        record = record_of(raw)
        assert (forwarder, record.made_ms, record.body) == (js.peer, 70_000, b"from js")
        assert record.author.hex() == sent["author"]
        signer = Ed25519Signer(b"s" * 32)
        await node.network.publish(TOPIC, ours(signer, b"from python"))
        heard = await js.event("gossip", body=b"from python".hex())
        assert (heard["valid"], heard["type"], heard["madeMs"]) == (True, "signed", 5_000)
        assert heard["author"] == signer.public_key.hex()


async def test_gossip_of_a_peer_that_said_no_hello_is_not_taken(world: World) -> None:
    """It is linked by libp2p alone; once it has said hello, its next record is the first."""
    node = await world.start(1)
    async with js_peer(CHAIN, topics=(TOPIC,)) as js:
        await js.ask("connect", address=node.address)
        await wait_subscriber(js, node.peer)
        await js.ask("publish", topic=TOPIC, body=b"stranger".hex(), madeMs=1)
        await js.ask("dial", address=node.address)
        await node.wait_up(PeerId(js.peer))
        await js.ask("publish", topic=TOPIC, body=b"peer".hex(), madeMs=2)
        await node.wait(lambda: bool(node.records))
        assert [record_of(raw).body for _, raw in node.records] == [b"peer"]
        assert node.network.bans() == ()


async def test_peer_of_another_network_is_refused_by_name(world: World) -> None:
    node = await world.start(1)
    async with js_peer(OTHER) as js:
        with pytest.raises(WrongChain):
            await node.network.connect(js.address)
        await js.event("closed", peer=node.peer)


async def test_announcements_of_peer_and_daemon_are_kept_by_both(daemon: launch.Node) -> None:
    """A block each, announced: the daemon lists the peer's, the peer finds the daemon's signed."""

    def pay() -> None:
        with daemon.client() as client:
            params = TransferParams(to="0x" + "11" * 32, amount="1")
            client.call("wallet_transfer", params, result=Transferred)

    def heard() -> Announcements:
        with daemon.client() as client:
            params = AnnouncementsParams(topic="blocks", peer_id=js.peer)
            return client.call("net_getAnnouncements", params, result=Announcements)

    async with js_peer(chain_of(daemon.home), topics=(BLOCKS.name,)) as js:
        dialled = await js.ask("dial", address=f"/ip4/127.0.0.1/tcp/{daemon.port}")
        peer = PeerId(text(dialled, "peer"))
        await wait_subscriber(js, peer, BLOCKS.name)
        now_ms = time.time_ns() // 1_000_000
        said = {"height": 7, "hash": "22" * 32, "sequence": 1, "madeMs": now_ms}
        await js.ask("announceBlock", topic=BLOCKS.name, **said)
        with trio.fail_after(20):
            while not (items := (await trio.to_thread.run_sync(heard)).items):  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
        [item] = items
        assert item.content == {"height": 7, "block_hash": "0x" + "22" * 32}
        await trio.to_thread.run_sync(pay)
        author = public_key_of(peer).hex()
        record = await js.event("gossip", topic=BLOCKS.name, author=author)
        assert (record["valid"], record["type"]) == (True, "signed")
        announced = decode(bytes.fromhex(text(record, "body")), Announced, size_max=4096)
        assert decode(announced.content, NewBlock, size_max=64).height >= 1
