"""Every fence around libp2p 0.8.1; each names the fault it stops.

Knows libp2p's internals, and is the only module that does: each patched or overridden name has
a test that fails when an upgrade changes it. Must not know what travels over a connection. The
libp2p release is pinned, so another one is refused rather than run unfenced.

What stock 0.8.1 does, measured: a stream handler, a gossip validator or a gossip message that
raises ends the process; automatic identify runs in trio system tasks, where any error is an
internal error of trio; each inbound connection holds its slot for ever; a muxed frame may
announce 4 GiB and is read whole; 10 gossip messages a second is the limit, 32 wait per peer.
"""

import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import libp2p
import libp2p.network.connection.swarm_connection
import libp2p.network.swarm
import libp2p.pubsub.pubsub
import libp2p.stream_muxer.muxer_multistream
import libp2p.stream_muxer.yamux.yamux
import trio
from libp2p.abc import IMuxedConn, INetConn, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost, _IdentifyNotifee
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH_ID
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr
from typing_extensions import override

from prsm.node.net.lean import Gate, Session, ThriftyStream
from prsm.node.net.peers import PEERS_MAX
from prsm.protocol.errors import RemoteError, Unsupported
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX, MIB

LIBP2P_VERSION: Final = "0.8.1"
NEGOTIATION_DEADLINE_S: Final = 5.0
RESET_DEADLINE_S: Final = 2.0
STREAMS_PER_PEER_MAX: Final = 16
MUXED_BYTES_MAX: Final = 8 * MIB  # buffered of one connection; libp2p enforces no window
WINDOW_BYTES_MAX: Final = 1 * MIB  # of a stream; a full one is 20 MB/s over a way of 25 ms
GOSSIP_QUEUE_MAX: Final = 1024
GOSSIP_HEARTBEAT_S: Final = 1
GOSSIP_RPC_BYTES_MAX: Final = 16 * GOSSIP_RECORD_BYTES_MAX
CONNECTIONS_MAX: Final = 2 * PEERS_MAX  # while a pair settles it has two

log = logging.getLogger(__name__)

Blame = Callable[[PeerId, RemoteError], None]
StreamHandler = Callable[[INetStream], Awaitable[None]]


def apply() -> None:
    """Set what libp2p keeps in module globals; again and again is harmless.

    Raises:
        Unsupported: another release than the one these fences were made for.
    """
    if libp2p.__version__ != LIBP2P_VERSION:
        raise Unsupported(
            f"libp2p {libp2p.__version__} is installed, this node is fenced for {LIBP2P_VERSION}",
            hint=f"pip install libp2p=={LIBP2P_VERSION}",
        )
    # A dial to one address waited 251 ms for a second one that never comes.
    libp2p.network.swarm._HAPPY_EYEBALLS_DELAY = 0  # noqa: SLF001 - no public knob
    # 32 waiting messages a peer: 984 of 1000 were lost without a word.
    queue = functools.partial(RpcQueue, max_size=GOSSIP_QUEUE_MAX)
    setattr(libp2p.pubsub.pubsub, "RpcQueue", queue)  # noqa: B010 - an imported name there
    libp2p.pubsub.pubsub.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_QUEUE_MAX
    setattr(libp2p.stream_muxer.yamux.yamux, "YamuxStream", ThriftyStream)  # noqa: B010 - same
    # A window grows to 16 MiB there; all of it stands before the next vote on that connection.
    libp2p.stream_muxer.yamux.yamux.MAX_WINDOW_SIZE = WINDOW_BYTES_MAX
    # Yamux is made by this name, whatever class the upgrader was given for it.
    setattr(libp2p.stream_muxer.muxer_multistream, "Yamux", FencedYamux)  # noqa: B010 - same
    # Its loggers write to stderr when nobody listens, and one module logs to the root logger,
    # which installs a handler there. Our own log says what matters.
    logger = logging.getLogger("libp2p")
    logger.setLevel(logging.CRITICAL)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    setattr(libp2p.network.connection.swarm_connection, "logging", logger)  # noqa: B010 - same


