"""Kept streams: frames over one duplex byte stream, one writer, one reader, bounded both ways.

Knows lengths, heads, queues and deadlines. Must not know libp2p, what a frame means, or who
waits for it. A writer is one task fed by a bounded queue; frames that wait together leave in
one write. Both lengths of a frame are checked against the cap before its bytes are read.

Invariants: what is queued leaves in order; after `close` nothing is accepted; a stream that
ran once is never run again.
"""

import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from prsm.node.net.interface import Channel, PeerUnreachable
from prsm.node.net.lanes import TRAFFIC, Lane
from prsm.node.telemetry import metrics
from prsm.protocol.errors import LocalError
from prsm.protocol.framing import (
    PREFIX_BYTES,
    Head,
    decode_head,
    encode_frame,
    parse_lengths,
)
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CTL_FRAME_BYTES_MAX, KIB
from prsm.protocol.messages.table import topic_of

QUEUE_FRAMES_MAX: Final = 256
# Frames alone would allow 256 bulk frames of 4 MiB each; two of the largest keep a link full.
QUEUE_BYTES_MAX: Final = 2 * BULK_FRAME_BYTES_MAX
WRITE_BYTES: Final = 256 * KIB  # waiting frames are joined up to this; 256 KiB-1 MiB ran best
# One write, one deadline and one turn never cover more: encrypting holds the loop, and what is
# handed to the transport stands before every vote for the same peer. 128 KiB take 0.2 ms.
WRITE_SLICE_BYTES: Final = 128 * KIB
WRITE_DEADLINE_S: Final = 10.0
# For a slice of a frame that has begun, or its rest. A sender at the lowest limit an operator may
# set sends one a second, to 128 peers in turn: the whole of a large frame takes long.
FRAME_DEADLINE_S: Final = 320.0
READ_BYTES: Final = 256 * KIB
FRAMES_AT_ONCE: Final = 16  # read without a turn of the loop; a peer may send thousands in a write

FRAME_CAPS: Final = {
    Channel.CTL: CTL_FRAME_BYTES_MAX,
    Channel.BULK: BULK_FRAME_BYTES_MAX,
    Channel.RANGE: BULK_FRAME_BYTES_MAX,
}

FrameHandler = Callable[[Head, bytes], None]  # head and raw tail; never waits
AfterRead = Callable[[int], Awaitable[None]]


class StreamLost(PeerUnreachable):
    """The byte stream ended, broke, or took too long."""


