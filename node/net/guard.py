"""The fences around libp2p 0.8.1, put up; each names the fault it stops.

Knows libp2p's internals, as `muxed`, `gossip`, `gate` and `windows` do, and no other module: each
patched or overridden name has a test that fails when an upgrade changes it. Must not know what
travels over a connection. The release is pinned, so another one is refused rather than run
unfenced.

What stock 0.8.1 does, measured: a stream handler, a gossip validator or a gossip message that
raises ends the process; automatic identify runs in trio system tasks, where any error is an
internal error of trio; each inbound connection holds its slot for ever; a muxed frame may
announce 4 GiB and is read whole; 10 gossip messages a second is the limit, 32 wait per peer.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import libp2p
import libp2p.network.connection.swarm_connection
import libp2p.network.swarm
import libp2p.protocol_muxer.multiselect_communicator
import libp2p.pubsub.pubsub
import libp2p.stream_muxer.muxer_multistream
import libp2p.stream_muxer.yamux.yamux
import trio
from libp2p.abc import (
    IMuxedConn,
    INetStream,
    IRawConnection,
    ISecureConn,
)
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.host.basic_host import BasicHost, _IdentifyNotifee
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH_ID
from libp2p.io.abc import Reader, ReadWriteCloser
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from libp2p.transport.exceptions import SecurityUpgradeFailure
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr
from typing_extensions import override

from prsm.node.net.arrivals import Arrivals, Visit
from prsm.node.net.choice import OpeningClient, PromptClient
from prsm.node.net.gossip import (
    AUTHOR_PREFIX,
    GOSSIP_QUEUE_MAX,
    RESET_DEADLINE_S,
    Blame,
    BoundedQueue,
    Seen,
)
from prsm.node.net.muxed import FencedConn, FencedYamux, remote_at
from prsm.node.net.private import protect
from prsm.node.net.windows import WindowedStream
from prsm.protocol.errors import RemoteError, Unsupported
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB, PEERS_MAX

LIBP2P_VERSION: Final = "0.8.1"
NEGOTIATION_DEADLINE_S: Final = 5.0
STREAMS_PER_PEER_MAX: Final = 16
STREAMS_PER_STRANGER_MAX: Final = 48  # of other programs: one stream for each message
WINDOW_BYTES_MAX: Final = 1 * MIB  # of a stream; a full one is 20 MB/s over a way of 25 ms
CHOICE_BYTES_MAX: Final = 1024  # one line of multistream-select; the longest of ours has 20
CONNECTIONS_MAX: Final = 2 * PEERS_MAX  # while a pair settles it has two

log = logging.getLogger(__name__)

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
    setattr(libp2p.pubsub.pubsub, "RpcQueue", BoundedQueue)  # noqa: B010 - an imported name there
    setattr(libp2p.pubsub.pubsub, "LastSeenCache", Seen)  # noqa: B010 - same
    libp2p.pubsub.pubsub.SUBSCRIPTION_CHANNEL_SIZE = GOSSIP_QUEUE_MAX
    setattr(libp2p.stream_muxer.yamux.yamux, "YamuxStream", WindowedStream)  # noqa: B010 - same
    # A window grows to 16 MiB there; all of it stands before the next vote on that connection.
    libp2p.stream_muxer.yamux.yamux.MAX_WINDOW_SIZE = WINDOW_BYTES_MAX
    # Yamux is made by this name, whatever class the upgrader was given for it.
    setattr(libp2p.stream_muxer.muxer_multistream, "Yamux", FencedYamux)  # noqa: B010 - same
    # Whoever names a protocol announces how long its name is: stock code reads 2^64 bytes.
    setattr(libp2p.protocol_muxer.multiselect_communicator, "read_delim", read_choice)  # noqa: B010 - same
    setattr(libp2p.network.connection.swarm_connection, "SwarmConn", FencedConn)  # noqa: B010 - same
    # Its private networks speak no other implementation's, and break at a short read.
    setattr(libp2p.network.swarm, "new_protected_conn", protect)  # noqa: B010 - same
    # Its loggers write to stderr when nobody listens, and one module logs to the root logger,
    # which installs a handler there. Our own log says what matters.
    logger = logging.getLogger("libp2p")
    logger.setLevel(logging.CRITICAL)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    setattr(libp2p.network.connection.swarm_connection, "logging", logger)  # noqa: B010 - same


async def read_choice(reader: Reader) -> bytes:
    """Read one line of multistream-select, of at most `CHOICE_BYTES_MAX`.

    Raises:
        ParseError: no such line.
    """
    try:
        line = await read_varint_prefixed_bytes_limited(reader, CHOICE_BYTES_MAX)
    except MessageTooLarge as error:
        raise ParseError(f"a line over {CHOICE_BYTES_MAX} bytes") from error
    if not line.endswith(b"\n") or not line.isascii():
        raise ParseError("a line without end, or not of ASCII")
    return line[:-1]


class NoAutoConnector(AutoConnector):
    """Dials nobody: stock code dials known peers whenever it has fewer than it would like."""

    @override
    async def run_background_task(self, nursery: trio.Nursery) -> None:
        """Start nothing."""

    @override
    async def maybe_connect(self) -> None:
        """Dial nobody."""

    @override
    def record_disconnect(self, peer_id: ID) -> None:
        """Remember nobody: stock code never forgets."""


class FencedUpgrader(TransportUpgrader):
    """Upgrader that sends away whom this node does not want as soon as it knows who it is."""

    is_banned: Callable[[PeerId], bool] = staticmethod(lambda _peer: False)
    is_foreign = False  # whether keys other than Ed25519 are let in

    @override
    async def upgrade_security(
        self, raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None
    ) -> ISecureConn:
        """Encrypt a connection, and end it if the other side is banned or hides its key."""
        secure = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        peer = secure.get_remote_peer()
        is_known_key = self.is_foreign or peer.to_bytes().startswith(AUTHOR_PREFIX)
        if not is_known_key or self.is_banned(PeerId(peer.to_base58())):
            await secure.close()
            raise NotLetIn("a peer that is banned, or hides its key")
        return secure


class NotLetIn(SecurityUpgradeFailure):
    """Who is there is known, and not wanted."""


class FencedSwarm(Swarm):
    """Swarm whose inbound connections give their slot back, without resource manager.

    The resource manager's counters leak on rapid reconnects (at 1000 it refuses everybody), so
    none is attached: the limits of this node are its own.
    """

    on_inbound: Callable[[SwarmConn], None] | None = None
    blame: Blame = staticmethod(lambda _peer, _error: None)
    admits: Callable[[PeerId], bool] = staticmethod(lambda _peer: True)
    arrivals: Arrivals
    is_foreign = False
    _scopes: dict[Visit, trio.CancelScope]

    @override
    async def _do_handle_inbound_connection(
        self,
        read_write_closer: ReadWriteCloser,
        maddr: Multiaddr,
        failure_event: object,
    ) -> None:
        connection = RawConnection(read_write_closer, False)  # noqa: FBT003 - libp2p's signature
        remote = remote_at(read_write_closer)
        ip = remote[0] if remote else ""
        entry = self.arrivals.enter(ip, now_ms=_now_ms())
        visit = entry.visit
        try:
            if visit is not None and entry.wait_ms:
                await trio.sleep(entry.wait_ms / 1000)
                entry = self.arrivals.begin(visit, now_ms=_now_ms())
            if entry.evicted is not None:
                self._scopes.pop(entry.evicted).cancel()
            if entry.visit is None:
                log.debug("an inbound connection is refused: %s", entry.why)
                return
            await self._serve_visit(entry.visit, ip, connection, maddr)
        except Exception as error:  # noqa: BLE001 - one peer's handshake, already cleaned up
            log.debug("inbound connection failed: %s", error)
        finally:
            if visit is not None:
                self._scopes.pop(visit, None)
                self.arrivals.leave(visit)
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await read_write_closer.close()

    async def _serve_visit(
        self, visit: Visit, ip: str, connection: RawConnection, maddr: Multiaddr
    ) -> None:
        """Shake hands and wait for the end; note where banned peers came from."""
        suspects = self.arrivals.suspects
        with trio.CancelScope() as scope:
            self._scopes[visit] = scope
            try:
                muxed = await self.upgrade_inbound_raw_conn(connection, maddr)
            except SwarmException as error:
                if isinstance(error.__cause__, NotLetIn):
                    suspects.offend(ip, now_ms=_now_ms())
                raise
            self.arrivals.settle(visit)
            # Stock code waits for the end of the whole swarm here.
            await muxed.event_closed.wait()  # type: ignore[attr-defined]  # of Yamux
            assert isinstance(self.upgrader, FencedUpgrader)
            if self.upgrader.is_banned(PeerId(muxed.peer_id.to_base58())):
                suspects.offend(ip, now_ms=_now_ms())

    @override
    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Register a connection and tell who serves inbound ones."""
        assert isinstance(muxed_conn, FencedYamux)
        muxed_conn.blame, muxed_conn.admits = self.blame, self.admits
        muxed_conn.is_foreign = self.is_foreign
        connection = await super().add_conn(muxed_conn, direction)
        if direction == "inbound" and self.on_inbound is not None:
            self.on_inbound(connection)
        return connection


