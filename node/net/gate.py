"""The way of a frame through libp2p 0.8.1, without what each one costs there.

Stock code reads two lengths and two bodies of each frame by four system calls, takes five locks,
formats a dozen log lines nobody reads, and sends each Noise packet by itself: half of the CPU of a
block. Here a socket is read in large pieces, and frames that only carry data or credit of a known
stream are taken at once; every other frame (streams that begin or end, pings, faults) goes the
stock way. What arrives and leaves is the same, byte for byte.

Knows Noise packets and Yamux headers. Must not know peers or what streams carry. Invariant: stock
code asks a gate for headers and bodies only at the border of a frame, so the gate may take whole
frames in between.
"""

import contextlib
import os
from collections.abc import Callable
from socket import IPPROTO_TCP
from typing import Final, Protocol

import trio
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import (
    TYPE_DATA,
    TYPE_WINDOW_UPDATE,
    YamuxStream,
)

from prsm.node.net.frames import HEADER, FrameFault, FrameRules
from prsm.node.net.private import PrivateConnection
from prsm.node.net.windows import WindowedStream
from prsm.protocol.errors import RemoteError

HEADER_BYTES: Final = HEADER.size
# What a read sets aside: blocks above 128 KiB are mapped anew each time (`node/memory`), at ten
# times the cost of reading a frame of 300 B. Only what fills the small one gets the large.
READ_BYTES: Final = 64 * 1024
READ_BYTES_MAX: Final = 256 * 1024
BODY_SECONDS: Final = 30.0  # between a header and the last byte of its body
UNSENT_BYTES_MAX: Final = 128 * 1024  # in the kernel, not on its way yet
TCP_NOTSENT_LOWAT: Final = 25  # of Linux; the socket module has no name for it
_LENGTH_BYTES: Final = 2  # before each Noise packet


class Muxed(Protocol):
    """What a gate changes of a muxed connection."""

    streams: dict[int, YamuxStream]
    stream_buffers: dict[int, bytearray]
    stream_events: dict[int, trio.Event]

    @property
    def waiting_bytes(self) -> int:
        """What its streams have and nobody has read yet."""


