"""Networks behind a relay: the same nodes as in `networks`, but linked only through a third one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import trio
from typing_extensions import override

from prsm.node.net.behind import Behind, Carrier
from prsm.node.net.circuit import Circuits
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.interface import Channel, PeerEvent, PeerHandler, PeerInfo
from prsm.node.net.memory import MemoryTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.relay import Relay, RelayRules
from prsm.node.net.transport import Transport
from prsm.node.net.tunnel import Tunnels
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.messages.reach import TakeCircuit
from tests.tools.networks import ASK, CHAIN, HAVE, Node, World

RELAY = 99


def now_ms() -> int:
    return round(trio.current_time() * 1000)


@dataclass
class Reachable:
    """What a node has to be reached through relays, and to be one."""

    circuits: Circuits
    relay: Relay
    behind: Behind


def join(
    network: PeerNetwork,
    transport: Transport,
    *,
    rules: RelayRules | None = None,
    via: Sequence[str] = (),
) -> Reachable:
    """Give a network that does not run yet the parts of reach."""
    circuits = Circuits(network)
    relay = Relay(network, circuits, now_ms=now_ms, rules=rules)
    behind = Behind(network, circuits, carrier_of(transport), now_ms=now_ms, via=via)
    network.extend(behind.dial, behind.addresses, circuits.held)
    return Reachable(circuits, relay, behind)


def carrier_of(transport: Transport) -> Carrier:
    """How circuits become connections of a transport."""
    if isinstance(transport, Libp2pTransport):
        return Tunnels(transport)
    assert isinstance(transport, MemoryTransport)
    return transport


class Hidden:
    """A network without the relay that its owner knows and the tests of the port do not."""

    def __init__(self, network: PeerNetwork, relay: PeerId, behind: Behind) -> None:
        self._network = network
        self._relay = relay
        self._behind = behind

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    @property
    def addresses(self) -> Sequence[str]:
        # Before its network has run, a node has no place, and the world asks where it listens.
        return self._behind.addresses() or self._network.addresses

    def peers(self) -> tuple[PeerInfo, ...]:
        return tuple(info for info in self._network.peers() if info.peer != self._relay)

    def on_peer(self, handler: PeerHandler) -> None:
        def told(event: PeerEvent) -> None:
            if event.peer != self._relay:
                handler(event)

        self._network.on_peer(told)


async def open_world(nursery: trio.Nursery, kind: str) -> World:
    """A world of one implementation: `memory`, `libp2p`, or one of them behind a relay."""
    if not kind.endswith(" relayed"):
        return World(nursery, kind)
    world = RelayedWorld(nursery, kind.removesuffix(" relayed"))
    await world.open_relay()
    return world


class RelayedWorld(World):
    """Every node has a place at one relay; their addresses lead through it."""

    relay: Node
    parts: dict[int, Reachable]
    psk: bytes | None = None
    rules = RelayRules(bytes_per_s=64 * MIB)

    @override
    def transport(self, number: int) -> Transport:
        made = super().transport(number)
        if isinstance(made, Libp2pTransport):
            made._psk = self.psk
        return made

    @override
    def network(self, number: int, chain: ChainIdentity = CHAIN) -> PeerNetwork:
        transport = self.transport(number)
        network = PeerNetwork(transport, chain)
        if number == RELAY:
            self.parts = {RELAY: join(network, transport, rules=self.rules)}
            return network
        parts = self.parts[number] = join(network, transport, via=[self.relay.address])
        return cast("PeerNetwork", Hidden(network, self.relay.peer, parts.behind))

    async def open_relay(self) -> None:
        """Start the relay; before any other node."""
        self.relay = await super().start(RELAY)
        await self.nursery.start(self.parts[RELAY].relay.run)
        await self.nursery.start(self.parts[RELAY].behind.run)

    @override
    async def start(
        self,
        number: int,
        prepare: Callable[[PeerNetwork], None] = lambda _network: None,
        *,
        chain: ChainIdentity = CHAIN,
    ) -> Node:
        node = await super().start(number, prepare, chain=chain)
        behind = self.parts[number].behind

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(behind.run)
                task_status.started()
                await node.stopped.wait()
                nursery.cancel_scope.cancel()

        await self.nursery.start(run)
        while not behind.addresses():  # noqa: ASYNC110 - a place is no event
            await trio.sleep(0.02)
        return node


def harm(part: object, name: str, value: object) -> None:
    """Make one part of a relay, or of a careless node, behave otherwise."""
    setattr(part, name, value)


async def works(one: Node, two: Node) -> None:
    assert await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=b"t") == (HAVE, b"t")


def points(node: Node, peer: PeerId) -> int:
    bans = node.network._peers.bans
    return bans.scores.points(peer, now_ms=bans._clock.monotonic_ms())


def numbers(asker: Node, other: Node, count: int = 9) -> range:
    """Numbers the asker may choose."""
    first = 1_000_000 + (asker.peer > other.peer)
    return range(first, first + 2 * count, 2)


def take(number: int) -> TakeCircuit:
    return TakeCircuit(circuit=number, peer="x", lifetime_ms=1, bytes_per_s=1)
