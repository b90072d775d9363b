"""Our bitswap on a stock libp2p host with mplex: for js-ipfs, which speaks nothing else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.custom_types import TMuxerClass, TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from multiaddr import Multiaddr

from prsm.node.net.bitswap.door import NetLine, open_line, split_address
from prsm.node.net.bitswap.peer import Bitswap, Shelf
from prsm.node.net.bitswap.wire import PROTOCOLS
from prsm.node.net.streams import StreamLost
from prsm.protocol.ids import PeerId
from tests.tools.bitswap_peers import lanes


@asynccontextmanager
async def mplex_peer(shelf: Shelf, addresses: Sequence[str]) -> AsyncIterator[Bitswap]:
    """Dial the first TCP address and speak bitswap there."""
    muxers: dict[TProtocol, TMuxerClass] = {TProtocol(MPLEX_PROTOCOL_ID): Mplex}
    host = new_host(muxer_opt=muxers)
    chosen = next(each for each in addresses if "/ws" not in each)
    peer, where = split_address(chosen)
    connections: list[SwarmConn] = []

    async def open_connection(_peer: PeerId) -> NetLine:
        return await open_line(connections[0])

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
