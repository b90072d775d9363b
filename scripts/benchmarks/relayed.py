"""A circuit beside a direct connection: round trip, bulk, connect; all three nodes in this process.

Run: python scripts/bench.py relay

Knows hosts, the parts of reach and a stop watch. Must not know what a relay does inside. The relay
shares one core with both ends, which a real one does not: its bulk figure is a lower bound.
"""

import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import Reach, ReachConfig
from prsm.node.net.relay import RelayRules
from prsm.node.net.tunnel import Tunnels
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import AskHave, Have

Row = tuple[str, float, str]
CHAIN: Final = ChainIdentity(chain=b"benchmrk", genesis=b"g" * 32, agent="bench")
WIDE: Final = RelayRules(bytes_per_s=1024 * MIB)  # the rate of a place must not be what is measured
CALLS: Final = 200
BULK_MIB: Final = 64
CONNECTS: Final = 20
LIMITS: Final[Mapping[str, str]] = {
    "relayed: call of 200 B, p50": "direct: call of 200 B, p50",
    "relayed: bulk": "direct: bulk",
    "relayed: connect, p50": "direct: connect, p50",
}


class _Node:
    def __init__(self, number: int, *, via: tuple[str, ...] = (), relay: bool = False) -> None:
        listen = [] if via else ["/ip4/127.0.0.1/tcp/0"]
        transport = Libp2pTransport(bytes([number]) * 32, listen=listen)
        self.network = PeerNetwork(transport, CHAIN)
        self.reach = Reach(
            self.network,
            Tunnels(transport),
            listening=lambda: transport.addresses,
            config=ReachConfig(relay=WIDE if relay else None, via=via),
            now_ms=lambda: round(1000 * trio.current_time()),
        )
        self.received = 0
        self.network.on_call(AskHave, self._answer)
        self.network.on_message(Have, self._take)

    async def _answer(self, incoming: Incoming) -> Answer:
        await trio.lowlevel.checkpoint()
        return Have(size=1, leaves=0, bitset=b""), incoming.tail

    def _take(self, incoming: Incoming) -> None:
        self.received += len(incoming.tail)


@asynccontextmanager
async def _nodes() -> AsyncIterator[tuple[_Node, _Node, _Node]]:
    """A relay, and two nodes nobody can dial; the second has its place."""
    async with trio.open_nursery() as nursery:
        relay = _Node(1, relay=True)
        await nursery.start(relay.network.run)
        await nursery.start(relay.reach.run)
        ends = []
        for number in (2, 3):
            node = _Node(number, via=(relay.network.addresses[0],))
            await nursery.start(node.network.run)
            await nursery.start(node.reach.run)
            while not node.network.addresses:  # noqa: ASYNC110 - a place is no event
                await trio.sleep(0.01)
            ends.append(node)
        ids = [node.network.peer_id for node in (relay, *ends)]
        for node in (relay, *ends):
            node.network.trust(ids)  # as validators: a stranger may not ask so often
        yield relay, ends[0], ends[1]
        nursery.cancel_scope.cancel()


async def _measure(name: str, near: _Node, far: _Node, address: str) -> list[Row]:
    peer, connects, calls = far.network.peer_id, [], []
    for _ in range(CONNECTS):
        await near.network.disconnect(peer)
        while any(info.peer == peer for info in near.network.peers() + far.network.peers()):  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
        began = time.perf_counter()
        await near.network.connect(address)
        connects.append(1000 * (time.perf_counter() - began))
    ask = AskHave(root=b"r" * 36)
    for _ in range(CALLS):
        began = time.perf_counter()
        await near.network.call(peer, ask, channel=Channel.CTL, tail=bytes(200))
        calls.append(1000 * (time.perf_counter() - began))
    far.received, began = 0, time.perf_counter()
    message = Have(size=1, leaves=0, bitset=b"")
    for _ in range(BULK_MIB):
        await near.network.send(peer, message, channel=Channel.BULK, tail=bytes(MIB))
    while far.received < BULK_MIB * MIB:  # noqa: ASYNC110 - what arrives is counted, not told
        await trio.sleep(0.002)
    rate = BULK_MIB / (time.perf_counter() - began)
    return [
        (f"{name}: connect, p50", statistics.median(connects), "ms"),
        (f"{name}: call of 200 B, p50", statistics.median(calls), "ms"),
        (f"{name}: call of 200 B, p99", sorted(calls)[int(0.99 * CALLS)], "ms"),
        (f"{name}: bulk", rate, "MiB/s"),
    ]


async def _all() -> list[Row]:
    async with _nodes() as (relay, one, two):
        rows = await _measure("direct", one, relay, relay.network.addresses[0])
        while not one.network.addresses:  # noqa: ASYNC110 - its place ended with that link
            await trio.sleep(0.01)
        return rows + await _measure("relayed", one, two, two.network.addresses[0])


def measure_all() -> list[Row]:
    """Measure a direct link to the relay, then one through it."""
    return trio.run(_all)