class Gate:
    """One encrypted connection, read and written in large pieces.

    Args:
        muxed: whose streams get the data.
        session: Noise, established.
        rules: what the peer may send.
        waiting_bytes_max: buffered of all streams; a frame beyond it goes the stock way.
    """

    def __init__(
        self, muxed: Muxed, session: SecureSession, rules: FrameRules, *, waiting_bytes_max: int
    ) -> None:
        self.session = session
        self._rules = rules
        self._muxed = muxed
        self.waiting_bytes_max = waiting_bytes_max
        noise = session.conn
        assert isinstance(noise, NoiseTransportReadWriter)
        self._noise = noise
        raw = noise.read_writer.read_write_closer
        # Past the raw connection: what it would do to the bytes is done here.
        self._private = raw if isinstance(raw, PrivateConnection) else None
        socket = raw.stream.stream  # type: ignore[attr-defined]  # of RawConnection
        assert isinstance(socket, trio.SocketStream)
        self._socket = socket
        # A long queue in the kernel stands before every later frame, whatever its class.
        with contextlib.suppress(OSError):
            socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        self._read_bytes = READ_BYTES
        self._wire = bytearray()  # encrypted, less than a packet when a task waits
        self._plain = bytearray(session._drain(None))  # noqa: SLF001 - read ahead by negotiation

    async def header(self) -> bytes:
        """Wait for the header of a frame that is not for here; take all frames before it.

        Raises:
            FrameFault: the peer sends what it may not.
            IncompleteReadError, ConnectionClosedError: the connection ended.
        """
        while True:
            missing = self._take_frames()
            if missing == 0:
                header = self._cut(HEADER_BYTES)
                self._rules.check(header, streams=len(self._muxed.streams), now_ms=_now_ms())
                return header
            if len(self._plain) < HEADER_BYTES:
                await self._fill()
            else:
                await self._fill_to(missing)

    async def body(self, length: int) -> bytes:
        """Wait for the body of the frame whose header was returned last.

        Raises:
            trio.TooSlowError: it did not come in time.
            IncompleteReadError, ConnectionClosedError: the connection ended.
        """
        if len(self._plain) < length:
            await self._fill_to(length)
        return self._cut(length)

    async def send(self, frame: bytes) -> None:
        """Encrypt a frame and write it; the caller holds the connection's write lock.

        Raises:
            ConnectionClosedError: the peer broke the connection.
        """
        parts: list[bytes] = []
        for start in range(0, len(frame), MAX_PLAINTEXT_LENGTH):
            packet = self._noise.encrypt(frame[start : start + MAX_PLAINTEXT_LENGTH])
            parts += (len(packet).to_bytes(_LENGTH_BYTES, "big"), packet)
        data = b"".join(parts)
        if self._private is not None:
            data = self._private.seal(data)
        self._rules.sent(len(data))
        try:
            # At once where the system has room, which is nearly always: no turn of the loop.
            sent = os.write(self._socket.socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ConnectionClosedError(f"cannot be written: {error}", transport="tcp") from error
        if sent == len(data):
            return
        try:
            await self._socket.send_all(memoryview(data)[sent:])
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError(f"reset by the peer: {error}", transport="tcp") from error
        except trio.ClosedResourceError:
            return  # closed here; whoever reads learns it

    def _take_frames(self) -> int:
        """Take frames of data and credit; bytes still missing, 0 at a frame of another kind."""
        plain, muxed, start = self._plain, self._muxed, 0
        missing = 1
        while len(plain) - start >= HEADER_BYTES:
            _, kind, flags, stream_id, length = HEADER.unpack_from(plain, start)
            stream = muxed.streams.get(stream_id)
            if flags or stream is None or kind not in (TYPE_DATA, TYPE_WINDOW_UPDATE):
                missing = 0
                break
            if kind == TYPE_WINDOW_UPDATE:
                self._rules.credit(now_ms=_now_ms())
                stream.send_window += length
                if isinstance(stream, WindowedStream) and stream.credit is not None:
                    stream.credit.set()
                start += HEADER_BYTES
                continue
            buffer = muxed.stream_buffers.get(stream_id)
            if buffer is None or length > self.waiting_bytes_max - self._muxed.waiting_bytes:
                missing = 0
                break
            end = start + HEADER_BYTES + length
            if len(plain) < end:
                missing = end - start
                break
            if not length:
                self._rules.empty(now_ms=_now_ms())
            buffer += memoryview(plain)[start + HEADER_BYTES : end]
            stream.recv_window = max(0, stream.recv_window - length)
            muxed.stream_events[stream_id].set()
            start = end
        if start:
            del plain[:start]
        return missing

    @property
    def held_bytes(self) -> int:
        """What this connection makes us keep: read and not asked for, or not whole yet."""
        return len(self._wire) + len(self._plain) + self._muxed.waiting_bytes

    def _cut(self, count: int) -> bytes:
        taken = bytes(self._plain[:count])
        del self._plain[:count]
        return taken

    async def _fill_to(self, count: int) -> None:
        with trio.fail_after(BODY_SECONDS):
            while len(self._plain) < count:
                await self._fill()

    async def _fill(self) -> None:
        """Read what the socket has, and decrypt the whole packets of it."""
        socket = self._socket.socket
        try:
            # Not `receive_some`: it asks the system first, which has nothing yet, and again later.
            await trio.lowlevel.wait_readable(socket.fileno())
            data = os.read(socket.fileno(), self._read_bytes)
        except (trio.ClosedResourceError, ValueError):
            data = b""
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionClosedError(f"cannot be read: {error}", transport="tcp") from error
        if not data:
            left = len(self._plain) + len(self._wire)
            raise IncompleteReadError(
                "the connection ended", expected_bytes=left + 1, received_bytes=left
            )
        self._read_bytes = READ_BYTES if len(data) < READ_BYTES else READ_BYTES_MAX
        wire, start = self._wire, 0
        wire += data if self._private is None else self._private.open(data)
        with memoryview(wire) as view:
            while len(view) - start >= _LENGTH_BYTES:
                body = start + _LENGTH_BYTES
                end = body + int.from_bytes(view[start:body], "big")
                if len(view) < end:
                    break
                opened = self._noise.decrypt(bytes(view[body:end]))
                if not opened:
                    self._rules.empty(now_ms=_now_ms())
                self._plain += opened
                start = end
        if start:
            del wire[:start]


class GatedSession:
    """What stock Yamux holds for its connection: reads go through the gate, the rest is stock."""

    def __init__(self, gate: Gate, on_fault: Callable[[RemoteError], None]) -> None:
        self._gate = gate
        self._on_fault = on_fault

    async def read(self, n: int | None = None) -> bytes:
        """Header of the next frame that is stock code's to handle.

        Raises:
            FrameFault: told to `on_fault`; stock code ends the connection after any error here.
        """
        assert n == HEADER_BYTES, "stock code reads bodies by `_read_data_body`"
        try:
            return await self._gate.header()
        except FrameFault as fault:
            self._on_fault(fault)
            raise

    async def write(self, data: bytes) -> None:
        """Encrypt and write."""
        await self._gate.send(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._gate.session, name)


def _now_ms() -> int:
    return int(trio.current_time() * 1000)
