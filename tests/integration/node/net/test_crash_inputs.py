"""Every input known to end a stock libp2p 0.8.1 process, replayed against a live fenced node.

Method: an honest pair on loopback; a hostile peer, made of a bare libp2p host, sends one of the
inputs; then the pair still answers calls, and the network was never rebuilt.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from prsm.node.net import guard
from prsm.node.net.handshake import ChainIdentity, greet
from prsm.node.net.host import NetDuplex, libp2p_network
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.muxed import close_connection
from prsm.node.net.network import PeerNetwork
from prsm.protocol.identity import parse_address
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import AskHave, Have
from prsm.testnet.hostile import Hostile

pytestmark = pytest.mark.slow

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)
ASK = AskHave(root=b"r" * 36)
HAVE = Have(size=5, leaves=1, bitset=b"\1")
TOPIC = "prsm/test/1"
GOSSIP = "/meshsub/1.1.0"


@dataclass
class Attack:
    """A hostile peer's connection to the victim, with a control stream that has shaken hands."""

    host: BasicHost
    connection: SwarmConn
    victim: PeerNetwork

    @property
    def peer(self) -> PeerId:
        return PeerId(self.host.get_id().to_base58())

    async def open(self, protocol: str) -> INetStream:
        stream = await self.connection.new_stream()
        await self.host.multiselect_client.select_one_of(
            [TProtocol(protocol)], MultiselectCommunicator(stream), 5
        )
        return stream

    async def muxed(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        """Write the head of a Yamux frame, whatever it announces."""
        muxed = self.connection.muxed_conn
        assert isinstance(muxed, Yamux)
        head = bytes([0, kind]) + flags.to_bytes(2, "big")
        await muxed._write_frame(head + stream_id.to_bytes(4, "big") + length.to_bytes(4, "big"))


async def junk_on_gossip(attack: Attack) -> None:
    stream = await attack.open(GOSSIP)
    await stream.write(encode_varint_prefixed(b"\xff" * 64))


async def bad_utf8_topic(attack: Attack) -> None:
    stream = await attack.open(GOSSIP)
    await stream.write(encode_varint_prefixed(b"\x0a\x04\x12\x02\xff\xfe"))


async def endless_varint(attack: Attack) -> None:
    stream = await attack.open(GOSSIP)
    await stream.write(b"\xff" * 64)


async def gossip(attack: Attack, message: rpc_pb2.Message) -> None:
    stream = await attack.open(GOSSIP)
    rpc = rpc_pb2.RPC(publish=[message])
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


async def hashed_author_and_bad_key(attack: Attack) -> None:
    author = b"\x12\x20" + sha256(b"nobody").digest()
    await gossip(
        attack,
        rpc_pb2.Message(
            from_id=author, seqno=b"1", data=b"x", topicIDs=[TOPIC], key=b"junk", signature=b"junk"
        ),
    )


async def author_that_is_no_id(attack: Attack) -> None:
    await gossip(
        attack,
        rpc_pb2.Message(from_id=b"\x00", data=b"x", topicIDs=[TOPIC], key=b"\x08\x01\x12\x01x"),
    )


async def empty_message(attack: Attack) -> None:
    await gossip(attack, rpc_pb2.Message(topicIDs=[TOPIC]))


async def control_of_unknown_topics(attack: Attack) -> None:
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID="nobody's")],
        prune=[rpc_pb2.ControlPrune(topicID="nobody's", backoff=2**63)],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"x", b"(1"])],
        ihave=[rpc_pb2.ControlIHave(topicID="nobody's", messageIDs=[b"__import__('os')"])],
    )
    stream = await attack.open(GOSSIP)
    rpc = rpc_pb2.RPC(control=control)
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


async def forged_sender_record(attack: Attack) -> None:
    stream = await attack.open(GOSSIP)
    rpc = rpc_pb2.RPC(senderRecord=b"\xff\xff")
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


async def junk_instead_of_a_protocol(attack: Attack) -> None:
    stream = await attack.connection.new_stream()
    await stream.write(b"\xff" * 64)


async def stream_that_ends_at_once(attack: Attack) -> None:
    for _ in range(4):
        stream = await attack.connection.new_stream()
        await stream.reset()


async def protocol_nobody_speaks(attack: Attack) -> None:
    with pytest.raises(Exception, match=r"."):
        await attack.open("/nobody/1")


async def half_a_ping(attack: Attack) -> None:
    stream = await attack.open("/ipfs/ping/1.0.0")
    await stream.write(b"short")
    await stream.close()


