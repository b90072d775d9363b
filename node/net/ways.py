"""A circuit below a connection, kept short where votes take it too.

A relay sees cipher text, so on a circuit nothing overtakes: votes wait behind what is on its way.
Between validators each slice of other traffic therefore waits here until the ones before it have
nearly arrived at the relay. To others the whole window is given: it is what carries tensors far.

Knows what a circuit has in flight, and byte streams above it. Must not know relays or frames.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from prsm.node.net.circuit import CREDIT_BYTES_MIN
from prsm.node.net.interface import Channel
from prsm.node.net.streams import Duplex
from prsm.protocol.limits import KIB

# A neighbour tells only of so many bytes together: to wait for fewer could be for ever.
SHORT_BYTES: Final = CREDIT_BYTES_MIN
SLICE_BYTES: Final = 32 * KIB


class Flight(Protocol):
    """The first hop of a circuit: what is under way on it."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        ...

    @property
    def unread_bytes(self) -> int:
        """Sent, and not told to be read by the neighbour."""
        ...

    async def wait_moved(self) -> None:
        """Wait until something was sent, or read there, or it has ended."""
        ...


class Way(Protocol):
    """What lies below a connection: first in, first out, whatever its class."""

    async def wait_short(self) -> None:
        """Wait until little is on it; returns also when it has ended."""
        ...


class CircuitWay:
    """The way of a connection over a circuit.

    Args:
        hop: its first one.
        above: bytes that were written and have not come to the hop yet.
    """

    def __init__(self, hop: Flight, *, above: Callable[[], int] = lambda: 0) -> None:
        self._hop = hop
        self._above = above

    async def wait_short(self) -> None:
        """Wait until at most `SHORT_BYTES` are under way, or the hop has ended."""
        while not self._hop.is_over and self._hop.unread_bytes + self._above() > SHORT_BYTES:
            await self._hop.wait_moved()


class Yielding:
    """A byte stream that leaves its way short for those that go first; `Duplex`.

    Args:
        stream: of inference or storage.
        way: below the connection.
        is_wanted: whether anybody goes first now.
    """

    def __init__(self, stream: Duplex, way: Way, is_wanted: Callable[[], bool]) -> None:
        self._stream = stream
        self._way = way
        self._is_wanted = is_wanted

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes, at most that many; empty at the end."""
        return await self._stream.read_some(bytes_max)

    async def write_all(self, data: bytes) -> None:
        """Write all bytes, slice by slice while somebody goes first."""
        start = 0
        while self._is_wanted() and start < len(data):
            await self._way.wait_short()
            await self._stream.write_all(data[start : start + SLICE_BYTES])
            start += SLICE_BYTES
        if start < len(data):
            await self._stream.write_all(data[start:])


async def open_yielding(
    opener: Callable[[Channel], Awaitable[Duplex]],
    way: Way,
    is_wanted: Callable[[], bool],
    channel: Channel,
) -> Yielding:
    """Open a stream that yields on its way.

    Raises:
        StreamLost: the connection ended.
    """
    return Yielding(await opener(channel), way, is_wanted)
