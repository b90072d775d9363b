"""Our bitswap on a stock libp2p host with mplex: for js-ipfs, which speaks nothing else."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from unittest.mock import patch

import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.custom_types import TMuxerClass, TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.stream_muxer.mplex import mplex, mplex_stream
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from multiaddr import Multiaddr

from prsm.node.net.bitswap.door import NetLine, open_line, split_address
from prsm.node.net.bitswap.peer import Bitswap, Shelf
from prsm.node.net.bitswap.wire import PROTOCOLS, read_varint
from prsm.node.net.streams import StreamLost
from prsm.protocol.ids import PeerId
from tests.tools.bitswap_peers import lanes

# The library hands what came on in slices of 4 KiB, each through a channel of depth one, and cuts
# what goes out into frames of 4,076 bytes. The protocol allows 1 MiB; so 1 GiB takes 8 to 10
# CPU-s to read instead of 18 to 28.
READ_BYTES = 1 << 20
WRITE_BYTES = 65_472  # with its header within one message of Noise


@contextmanager
def wide_frames() -> Iterator[None]:
    """Let the library's mplex read and write more at once."""
    reads = patch.object(mplex, "BUFFER_SIZE", READ_BYTES)
    with reads, patch.object(mplex_stream, "CHUNK_SIZE", WRITE_BYTES):
        yield


class FreshLine:
    """A line that takes a new stream for each message: mplex has no flow control.

    js-ipfs resets a stream of which it has 4 MiB unread, and everything on it is lost.
    """

    def __init__(self, connection: SwarmConn) -> None:
        self._connection = connection
        self._line: NetLine | None = None
        self._left = 0

    async def read_some(self, bytes_max: int) -> bytes:
        raise AssertionError(f"nobody reads {bytes_max} bytes here")

    async def write_all(self, data: bytes) -> None:
        if self._line is None:
            self._line = await open_line(self._connection)
            size, at = read_varint(data, 0)
            self._left = size + at
        await self._line.write_all(data)
        self._left -= len(data)
        if self._left <= 0:
            await self.close()

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
        self._line = None


@asynccontextmanager
async def mplex_peer(shelf: Shelf, addresses: Sequence[str]) -> AsyncIterator[Bitswap]:
    """Dial the first TCP address and speak bitswap there."""
    with wide_frames():
        async with _peer_of(shelf, addresses) as bitswap:
            yield bitswap


@asynccontextmanager
async def _peer_of(shelf: Shelf, addresses: Sequence[str]) -> AsyncIterator[Bitswap]:
    muxers: dict[TProtocol, TMuxerClass] = {TProtocol(MPLEX_PROTOCOL_ID): Mplex}
    host = new_host(muxer_opt=muxers)
    chosen = next(each for each in addresses if "/ws" not in each)
    peer, where = split_address(chosen)
    connections: list[SwarmConn] = []

    async def open_connection(_peer: PeerId) -> FreshLine:
        await trio.lowlevel.checkpoint()
        return FreshLine(connections[0])

    bitswap = Bitswap(shelf, open_connection, lanes())

    async def handle(stream: INetStream) -> None:
        with suppress(StreamLost):
            await bitswap.handle(peer, NetLine(stream))

    for name in PROTOCOLS:
        host.set_stream_handler(TProtocol(name), handle)
    async with trio.open_nursery() as nursery, host.run([]):
        await nursery.start(bitswap.run)
        made = await host.get_network().dial_addr(Multiaddr(where), ID.from_string(peer))
        assert isinstance(made, SwarmConn)
        connections.append(made)
        yield bitswap
        nursery.cancel_scope.cancel()