class Duplex(Protocol):
    """An ordered, authenticated byte stream to one peer.

    `read_some` and `write_all` raise `StreamLost` and nothing else of their own. A write that
    is cancelled may leave half of its bytes on the way, so the owner closes the connection.
    """

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes, at most that many; empty when the peer has ended."""
        ...

    async def write_all(self, data: bytes) -> None:
        """Return when all bytes are handed to the transport."""
        ...


class Outbox:
    """A bounded queue of frames on their way out: by count and by bytes."""

    def __init__(self, *, frames_max: int, bytes_max: int) -> None:
        self._frames: deque[tuple[bytes, bytes]] = deque()
        self._bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._room = trio.lowlevel.ParkingLot()
        self._arrived = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._frames

    @property
    def waiting_bytes(self) -> int:
        """What waits to be written."""
        return self._bytes

    def put_nowait(self, head: bytes, tail: bytes) -> bool:
        """Queue a frame; False when it does not fit or the queue is closed."""
        size = len(head) + len(tail)
        full = len(self._frames) >= self._frames_max or self._bytes + size > self._bytes_max
        if self._closed or full:
            return False
        self._frames.append((head, tail))
        self._bytes += size
        self._arrived.unpark()
        return True

    async def put(self, head: bytes, tail: bytes) -> None:
        """Queue a frame as soon as there is room.

        Raises:
            StreamLost: the queue closed before there was room.
        """
        await trio.lowlevel.checkpoint()
        while not self.put_nowait(head, tail):
            if self._closed:
                raise StreamLost("the stream is closed")
            await self._room.park()

    async def take(self) -> list[bytes]:
        """Wait for frames and take as many as one write should carry, as parts to be joined."""
        while not self._frames:
            await self._arrived.park()
        parts: list[bytes] = []
        taken = 0
        while self._frames and taken < WRITE_BYTES:
            head, tail = self._frames.popleft()
            parts.append(head)
            if tail:
                parts.append(tail)
            taken += len(head) + len(tail)
        self._bytes -= taken
        self._room.unpark_all()
        return parts

    def close(self) -> None:
        """Refuse everything from now on and wake whoever waits for room."""
        self._closed = True
        self._frames.clear()
        self._bytes = 0
        self._room.unpark_all()


class FrameReader:
    """Cuts a byte stream into frames; one that has begun comes to its end, or the stream does.

    Args:
        duplex: where the bytes come from.
        frame_bytes_max: cap of a frame, prefix included.
        read_ahead: bytes asked for at once; 0 takes nothing behind the frame asked for.
        after_read: told how many bytes came; what it waits for holds back the peer.
        deadline_s: of waiting for the rest of a frame, anew with each slice of it; `math.inf`
            where whoever reads has a deadline of its own.
    """

    def __init__(
        self,
        duplex: Duplex,
        *,
        frame_bytes_max: int,
        read_ahead: int = READ_BYTES,
        after_read: AfterRead | None = None,
        deadline_s: float = FRAME_DEADLINE_S,
    ) -> None:
        self._duplex = duplex
        self._read_ahead = read_ahead
        self._deadline_s = deadline_s
        self._after_read = after_read
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._left_s = deadline_s
        self._paid_bytes = 0  # of the buffer, when that time was given

    @property
    def held_bytes(self) -> int:
        """What was read of a frame that is not whole yet, and behind it."""
        return len(self._buffer)

    async def read_raw(self) -> tuple[bytes, bytes]:
        """Wait for the next frame and return its undecoded head and its tail.

        Raises:
            StreamLost: the peer ended or broke the stream, or left a frame half sent.
            WireError: lengths no honest peer sends.
        """
        self._give_time()
        await self._fill(PREFIX_BYTES)
        prefix = bytes(self._buffer[:PREFIX_BYTES])
        head_bytes, tail_bytes = parse_lengths(prefix, frame_bytes_max=self._frame_bytes_max)
        tail_at = PREFIX_BYTES + head_bytes
        await self._fill(tail_at + tail_bytes)
        with memoryview(self._buffer) as view:
            head = bytes(view[PREFIX_BYTES:tail_at])
            tail = bytes(view[tail_at : tail_at + tail_bytes])
        del self._buffer[: tail_at + tail_bytes]
        return head, tail

    async def read(self) -> tuple[Head, bytes]:
        """Wait for the next frame.

        Raises:
            StreamLost: the peer ended or broke the stream.
            WireError: lengths over the cap, or a head that is none.
        """
        head, tail = await self.read_raw()
        return decode_head(head), tail

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            wanted = self._read_ahead or size - len(self._buffer)
            is_timed = self._buffer and self._deadline_s < math.inf
            data = await (self._read_on(wanted) if is_timed else self._duplex.read_some(wanted))
            if not data:
                raise StreamLost("the peer ended the stream")
            self._buffer += data
            if len(self._buffer) - self._paid_bytes >= WRITE_SLICE_BYTES:
                self._give_time()
            if self._after_read is not None:
                await self._after_read(len(data))

    def _give_time(self) -> None:
        self._left_s, self._paid_bytes = self._deadline_s, len(self._buffer)

    async def _read_on(self, wanted: int) -> bytes:
        """Read more of a frame that has begun; only waiting for the peer counts, not our limits."""
        began = trio.current_time()
        with trio.move_on_after(self._left_s):
            data = await self._duplex.read_some(wanted)
            self._left_s = max(0.0, self._left_s - (trio.current_time() - began))
            return data
        raise StreamLost(f"the rest of a frame took over {self._deadline_s:g} s")


class KeptStream:
    """One channel of one peer: a queue that exists at once, and a task that empties it.

    Args:
        channel: which stream; decides the cap of a frame.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.frames_read = 0
        self.heard_s = -math.inf  # when the last frame came, in trio's time
        self._cap = FRAME_CAPS[channel]
        self._traffic = TRAFFIC[channel]
        self._outbox = Outbox(frames_max=QUEUE_FRAMES_MAX, bytes_max=QUEUE_BYTES_MAX)
        self._reader: FrameReader | None = None
        self._writing = False
        self._name = channel.name.lower()

    @property
    def idle(self) -> bool:
        """Whether everything queued has been written."""
        return self._outbox.idle and not self._writing

    @property
    def held_bytes(self) -> int:
        """What is queued and not taken for writing yet, and what was read of half a frame."""
        return self._outbox.waiting_bytes + (self._reader.held_bytes if self._reader else 0)

    def put_nowait(self, head: Head, tail: bytes = b"") -> bool:
        """Queue a frame; False when the queue is full or closed.

        Raises:
            LocalError: a frame over the cap of this stream.
        """
        return self._outbox.put_nowait(self._encode(head, tail), tail)

    async def put(self, head: Head, tail: bytes = b"") -> None:
        """Queue a frame, waiting for room; no checkpoint where there is some.

        Raises:
            LocalError: a frame over the cap of this stream.
            StreamLost: the stream went away meanwhile.
        """
        raw = self._encode(head, tail)
        if not self._outbox.put_nowait(raw, tail):
            await self._outbox.put(raw, tail)

    async def run(self, duplex: Duplex, on_frame: FrameHandler, lane: Lane) -> None:
        """Write what is queued and hand out what arrives until something breaks.

        Args:
            duplex: the byte stream.
            on_frame: gets each frame.
            lane: says when the peer may be written to and read from.

        Raises:
            StreamLost: the peer ended or broke the stream, or a write took over 10 s.
            WireError: a frame no honest peer sends.
        """
        failed: list[Exception] = []

        async def write() -> None:
            try:
                await self._write(duplex, lane)
            except StreamLost as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        reader = self._reader = FrameReader(
            duplex,
            frame_bytes_max=self._cap,
            after_read=functools.partial(self._count_read, lane),
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                try:
                    while True:
                        head, tail = await reader.read()
                        self.frames_read += 1
                        metrics.inc("prsm_peer_messages_total", topic_of(head.kind), "in")
                        self.heard_s = trio.current_time()
                        on_frame(head, tail)
                        await lane.after_frame(self._traffic)
                        if self.frames_read % FRAMES_AT_ONCE == 0:
                            await trio.lowlevel.checkpoint()
                except Exception as error:  # noqa: BLE001 - raised again below, without a group
                    failed.append(error)
                    nursery.cancel_scope.cancel()
        finally:
            self.close()
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Refuse new frames and wake senders that wait."""
        self._outbox.close()

    async def _count_read(self, lane: Lane, size: int) -> None:
        metrics.inc("prsm_peer_bytes_total", self._name, "in", by=size)
        await lane.after_read(self._traffic, size)

    def _encode(self, head: Head, tail: bytes) -> bytes:
        raw = encode_frame(head, len(tail))
        size = len(raw) + len(tail)
        if size > self._cap:
            raise LocalError(f"frame of {size} bytes on {self.channel.value}, at most {self._cap}")
        metrics.inc("prsm_peer_messages_total", topic_of(head.kind), "out")
        return raw

    async def _write(self, duplex: Duplex, lane: Lane) -> None:
        while True:
            parts = await self._outbox.take()
            self._writing = True
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            del parts
            for start in range(0, len(data), WRITE_SLICE_BYTES):
                whole = len(data) <= WRITE_SLICE_BYTES
                piece = data if whole else data[start : start + WRITE_SLICE_BYTES]
                await lane.before_write(self._traffic, len(piece))
                with trio.move_on_after(WRITE_DEADLINE_S) as scope:
                    await duplex.write_all(piece)
                if scope.cancelled_caught:
                    raise StreamLost(f"a write took over {WRITE_DEADLINE_S:g} s")
                metrics.inc("prsm_peer_bytes_total", self._name, "out", by=len(piece))
            self._writing = False
