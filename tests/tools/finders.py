"""Nodes that find one another: a network of tests/tools/networks with discovery on top."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from prsm.node.clock import TrioClock
from prsm.node.net.network import PeerNetwork
from prsm.node.peers.discovery import Agreement, Aims, Discovery
from prsm.protocol.ids import Millis, PeerId
from tests.tools.crowds import NOW_MS
from tests.tools.networks import Node, World


class OneClock:
    """Both clocks are trio's: a mock clock moves the wall, too."""

    def monotonic_ms(self) -> Millis:
        return TrioClock().monotonic_ms()

    def wall_ms(self) -> Millis:
        return Millis(NOW_MS + TrioClock().monotonic_ms())


@dataclass
class Finder:
    """A running node and its discovery."""

    node: Node
    discovery: Discovery
    ended: trio.Event  # its discovery, too: the book is saved

    @property
    def linked(self) -> set[PeerId]:
        return {info.peer for info in self.node.network.peers()}

    async def wait_linked(self, peers: Sequence["Finder"]) -> None:
        wanted = {other.node.peer for other in peers} - {self.node.peer}
        await self.node.wait(lambda: wanted <= self.linked)

    async def stop(self) -> None:
        self.node.scope.cancel()
        await self.ended.wait()


async def find(
    world: World,
    number: int,
    aims: Aims | None = None,
    *,
    path: Path | None = None,
    agreement: Agreement | None = None,
    beside: Callable[[PeerNetwork, Discovery], None] | None = None,
) -> Finder:
    """Start a node that looks for others; its discovery ends with its network."""
    made: list[Discovery] = []

    def prepare(network: PeerNetwork) -> None:
        dice = random.Random(number)
        made.append(Discovery(network, aims or Aims(), path, clock=OneClock(), dice=dice))
        made[0].agreement = agreement or Agreement()
        if beside is not None:
            beside(network, made[0])

    node = await world.start(number, prepare)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(made[0].run)
                task_status.started()
                await node.stopped.wait()
                scope.cancel()
        ended.set()

    ended = trio.Event()
    await world.nursery.start(run)
    return Finder(node, made[0], ended)
