"""`python -m prsm.testnet.flooders`: hostile peers that flood, in a process of their own.

Reads one `Orders` as JSON from standard input, floods until standard input ends, and writes
`READY` for each peer that got in first, then one `Ended` a line for each identity that was sent
away. Knows: the wire, by `hostile`. Must not know: how the victims are. A peer that is sent away
comes back under a new identity: a ban stops a key, not an attacker.
"""

import os
import sys
from enum import StrEnum
from typing import Final

import msgspec
import trio
from libp2p.pubsub.pb import rpc_pb2

from prsm.node.net.frames import OPENS_PER_S
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.meters import CHANGES_PER_S, MESSAGES_PER_S
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import STATUS
from prsm.protocol.signing import sha256
from prsm.testnet.hostile import DATA, GOSSIP, RST, SYN, Gone, Hostile, line, prefixed

TICK_S: Final = 0.02
NICE: Final = 19
READY: Final = b"ready\n"
RETURN_S: Final = 0.5  # before it comes back as somebody else
INVENTED: Final = "nobody/1"
PAYLOAD: Final = bytes(200)


class Kind(StrEnum):
    """What a peer floods with."""

    GOSSIP = "gossip"
    STREAMS = "streams"
    TOPICS = "topics"


class Orders(msgspec.Struct, frozen=True):
    """Whom to flood, how hard: `times` what a node grants one peer."""

    chain: bytes
    genesis: bytes
    victims: tuple[tuple[str, int], ...]  # peer id, port
    peers: int
    times: int
    seed: int
    kinds: tuple[Kind, ...] = tuple(Kind)  # one after the other goes to a peer


class Ended(msgspec.Struct, frozen=True):
    """One identity's end: whom it flooded, with what, and for how long it could."""

    kind: Kind
    peer: str
    victim: int
    seconds: float


async def flood_gossip(hostile: Hostile, times: int, number: int) -> None:
    """Records of a topic of the network, signed, and of topics nobody reads.

    Raises:
        Gone: the victim has ended it.
    """
    stream = await hostile.open(GOSSIP)
    each = max(1, round(times * MESSAGES_PER_S * TICK_S))
    while True:
        number += 1
        ours = hostile.message(STATUS.name, PAYLOAD, number=number)
        invented = rpc_pb2.Message(topicIDs=[INVENTED], data=PAYLOAD)
        rpc = rpc_pb2.RPC(publish=[ours, *[invented] * (each - 1)])
        await hostile.say(stream, prefixed(rpc.SerializeToString()))
        await trio.sleep(TICK_S)


async def flood_streams(hostile: Hostile, times: int, number: int) -> None:
    """Streams that are opened, named and reset.

    Raises:
        Gone: the victim has ended it.
    """
    while True:
        number += 2
        stream = await hostile.open("/ipfs/id/1.0.0", stream=1001 + 2 * number)
        await hostile.frame(DATA, RST, stream)
        attempt = line("/multistream/1.0.0")
        await hostile.frame(DATA, SYN | RST, stream + 2, body=attempt)
        await trio.sleep(2 / (times * OPENS_PER_S))


async def flood_topics(hostile: Hostile, times: int, number: int) -> None:
    """Subscriptions, grafts and prunes, of topics that are and that are not.

    Raises:
        Gone: the victim has ended it.
    """
    stream = await hostile.open(GOSSIP)
    each = max(1, round(times * CHANGES_PER_S * TICK_S / 4))
    while True:
        number += 1
        control = rpc_pb2.ControlMessage(
            graft=[rpc_pb2.ControlGraft(topicID=STATUS.name)] * each,
            prune=[rpc_pb2.ControlPrune(topicID=f"{INVENTED}/{number}")] * each,
        )
        turned = [
            rpc_pb2.RPC.SubOpts(subscribe=bool(turn % 2), topicid=STATUS.name)
            for turn in range(2 * each)
        ]
        rpc = rpc_pb2.RPC(subscriptions=turned, control=control)
        await hostile.say(stream, prefixed(rpc.SerializeToString()))
        await trio.sleep(TICK_S)


_FLOODS: Final = {
    Kind.GOSSIP: flood_gossip,
    Kind.STREAMS: flood_streams,
    Kind.TOPICS: flood_topics,
}


async def flood(orders: Orders, place: int) -> None:
    """Flood one victim in one way, under one identity after the other, until cancelled."""
    kind = orders.kinds[place % len(orders.kinds)]
    victim = place % len(orders.victims)
    peer, port = orders.victims[victim]
    chain = ChainIdentity(orders.chain, orders.genesis, agent="flood")
    life = 0
    while True:
        life += 1
        seed = sha256(f"{orders.seed} flood {place} {life}".encode())
        try:
            async with Hostile.dial(seed, port, PeerId(peer)) as hostile:
                await hostile.shake_hands(chain)
                if life == 1:
                    _write(READY)
                await _until_gone(hostile, kind, orders.times, victim)
        except (Gone, ExceptionGroup):
            pass  # it is not let in now
        await trio.sleep(RETURN_S)


async def _until_gone(hostile: Hostile, kind: Kind, times: int, victim: int) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def attack() -> None:
            try:
                await _FLOODS[kind](hostile, times, 0)
            except Gone:
                hostile.ended.set()

        nursery.start_soon(attack)
        await hostile.ended.wait()
        nursery.cancel_scope.cancel()
    ended = Ended(kind, hostile.peer, victim, round(trio.current_time() - began, 3))
    _write(msgspec.json.encode(ended) + b"\n")


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


async def main() -> None:
    """Read the orders, flood until nobody gives orders any more.

    At a low priority: an attacker brings processors of its own and takes none of the victims'.
    """
    os.nice(NICE)
    stdin = trio.lowlevel.FdStream(0)
    raw = b""
    while not raw.endswith(b"\n"):
        raw += await stdin.receive_some(65536)
    orders = msgspec.json.decode(raw, type=Orders)
    async with trio.open_nursery() as nursery:
        for place in range(orders.peers):
            nursery.start_soon(flood, orders, place)
        while await stdin.receive_some(1024):
            pass
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
