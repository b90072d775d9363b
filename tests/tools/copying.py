"""Nodes that repair copies over the memory network, under a virtual clock; models are names.

The shelf is a fake that holds CIDs: it fetches from any live node that has the model, after a
time a test sets. Everything else is the node's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import trio
from typing_extensions import override

from prsm.node.net.network import PeerNetwork
from prsm.node.net.transport import Transport
from prsm.node.peers.announce import Announcer, Ground
from prsm.node.replication.driver import Parts, Repair
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.ids import Millis, PeerId
from prsm.protocol.messages.announce import MODELS, ModelOffer
from prsm.storage.errors import NotFound
from tests.tools.announced import signer
from tests.tools.networks import CHAIN, Node, World

GIB = 2**30


class VirtualClock:
    """Both clocks are trio's."""

    def monotonic_ms(self) -> Millis:
        return Millis(int(trio.current_time() * 1000))

    def wall_ms(self) -> Millis:
        return Millis(10**12 + self.monotonic_ms())


def cid(number: int) -> bytes:
    return bytes.fromhex("01551220") + number.to_bytes(32, "big")


def offer(manifest: bytes) -> ModelOffer:
    return ModelOffer(
        manifest=manifest, pinned_sha256=bytes(32), name="m", semver="1.0.0", size_bytes=5
    )


@dataclass
class FakeShelf:
    """Models by CID; `others` are the shelves of all nodes that live."""

    others: dict[PeerId, "FakeShelf"]
    models: set[bytes] = field(default_factory=set)
    fetched: set[bytes] = field(default_factory=set)
    wished: dict[bytes, int] = field(default_factory=dict)
    room: int = 64 * GIB
    fetch_seconds: float = 5.0
    tries: int = 0
    is_broken: bool = False

    def held(self) -> tuple[bytes, ...]:
        return tuple(sorted(self.models))

    def kept(self) -> frozenset[bytes]:
        return frozenset(self.fetched)

    def wishes(self) -> Mapping[bytes, int]:
        return self.wished

    async def wish(self, manifest: bytes, copies: int) -> None:
        await trio.lowlevel.checkpoint()
        self.wished[manifest] = copies

    async def fetch(self, manifest: bytes, size_bytes: int | None) -> None:
        assert size_bytes is None or size_bytes <= self.room
        self.tries += 1
        await trio.sleep(self.fetch_seconds)
        if self.is_broken or not any(manifest in shelf.models for shelf in self.others.values()):
            raise NotFound("nobody has it")
        self.models.add(manifest)
        self.fetched.add(manifest)

    async def give_back(self, manifest: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_broken:
            raise NotFound("it is not kept")
        self.fetched.discard(manifest)
        self.models.discard(manifest)

    async def room_bytes(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.room


@dataclass
class Keeping:
    """A node that repairs."""

    node: Node
    announcer: Announcer
    repair: Repair
    shelf: FakeShelf
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def announce(self) -> None:
        """Say every few seconds what is held; `node/peers/beacons` does it in a real node."""
        said: set[bytes] = set()
        while True:
            for manifest in sorted(self.shelf.models - said):
                await self.announcer.publish(MODELS.name, offer(manifest))
            said = set(self.shelf.models)
            await trio.sleep(1)


class KeyedWorld(World):
    """Nodes of the memory network whose ids are those of their announcements."""

    @override
    def transport(self, number: int) -> Transport:
        assert self.hub is not None
        return self.hub.transport(signer(number).public_key)


class Site:
    """All nodes, each linked to each."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.world = KeyedWorld(nursery, "memory")
        self.nodes: dict[PeerId, Keeping] = {}
        self.shelves: dict[PeerId, FakeShelf] = {}
        self.vouched: dict[bytes, int] = {}
        self.bonded: frozenset[PeerId] = frozenset()

    async def start(
        self, number: int, *, region: str = "", copies: int = 3, is_willing: bool = True
    ) -> Keeping:
        shelf = FakeShelf(self.shelves)
        made: list[tuple[Announcer, Repair]] = []

        def prepare(network: PeerNetwork) -> None:
            ground = Ground(
                chain_id=CHAIN.chain,
                signer=signer(number),
                verifier=Ed25519Verifier(),
                clock=VirtualClock(),
                dice=lambda n: number % n,
                salt=b"salt",
            )
            announcer = Announcer(network, ground)
            parts = Parts(
                announcer=announcer,
                network=network,
                clock=VirtualClock(),
                shelf=shelf,
                size_of=self.vouched.get,
                bonded=lambda: self.bonded,
                region=region,
                copies=copies,
                is_willing=is_willing,
            )
            made.append((announcer, Repair(parts)))

        node = await self.world.start(number, prepare)
        keeping = Keeping(node, *made[0], shelf)
        for other in self.nodes.values():
            await node.network.connect(other.node.address)
        self.nodes[node.peer], self.shelves[node.peer] = keeping, shelf
        await self.world.nursery.start(self._run, keeping)
        return keeping

    async def kill(self, peer: PeerId) -> None:
        """All of a node ends at once."""
        keeping = self.nodes.pop(peer)
        del self.shelves[peer]
        keeping.scope.cancel()
        keeping.node.scope.cancel()
        await keeping.node.stopped.wait()

    def holders(self, manifest: bytes) -> set[PeerId]:
        """Live nodes that have a model."""
        return {peer for peer, shelf in self.shelves.items() if manifest in shelf.models}

    async def wait_copies(self, manifest: bytes, count: int) -> None:
        """Wait until so many live nodes have a model; the caller sets the deadline."""
        while len(self.holders(manifest)) != count:  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.5)

    async def _run(self, keeping: Keeping, *, task_status: trio.TaskStatus[None]) -> None:
        with keeping.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(keeping.announcer.run)
                await nursery.start(keeping.repair.run)
                nursery.start_soon(keeping.announce)
                task_status.started()