async def too_many_streams(attack: Attack) -> None:
    with suppress(MuxedStreamError):  # banned before it has opened them all
        for _ in range(3 * guard.STREAMS_PER_PEER_MAX):
            await attack.connection.new_stream()


async def frame_of_four_gigabytes(attack: Attack) -> None:
    await attack.muxed(kind=0, flags=1, stream_id=1001, length=2**32 - 1)


async def data_nobody_reads(attack: Attack) -> None:
    """Twelve megabytes into a stream whose protocol was never named, past its window."""
    await attack.muxed(kind=1, flags=1, stream_id=1001, length=0)
    muxed = attack.connection.muxed_conn
    assert isinstance(muxed, Yamux)
    body = bytes(60_000)
    head = b"\x00\x00\x00\x00" + (1001).to_bytes(4, "big") + len(body).to_bytes(4, "big")
    # The victim closes the connection somewhere on the way.
    with trio.move_on_after(5), suppress(IOException):
        for _ in range(200):
            await muxed._write_frame(head + body)


async def unknown_muxed_frame(attack: Attack) -> None:
    await attack.muxed(kind=9, flags=0xFFFF, stream_id=7, length=0)


async def goaway(attack: Attack) -> None:
    await attack.muxed(kind=3, flags=0, stream_id=0, length=77)


async def no_noise(attack: Attack) -> None:
    address = parse_address(attack.victim.addresses[0])
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\0" * 99):
        raw = await trio.open_tcp_stream(address.ip, address.port)
        await raw.send_all(text)
        await raw.aclose()


INPUTS: list[Callable[[Attack], Awaitable[None]]] = [
    junk_on_gossip,
    bad_utf8_topic,
    endless_varint,
    hashed_author_and_bad_key,
    author_that_is_no_id,
    empty_message,
    control_of_unknown_topics,
    forged_sender_record,
    junk_instead_of_a_protocol,
    stream_that_ends_at_once,
    protocol_nobody_speaks,
    half_a_ping,
    too_many_streams,
    frame_of_four_gigabytes,
    data_nobody_reads,
    unknown_muxed_frame,
    goaway,
    no_noise,
]
BANNED_FOR = {
    junk_on_gossip,
    endless_varint,
    hashed_author_and_bad_key,
    author_that_is_no_id,
    empty_message,
    too_many_streams,
    frame_of_four_gigabytes,
    data_nobody_reads,
    unknown_muxed_frame,
}


