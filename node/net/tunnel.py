"""A circuit as a libp2p connection: Noise and Yamux from end to end over a byte stream.

libp2p, and the fast path of `gate`, want a socket below them. A pair of connected local sockets
stands in: one end is given to libp2p, what comes out of the other goes through the circuit. So
everything above (fences, identity, kept streams, gossip) is the same as on a wire, the relay sees
only cipher text, and the kernel's buffer is the only further one.

Knows libp2p's way of upgrading a raw connection. Must not know relays.
"""

from array import array
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final, Protocol

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from prsm.node.net.behind import Line
from prsm.node.net.guard import FencedSwarm
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.peers import Connection
from prsm.node.net.private import protect
from prsm.node.net.streams import StreamLost
from prsm.node.net.ways import CircuitWay
from prsm.protocol.identity import circuit_address
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX

END_DEADLINE_S: Final = 2.0


class Incarnation(Protocol):
    """The running part of a transport that tunnels belong to."""

    def running(self) -> tuple[FencedSwarm, trio.Nursery]:
        """The swarm, and the nursery that ends with it.

        Raises:
            PeerUnreachable: it does not run.
        """
        ...

    def known(self, connection: SwarmConn) -> Connection:
        """The one wrapper of a connection."""
        ...


class TunnelStream(TrioTCPStream):
    """The near end of the pair; it knows the address people see, and what lies below."""

    def __init__(self, stream: trio.SocketStream, line: Line, address: str) -> None:
        super().__init__(stream)
        self.address = address
        self.way = CircuitWay(line, above=self._unsent_bytes)

    def _unsent_bytes(self) -> int:
        """What the pair holds on its way out, with what the kernel needs for it (Linux)."""
        count = array("i", [0])
        try:
            ioctl(self.stream.socket.fileno(), TIOCOUTQ, count)
        except (OSError, ValueError):
            return 0  # closed
        return count[0]


class Tunnels:
    """The `Carrier` of a libp2p transport.

    Args:
        transport: whose connections they become.
    """

    def __init__(self, transport: Incarnation) -> None:
        self._transport = transport

    async def carry_out(self, peer: PeerId, line: Line, address: str) -> Connection:
        """Become the dialling end of a connection over a circuit.

        Raises:
            PeerUnreachable: the other end is not that peer, or gone.
        """
        return self._transport.known(await upgrade_out(self._transport, peer, line, address))

    async def carry_in(self, line: Line, relay: str) -> PeerId:
        """Become the dialled end of a connection over a circuit, which is then served.

        Raises:
            PeerUnreachable: the other end proved nothing.
        """
        return await upgrade_in(self._transport, line, relay)


async def upgrade_out(transport: Incarnation, peer: PeerId, line: Line, address: str) -> SwarmConn:
    """Become the dialling end of a connection over a line.

    Raises:
        PeerUnreachable: the other end did not prove to be that peer.
    """
    swarm, nursery = transport.running()
    stream = _open(nursery, line, address)
    raw = RawConnection(stream, True)  # noqa: FBT003 - libp2p's signature
    if swarm.psk is not None:  # the dialled end does it below, as for any inbound connection
        raw = protect(raw, swarm.psk)
    connection: SwarmConn | None = None
    try:
        connection = await swarm.upgrade_outbound_raw_conn(raw, ID.from_string(peer))
    except Exception as error:
        raise PeerUnreachable(f"nobody answers as {peer} at {address}: {error}") from error
    finally:
        if connection is None:
            _close(stream)
    return connection


async def upgrade_in(transport: Incarnation, line: Line, relay: str) -> PeerId:
    """Become the dialled end of a connection over a line; the swarm hands it on to be served.

    Args:
        transport: ours.
        line: a byte stream to whoever dialled.
        relay: address of the relay between, with /p2p/.

    Raises:
        PeerUnreachable: the other end proved nothing.
    """
    swarm, nursery = transport.running()
    stream = _open(nursery, line, relay)
    raw = RawConnection(stream, False)  # noqa: FBT003 - libp2p's signature
    proved: PeerId | None = None
    try:
        muxed = await swarm.upgrade_inbound_raw_conn(raw, Multiaddr(relay))
        proved = PeerId(muxed.peer_id.to_base58())
    except Exception as error:
        raise PeerUnreachable(f"a handshake through {relay} failed: {error}") from error
    finally:
        if proved is None:
            _close(stream)
    return proved


def below(connection: SwarmConn, peer: PeerId, wire: str) -> tuple[str, CircuitWay | None]:
    """Address and way of a connection: of its line, or `wire` and None."""
    muxed = connection.muxed_conn
    assert isinstance(muxed, Yamux)
    noise = muxed.secured_conn.conn  # type: ignore[attr-defined]  # of SecureSession
    stream = noise.read_writer.read_write_closer.stream
    if not isinstance(stream, TunnelStream):
        return wire, None
    is_whole = "/p2p-circuit" in stream.address
    return stream.address if is_whole else circuit_address(stream.address, peer), stream.way


def _open(nursery: trio.Nursery, line: Line, address: str) -> TunnelStream:
    near, far = trio.socket.socketpair()
    nursery.start_soon(_pump, line, trio.SocketStream(far))
    return TunnelStream(trio.SocketStream(near), line, address)


def _close(stream: TunnelStream) -> None:
    stream.stream.socket.close()


async def _pump(line: Line, end: trio.SocketStream) -> None:
    """Carry bytes between a socket and a line until one of them has ended; then end both."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave, line, end, nursery.cancel_scope)
            nursery.start_soon(_arrive, line, end, nursery.cancel_scope)
    finally:
        end.socket.close()
        with trio.move_on_after(END_DEADLINE_S, shield=True):
            await line.close("the connection ended")


async def _leave(line: Line, end: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(StreamLost, trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await end.receive_some(CIRCUIT_PIECE_BYTES_MAX):
            await line.write_all(bytes(data))
    scope.cancel()


async def _arrive(line: Line, end: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(StreamLost, trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await line.read_some(CIRCUIT_PIECE_BYTES_MAX):
            await end.send_all(data)
    scope.cancel()
