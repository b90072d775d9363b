"""The `Network` port in memory: the same streams, calls and handshake over bounded pipes.

Knows links that can be slow, stalled or cut. Must not know libp2p, sockets or real time: under
a mock clock a run takes no time. For tests and the simulator; peers are named by real PeerIds,
and nothing is encrypted.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.net.behind import Line
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel, PeerUnreachable
from prsm.node.net.memory_tunnel import MemoryTunnel, introduce
from prsm.node.net.meters import Counts
from prsm.node.net.network import PeerNetwork
from prsm.node.net.streams import StreamLost
from prsm.node.net.transport import Accept, Hooks
from prsm.protocol.identity import circuit_address, peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB
from prsm.protocol.signing import sha256

PIPE_BYTES_MAX: Final = 256 * KIB  # as a Yamux window
GOSSIP_QUEUE_MAX: Final = 1024
GOSSIP_SEEN_MAX: Final = 4096
_PORT_FIRST: Final = 10_000


@dataclass(slots=True, eq=False)
class LinkState:
    """What the wire between two nodes does now, in both directions."""

    delay_s: float = 0.0
    stalled: bool = False
    cut: bool = False


class _Pipe:
    """Bytes one way: at most `PIPE_BYTES_MAX` on the way, each due `delay_s` after its write."""

    def __init__(self, state: LinkState) -> None:
        self._state = state
        self._parts: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = trio.lowlevel.ParkingLot()
        self.broken = False

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    def wake(self) -> None:
        self._changed.unpark_all()

    def break_off(self, *, losing: bool) -> None:
        self.broken = True
        if losing:
            self._parts.clear()
        self.wake()

    async def write_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            while self._bytes >= PIPE_BYTES_MAX and not self.broken:
                await self._changed.park()
            if self.broken:
                raise StreamLost("the connection is gone")
            part = bytes(view[: PIPE_BYTES_MAX - self._bytes])
            view = view[len(part) :]
            self._parts.append((trio.current_time() + self._state.delay_s, part))
            self._bytes += len(part)
            self.wake()

    async def read_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while not (due := self._due()):
            if self.broken and (self._state.stalled or not self._parts):
                raise StreamLost("the connection is gone")
            with trio.CancelScope() as scope:
                if self._parts and not self._state.stalled:
                    scope.deadline = self._parts[0][0]
                await self._changed.park()
        _, part = self._parts.popleft()
        if len(part) > bytes_max:
            self._parts.appendleft((due, part[bytes_max:]))
            part = part[:bytes_max]
        self._bytes -= len(part)
        self.wake()
        return part

    def _due(self) -> float | None:
        """When the first part was due, if it has arrived; never 0."""
        if not self._parts or self._state.stalled:
            return None
        due = self._parts[0][0]
        return due or 1e-9 if due <= trio.current_time() else None


@dataclass(slots=True, eq=False)
class _PipeEnd:
    """One side of a stream."""

    incoming: _Pipe
    outgoing: _Pipe

    async def read_some(self, bytes_max: int) -> bytes:
        return await self.incoming.read_some(bytes_max)

    async def write_all(self, data: bytes) -> None:
        await self.outgoing.write_all(data)


class _Wire:
    """A connection: a pipe each way for each channel."""

    def __init__(self, state: LinkState, dialler: PeerId) -> None:
        self.state = state
        self.dialler = dialler
        self.there = {channel: _Pipe(state) for channel in Channel}
        self.back = {channel: _Pipe(state) for channel in Channel}
        self.broken = False

    def break_off(self, *, losing: bool = False) -> None:
        """End both directions; what is on the way still arrives, unless it is lost too."""
        self.broken = True
        for pipe in (*self.there.values(), *self.back.values()):
            pipe.break_off(losing=losing)

    def wake(self) -> None:
        for pipe in (*self.there.values(), *self.back.values()):
            pipe.wake()


@dataclass(slots=True, eq=False)
class MemoryConnection:
    """One side's view of a wire."""

    peer: PeerId
    address: str
    outbound: bool
    wire: _Wire
    way: None = None

    async def stream(self, channel: Channel) -> _PipeEnd:
        """Both sides hold each stream from the beginning."""
        await trio.lowlevel.checkpoint()
        if self.wire.broken:
            raise StreamLost("the connection is gone")
        if self.outbound:
            return _PipeEnd(self.wire.back[channel], self.wire.there[channel])
        return _PipeEnd(self.wire.there[channel], self.wire.back[channel])

    async def close(self) -> None:
        """Break the wire for both sides."""
        await trio.lowlevel.checkpoint()
        self.wire.break_off()