@asynccontextmanager
async def attacked(nursery: trio.Nursery) -> AsyncIterator[tuple[PeerNetwork, Attack]]:
    """An honest node linked to a victim, and a hostile peer linked to it too."""
    friend = libp2p_network(b"\1" * 32, CHAIN, listen=["/ip4/127.0.0.1/tcp/0"])
    victim = libp2p_network(b"\2" * 32, CHAIN, listen=["/ip4/127.0.0.1/tcp/0"])

    async def answer(_incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        return HAVE, b""

    def total(_peer: PeerId, record: bytes) -> bool:
        if record == b"raise":
            raise ValueError("a handler that is not total")
        return True

    victim.on_call(AskHave, answer)
    victim.on_gossip(TOPIC, total)
    friend.on_gossip(TOPIC, total)
    await nursery.start(friend.run)
    await nursery.start(victim.run)
    await friend.connect(victim.addresses[0])
    host = guard.make_host(b"\3" * 32, lambda _peer, _error: None)
    where = parse_address(victim.addresses[0])
    async with host.run([]):
        swarm = host.get_network()
        assert isinstance(swarm, guard.FencedSwarm)
        connection = await swarm.dial_addr(Multiaddr(where.transport), ID.from_string(where.peer))
        assert isinstance(connection, SwarmConn)
        attack = Attack(host, connection, victim)
        await greet(NetDuplex(await attack.open(Channel.CTL.value)), CHAIN.hello(()), dialler=True)
        try:
            yield friend, attack
        finally:
            with trio.move_on_after(3, shield=True):
                await close_connection(connection)
                await host.close()


async def wait_until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - a ban of the victim is no event here
            await trio.sleep(0.01)


@pytest.mark.parametrize("send", INPUTS, ids=lambda send: send.__name__)
async def test_node_stays_up(
    nursery: trio.Nursery, send: Callable[[Attack], Awaitable[None]]
) -> None:
    async with attacked(nursery) as (friend, attack):
        await wait_until(lambda: len(attack.victim.peers()) == 2)
        await send(attack)
        if send in BANNED_FOR:
            await wait_until(lambda: len(attack.victim.peers()) == 1)
            assert attack.victim._bans.banned_ms(attack.peer)
        for _ in range(5):
            with trio.fail_after(20):
                answer = await friend.call(attack.victim.peer_id, ASK, channel=Channel.CTL)
            assert answer == (HAVE, b"")
            await trio.sleep(0.02)
        assert attack.victim.restarts == friend.restarts == 0
        assert friend.peer_id in {info.peer for info in attack.victim.peers()}
        nursery.cancel_scope.cancel()


async def test_nothing_invented_is_remembered(nursery: trio.Nursery) -> None:
    """Stock code keeps a back-off for every topic and as long as it is told, and dials peers."""
    async with attacked(nursery) as (_, attack):
        router = vars(vars(attack.victim._transport)["_pubsub"])["router"]
        dialled: list[object] = []

        async def dial(peers: list[object]) -> None:
            await trio.lowlevel.checkpoint()
            dialled.extend(peers)

        router._do_px = dial
        peers = [rpc_pb2.PeerInfo(peerID=b"nobody")]
        control = rpc_pb2.ControlMessage(
            graft=[rpc_pb2.ControlGraft(topicID="nobody's")],
            prune=[
                rpc_pb2.ControlPrune(topicID="nobody's", backoff=2**63, peers=peers),
                rpc_pb2.ControlPrune(topicID=TOPIC, backoff=2**63, peers=peers),
            ],
        )
        subscribed = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid="nobody's")]
        stream = await attack.open(GOSSIP)
        rpc = rpc_pb2.RPC(control=control, subscriptions=subscribed)
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        await wait_until(lambda: TOPIC in router.back_off)
        assert set(router.back_off) == {TOPIC}
        assert max(router.back_off[TOPIC].values()) < 2**40  # seconds since 1970
        assert "nobody's" not in router.pubsub.peer_topics
        assert dialled == []
        nursery.cancel_scope.cancel()


async def test_gossip_handler_that_raises_harms_nothing(nursery: trio.Nursery) -> None:
    async with attacked(nursery) as (friend, attack):
        await friend.publish(TOPIC, b"raise")
        await attack.victim.publish(TOPIC, b"raise")
        answer = await friend.call(attack.victim.peer_id, ASK, channel=Channel.CTL)
        assert answer == (HAVE, b"")
        assert attack.victim.restarts == friend.restarts == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("where", ["muxer", "streams", "stream"])
async def test_connection_whose_own_tasks_break_ends_alone(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """No input is known that does it: three tasks of each connection, in nurseries of libp2p."""

    async def broken(*_args: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("nobody fenced this")

    cls, name = {
        "muxer": (Yamux, "handle_incoming"),
        "streams": (SwarmConn, "_handle_new_streams"),
        "stream": (SwarmConn, "_add_stream"),
    }[where]
    async with attacked(nursery) as (friend, attack):
        victim = attack.victim
        monkeypatch.setattr(cls, name, broken)
        socket = Hostile(b"\4" * 32, parse_address(victim.addresses[0]).port, victim.peer_id)
        with suppress(Exception):
            await socket._connect()
            await socket.open(GOSSIP)
        await trio.sleep(0.1)
        await socket.close()
        answer = await friend.call(victim.peer_id, ASK, channel=Channel.CTL)
        assert answer == (HAVE, b"")
        assert victim.restarts == friend.restarts == 0
        nursery.cancel_scope.cancel()


async def test_unfound_exception_rebuilds_the_network_and_relinks(nursery: trio.Nursery) -> None:
    """Something nobody fenced, in a task of libp2p: same identity, same port, linked again."""
    async with attacked(nursery) as (friend, attack):
        victim = attack.victim
        before = victim.addresses
        swarm = vars(vars(victim._transport)["_host"])["_network"]

        async def unfound() -> None:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("nobody fenced this")

        swarm.manager.run_task(unfound)
        await wait_until(lambda: victim.restarts == 1 and bool(victim.addresses))
        await wait_until(lambda: [info.peer for info in friend.peers()] == [victim.peer_id])
        assert victim.addresses == before
        answer = await friend.call(victim.peer_id, ASK, channel=Channel.CTL)
        assert answer == (HAVE, b"")
        nursery.cancel_scope.cancel()
