"""What a hostile peer can say in streams: choices, frames of ours, gossip."""

from contextlib import suppress
from hashlib import sha256

import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.limits import MIB
from prsm.protocol.messages.announce import STATUS
from prsm.protocol.messages.net import Heartbeat
from prsm.testnet.hostile import (
    DATA,
    FIN,
    GOSSIP,
    SYN,
    WINDOW,
    Gone,
    frame_of,
    line,
    prefixed,
)
from tests.tools.insults import Attack, Fate, Insult, Table, until_gone

TABLE = Table()
TOPIC = STATUS.name
PING_PROTOCOL = "/ipfs/ping/1.0.0"
IDENTIFY = "/ipfs/id/1.0.0"


# -- streams


@TABLE.row(Fate.BORNE)
async def junk_instead_of_a_protocol(attack: Attack) -> None:
    attack.peer._last += 2
    await attack.peer.frame(DATA, SYN, attack.peer._last, body=b"\xff" * 64)


@TABLE.row(Fate.BORNE)
async def list_of_protocols_asked_for_again_and_again(attack: Attack) -> None:
    stream = await attack.peer.open("ls")
    await attack.peer.say(stream, line("ls") * 300)


@TABLE.row(Fate.BORNE)
async def protocol_nobody_speaks(attack: Attack) -> None:
    stream = await attack.peer.open("/nobody/1")
    await attack.peer.say(stream, line("/nobody/2") * 300)
    await attack.peer.open("/ipfs/id/push/1.0.0")
    await attack.peer.open("/noise")


@TABLE.row(Fate.BORNE)
async def identify_without_end_of_stream(attack: Attack) -> None:
    for _ in range(8):
        await attack.peer.open(IDENTIFY)


@TABLE.row(Fate.BORNE)
async def half_a_ping_and_three_at_once(attack: Attack) -> None:
    for _ in range(3):
        stream = await attack.peer.open(PING_PROTOCOL)
        await attack.peer.say(stream, bytes(32) * 3 + b"short")
        await attack.peer.frame(DATA, FIN, stream)


@TABLE.row(Fate.BANNED, why="failed")
async def too_many_streams(attack: Attack) -> None:
    with suppress(Gone):
        for _ in range(40):
            attack.peer._last += 2
            await attack.peer.frame(WINDOW, SYN, attack.peer._last)


@TABLE.row(Fate.BORNE, greets=True)
async def second_control_stream(attack: Attack) -> None:
    again = await attack.peer.open(Channel.CTL.value)
    await attack.peer.say(again, frame_of(attack.chain.hello(()), Flow.ONE_WAY, 0))


# -- our own frames


FRAMES = {
    "random_bytes": b"\xff" * 64,
    "frame_of_64_mib": (64 * MIB).to_bytes(4, "big") + (10).to_bytes(4, "big"),
    "frame_without_head": (4).to_bytes(4, "big") + bytes(4),
    "head_that_is_none": (8).to_bytes(4, "big") + (4).to_bytes(4, "big") + b"\xc1" * 4,
    "head_nested_deeply": (9_004).to_bytes(4, "big") + (9_000).to_bytes(4, "big") + b"\x91" * 9_000,
}


def add_frames(name: str, raw: bytes) -> None:
    """Two rows: in place of the hello, and after it."""

    async def first(attack: Attack) -> None:
        ctl = await attack.peer.open(Channel.CTL.value)
        await attack.peer.say(ctl, raw)

    async def later(attack: Attack) -> None:
        await attack.peer.say(attack.ctl, raw)

    TABLE.append(Insult(f"{name}_for_a_hello", first, Fate.BANNED))
    TABLE.append(Insult(f"{name}_after_the_hello", later, Fate.BANNED, greets=True))


for each_name, each_raw in FRAMES.items():
    add_frames(each_name, each_raw)


@TABLE.row(Fate.CLOSED)
async def hello_of_another_chain(attack: Attack) -> None:
    other = ChainIdentity(b"elsewher", bytes(32))
    await attack.peer.shake_hands(other)


@TABLE.row(Fate.BORNE, greets=True)
async def answers_nobody_asked_for(attack: Attack) -> None:
    for flow in (Flow.REPLY, Flow.ERROR):
        await attack.peer.say(attack.ctl, frame_of(Heartbeat(count=1), flow, 99))


@TABLE.row(Fate.CLOSED, greets=True)
async def record_of_unknown_kind(attack: Attack) -> None:
    """20 points: a newer node might say it."""
    head = Head(1, Flow.CALL, 9_999, 1, b"", b"\x90")
    await attack.peer.say(attack.ctl, encode_frame(head))


@TABLE.row(Fate.BORNE, greets=True)
async def heartbeats_at_once(attack: Attack) -> None:
    raw = b"".join(frame_of(Heartbeat(count=n), Flow.CALL, n + 1) for n in range(50))
    await attack.peer.say(attack.ctl, raw)


# -- gossip


async def envelope(attack: Attack, rpc: rpc_pb2.RPC) -> None:
    await attack.peer.gossip(rpc)


