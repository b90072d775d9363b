"""The transport over py-libp2p: listening, dialling, kept streams, gossip.

Knows libp2p's hosts and streams through the fences of `guard`. Must not know handshakes, calls
or scores. One `run` is one incarnation: a crash inside ends it with everything it opened, and
the next one has the same identity and the same port.
"""

import errno
import logging
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import trio
from libp2p.abc import INetStream, ISubscriptionAPI
from libp2p.custom_types import StreamHandlerFn, SyncValidatorFn, TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import MULTISELECT_PROTOCOL_ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.rcmgr import Direction
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_delim
from multiaddr import Multiaddr

from prsm.node.clock import Clock
from prsm.node.listeners import find_listener
from prsm.node.net.gossip import FencedPubsub, make_gossip
from prsm.node.net.guard import (
    NEGOTIATION_DEADLINE_S,
    FencedSwarm,
    FencedUpgrader,
    make_host,
    peer_of,
)
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Channel, PeerUnreachable
from prsm.node.net.muxed import close_connection, held_bytes, remote_of
from prsm.node.net.network import PeerNetwork
from prsm.node.net.private import dialling
from prsm.node.net.streams import StreamLost
from prsm.node.net.transport import Hooks
from prsm.node.net.tunnel import below
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.identity import parse_address, parse_listen
from prsm.protocol.ids import PeerId

CLOSE_DEADLINE_S: Final = 3.0

log = logging.getLogger(__name__)


class AddressTaken(LocalError):
    """Another program listens where peers should find this node."""

    reason = "address_taken"


