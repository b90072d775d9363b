"""The door for IPFS peers: a libp2p host of its own, with an identity of its own, for bitswap only.

Knows libp2p's hosts through the fences of `guard`. Must not know blocks or stores. Whoever comes
in here says no hello and reaches nothing of the node but identify, ping and bitswap; so the rules
of the network's own host stay as they are. Source: docs/adr/0013, docs/spec/storage.md, "Bitswap".

Invariants: at most `PEERS_MAX` connections; one nobody uses for two minutes is closed, unless its
peer is configured; a peer's state ends with its last connection.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from multiaddr import Multiaddr

from prsm.node.clock import Clock
from prsm.node.net.bans import Bans
from prsm.node.net.bitswap.peer import Bitswap, Shelf
from prsm.node.net.bitswap.source import BitswapSource
from prsm.node.net.bitswap.wire import PROTOCOLS
from prsm.node.net.guard import FencedSwarm, FencedUpgrader, make_host, peer_of
from prsm.node.net.interface import PeerEvent, PeerHandler, PeerUnreachable
from prsm.node.net.lanes import Lanes
from prsm.node.net.muxed import close_connection
from prsm.node.net.streams import StreamLost
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.ids import PeerId

PEERS_MAX: Final = 16
IDLE_S: Final = 120.0
LOOK_S: Final = 5.0
CLOSE_DEADLINE_S: Final = 3.0
DIAL_DEADLINE_S: Final = 5.0
REDIAL_FIRST_S: Final = 0.5
REDIAL_LONGEST_S: Final = 60.0
_SEED_LABEL: Final = b"prsm/bitswap/1"

log = logging.getLogger(__name__)


def door_seed(node_seed: bytes) -> bytes:
    """The key of the door: another identity, so that neither's bans or links touch the other."""
    return hashlib.sha256(_SEED_LABEL + node_seed).digest()


def split_address(text: str) -> tuple[PeerId, str]:
    """Take `…/p2p/PEER` apart: peers of any kind of key, and where to dial them.

    Raises:
        LocalError: no such address.
    """
    try:
        address = Multiaddr(text)
        peer = address.value_for_protocol("p2p")
        where = text[: text.rindex("/p2p/")]
        ID.from_string(str(peer))
        Multiaddr(where).value_for_protocol("tcp")
    except Exception as error:
        raise LocalError(
            f"{text[:120]!r} is no address of an IPFS peer",
            hint="write it as /ip4/ADDRESS/tcp/PORT/p2p/PEER_ID",
        ) from error
    return PeerId(str(peer)), where


@dataclass(frozen=True, slots=True)
class DoorRules:
    """What the operator says about IPFS peers.

    Attributes:
        listen: `/ip4/…/tcp/…` addresses; port 0 is chosen once and then kept; may be empty.
        peers: addresses of those that are dialled, and dialled again.
        admits: whether another peer that dials is let in.
    """

    listen: Sequence[str] = ()
    peers: Sequence[str] = ()
    admits: Callable[[PeerId], bool] = lambda _peer: True


