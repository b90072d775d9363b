"""One node that only gossips: `python -m prsm.testnet.gossiper JSON`, asked line by line.

The network room of the daemon (libp2p, fences, announcements, pull repair) without chain, workers
and RPC, so that sixteen of them leave two cores room to speak. Knows: what it is told on its first
argument and on stdin. Must not know: links that are made worse (testnet/gossip).
"""

import os
import random
import resource
import sys
from collections import defaultdict
from typing import Annotated, Final

import msgspec
import trio

from prsm.node.clock import TrioClock
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.network import PeerNetwork
from prsm.node.peers.announce import Announcement, Announcer, Ground
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB
from prsm.protocol.messages.announce import TOPICS, TopicRules

CHAIN: Final = b"gossip-1"
LINE_BYTES_MAX: Final = 1024 * KIB
AGAIN_SECONDS: Final = 0.2


class Probe(Record, frozen=True):
    """What is announced: bytes of no meaning."""

    filling: Annotated[bytes, msgspec.Meta(max_length=4 * KIB)]


PROBES: Final = TopicRules("prsm/probe/1", Probe, 120_000, 4 * KIB + 16, 1_024)


class Told(msgspec.Struct):
    """What a node is started with."""

    seed: int
    repairs: bool  # False: what is lost stays lost


class Orders(msgspec.Struct):
    """Whom to dial; answered once all of them are linked.

    `drop` is the share of records that are lost where they come from a peer of `deaf_to`.
    """

    dial: list[str]
    deaf_to: list[str]
    drop: float


class Speech(msgspec.Struct):
    """When to announce, and until when to listen: wall milliseconds."""

    at_ms: list[int]
    until_ms: int
    size_bytes: int


class Heard(msgspec.Struct):
    """What arrived: author (hex) -> key and delay in ms of each record."""

    heard: dict[str, list[tuple[int, int]]]
    repaired: int
    stale: int
    unchecked: int
    published: int
    peers: int
    cpu_s: float
    rss_mib: float


class Lines:
    """JSON lines from stdin and to stdout; what others print goes to stderr from now on."""

    def __init__(self) -> None:
        self._in = trio.lowlevel.FdStream(os.dup(0))
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._waiting = b""

    async def read(self, cls: type[msgspec.Struct]) -> msgspec.Struct | None:
        """The next line; None at the end."""
        while b"\n" not in self._waiting:
            data = await self._in.receive_some(65_536)
            if not data:
                return None
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        return msgspec.json.decode(line, type=cls)

    def say(self, what: object) -> None:
        """Write a line."""
        self._out.write(msgspec.json.encode(what) + b"\n")
        self._out.flush()


async def gossip(told: Told) -> None:
    """Run a node until its report is out."""
    lines, clock = Lines(), TrioClock()
    seed = told.seed.to_bytes(32, "big")
    network = PeerNetwork(
        Libp2pTransport(seed, listen=["/ip4/127.0.0.1/tcp/0"]),
        ChainIdentity(CHAIN, bytes(32), agent="gossiper"),
        clock=clock,
    )
    ground = Ground(
        chain_id=CHAIN,
        signer=Ed25519Signer(seed),
        verifier=Ed25519Verifier(),
        clock=clock,
        dice=random.Random(told.seed).randrange,
        salt=seed,
        topics={**TOPICS, PROBES.name: PROBES},
    )
    announcer = Announcer(network, ground)
    heard: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)

    def hear(probe: Announcement) -> None:
        if probe.author != announcer.author:
            delay_ms = clock.wall_ms() - probe.made_ms
            heard[probe.author.hex()].append((int.from_bytes(probe.key, "big"), delay_ms))

    announcer.listen(PROBES.name, hear)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        if told.repairs:
            await nursery.start(announcer.run)
        lines.say({"address": network.addresses[0]})
        orders = await lines.read(Orders)
        if isinstance(orders, Orders):
            _lose(network, orders, random.Random(told.seed))
            for address in orders.dial:
                await _dial(network, address)
            lines.say({"linked": len(orders.dial)})
        speech = await lines.read(Speech)
        if isinstance(speech, Speech):
            await _speak(announcer, speech, clock)
            lines.say(_report(announcer, network, heard))
        nursery.cancel_scope.cancel()


def _lose(network: PeerNetwork, orders: Orders, dice: random.Random) -> None:
    """Plant a fault: libp2p takes a dropped record for seen, so no other copy comes through it."""
    judge = network._gossip[PROBES.name]  # noqa: SLF001 - a planted fault
    deaf_to = set(orders.deaf_to)

    def hear(peer: PeerId, raw: bytes) -> bool | None:
        if peer in deaf_to and dice.random() < orders.drop:
            return None
        return judge(peer, raw)

    network._gossip[PROBES.name] = hear  # noqa: SLF001 - as above


async def _dial(network: PeerNetwork, address: str) -> None:
    while True:
        try:
            await network.connect(address)
        except PeerUnreachable:
            await trio.sleep(AGAIN_SECONDS)
        else:
            return


async def _speak(announcer: Announcer, speech: Speech, clock: TrioClock) -> None:
    filling = bytes(speech.size_bytes)
    for number, at_ms in enumerate(speech.at_ms):
        await trio.sleep(max(0, at_ms - clock.wall_ms()) / 1000)
        await announcer.publish(PROBES.name, Probe(filling), key=number.to_bytes(4, "big"))
    await trio.sleep(max(0, speech.until_ms - clock.wall_ms()) / 1000)


def _report(
    announcer: Announcer, network: PeerNetwork, heard: dict[str, list[tuple[int, int]]]
) -> Heard:
    delivered = announcer.delivery[PROBES.name]
    used = resource.getrusage(resource.RUSAGE_SELF)
    fates = {fate.value: count for fate, count in delivered.fates.items()}
    return Heard(
        heard=heard,
        repaired=sum(author.repaired for author in delivered.authors.values()),
        stale=fates.get("stale", 0),
        unchecked=fates.get("unchecked", 0),
        published=delivered.published,
        peers=len(network.peers()),
        cpu_s=round(used.ru_utime + used.ru_stime, 2),
        rss_mib=round(used.ru_maxrss / KIB, 1),
    )


if __name__ == "__main__":
    trio.run(gossip, msgspec.json.decode(sys.argv[1], type=Told))
