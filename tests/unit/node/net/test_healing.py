"""A partition of 45 s ends: all links are back within seconds, in virtual time."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.interface import PeerEvent, PeerUnreachable
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from tests.tools.networks import CHAIN

NODES = 4
PARTITION_S = 45.0
BACK_S = 6.0  # a dial that began in the partition hangs for five; before, each pause took up to ten


class Mesh:
    """Nodes that all want links to all others, and when all of them were there."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.nodes = [self.hub.network(bytes([n]) * 32, CHAIN) for n in range(NODES)]
        self.changed = trio.lowlevel.ParkingLot()
        for node in self.nodes:
            node.on_peer(self.told)

    def told(self, _event: PeerEvent) -> None:
        self.changed.unpark_all()

    async def start(self, nursery: trio.Nursery, *, apart_s: float) -> None:
        for node in self.nodes:
            await nursery.start(node.run)
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    nursery.start_soon(self.dial, node, other)
            await trio.sleep(apart_s)  # so that pauses are not in step
        await self.wait_whole()

    async def dial(self, node: PeerNetwork, other: PeerNetwork) -> None:
        try:
            await node.connect(self.hub.address(other.peer_id))
        except PeerUnreachable:
            return

    async def wait_whole(self) -> None:
        with trio.fail_after(60):
            while any(len(node.peers()) < NODES - 1 for node in self.nodes):
                await self.changed.park()

    def ways(self) -> list[tuple[PeerNetwork, PeerNetwork]]:
        half = NODES // 2
        return [(one, other) for one in self.nodes[:half] for other in self.nodes[half:]]


@pytest.mark.slow
@pytest.mark.parametrize("phase", range(4))
async def test_partition_of_two_and_two_heals_within_seconds(
    phase: int, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mesh = Mesh()
    await mesh.start(nursery, apart_s=0.37 + 0.11 * phase)
    for one, other in mesh.ways():
        mesh.hub.stall(one.peer_id, other.peer_id)
    await trio.sleep(PARTITION_S)
    assert all(len(node.peers()) == NODES // 2 - 1 for node in mesh.nodes)
    for one, other in mesh.ways():
        mesh.hub.heal(one.peer_id, other.peer_id)
    healed = trio.current_time()
    await mesh.wait_whole()
    assert trio.current_time() - healed <= BACK_S
    nursery.cancel_scope.cancel()
