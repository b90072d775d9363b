"""A circuit as a connection of the memory transport: who is there, and three streams over one.

For tests and the simulator, as all of `memory`: the ends say their PeerIds and prove nothing. Each
frame is the number of a channel, a length and bytes; readers of kept streams never wait, so one
channel does not hold up another for long.

Knows lines and pipes. Must not know relays, nor what the streams carry.
"""

import struct
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.net.behind import Line
from prsm.node.net.interface import Channel, PeerUnreachable
from prsm.node.net.streams import StreamLost
from prsm.node.net.ways import CircuitWay
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import CIRCUIT_PIECE_BYTES_MAX

_HEAD: Final = struct.Struct(">BI")
_CHANNELS: Final = tuple(Channel)
_PEER_BYTES: Final = 52
_WAITING_PARTS_MAX: Final = 16


async def introduce(line: Line, us: PeerId) -> PeerId:
    """Say who we are, and hear who is at the other end.

    Raises:
        PeerUnreachable: nobody is.
    """
    await line.write_all(us.encode().ljust(_PEER_BYTES))
    return PeerId((await _exactly(line, _PEER_BYTES)).decode("ascii", "replace").strip())


class MemoryTunnel:
    """A connection over a line.

    Args:
        line: to the other end, after `introduce`.
        peer: who is there.
        address: through which relay, for people.
        outbound: whether we dialled.
    """

    def __init__(self, line: Line, peer: PeerId, address: str, *, outbound: bool) -> None:
        self.peer = peer
        self.address = address
        self.outbound = outbound
        self.way = CircuitWay(line)
        self._line = line
        self._lock = trio.Lock()
        self._parts = {
            channel: trio.open_memory_channel[bytes](_WAITING_PARTS_MAX) for channel in Channel
        }

    async def stream(self, channel: Channel) -> "_Strand":
        """Both sides hold each stream from the beginning."""
        await trio.lowlevel.checkpoint()
        return _Strand(self, channel, self._parts[channel][1])

    async def close(self) -> None:
        """End the line."""
        await self._line.close("the connection ended")

    async def run(self) -> None:
        """Hand out what arrives until the line ends."""
        try:
            while True:
                number, size = _HEAD.unpack(await _exactly(self._line, _HEAD.size))
                data = await _exactly(self._line, size)
                await self._parts[_CHANNELS[number]][0].send(data)
        except (PeerUnreachable, IndexError, trio.BrokenResourceError):
            await self._line.close("the connection ended")
        finally:
            for sender, _ in self._parts.values():
                sender.close()

    async def say(self, channel: Channel, data: bytes) -> None:
        """Write bytes of one stream."""
        async with self._lock:
            for start in range(0, len(data), CIRCUIT_PIECE_BYTES_MAX):
                part = data[start : start + CIRCUIT_PIECE_BYTES_MAX]
                head = _HEAD.pack(_CHANNELS.index(channel), len(part))
                await self._line.write_all(head + part)


@dataclass(slots=True, eq=False)
class _Strand:
    """One stream of a tunnel."""

    tunnel: MemoryTunnel
    channel: Channel
    parts: trio.MemoryReceiveChannel[bytes]
    rest: bytes = b""

    async def read_some(self, bytes_max: int) -> bytes:
        """Wait for the next bytes; `StreamLost` at the end."""
        if not self.rest:
            try:
                self.rest = await self.parts.receive()
            except trio.EndOfChannel:
                raise StreamLost("the connection is gone") from None
        data, self.rest = self.rest[:bytes_max], self.rest[bytes_max:]
        return data

    async def write_all(self, data: bytes) -> None:
        """Write all bytes."""
        await self.tunnel.say(self.channel, data)


async def _exactly(line: Line, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await line.read_some(size - len(data))
        if not part:
            raise PeerUnreachable("the circuit ended")
        data += part
    return data