def fence_streams(
    host: BasicHost, blame: Blame, *, streams_max: int = STREAMS_PER_PEER_MAX
) -> None:
    """Put a fence around everything that handles a stream a peer has opened."""
    stock: StreamHandler = host._swarm_stream_handler  # noqa: SLF001 - what it registered itself

    async def handle(stream: INetStream) -> None:
        peer = PeerId(stream.muxed_conn.peer_id.to_base58())
        connection = getattr(stream, "swarm_conn", None)
        try:
            _refuse_surplus(connection, streams_max)
            await stock(stream)
        except Exception as error:  # noqa: BLE001 - one peer's stream
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await stream.reset()
            kind = type(error).__name__
            blame(peer, RemoteError(f"a stream failed ({kind})", peer=peer, penalty=25))

    host.get_network().set_stream_handler(handle)


def _now_ms() -> int:
    return int(trio.current_time() * 1000)


class TooManyStreams(Exception):
    """More open streams on one connection than any honest peer needs."""


def _refuse_surplus(connection: SwarmConn | None, streams_max: int) -> None:
    if connection is not None and len(connection.get_streams()) > streams_max:
        raise TooManyStreams


def peer_of(seed: bytes) -> PeerId:
    """Return the PeerId of a raw Ed25519 seed of 32 bytes."""
    return PeerId(ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58())


