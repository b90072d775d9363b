"""Nodes of one implementation of `Network`, linked, noted and stopped by a test."""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.interface import (
    Answer,
    Incoming,
    PeerEvent,
)
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.node.net.streams import Duplex, StreamLost
from prsm.node.net.transport import Hooks, Transport
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import AskHave, Have

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32, agent="prsm/test")
OTHER = ChainIdentity(chain=b"testnet2", genesis=b"h" * 32)
ASK = AskHave(root=b"r" * 36)
HAVE = Have(size=5, leaves=1, bitset=b"\1")
TOPIC = "prsm/test/1"


@dataclass
class Node:
    """A running network with what it was told."""

    network: PeerNetwork
    scope: trio.CancelScope
    events: list[PeerEvent] = field(default_factory=list)
    messages: list[Incoming] = field(default_factory=list)
    records: list[tuple[PeerId, bytes]] = field(default_factory=list)
    stopped: trio.Event = field(default_factory=trio.Event)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    @property
    def peer(self) -> PeerId:
        return self.network.peer_id

    @property
    def address(self) -> str:
        return self.network.addresses[0]

    async def wait(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(20):
            while not condition():
                await self.changed.park()

    async def wait_lost(self, peer: PeerId) -> None:
        await self.wait(lambda: any(e.peer == peer and not e.up for e in self.events))

    async def wait_up(self, peer: PeerId) -> None:
        await self.wait(lambda: any(e.peer == peer and e.up for e in self.events))


class World:
    """Makes nodes of one implementation."""

    def __init__(self, nursery: trio.Nursery, kind: str) -> None:
        self.nursery = nursery
        self.listen: dict[int, str] = {}  # where a node listened before it was started again
        if kind == "memory":
            self.hub: MemoryHub | None = MemoryHub()
        else:
            self.hub = None

    def network(self, number: int, chain: ChainIdentity = CHAIN) -> PeerNetwork:
        return PeerNetwork(self.transport(number), chain)

    def transport(self, number: int) -> Transport:
        seed = bytes([number]) * 32
        if self.hub is not None:
            return self.hub.transport(seed)
        return Libp2pTransport(seed, listen=[self.listen.get(number, "/ip4/127.0.0.1/tcp/0")])

    async def start(
        self,
        number: int,
        prepare: Callable[[PeerNetwork], None] = lambda _network: None,
        *,
        chain: ChainIdentity = CHAIN,
    ) -> Node:
        network = self.network(number, chain)
        node = Node(network, trio.CancelScope())

        def told(event: PeerEvent) -> None:
            node.events.append(event)
            node.changed.unpark_all()

        def message(incoming: Incoming) -> None:
            node.messages.append(incoming)
            node.changed.unpark_all()

        def record(peer: PeerId, raw: bytes) -> bool:
            node.records.append((peer, raw))
            node.changed.unpark_all()
            return raw != b"bad"

        network.on_peer(told)
        network.on_message(Have, message)
        network.on_gossip(TOPIC, record)
        prepare(network)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with node.scope:
                await network.run(task_status=task_status)
            node.stopped.set()

        await self.nursery.start(run)
        self.listen[number] = node.address.partition("/p2p/")[0]
        return node

    async def pair(
        self, prepare: Callable[[PeerNetwork], None] = lambda _network: None
    ) -> tuple[Node, Node]:
        """Two linked nodes; the first dialled, the second is prepared."""
        one, two = await self.start(1), await self.start(2, prepare)
        await one.network.connect(two.address)
        await two.wait_up(one.peer)
        return one, two

    async def rogue(self, target: Node, number: int = 66) -> Connection:
        """A bare connection to a node, by a peer that says what a test wants."""
        transport = self.transport(number)

        async def refuse(connection: Connection) -> None:
            await connection.close()

        hooks = Hooks(refuse, lambda *_: False, lambda _: False, lambda *_: None)
        await self.nursery.start(transport.run, (), hooks)
        return await transport.dial(target.peer, target.address)


def answering(handler: Callable[[Incoming], Answer]) -> Callable[[PeerNetwork], None]:
    async def answer(incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        return handler(incoming)

    return lambda network: network.on_call(AskHave, answer)


async def ended(stream: Duplex) -> None:
    """Read until the peer has ended or broken a stream."""
    try:
        while await stream.read_some(65536):
            pass
    except StreamLost:
        return
