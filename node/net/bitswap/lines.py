"""A stream of bitswap messages, cut apart: bounded by what is expected of the peer.

Knows lengths, budgets and deadlines. Must not know what a message means.

Invariant: of a message that is longer than expected nothing is kept.
"""

from typing import Final, Protocol

import trio

from prsm.node.net.bitswap.wire import LENGTH_BYTES_MAX, MESSAGE_BYTES_MAX, read_varint
from prsm.node.net.budgets import Traffic
from prsm.node.net.lanes import Lane
from prsm.node.net.streams import Duplex, StreamLost
from prsm.protocol.errors import WireError
from prsm.protocol.limits import KIB

BODY_DEADLINE_S: Final = 30.0  # between the length of a message and its last byte
READ_BYTES: Final = 256 * KIB
WRITE_DEADLINE_S: Final = 10.0
SLICE_BYTES: Final = 128 * KIB  # of one write, as on kept streams


class Line(Duplex, Protocol):
    """A stream to one peer, for bitswap only."""

    async def close(self) -> None:
        """End our side; never raises."""
        ...


class MessageReader:
    """Cuts a stream into messages.

    Args:
        line: where the bytes come from.
        lane: the budget of who sends them.
    """

    def __init__(self, line: Line, lane: Lane) -> None:
        self._line = line
        self._lane = lane
        self._buffer = bytearray()

    async def read(self, most: int) -> bytes | None:
        """Wait for the next message.

        Args:
            most: bytes; a longer one, up to the cap of the protocol, is read past and None.

        Raises:
            StreamLost: the peer ended the stream, or took too long within a message.
            WireError: a length over the cap.
        """
        size = await self._length()
        with trio.move_on_after(BODY_DEADLINE_S):
            if size > most:
                await self._skip(size)
                return None
            while len(self._buffer) < size:
                await self._fill()
            with memoryview(self._buffer) as view:
                raw = bytes(view[:size])
            del self._buffer[:size]
            return raw
        raise StreamLost(f"a message of {size} bytes took over {BODY_DEADLINE_S:g} s")

    async def _length(self) -> int:
        while True:
            first = self._buffer[:LENGTH_BYTES_MAX]
            if any(byte < 0x80 for byte in first):
                break
            if len(first) == LENGTH_BYTES_MAX:
                raise WireError("a bitswap message with a length of over 4 bytes", penalty=25)
            await self._fill()
        size, at = read_varint(first, 0)
        if size > MESSAGE_BYTES_MAX:
            raise WireError(
                f"a bitswap message of {size} bytes, at most {MESSAGE_BYTES_MAX}", penalty=25
            )
        del self._buffer[:at]
        return size

    async def _skip(self, size: int) -> None:
        while size > len(self._buffer):
            size -= len(self._buffer)
            self._buffer.clear()
            await self._fill()
        del self._buffer[:size]

    async def _fill(self) -> None:
        data = await self._line.read_some(READ_BYTES)
        if not data:
            raise StreamLost("the peer ended the stream")
        self._buffer += data
        await self._lane.after_read(Traffic.STORAGE, len(data))


async def send(line: Line, lane: Lane, data: bytes) -> None:
    """Write a message in slices, each within its deadline and in its turn.

    Raises:
        StreamLost: the peer broke the stream.
        trio.TooSlowError: it takes nothing.
    """
    for start in range(0, len(data), SLICE_BYTES):
        piece = data[start : start + SLICE_BYTES]
        await lane.before_write(Traffic.STORAGE, len(piece))
        with trio.fail_after(WRITE_DEADLINE_S):
            await line.write_all(piece)