def make_host(
    seed: bytes, blame: Blame, *, psk: bytes | None = None, is_foreign: bool = False
) -> BasicHost:
    """Build a fenced host: TCP, Noise and Yamux only; ping and identify answered, not asked.

    Args:
        seed: 32 bytes, the raw Ed25519 key the PeerId comes from.
        blame: told of peers whose streams fail.
        psk: 32 bytes, the key of a private network.
        is_foreign: for other programs than this one: any kind of key, more streams.
    """
    apply()
    key_pair = create_new_key_pair(seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    upgrader = FencedUpgrader(
        secure_transports_by_protocol={NOISE_PROTOCOL_ID: noise},
        muxer_transports_by_protocol={TProtocol(YAMUX_PROTOCOL_ID): FencedYamux},
    )
    upgrader.security_multistream._selector.multiselect_client = OpeningClient()  # noqa: SLF001 - no public knob
    upgrader.muxer_multistream._selector.multiselect_client = PromptClient()  # noqa: SLF001 - same
    swarm = FencedSwarm(
        peer_id,
        peerstore,
        upgrader,
        transports=[TCP()],
        psk=psk.hex() if psk is not None else None,
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
    swarm.blame = blame
    swarm.is_foreign = upgrader.is_foreign = is_foreign
    swarm.arrivals, swarm._scopes = Arrivals(now_ms=0), {}  # noqa: SLF001 - a class of ours
    host = _bare_host(swarm)
    most = STREAMS_PER_STRANGER_MAX if is_foreign else STREAMS_PER_PEER_MAX
    fence_streams(host, blame, streams_max=most)
    return host


class FencedHost(BasicHost):
    """A host that works its addresses out once for each set of listeners.

    Stock code does it anew, 0.3 ms of parsing, for each envelope of gossip that leaves and each
    identify that is answered.
    """

    _told: tuple[tuple[object, ...], list[Multiaddr]] | None = None

    @override
    def get_addrs(self) -> list[Multiaddr]:
        """Where it listens, with /p2p/; a list of the caller's own."""
        listeners = tuple(self.get_network().listeners.values())
        if self._told is None or self._told[0] != listeners:
            found = super().get_addrs()
            if len(found) < len(listeners):
                return found  # one of them is not bound yet
            self._told = listeners, found
        return list(self._told[1])


def _bare_host(swarm: FencedSwarm) -> BasicHost:
    host = FencedHost(swarm, disable_identify_address_discovery=True)
    host.multiselect_client = PromptClient()
    # A pushed identify fills the peer store with whatever a peer says.
    host.remove_stream_handler(TProtocol(IDENTIFY_PUSH_ID))
    for notifee in list(swarm.notifees):
        if isinstance(notifee, _IdentifyNotifee):
            swarm.remove_notifee(notifee)
    _forget_pings(host)
    return host


def _forget_pings(host: BasicHost) -> None:
    """Stock code keeps an entry for every peer that ever pinged."""
    stock = host.multiselect.handlers[PING_ID]
    assert stock is not None
    service = getattr(stock, "__self__", None)
    assert isinstance(service, PingService)
    pinging = service._inbound_streams  # noqa: SLF001 - what is to be forgotten

    async def answer(stream: INetStream) -> None:
        try:
            await service.handle_ping(stream)
        finally:
            if not pinging.get(stream.muxed_conn.peer_id):
                pinging.pop(stream.muxed_conn.peer_id, None)

    host.set_stream_handler(PING_ID, answer)