class FencedYamux(Yamux):
    """Yamux that buffers at most `MUXED_BYTES_MAX` of a connection, whatever is announced."""

    gate: Gate | None = None

    @override
    async def handle_incoming(self) -> None:
        """Serve the connection until it ends; common frames never reach stock code."""
        assert isinstance(self.secured_conn, SecureSession)
        gate = Gate(self, self.secured_conn, waiting_bytes_max=MUXED_BYTES_MAX)
        self.gate, self.secured_conn = gate, Session(gate)  # type: ignore[assignment]  # stands in
        await super().handle_incoming()

    @override
    async def _write_frame(self, data: bytes) -> None:
        if self.gate is None:
            await super()._write_frame(data)
            return
        try:
            self._write_lock.acquire_nowait()  # the other way costs a turn of the loop
        except trio.WouldBlock:
            await self._write_lock.acquire()
        try:
            await self.gate.send(data)
        finally:
            self._write_lock.release()

    @override
    async def _read_data_body(self, length: int) -> bytes:
        waiting = sum(map(len, self.stream_buffers.values()))
        if waiting + length > MUXED_BYTES_MAX:
            log.warning("peer %s: %d bytes nobody has read", self.peer_id, waiting + length)
            # The one error after which the caller closes the connection.
            raise trio.TooSlowError
        assert self.gate is not None
        return await self.gate.body(length)


class NoAutoConnector(AutoConnector):
    """Dials nobody: stock code dials known peers whenever it has fewer than it would like."""

    @override
    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Start nothing."""

    @override
    async def maybe_connect(self) -> None:
        """Dial nobody."""


class FencedSwarm(Swarm):
    """Swarm whose inbound connections give their slot back, without resource manager.

    The resource manager's counters leak on rapid reconnects (at 1000 it refuses everybody), so
    none is attached: the limits of this node are its own.
    """

    on_inbound: Callable[[SwarmConn], None] | None = None

    @override
    async def _do_handle_inbound_connection(
        self,
        read_write_closer: ReadWriteCloser,
        maddr: Multiaddr,
        failure_event: object,
    ) -> None:
        connection = RawConnection(read_write_closer, False)  # noqa: FBT003 - libp2p's signature
        try:
            muxed = await self.upgrade_inbound_raw_conn(connection, maddr)
            # Stock code waits for the end of the whole swarm here.
            await muxed.event_closed.wait()  # type: ignore[attr-defined]  # of Yamux
        except Exception as error:  # noqa: BLE001 - one peer's handshake, already cleaned up
            log.debug("inbound connection failed: %s", error)
        finally:
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await read_write_closer.close()

    @override
    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Register a connection and tell who serves inbound ones."""
        connection = await super().add_conn(muxed_conn, direction)
        if direction == "inbound" and self.on_inbound is not None:
            self.on_inbound(connection)
        return connection


class FencedPubsub(Pubsub):
    """Pubsub that survives what peers send.

    Args of `fence`: who is told of junk, and who may gossip at all (peers that have shaken
    hands; anybody can open a libp2p connection).
    """

    blame: Blame = staticmethod(lambda _peer, _error: None)
    admits: Callable[[PeerId], bool] = staticmethod(lambda _peer: True)

    def fence(self, blame: Blame, admits: Callable[[PeerId], bool]) -> None:
        """Set the two callbacks and start sequence numbers where no earlier run has been."""
        self.blame = blame
        self.admits = admits
        # int(time()) plus one a message: after a restart 194 of 200 were taken for old ones.
        self.counter = time.time_ns()

    @override
    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge and pass a message on; what a peer sends raises nothing."""
        if msg_forwarder == self.my_id:
            await super().push_msg(msg_forwarder, msg)
            return
        peer = PeerId(msg_forwarder.to_base58())
        if not self.admits(peer):
            return
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # noqa: BLE001 - this task belongs to nobody else
            self._junk(peer, error)

    @override
    async def stream_handler(self, stream: INetStream) -> None:
        """Read a peer's gossip stream until it ends; junk ends it sooner."""
        peer_id = stream.muxed_conn.peer_id
        try:
            await super().stream_handler(stream)
        except Exception as error:  # noqa: BLE001 - one peer's stream
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await stream.reset()
            self._handle_dead_peer(peer_id)
            self._junk(PeerId(peer_id.to_base58()), error)

    def _junk(self, peer: PeerId, error: Exception) -> None:
        kind = type(error).__name__
        self.blame(peer, RemoteError(f"junk on a gossip stream ({kind})", peer=peer, penalty=100))


def fence_streams(host: BasicHost, blame: Blame) -> None:
    """Put a fence around everything that handles a stream a peer has opened."""
    stock: StreamHandler = host._swarm_stream_handler  # noqa: SLF001 - what it registered itself

    async def handle(stream: INetStream) -> None:
        peer = PeerId(stream.muxed_conn.peer_id.to_base58())
        connection = getattr(stream, "swarm_conn", None)
        try:
            _refuse_surplus(connection)
            await stock(stream)
        except Exception as error:  # noqa: BLE001 - one peer's stream
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await stream.reset()
            kind = type(error).__name__
            blame(peer, RemoteError(f"a stream failed ({kind})", peer=peer, penalty=25))

    host.get_network().set_stream_handler(handle)