@TABLE.row(Fate.BANNED, why="junk on a gossip stream")
async def gossip_that_is_no_protobuf(attack: Attack) -> None:
    stream = await attack.peer.open(GOSSIP)
    await attack.peer.say(stream, prefixed(b"\xff" * 64))


@TABLE.row(Fate.BANNED, why="gossip stream")
async def gossip_of_endless_length(attack: Attack) -> None:
    stream = await attack.peer.open(GOSSIP)
    await attack.peer.say(stream, b"\xff" * 64)


@TABLE.row(Fate.BANNED, why="gossip stream")
async def gossip_of_a_length_nobody_has(attack: Attack) -> None:
    stream = await attack.peer.open(GOSSIP)
    await attack.peer.say(stream, encode_uvarint(2**60))


@TABLE.row(Fate.BANNED, greets=True, why="no Ed25519 key")
async def author_hashed_and_a_bad_key(attack: Attack) -> None:
    author = b"\x12\x20" + sha256(b"nobody").digest()
    message = rpc_pb2.Message(
        from_id=author, seqno=bytes(8), data=b"x", topicIDs=[TOPIC], key=b"junk", signature=b"junk"
    )
    await envelope(attack, rpc_pb2.RPC(publish=[message]))


@TABLE.row(Fate.BANNED, greets=True, why="no Ed25519 key")
async def empty_message(attack: Attack) -> None:
    await envelope(attack, rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])]))


@TABLE.row(Fate.BANNED, greets=True, why="does not hold")
async def signature_that_does_not_hold(attack: Attack) -> None:
    message = attack.peer.message(TOPIC, b"x")
    message.data = b"y"
    await envelope(attack, rpc_pb2.RPC(publish=[message]))


@TABLE.row(Fate.BANNED, greets=True)
async def records_that_are_none(attack: Attack) -> None:
    """Signed rightly, and no record of ours: ten of them."""
    stream = await attack.peer.open(GOSSIP)
    for number in range(12):
        rpc = rpc_pb2.RPC(publish=[attack.peer.message(TOPIC, b"junk", number=number)])
        with suppress(Gone):
            await attack.peer.say(stream, prefixed(rpc.SerializeToString()))


@TABLE.row(Fate.BORNE, greets=True)
async def topics_and_peers_that_are_invented(attack: Attack) -> None:
    """Nobody is dialled, no topic is remembered, no back-off lasts for ever."""
    peers = [rpc_pb2.PeerInfo(peerID=b"nobody", signedPeerRecord=b"junk")]
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID=f"t{n}") for n in range(20)],
        prune=[rpc_pb2.ControlPrune(topicID=TOPIC, backoff=2**63, peers=peers)],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"x", b"(1"])],
        ihave=[rpc_pb2.ControlIHave(topicID="t", messageIDs=[b"__import__('os')"])],
        idontwant=[rpc_pb2.ControlIDontWant(messageIDs=[b"x"] * 50)],
    )
    await envelope(attack, rpc_pb2.RPC(control=control, senderRecord=b"\xff\xff"))
    await envelope(attack, rpc_pb2.RPC(publish=[attack.peer.message("t", b"x")]))


CONTROLS = {
    "iwant": rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"x" * 20] * 40_000)]),
    "ihave": rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"x" * 20] * 40_000)]
    ),
    "graft": rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)] * 20_000),
    "prune": rpc_pb2.ControlMessage(prune=[rpc_pb2.ControlPrune(topicID=TOPIC)] * 20_000),
}


def add_control(name: str, control: rpc_pb2.ControlMessage) -> None:
    """A row: thousands of one kind in one envelope, and that again."""

    async def say(attack: Attack) -> None:
        stream = await attack.peer.open(GOSSIP)
        raw = prefixed(rpc_pb2.RPC(control=control).SerializeToString())
        await until_gone(lambda: attack.peer.say(stream, raw), 25)

    TABLE.append(Insult(f"{name}_by_the_thousand", say, Fate.BANNED, greets=True))


for each_name, each_control in CONTROLS.items():
    add_control(each_name, each_control)


@TABLE.row(Fate.BANNED, greets=True)
async def subscriptions_by_the_thousand(attack: Attack) -> None:
    subscriptions = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"t{n}") for n in range(4_000)]
    stream = await attack.peer.open(GOSSIP)
    raw = prefixed(rpc_pb2.RPC(subscriptions=subscriptions).SerializeToString())
    await until_gone(lambda: attack.peer.say(stream, raw), 25)


@TABLE.row(Fate.BANNED, greets=True, why="messages a second")
async def records_at_ten_times_the_rate(attack: Attack) -> None:
    """On a topic nobody reads, so that only their number counts."""
    stream = await attack.peer.open(GOSSIP)
    rpc = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=["t"], data=b"x")] * 10)
    raw = prefixed(rpc.SerializeToString())

    async def ten() -> None:
        await attack.peer.say(stream, raw * 2)
        await trio.sleep(0.01)

    await until_gone(ten, 200)