class NetLine:
    """A libp2p stream for bitswap; every foreign error becomes `StreamLost`."""

    def __init__(self, stream: INetStream) -> None:
        assert isinstance(stream, NetStream)
        self._whole = stream
        # Past libp2p's own state of a stream: two locks a call, and nothing asks for it.
        self._stream = stream.muxed_stream

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes; empty at the end."""
        try:
            return await self._stream.read(bytes_max)
        except MuxedStreamEOF:
            return b""
        except Exception as error:
            raise StreamLost(f"the stream broke ({type(error).__name__})") from error

    async def write_all(self, data: bytes) -> None:
        """Write all bytes."""
        try:
            await self._stream.write(data)
        except Exception as error:
            raise StreamLost(f"the stream broke ({type(error).__name__})") from error

    async def close(self) -> None:
        """End our side; never raises."""
        try:
            await self._whole.close()
        except Exception as error:  # noqa: BLE001 - it is gone in any case
            log.debug("a stream did not close: %r", error)


async def open_line(connection: SwarmConn) -> NetLine:
    """Open a bitswap stream on a connection, of the best version the peer speaks.

    Raises:
        PeerUnreachable: the connection ended, or it speaks none.
    """
    try:
        stream = await connection.new_stream()
        await MultiselectClient().select_one_of(
            [TProtocol(name) for name in PROTOCOLS], MultiselectCommunicator(stream)
        )
    except Exception as error:
        raise PeerUnreachable(f"no bitswap stream ({type(error).__name__}: {error})") from error
    return NetLine(stream)


class Door:
    """The host for IPFS peers, and those that are connected.

    Args:
        seed: 32 bytes, the node's raw key; the door's own is made of it.
        shelf: where blocks are served from.
        lanes: what peers may use.
        clock: of the node.
        rules: of the operator.
    """

    def __init__(
        self, seed: bytes, shelf: Shelf, *, lanes: Lanes, clock: Clock, rules: DoorRules
    ) -> None:
        self.bitswap = Bitswap(shelf, self._open, lanes)
        self._seed = door_seed(seed)
        self._listen = list(rules.listen)
        self._wanted = dict(map(split_address, rules.peers))
        self._admits = rules.admits
        self._bans = Bans(clock)
        self._swarm: FencedSwarm | None = None
        self._nursery: trio.Nursery | None = None
        self._used: dict[SwarmConn, float] = {}
        self._handlers: list[PeerHandler] = []
        self._dice = Random(self._seed)  # noqa: S311 - spreads dials over time
        self.addresses: tuple[str, ...] = ()
        self.peer_id = peer_of(self._seed)

    def sources(self) -> Sequence[BitswapSource]:
        """The connected peers as sources of blocks, in order of their ids."""
        return [BitswapSource(self.bitswap, peer) for peer in self.peers()]

    def peers(self) -> Sequence[PeerId]:
        """Who is connected now, in order of their ids."""
        return sorted({_peer(connection) for connection in self._live()})

    def on_peer(self, handler: PeerHandler) -> None:
        """Be told of IPFS peers that come and go."""
        self._handlers.append(handler)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and serve until cancelled; started once it listens.

        Raises:
            LocalError: an address it cannot listen on.
        """
        host = make_host(self._seed, self._blame, is_foreign=True)
        swarm = host.get_network()
        assert isinstance(swarm, FencedSwarm)
        assert isinstance(swarm.upgrader, FencedUpgrader)
        swarm.on_inbound, swarm.admits = self._arrived, self.bitswap.expects
        swarm.upgrader.is_banned = lambda peer: bool(self._bans.banned_ms(peer))
        for name in PROTOCOLS:
            host.set_stream_handler(TProtocol(name), self._handler())
        try:
            async with (
                trio.open_nursery() as nursery,
                host.run([Multiaddr(address) for address in self._listen]),
            ):
                self._swarm, self._nursery = swarm, nursery
                await nursery.start(self.bitswap.run)
                self._note_addresses(host)
                for peer in self._wanted:
                    nursery.start_soon(self._keep, peer)
                nursery.start_soon(self._close_idle)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    nursery.cancel_scope.cancel()
                    with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                        async with trio.open_nursery() as closing:
                            for connection in swarm.get_connections():
                                closing.start_soon(close_connection, connection)
                        await host.close()
        finally:
            self._swarm = self._nursery = None
            self.addresses = ()
            self._used.clear()

    def _note_addresses(self, host: BasicHost) -> None:
        bound = [
            str(address)
            for listener in host.get_network().listeners.values()
            for address in listener.get_addrs()
        ]
        if len(bound) != len(self._listen):
            raise LocalError(f"bitswap could listen on {bound} only, not on {self._listen}")
        self._listen = bound
        self.addresses = tuple(f"{address}/p2p/{self.peer_id}" for address in bound)

    # -- connections

    def _live(self) -> Sequence[SwarmConn]:
        return [connection for connection in self._used if not connection.is_closed]

    def _arrived(self, connection: SwarmConn) -> None:
        """Keep a connection a peer opened, or close it."""
        if self._nursery is None:
            return
        peer = _peer(connection)
        is_wanted = peer in self._wanted
        has_room = len(self._live()) < PEERS_MAX or self._make_room()
        if (is_wanted or self._admits(peer)) and has_room:
            self._note(connection)
        else:
            log.info("IPFS peer %s is not let in", peer)
            self._nursery.start_soon(close_connection, connection)

    def _make_room(self) -> bool:
        """Close a connection that is of no use now; False when there is none."""
        for connection in self._live():
            peer = _peer(connection)
            if peer not in self._wanted and not self.bitswap.is_busy(peer):
                assert self._nursery is not None
                self._used.pop(connection)
                self._nursery.start_soon(close_connection, connection)
                return True
        return False

    def _note(self, connection: SwarmConn) -> None:
        assert self._nursery is not None
        peer = _peer(connection)
        is_first = peer not in self.peers()
        self._used[connection] = trio.current_time()
        self._nursery.start_soon(self._forget, connection)
        if is_first:
            self._tell(PeerEvent(peer=peer, up=True))

    async def _forget(self, connection: SwarmConn) -> None:
        await connection.event_closed.wait()
        self._used.pop(connection, None)
        peer = _peer(connection)
        if peer not in self.peers():
            self.bitswap.lost(peer)
            self._tell(PeerEvent(peer=peer, up=False, why="the connection ended"))

    def _tell(self, event: PeerEvent) -> None:
        for handler in self._handlers:
            handler(event)

    async def _close_idle(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            for connection in self._live():
                peer = _peer(connection)
                if peer in self._wanted or self.bitswap.is_busy(peer):
                    self._used[connection] = now
                elif now - self._used[connection] > IDLE_S:
                    await close_connection(connection)

    async def _keep(self, peer: PeerId) -> None:
        """Dial a configured peer whenever it is not connected."""
        delay = REDIAL_FIRST_S
        while True:
            try:
                connection = await self._dial(peer)
            except PeerUnreachable as error:
                log.info("IPFS peer %s: %s", peer, error.what)
                await trio.sleep(self._dice.uniform(0, delay))
                delay = min(2 * delay, REDIAL_LONGEST_S)
                continue
            delay = REDIAL_FIRST_S
            await connection.event_closed.wait()
            await trio.sleep(self._dice.uniform(0, delay))

    async def _dial(self, peer: PeerId) -> SwarmConn:
        for connection in self._live():
            if _peer(connection) == peer:  # it dialled us meanwhile
                return connection
        assert self._swarm is not None
        try:
            with trio.fail_after(DIAL_DEADLINE_S):
                made = await self._swarm.dial_addr(
                    Multiaddr(self._wanted[peer]), ID.from_string(peer)
                )
        except Exception as error:
            raise PeerUnreachable(f"nobody answers at {self._wanted[peer]}: {error}") from error
        assert isinstance(made, SwarmConn)
        self._note(made)
        return made

    # -- streams

    async def _open(self, peer: PeerId) -> NetLine:
        for connection in self._live():
            if _peer(connection) == peer:
                return await open_line(connection)
        raise PeerUnreachable(f"IPFS peer {peer} is not connected")

    def _handler(self) -> StreamHandlerFn:
        async def handle(stream: INetStream) -> None:
            connection = getattr(stream, "swarm_conn", None)
            if connection in self._used:
                self._used[connection] = trio.current_time()
            line = NetLine(stream)
            peer = PeerId(stream.muxed_conn.peer_id.to_base58())
            try:
                await self.bitswap.handle(peer, line)
            except StreamLost:
                await line.close()
            except RemoteError as error:
                self._blame(peer, error)
                await stream.reset()

        return handle

    def _blame(self, peer: PeerId, error: RemoteError) -> None:
        log.info("IPFS peer %s: %s", peer, error.what)
        if self._bans.penalise(peer, error) and self._nursery is not None:
            for connection in self._live():
                if _peer(connection) == peer:
                    self._nursery.start_soon(close_connection, connection)


def _peer(connection: SwarmConn) -> PeerId:
    return PeerId(connection.muxed_conn.peer_id.to_base58())
