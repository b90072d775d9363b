"""The daemon's end of a worker pipe: frames over a trio socket, tails as bytes.

Knows framing. Must not know what runs behind the pipe; what comes back is decoded with the same
suspicion as a peer's bytes.
"""

import array
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.framing import (
    PREFIX_BYTES,
    PROTOCOL_VERSION,
    Flow,
    Head,
    Refusal,
    decode_head,
    encode_frame,
    parse_lengths,
)
from prsm.protocol.limits import FRAME_HEAD_BYTES_MAX, KIB
from prsm.protocol.messages.pipe import PIPE

# A step of a generation, its answer and their heads are a few KiB: one call of the system each.
# In two, the other end wakes for the first part and sleeps again before the second.
_AT_ONCE_BYTES: Final = 16 * KIB


class ChannelClosed(Exception):
    """The other end is gone."""


@dataclass(frozen=True, slots=True)
class Received:
    """A frame as read; an ERROR frame's body is a `Refusal`."""

    flow: int
    request_id: int
    body: Record
    tail: memoryview


class Channel:
    """Frames over one end of a socket pair; one task reads, one writes."""

    def __init__(self, end: socket.socket, *, frame_bytes_max: int) -> None:
        end.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._end = end
        self._socket = trio.socket.from_stdlib_socket(end)
        self._ahead = bytearray()  # read behind the frame that was asked for
        self._frame_bytes_max = frame_bytes_max

    async def send(
        self,
        body: Record,
        *,
        flow: Flow = Flow.CALL,
        request_id: int = 0,
        tail: Sequence[bytes] = (),
        fds: Sequence[int] = (),
    ) -> None:
        """Send a frame; cancelled half-way, the channel is useless afterwards.

        No checkpoint where the system has room, which is nearly always.

        Raises:
            ChannelClosed: nobody reads.
        """
        kind = PIPE.number(type(body))
        head = Head(PROTOCOL_VERSION, flow, kind, request_id, b"", encode(body))
        size = sum(len(part) for part in tail)
        first = encode_frame(head, size)
        if len(first) + size <= _AT_ONCE_BYTES:
            first, tail = b"".join((first, *tail)), ()
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                first = first[await self._socket.sendmsg([first], rights) :]
            for part in (first, *tail):
                await self._send_all(memoryview(part))
        except OSError as error:
            raise ChannelClosed from error

    async def receive(self) -> Received:
        """Wait for the next frame; cancelled half-way, the channel is useless afterwards.

        Raises:
            ChannelClosed: the other end is gone.
            WireError: bytes that are no frame of the pipe.
        """
        prefix = bytes(await self._exactly(PREFIX_BYTES))
        head_bytes, tail_bytes = parse_lengths(prefix, frame_bytes_max=self._frame_bytes_max)
        head = decode_head(bytes(await self._exactly(head_bytes)))
        tail = await self._exactly(tail_bytes)
        body: Record
        if head.flow == Flow.ERROR:
            body = decode(head.body, Refusal, size_max=FRAME_HEAD_BYTES_MAX)
        else:
            body = PIPE.decode(head.kind, head.body, size_max=FRAME_HEAD_BYTES_MAX)
        return Received(head.flow, head.request_id, body, tail)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    async def _send_all(self, rest: memoryview) -> None:
        while rest:
            try:
                sent = self._end.send(rest)
            except BlockingIOError:
                sent = await self._socket.send(rest)
            rest = rest[sent:]

    async def _exactly(self, size: int) -> memoryview:
        view, ahead = memoryview(bytearray(size)), self._ahead
        got = min(size, len(ahead))
        view[:got] = ahead[:got]
        del ahead[:got]
        while got < size:
            try:
                if size - got >= _AT_ONCE_BYTES:
                    count = await self._socket.recv_into(view[got:])
                else:
                    data = await self._socket.recv(_AT_ONCE_BYTES)
                    count = min(size - got, len(data))
                    view[got : got + count] = data[:count]
                    ahead += data[count:]
            except OSError as error:
                raise ChannelClosed from error
            if count == 0:
                raise ChannelClosed
            got += count
        return view
