"""One connection of libp2p 0.8.1, fenced: its muxer, its streams, its end.

Knows libp2p's connections, and the frames a peer may send. Must not know what travels over a
stream. Whatever one of these tasks meets ends that connection; unfenced it ended the network.
"""

import ipaddress
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio
from libp2p.abc import IMuxedStream, INetConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import Yamux
from typing_extensions import override

from prsm.node.net.frames import FrameFault, FrameRules
from prsm.node.net.gate import Gate, GatedSession
from prsm.node.net.gossip import RESET_DEADLINE_S, Blame
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB

MUXED_BYTES_MAX: Final = 8 * MIB  # buffered of one connection; libp2p enforces no window
STRANGER_BYTES_MAX: Final = 1 * MIB  # before the hello: three first windows of 256 KiB, and some
FOREIGN_BYTES_MAX: Final = 2 * MIB  # nobody says hello: a full window of one stream, and some

log = logging.getLogger(__name__)


class FencedYamux(Yamux):
    """Yamux that buffers at most `MUXED_BYTES_MAX` of a connection, whatever is announced."""

    gate: Gate | None = None
    is_foreign = False
    blame: Blame = staticmethod(lambda _peer, _error: None)
    admits: Callable[[PeerId], bool] = staticmethod(lambda _peer: True)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is asked of this foreign program now: its windows do not grow."""
        return self.is_foreign and not self.admits(PeerId(self.peer_id.to_base58()))

    @property
    def waiting_bytes(self) -> int:
        """What its streams have and nobody has read yet."""
        return sum(map(len, self.stream_buffers.values()))

    @property
    def _stranger_bytes_max(self) -> int:
        return FOREIGN_BYTES_MAX if self.is_foreign else STRANGER_BYTES_MAX

    @override
    async def start(self) -> None:
        """Serve the connection until it ends; nothing of it ends the network."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001 - one peer's connection
            log.warning("the muxer of %s broke: %r", self.peer_id, error)
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await self._cleanup_on_error()

    @override
    async def handle_incoming(self) -> None:
        """Serve the connection until it ends; common frames never reach stock code."""
        assert isinstance(self.secured_conn, SecureSession)
        now_ms = int(trio.current_time() * 1000)
        rules = FrameRules(
            peer_dialled=not self.is_initiator, now_ms=now_ms, is_foreign=self.is_foreign
        )
        gate = Gate(self, self.secured_conn, rules, waiting_bytes_max=self._stranger_bytes_max)
        self.gate = gate
        self.secured_conn = GatedSession(gate, self._blame)  # type: ignore[assignment]  # stands in
        await super().handle_incoming()

    def _blame(self, error: RemoteError) -> None:
        self.blame(PeerId(self.peer_id.to_base58()), error)

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
        waiting_bytes = self.waiting_bytes + length
        is_known = self.admits(PeerId(self.peer_id.to_base58()))
        most = MUXED_BYTES_MAX if is_known else self._stranger_bytes_max
        if waiting_bytes > most:
            self._blame(FrameFault(f"{waiting_bytes} bytes sent that nobody asked for"))
            # The one error after which the caller closes the connection.
            raise trio.TooSlowError
        assert self.gate is not None
        self.gate.waiting_bytes_max = most  # frames up to it need not come this way again
        return await self.gate.body(length)


class FencedConn(SwarmConn):
    """A connection of which no stream, and no end, ends the network."""

    @override
    async def start(self) -> None:
        """Take streams until the connection ends."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001 - one peer's connection
            log.warning("a connection of %s broke: %r", self.muxed_conn.peer_id, error)
            with trio.move_on_after(RESET_DEADLINE_S, shield=True):
                await close_connection(self)

    @override
    async def _handle_muxed_stream(self, muxed_stream: IMuxedStream) -> None:
        try:
            if getattr(muxed_stream, "reset_received", False) or self.event_closed.is_set():
                # Over before anybody has looked at it: nothing is chosen, nobody is told.
                await muxed_stream.reset()
                return
            await super()._handle_muxed_stream(muxed_stream)
        except Exception as error:  # noqa: BLE001 - one peer's stream
            log.debug("a stream of %s broke: %r", self.muxed_conn.peer_id, error)


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


def held_bytes(connection: SwarmConn) -> int:
    """What a connection makes us keep: read and not asked for."""
    muxed = connection.muxed_conn
    assert isinstance(muxed, FencedYamux)
    return muxed.gate.held_bytes if muxed.gate is not None else 0


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
    noise = muxed.secured_conn.conn  # type: ignore[attr-defined]  # of SecureSession
    remote = remote_at(noise.read_writer.read_write_closer.stream)
    return remote if remote is not None else ("0.0.0.0", 0)  # noqa: S104 - nothing is bound


def remote_at(wire: ReadWriteCloser) -> tuple[str, int] | None:
    """Ip and port of the other side of a socket; None when it is gone, or is none.

    Stock code reads a name of two fields only, and that of IPv6 has four. Whoever dials by IPv4
    where `/ip6/::` is listened on is named as IPv6 maps it: nobody can be dialled there.
    """
    remote = wire.get_remote_address()
    if remote is None and isinstance(wire, TrioTCPStream):
        with suppress(OSError):
            name = wire.stream.socket.getpeername()
            return (_plain(str(name[0])), int(name[1])) if isinstance(name, tuple) else None
    return remote


def _plain(ip: str) -> str:
    found = ipaddress.ip_address(ip)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return ip if mapped is None else str(mapped)