class MemoryTransport:
    """A node's place in a hub."""

    def __init__(self, hub: "MemoryHub", peer: PeerId, port: int) -> None:
        self._hub = hub
        self._peer = peer
        self._address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}"
        self._nursery: trio.Nursery | None = None
        self._accept: Accept | None = None
        self._topics: frozenset[str] = frozenset()
        self._heard: trio.MemorySendChannel[tuple[str, PeerId, bytes]] | None = None
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    @property
    def peer_id(self) -> PeerId:
        """Our identity."""
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the hub knows it; empty when it does not run."""
        return (self._address,) if self._nursery else ()

    @property
    def address(self) -> str:
        """Where it will be found, running or not."""
        return self._address

    async def run(
        self,
        topics: Sequence[str],
        hooks: Hooks,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Take connections and gossip until cancelled."""
        send, receive = trio.open_memory_channel[tuple[str, PeerId, bytes]](GOSSIP_QUEUE_MAX)
        self._topics, self._heard, self._accept = frozenset(topics), send, hooks.accept
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                async for topic, forwarder, record in receive:
                    counts = Counts(messages=1, size=len(record))
                    if not hooks.admits(forwarder) or not hooks.meter(forwarder, counts):
                        continue
                    if hooks.judge(topic, forwarder, record):
                        self._spread(topic, record, forwarder)
        finally:
            self._nursery = None
            self._hub.drop_wires(self._peer)

    async def dial(self, peer: PeerId, address: str) -> MemoryConnection:
        """Open a wire to a node of the hub."""
        await trio.lowlevel.checkpoint()
        return await self._hub.open(self, peer, address)

    async def carry_out(self, peer: PeerId, line: Line, address: str) -> MemoryTunnel:
        """Become the dialling end of a connection over a circuit.

        Raises:
            PeerUnreachable: the other end says to be somebody else.
        """
        said = await introduce(line, self._peer)
        if said != peer:
            raise PeerUnreachable(f"nobody answers as {peer} at {address}")
        return self._tunnel(MemoryTunnel(line, peer, address, outbound=True))

    async def carry_in(self, line: Line, relay: str) -> PeerId:
        """Become the dialled end of a connection over a circuit, which is then served."""
        said = await introduce(line, self._peer)
        tunnel = MemoryTunnel(line, said, circuit_address(relay, said), outbound=False)
        self._tunnel(tunnel)
        if self._nursery is not None and self._accept is not None:
            self._nursery.start_soon(self._accept, tunnel)
        return said

    def _tunnel(self, tunnel: MemoryTunnel) -> MemoryTunnel:
        if self._nursery is None:
            raise PeerUnreachable("the network is not running")
        self._nursery.start_soon(tunnel.run)
        return tunnel

    async def publish(self, topic: str, record: bytes) -> None:
        """Flood a record to the neighbours, who judge it and pass it on."""
        await trio.lowlevel.checkpoint()
        self._remember(topic, record)
        self._spread(topic, record, None)

    def held(self) -> Mapping[PeerId, int]:
        """What has arrived here and was not read yet, of each peer."""
        return self._hub.held(self._peer)

    def counts(self) -> Mapping[str, int]:
        """How many peers a wire leads to; nothing is refused here."""
        return {"sockets": len(self._hub.neighbours(self._peer))}

    def take(self, peer: PeerId, address: str, wire: _Wire) -> None:
        """Be dialled.

        Raises:
            PeerUnreachable: it does not run.
        """
        if self._nursery is None or self._accept is None:
            raise PeerUnreachable(f"nobody answers at {self._address}")
        connection = MemoryConnection(peer=peer, address=address, outbound=False, wire=wire)
        self._nursery.start_soon(self._accept, connection)

    def hear(self, topic: str, forwarder: PeerId, record: bytes) -> None:
        """Be told a record by a neighbour; a full queue loses it, as gossip may."""
        if self._heard is None or self._nursery is None or topic not in self._topics:
            return
        if self._remember(topic, record):
            try:
                self._heard.send_nowait((topic, forwarder, record))
            except trio.WouldBlock:
                return

    def _remember(self, topic: str, record: bytes) -> bool:
        digest = sha256(topic.encode(), b"\0", record)
        if digest in self._seen:
            return False
        self._seen[digest] = None
        if len(self._seen) > GOSSIP_SEEN_MAX:
            self._seen.popitem(last=False)
        return True

    def _spread(self, topic: str, record: bytes, source: PeerId | None) -> None:
        for neighbour in self._hub.neighbours(self._peer):
            if neighbour.peer_id != source:
                neighbour.hear(topic, self._peer, record)