class TooManyStreams(Exception):
    """More open streams on one connection than any honest peer needs."""


def _refuse_surplus(connection: SwarmConn | None) -> None:
    if connection is not None and len(connection.get_streams()) > STREAMS_PER_PEER_MAX:
        raise TooManyStreams


def peer_of(seed: bytes) -> PeerId:
    """Return the PeerId of a raw Ed25519 seed of 32 bytes."""
    return PeerId(ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58())


def make_host(seed: bytes, blame: Blame) -> BasicHost:
    """Build a fenced host: TCP, Noise and Yamux only; ping and identify answered, not asked.

    Args:
        seed: 32 bytes, the raw Ed25519 key the PeerId comes from.
        blame: told of peers whose streams fail.
    """
    apply()
    key_pair = create_new_key_pair(seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader(
        secure_transports_by_protocol={NOISE_PROTOCOL_ID: noise},
        muxer_transports_by_protocol={TProtocol(YAMUX_PROTOCOL_ID): FencedYamux},
    )
    swarm = FencedSwarm(
        peer_id,
        peerstore,
        upgrader,
        transports=[TCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=ConnectionConfig(
            max_connections=CONNECTIONS_MAX,
            min_connections=0,
            low_watermark=0,
            high_watermark=CONNECTIONS_MAX,
            inbound_upgrade_timeout=NEGOTIATION_DEADLINE_S,
            outbound_upgrade_timeout=NEGOTIATION_DEADLINE_S,
            inbound_stream_protocol_negotiation_timeout=NEGOTIATION_DEADLINE_S,
            outbound_stream_protocol_negotiation_timeout=NEGOTIATION_DEADLINE_S,
        ),
    )
    swarm.auto_connector = NoAutoConnector(swarm)
    host = _bare_host(swarm)
    fence_streams(host, blame)
    return host


def _bare_host(swarm: FencedSwarm) -> BasicHost:
    host = BasicHost(swarm, disable_identify_address_discovery=True)
    # A pushed identify fills the peer store with whatever a peer says.
    host.remove_stream_handler(TProtocol(IDENTIFY_PUSH_ID))
    for notifee in list(swarm.notifees):
        if isinstance(notifee, _IdentifyNotifee):
            swarm.remove_notifee(notifee)
    return host


def make_gossip(host: BasicHost, topics: Sequence[str]) -> tuple[FencedPubsub, GossipSub]:
    """Build fenced gossip for a fixed set of topics.

    v1.1, because v1.2 doubles the CPU; own limits instead of spam and eclipse protection (10
    messages a second, own ones included; distinct IPs, which loopback never has).
    """
    router = GossipSub(
        protocols=[TProtocol(PROTOCOL_ID_V11)],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=GOSSIP_HEARTBEAT_S,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
        adaptive_gossip_enabled=False,
    )
    pubsub = FencedPubsub(
        host,
        router,
        max_subscriptions_per_rpc=64,
        max_subscriptions_per_peer=64,
        max_inbound_rpc_size=GOSSIP_RPC_BYTES_MAX,
        allowed_topics=frozenset(topics),
    )
    return pubsub, router


async def close_connection(connection: INetConn) -> None:
    """Close a connection, and its socket in any case.

    libp2p's own close sleeps, waits for a write that may be stuck, and does nothing when an
    earlier close was cancelled half-way; the socket stayed open then.
    """
    assert isinstance(connection, SwarmConn)
    try:
        with trio.move_on_after(RESET_DEADLINE_S / 2):
            await connection.close()
    finally:
        await trio.aclose_forcefully(socket_of(connection))
        connection.swarm.remove_conn(connection)


def socket_of(connection: SwarmConn) -> trio.SocketStream:
    """The socket under a connection: Yamux, Noise, packets, raw connection, trio stream."""
    muxed = connection.muxed_conn
    assert isinstance(muxed, Yamux)
    noise = muxed.secured_conn.conn  # type: ignore[attr-defined]  # of SecureSession
    found = noise.read_writer.read_write_closer.stream.stream
    assert isinstance(found, trio.SocketStream)
    return found


def remote_of(connection: SwarmConn) -> tuple[str, int]:
    """Ip and port of the other side; zeros when the socket is gone already."""
    muxed = connection.muxed_conn
    assert isinstance(muxed, Yamux)
    remote = muxed.get_remote_address()
    return remote if remote is not None else ("0.0.0.0", 0)  # noqa: S104 - nothing is bound