class NetDuplex:
    """A libp2p stream as a plain duplex; every foreign error becomes `StreamLost`.

    Args:
        stream: of libp2p.
        expecting: what the other side must say before its first byte counts.
    """

    def __init__(self, stream: INetStream, *, expecting: bytes = b"") -> None:
        assert isinstance(stream, NetStream)
        # Past libp2p's own state of a stream: two locks a call, and nothing asks for it.
        self._stream = stream.muxed_stream
        self._expecting = expecting

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes; empty at the end."""
        while self._expecting:
            data = await self._read(len(self._expecting))
            if not data or not self._expecting.startswith(data):
                raise StreamLost("the peer does not speak this protocol")
            self._expecting = self._expecting[len(data) :]
        return await self._read(bytes_max)

    async def write_all(self, data: bytes) -> None:
        """Write all bytes."""
        try:
            await self._stream.write(data)
        except Exception as error:
            raise StreamLost(f"the stream broke ({type(error).__name__})") from error

    async def _read(self, bytes_max: int) -> bytes:
        try:
            return await self._stream.read(bytes_max)
        except MuxedStreamEOF:
            return b""
        except Exception as error:
            raise StreamLost(f"the stream broke ({type(error).__name__})") from error


class Libp2pConnection:
    """One libp2p connection; the dialler opens its kept streams, the other side waits for them."""

    def __init__(self, connection: SwarmConn) -> None:
        self._connection = connection
        self._arrived = {channel: trio.Event() for channel in Channel}
        self._streams: dict[Channel, NetDuplex] = {}
        self.peer = PeerId(connection.muxed_conn.peer_id.to_base58())
        self.outbound = connection.direction is not Direction.INBOUND
        ip, port = remote_of(connection)
        wire = f"/{'ip6' if ':' in ip else 'ip4'}/{ip}/tcp/{port}/p2p/{self.peer}"
        self.address, self.way = below(connection, self.peer, wire)

    async def stream(self, channel: Channel) -> NetDuplex:
        """Open the kept stream of a channel, or wait until the dialler has.

        Raises:
            StreamLost: the connection ended.
        """
        if not self.outbound:
            await self._arrived[channel].wait()
            return self._streams[channel]
        # Multistream-select without waiting: there is one protocol to choose, so our first words
        # leave with the choice, and the answer, which repeats it, is checked when reading.
        choice = encode_delim(MULTISELECT_PROTOCOL_ID.encode()) + encode_delim(
            channel.value.encode()
        )
        try:
            with trio.fail_after(NEGOTIATION_DEADLINE_S):
                stream = await self._connection.new_stream()
                await stream.write(choice)
        except Exception as error:
            raise StreamLost(f"could not open {channel.value} ({type(error).__name__})") from error
        return NetDuplex(stream, expecting=choice)

    async def arrived(self, channel: Channel, stream: INetStream) -> None:
        """Take a stream the peer opened, and keep it until the connection ends."""
        if self.outbound or channel in self._streams:
            await stream.reset()
            return
        self._streams[channel] = NetDuplex(stream)
        self._arrived[channel].set()
        await self._connection.event_closed.wait()

    async def close(self) -> None:
        """Close the connection."""
        await close_connection(self._connection)


class Libp2pTransport:
    """The transport of a node over libp2p.

    Args:
        seed: 32 bytes, the raw Ed25519 key the PeerId comes from.
        listen: `/ip4/…/tcp/…` addresses; port 0 is chosen once and then kept.
        psk: 32 bytes, the key of a private network; None: a public one.
    """

    def __init__(self, seed: bytes, *, listen: Sequence[str], psk: bytes | None = None) -> None:
        self._seed = seed
        self._psk = psk
        self._listen = list(listen)
        self._addresses: tuple[str, ...] = ()
        self._host: BasicHost | None = None
        self._pubsub: FencedPubsub | None = None
        self._nursery: trio.Nursery | None = None
        self._hooks: Hooks | None = None
        self._connections: dict[SwarmConn, Libp2pConnection] = {}
        self._peer_id = peer_of(seed)

    @property
    def peer_id(self) -> PeerId:
        """Our identity."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, with /p2p/; empty when it does not run."""
        return self._addresses

    async def run(
        self,
        topics: Sequence[str],
        hooks: Hooks,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and serve until cancelled; started once it listens.

        Raises:
            LocalError: an address it cannot listen on.
        """
        self._hooks = hooks
        for address in self._listen:
            refuse_taken(address)
        host = make_host(self._seed, self._blame, psk=self._psk)
        swarm = host.get_network()
        assert isinstance(swarm, FencedSwarm)
        swarm.on_inbound, swarm.admits = self._inbound, hooks.admits
        assert isinstance(swarm.upgrader, FencedUpgrader)
        swarm.upgrader.is_banned = hooks.is_banned
        for channel in Channel:
            host.set_stream_handler(TProtocol(channel.value), self._keeper(channel))
        pubsub, router = make_gossip(host, topics, hooks.worth)
        pubsub.fence(self._blame, hooks.admits, meter=hooks.meter, author=hooks.author)
        for topic in topics:
            pubsub.set_topic_validator(topic, self._validator(topic), is_async_validator=False)
        try:
            async with (
                trio.open_nursery() as nursery,
                host.run([Multiaddr(address) for address in self._listen]),
                background_trio_service(pubsub),
                background_trio_service(router),
            ):
                self._nursery, self._host, self._pubsub = nursery, host, pubsub
                try:
                    await self._serve(topics, task_status)
                finally:
                    nursery.cancel_scope.cancel()
                    with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                        # Leaving host.run() keeps outbound connections; closing them one
                        # after the other takes 0.3 s each.
                        async with trio.open_nursery() as closing:
                            for connection in swarm.get_connections():
                                closing.start_soon(close_connection, connection)
                        await host.close()
        finally:
            self._nursery = self._host = self._pubsub = None
            self._addresses = ()
            self._connections.clear()

    async def _serve(self, topics: Sequence[str], task_status: trio.TaskStatus[None]) -> None:
        assert self._pubsub is not None
        assert self._nursery is not None
        await self._pubsub.wait_until_ready()
        for topic in topics:
            subscription = await self._pubsub.subscribe(topic)
            self._nursery.start_soon(_drain, subscription)
        self._note_addresses()
        task_status.started()
        await trio.sleep_forever()

    def _note_addresses(self) -> None:
        assert self._host is not None
        bound = [
            str(address)
            for listener in self._host.get_network().listeners.values()
            for address in listener.get_addrs()
        ]
        if len(bound) != len(self._listen):
            raise LocalError(f"could listen on {bound} only, not on {self._listen}")
        self._listen = bound
        self._addresses = tuple(f"{address}/p2p/{self._peer_id}" for address in bound)

    async def dial(self, peer: PeerId, address: str) -> Libp2pConnection:
        """Open a connection.

        Raises:
            PeerUnreachable: nobody of that identity answers there.
            WrongNetworkKey: somebody answers there, and not under our network's key.
        """
        swarm, _ = self.running()
        where = parse_address(address).transport
        peer_id = ID.from_string(peer)
        with dialling(peer, where, private=self._psk is not None):
            # Past the dial cache: a failed dial blocks a peer there for 60 s, and its
            # "happy eyeballs" wait for a second address.
            connection = await swarm.dial_addr(Multiaddr(where), peer_id)
        assert isinstance(connection, SwarmConn)
        return self.known(connection)

    def running(self) -> tuple[FencedSwarm, trio.Nursery]:
        """This incarnation's swarm and nursery; `PeerUnreachable` when it does not run."""
        if self._host is None or self._nursery is None:
            raise PeerUnreachable("the network is not running")
        swarm = self._host.get_network()
        assert isinstance(swarm, FencedSwarm)
        return swarm, self._nursery

    async def publish(self, topic: str, record: bytes) -> None:
        """Hand a record to the mesh; lost when the network is being rebuilt."""
        if self._pubsub is not None:
            await self._pubsub.publish(topic, record)

    def held(self) -> Mapping[PeerId, int]:
        """Bytes kept for each peer: read and not asked for, or of gossip."""
        found: Counter[PeerId] = Counter()
        for connection, known in self._connections.items():
            found[known.peer] += held_bytes(connection)
        if self._pubsub is not None:
            found.update(self._pubsub.held())
        return found

    def counts(self) -> Mapping[str, int]:
        """Sockets of others, handshakes, connections, streams; refusals by reason."""
        if self._host is None:
            return {}
        swarm = self._host.get_network()
        assert isinstance(swarm, FencedSwarm)
        connections = swarm.get_connections()
        return {
            "sockets": swarm.arrivals.open,
            "handshakes": swarm.arrivals.shaking,
            "connections": len(connections),
            "streams": sum(len(connection.get_streams()) for connection in connections),
            **{f"refused_{why}": count for why, count in swarm.arrivals.refused.items()},
        }

    # -- what libp2p calls

    def known(self, connection: SwarmConn) -> Libp2pConnection:
        """Its one wrapper."""
        for gone in [old for old in self._connections if old.is_closed]:
            del self._connections[gone]
        known = self._connections.get(connection)
        if known is None:
            known = self._connections[connection] = Libp2pConnection(connection)
        return known

    def _inbound(self, connection: SwarmConn) -> None:
        if self._nursery is not None and self._hooks is not None:
            self._nursery.start_soon(self._hooks.accept, self.known(connection))

    def _keeper(self, channel: Channel) -> StreamHandlerFn:
        async def keep(stream: INetStream) -> None:
            connection = getattr(stream, "swarm_conn", None)
            if self._host is None or not isinstance(connection, SwarmConn):
                await stream.reset()
                return
            await self.known(connection).arrived(channel, stream)

        return keep

    def _validator(self, topic: str) -> SyncValidatorFn:
        def judge(forwarder: ID, message: rpc_pb2.Message) -> bool:
            peer = PeerId(forwarder.to_base58())
            if peer == self._peer_id:
                return True
            if list(message.topicIDs) != [topic] or self._hooks is None:
                return False
            return self._hooks.judge(topic, peer, message.data)

        return judge

    def _blame(self, peer: PeerId, error: RemoteError) -> None:
        if self._hooks is None or self._nursery is None:
            return
        self._hooks.blame(peer, error)
        if self._hooks.is_banned(peer):
            for connection, known in list(self._connections.items()):
                if known.peer == peer and not connection.is_closed:
                    self._nursery.start_soon(close_connection, connection)


def libp2p_network(
    seed: bytes, chain: ChainIdentity, *, listen: Sequence[str], clock: Clock | None = None
) -> PeerNetwork:
    """Make a node's network over libp2p.

    Args:
        seed: 32 bytes, the raw Ed25519 node key.
        chain: which network the node belongs to.
        listen: `/ip4/…/tcp/…` addresses; port 0 lets the system choose.
        clock: of the node; trio's when absent.
    """
    return PeerNetwork(Libp2pTransport(seed, listen=listen), chain, clock=clock)


def refuse_taken(address: str) -> None:
    """Check that nobody listens at an address yet.

    libp2p listens with SO_REUSEPORT: a second node on the same port would start without an
    error and get every other connection.

    Raises:
        LocalError: no address.
        AddressTaken: it cannot be bound; the text names who listens there, where /proc shows it.
    """
    ip, port = parse_listen(address)
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
        except OSError as error:
            holder = find_listener(port) if error.errno == errno.EADDRINUSE else None
            by = f", by process {holder}" if holder else ""
            raise AddressTaken(
                f"cannot listen on {address}: {error.strerror}{by}",
                hint="stop what listens there, or choose another port (0: a free one)",
            ) from error


async def _drain(subscription: ISubscriptionAPI) -> None:
    # The validator has already handed each record on; what is queued here is only in the way.
    while True:
        await subscription.get()
