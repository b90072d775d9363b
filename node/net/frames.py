"""What muxer frames a peer may send, and how many: pure, one for each connection.

Knows Yamux headers (https://github.com/hashicorp/yamux/blob/master/spec.md) and times handed in.
Must not know streams' content, sockets or clocks. Stock libp2p 0.8.1 takes a stream under any
number, answers what it does not know by silence, and counts nothing: a peer could keep a node busy
with frames that carry no byte, or leave half-closed streams without end.

Two kinds of frames are counted. Those that change a stream, or carry nothing, take a token each.
Credit is paid by what we sent: whoever was sent nothing has none to give back.
"""

from struct import Struct
from typing import Final

from prsm.node.net.scores import TokenBucket
from prsm.protocol.errors import RemoteError
from prsm.protocol.limits import KIB

HEADER: Final = Struct(">BBHII")  # version, type, flags, stream, length
DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3
SYN: Final = 1

FRAME_BODY_MAX: Final = 256 * KIB  # a first window; others send 64 KiB at most
# A stream costs four such frames: opened, confirmed, closed by each side.
FRAMES_PER_S: Final = 200
FRAMES_BURST: Final = 1_000
OPENS_PER_S: Final = 10
# A node opens four on a connection; each costs its victim 0.3 ms.
OPENS_BURST: Final = 32
# Helia opens a stream for each message: a block each, and a wantlist each.
FOREIGN_TIMES: Final = 10
FOREIGN_OPENS_BURST: Final = 640
# What one side has closed stays until the other does; 16 are open at most, of other programs 48.
STREAMS_KEPT_MAX: Final = 32
FOREIGN_STREAMS_KEPT_MAX: Final = 64
CREDITS_PER_S: Final = 200
CREDITS_BURST: Final = 1_000
BYTES_PER_CREDIT: Final = 16  # stock peers tell of each read, and read a length byte by byte


class FrameFault(RemoteError):
    """A muxer frame no honest peer sends, or too many of them."""

    def __init__(self, what: str) -> None:
        super().__init__(what, penalty=100)


class FrameRules:
    """The frames of one connection, from the side that reads them.

    Args:
        peer_dialled: the other side opened the connection; its streams then have odd numbers.
        now_ms: monotonic.
        is_foreign: a program that is no node of this network; it opens ten times as many.
    """

    def __init__(self, *, peer_dialled: bool, now_ms: int, is_foreign: bool = False) -> None:
        self._parity = 1 if peer_dialled else 0
        times = FOREIGN_TIMES if is_foreign else 1
        self._frames = TokenBucket(
            rate_per_s=times * FRAMES_PER_S, burst=times * FRAMES_BURST, now_ms=now_ms
        )
        opens_burst = FOREIGN_OPENS_BURST if is_foreign else OPENS_BURST
        self._opens = TokenBucket(rate_per_s=times * OPENS_PER_S, burst=opens_burst, now_ms=now_ms)
        self._streams_max = FOREIGN_STREAMS_KEPT_MAX if is_foreign else STREAMS_KEPT_MAX
        self._credits = TokenBucket(rate_per_s=CREDITS_PER_S, burst=CREDITS_BURST, now_ms=now_ms)
        self._paid = 0

    def check(self, header: bytes, *, streams: int, now_ms: int) -> None:
        """Judge a frame that does more than carry bytes or credit of a known stream.

        Args:
            header: 12 bytes.
            streams: known on this connection now.
            now_ms: monotonic.

        Raises:
            FrameFault: the connection should end.
        """
        version, kind, flags, stream_id, length = HEADER.unpack(header)
        if version or kind > GO_AWAY:
            raise FrameFault(f"a muxer frame of version {version}, type {kind}")
        if kind == DATA and length > FRAME_BODY_MAX:
            raise FrameFault(f"a muxer frame of {length} bytes, at most {FRAME_BODY_MAX}")
        self.empty(now_ms=now_ms)
        if flags & SYN and kind in (DATA, WINDOW_UPDATE):
            if stream_id == 0 or stream_id % 2 != self._parity:
                raise FrameFault(f"a stream opened under the number {stream_id}, which is ours")
            if streams >= self._streams_max:
                raise FrameFault(f"{streams} streams left half-open, at most {self._streams_max}")
            if not self._opens.take(now_ms=now_ms):
                raise FrameFault(f"streams opened faster than {OPENS_PER_S} a second")

    def empty(self, *, now_ms: int) -> None:
        """Count something that carries nothing.

        Raises:
            FrameFault: too many.
        """
        if not self._frames.take(now_ms=now_ms):
            raise FrameFault(f"more than {FRAMES_PER_S} frames a second that carry nothing")

    def sent(self, size: int) -> None:
        """Note bytes that we sent: they may be answered by credit."""
        self._paid += size

    def credit(self, *, now_ms: int) -> None:
        """Count a window update of a known stream.

        Raises:
            FrameFault: more than what we sent can explain.
        """
        if self._paid >= BYTES_PER_CREDIT:
            self._paid -= BYTES_PER_CREDIT
        elif not self._credits.take(now_ms=now_ms):
            raise FrameFault("window updates for bytes that were never sent")