class MemoryHub:
    """Where memory networks find one another, and where their links are disturbed."""

    def __init__(self) -> None:
        self._nodes: dict[PeerId, MemoryTransport] = {}
        self._states: dict[frozenset[PeerId], LinkState] = {}
        self._wires: list[tuple[frozenset[PeerId], _Wire]] = []

    def network(
        self, public_key: bytes, chain: ChainIdentity, *, clock: Clock | None = None
    ) -> PeerNetwork:
        """Make the network of the node with that Ed25519 public key (32 bytes).

        A second call with the same key makes the same node anew, as after a restart.
        """
        return PeerNetwork(self.transport(public_key), chain, clock=clock)

    def transport(self, public_key: bytes) -> MemoryTransport:
        """Make only the transport of that node: bare connections, for hostile peers in tests."""
        peer = peer_id_of(public_key)
        known = self._nodes.get(peer)
        port = int(known.address.split("/")[4]) if known else _PORT_FIRST + len(self._nodes)
        transport = self._nodes[peer] = MemoryTransport(self, peer, port)
        return transport

    def address(self, peer: PeerId) -> str:
        """Where a node is dialled, running or not."""
        return self._nodes[peer].address

    def link(self, one: PeerId, other: PeerId) -> LinkState:
        """What the wire between two nodes does now; set `delay_s` on it to slow it."""
        return self._states.setdefault(frozenset((one, other)), LinkState())

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Break the connections of a pair and refuse new ones until `heal`."""
        self.link(one, other).cut = True
        for pair, wire in tuple(self._wires):
            if pair == frozenset((one, other)):
                wire.break_off(losing=True)

    def stall(self, one: PeerId, other: PeerId) -> None:
        """Let bytes of a pair vanish on the way without an error until `heal`: a half-open link."""
        self.link(one, other).stalled = True

    def heal(self, one: PeerId, other: PeerId) -> None:
        """End `cut`, `stall` and delay of a pair."""
        state = self.link(one, other)
        state.cut = state.stalled = False
        state.delay_s = 0.0
        for pair, wire in self._wires:
            if pair == frozenset((one, other)):
                wire.wake()

    async def open(self, dialler: MemoryTransport, peer: PeerId, address: str) -> MemoryConnection:
        """Connect two nodes.

        Raises:
            PeerUnreachable: nobody of that identity runs there, or the link is cut.
        """
        state = self.link(dialler.peer_id, peer)
        if state.stalled:
            await trio.sleep_forever()
        await trio.sleep(2 * state.delay_s)
        node = self._nodes.get(peer)
        if node is None or state.cut or node.address != address:
            raise PeerUnreachable(f"nobody answers at {address}")
        wire = _Wire(state, dialler.peer_id)
        node.take(dialler.peer_id, dialler.address, wire)
        self._wires = [(pair, old) for pair, old in self._wires if not old.broken]
        self._wires.append((frozenset((dialler.peer_id, peer)), wire))
        return MemoryConnection(peer=peer, address=address, outbound=True, wire=wire)

    def drop_wires(self, peer: PeerId) -> None:
        """Break all connections of a node that stops."""
        for pair, wire in self._wires:
            if peer in pair:
                wire.break_off()

    def held(self, peer: PeerId) -> dict[PeerId, int]:
        """Bytes on their way to a node, by who sent them."""
        found: dict[PeerId, int] = {}
        for pair, wire in self._wires:
            if peer in pair and not wire.broken:
                (other,) = pair - {peer}
                ways = wire.there if wire.dialler == other else wire.back
                size = sum(pipe.waiting_bytes for pipe in ways.values())
                found[other] = found.get(other, 0) + size
        return found

    def neighbours(self, peer: PeerId) -> list[MemoryTransport]:
        """Nodes with a working connection to one, in order of their ids."""
        found: set[PeerId] = set()
        for pair, wire in self._wires:
            if peer in pair and not wire.broken and not wire.state.stalled:
                found |= pair
        return [self._nodes[other] for other in sorted(found - {peer})]
