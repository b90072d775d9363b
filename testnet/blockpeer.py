"""A node of nothing but blocks, as a process: a store, range streams, and orders on stdin.

Run by `fetches`. Knows a folder, peers and orders; `--act` makes it a peer that stalls, sends
wrong bytes or does not have what it says. Must not know why.

Each order is a line of JSON `[id, word, ...]`, each answer a line `{"id", "ok", ...}`.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import trio

from prsm.node.clock import TrioClock
from prsm.node.config.schema import StorageConfig
from prsm.node.models.outside import Outside, Place
from prsm.node.net.blocks import BlockServer, PeerSource
from prsm.node.net.budgets import Limits, StorageLimits
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.network import PeerNetwork
from prsm.protocol.errors import PrsmError, RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import MIB
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, parse_cid
from prsm.storage.errors import NotFound, SourceCorrupt
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.interfaces import Leaf, Source
from prsm.storage.store.model_store import ModelStore
from prsm.storage.store.resume import Partial

CHAIN: Final = ChainIdentity(chain=b"fetchnet", genesis=b"f" * 32, agent="prsm/testnet")
QUOTA: Final = 64 << 30
ORDERS_OPEN_MAX: Final = 16
IPFS: Final = "bitswap:"  # so begin the names of such sources

Answer = dict[str, object]


class Act(Enum):
    """How a peer serves."""

    HONEST = "honest"
    CORRUPT = "corrupt"
    STALLED = "stalled"
    LYING = "lying"  # about having
    STRANGER = "stranger"  # corrupt from its first leaf on


class Counter:
    """A shelf that counts what it sends, and after some leaves does as its act says.

    Args:
        store: what it serves.
        act: how.
        good: leaves it serves as it should before.
    """

    def __init__(self, store: ModelStore, act: Act, good: int) -> None:
        self.leases = store.leases
        self.sent = 0
        self.bad = 0
        self._store = store
        self._act = act
        self._good = good

    async def have(self, root: Cid) -> Have:
        """As the store says."""
        return await self._store.have(root)

    async def get_block(self, digest: bytes) -> bytes:
        """As the store says."""
        return await self._store.get_block(digest)

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        """Leaves of the store, or what the act makes of them."""
        leaves = await self._store.read_leaves(root, first, count)
        self._good -= len(leaves)
        if self._good < 0:
            match self._act:
                case Act.STALLED:
                    await trio.sleep_forever()
                case Act.LYING:
                    raise NotFound(f"leaf {first} of {root} is not here")
                case Act.CORRUPT | Act.STRANGER:
                    self.bad += len(leaves)
                    leaves = [bytes(len(leaf)) for leaf in leaves]
                case Act.HONEST:
                    pass
        self.sent += sum(map(len, leaves))
        return leaves


class Heard:
    """A peer as a source, which counts the wrong blocks that come from it whole: zeros.

    Args:
        source: the peer.
    """

    def __init__(self, source: PeerSource) -> None:
        self.name = source.name
        self.have = source.have
        self.node = source.node
        self.wrong = 0
        self._source = source

    async def fetch(self, root: Cid, wanted: Sequence[Leaf]) -> Sequence[bytes]:
        """As the peer does."""
        blocks = await self._source.fetch(root, wanted)
        self.wrong += sum(not any(block) for block in blocks)
        return blocks


class Watched:
    """A file on its way that counts the wrong blocks which are brought to it.

    Args:
        partial: the file.
    """

    def __init__(self, partial: Partial) -> None:
        self.partial = partial
        self.root = partial.root
        self.size = partial.size
        self.wanted_nodes = partial.wanted_nodes
        self.put_node = partial.put_node
        self.missing = partial.missing
        self.holds = partial.holds
        self.wrong = 0

    @property
    def verified_bytes(self) -> int:
        """As the file says."""
        return self.partial.verified_bytes

    async def write_run(self, leaves: Sequence[Leaf], blocks: Sequence[bytes]) -> None:
        """As the file does."""
        try:
            await self.partial.write_run(leaves, blocks)
        except SourceCorrupt:
            self.wrong += 1
            raise


class Door:
    """The way of fetched files into a store, which counts wrong blocks."""

    def __init__(self, store: ModelStore) -> None:
        self.has = store.has
        self.wrong = 0
        self._store = store

    async def begin_fetch(self, root: Cid, size: int) -> Watched:
        """As the store does."""
        return Watched(await self._store.begin_fetch(root, size))

    async def end_fetch(self, partial: Watched) -> None:
        """As the store does."""
        self.wrong += partial.wrong
        await self._store.end_fetch(partial.partial)


class BlockPeer:
    """One process: what it holds, whom it knows.

    Args:
        folder: for what is put.
        store: what it holds.
        network: whom it knows.
        shelf: what it serves.
        outside: the IPFS peers it knows, if any.
    """

    def __init__(
        self,
        folder: Path,
        store: ModelStore,
        network: PeerNetwork,
        shelf: Counter,
        outside: Outside | None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._network = network
        self._shelf = shelf
        self._outside = outside
        self._door = Door(store)
        self._exchange = Exchange(self._door, on_fault=self._blame)
        self._heard: list[Heard] = []

    async def obey(self, order: Sequence[str]) -> Answer:
        """Carry an order out."""
        match order:
            case ["connect", address]:
                return {"peer": await self._network.connect(address)}
            case ["put", seed, size]:
                return await self._put(int(seed), int(size))
            case ["get", root, size]:
                return await self._get(parse_cid(root), int(size), self._sources())
            case ["get-ipfs", root, size]:
                return await self._get(parse_cid(root), int(size), self._ipfs_sources())
            case ["remove", root]:
                await self._store.remove(parse_cid(root))
                return {}
            case ["counts"]:
                return {"sent": self._shelf.sent, "bad": self._shelf.bad}
            case _:
                raise NotFound(f"no order {order[0]}")

    async def watch(self) -> None:
        """Say how far fetches are."""
        with self._exchange.transfers.watch() as watch:
            while True:
                transfer = await watch.next()
                say({"verified": transfer.verified_bytes, "state": transfer.state.value})

    async def _put(self, seed: int, size: int) -> Answer:
        path = self._folder / f"put-{seed}"
        await trio.to_thread.run_sync(_write, path, seed, size)
        try:
            added = await self._store.add_file(path)
        finally:
            path.unlink()
        return {"root": str(added.root), "sha256": added.sha256.hex()}

    def _sources(self) -> Sequence[Source]:
        """Everybody, as a node asks them."""
        peers = [Heard(PeerSource(self._network, info.peer)) for info in self._network.peers()]
        self._heard = peers
        return peers if self._outside is None else self._outside.sources(peers)

    def _blame(self, name: str, error: PrsmError) -> None:
        """As a node does: who sent wrong bytes is banned, and its connections are closed."""
        if self._outside is not None:
            self._outside.blame(name, error)
        if isinstance(error, RemoteError) and not name.startswith(IPFS):
            self._network.penalise(PeerId(name), error)

    def _ipfs_sources(self) -> Sequence[Source]:
        return [source for source in self._sources() if source.name.startswith(IPFS)]

    async def _get(self, root: Cid, size: int, sources: Sequence[Source]) -> Answer:
        began = trio.current_time()
        fetched = await self._exchange.fetch(root, size, sources)
        seconds = trio.current_time() - began
        path = await self._store.path(root)
        return {
            "sha256": await trio.to_thread.run_sync(_sha256, path),
            "seconds": seconds,
            "bytes": sum(fetched.bytes_by_source.values()),
            "ipfs": sum(n for who, n in fetched.bytes_by_source.items() if who.startswith(IPFS)),
            "wasted": fetched.wasted_bytes,
            "wrong": self._door.wrong,
            "came_wrong": sum(source.wrong for source in self._heard),
            "blamed": {fault.source: fault.error.what for fault in fetched.faults},
        }


def say(answer: Answer) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def serve(options: argparse.Namespace) -> None:
    """Run until stdin ends."""
    store = await ModelStore.open(options.folder / "store", quota=QUOTA)
    limits = Limits(storage=StorageLimits(upload=options.upload))
    listen = [f"/ip4/127.0.0.1/tcp/{options.port}"]
    transport = Libp2pTransport(bytes([options.number]) * 32, listen=listen)
    network = PeerNetwork(transport, CHAIN, limits=limits)
    shelf = Counter(store, Act(options.act), options.good)
    BlockServer(network, shelf)
    outside = _outside(options, store, network)
    peer = BlockPeer(options.folder, store, network, shelf, outside)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        if outside is not None:
            await nursery.start(outside.run)
        if options.progress:
            nursery.start_soon(peer.watch)
        say({"address": network.addresses[0]})
        room = trio.CapacityLimiter(ORDERS_OPEN_MAX)
        buffer = b""
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stdin:
            async for data in stdin:
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    nursery.start_soon(_answer, peer, json.loads(line), room)
        nursery.cancel_scope.cancel()


def _outside(
    options: argparse.Namespace, store: ModelStore, network: PeerNetwork
) -> Outside | None:
    """The IPFS peer this node knows, if it was given one: it is dialled, nobody dials us."""
    if not options.ipfs:
        return None
    seed = bytes([options.number]) * 32
    place = Place(seed, network.lanes, TrioClock(), options.folder / "sources.json")
    config = StorageConfig(bitswap=True, bitswap_listen=(), ipfs_peers=(options.ipfs,))
    return Outside(config, store.blocks, place)


async def _answer(peer: BlockPeer, order: Sequence[str], room: trio.CapacityLimiter) -> None:
    async with room:
        try:
            say({"id": order[0], "ok": True} | await peer.obey(order[1:]))
        except PrsmError as error:
            say({"id": order[0], "ok": False, "reason": error.reason, "what": error.what})


def _write(path: Path, seed: int, size: int) -> None:
    """A file that only its seed decides; by SHAKE, a MiB at a time."""
    with path.open("wb") as out:
        for at in range(0, size, MIB):
            part = hashlib.shake_128(f"{seed} {at}".encode()).digest(min(MIB, size - at))
            out.write(part)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Be one peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int, help="1..255, makes its key")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--act", choices=[act.value for act in Act], default=Act.HONEST.value)
    parser.add_argument("--good", type=int, default=0, help="leaves before the act")
    parser.add_argument("--upload", type=int, default=0, help="bytes a second")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--ipfs", default="", help="address of an IPFS peer, with /p2p/")
    trio.run(serve, parser.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(main())
