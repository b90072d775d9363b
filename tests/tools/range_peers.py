"""Peers of the memory network that serve a file over range streams, some of them as they should."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from prsm.node.net.blocks import BlockServer, PeerSource
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.interface import Busy
from prsm.node.net.memory import MemoryHub
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid
from prsm.storage.errors import NotFound
from prsm.storage.interfaces import Source
from prsm.storage.store.leases import Leases
from prsm.storage.store.model_store import ModelStore
from tests.tools.exchange_battery import Act
from tests.tools.paced import Manner
from tests.tools.sources import MemorySource

CHAIN = ChainIdentity(chain=b"testnet1", genesis=b"g" * 32)


class FaultyShelf:
    """A file in memory, read one leaf after the other, and an act; counts what it sends."""

    def __init__(self, file: MemorySource, act: Act, sent: list[int]) -> None:
        self.leases = Leases(lambda: 0)
        self._file = file
        self._act = act
        self._sent = sent
        self._mine = 0
        self._was_busy = False
        self._disk = trio.Lock()

    async def have(self, root: Cid) -> Have:
        await self._hear()
        have = await self._file.have(root)
        assert have is not None
        return have

    async def get_block(self, digest: bytes) -> bytes:
        await self._hear()
        return await self._file.node(digest)

    async def read_leaves(self, root: Cid, first: int, count: int) -> Sequence[bytes]:
        await self.have(root)
        async with self._disk:
            if self._mine >= self._act.good:
                await self._misbehave()
            await trio.sleep(self._act.leaf_s * count)
            self._mine += count
            self._sent[0] += count
            leaves = [await self._file.leaf(index) for index in range(first, first + count)]
        is_wrong = self._act.manner is Manner.WRONG and self._mine > self._act.good
        return [bytes(len(leaf)) for leaf in leaves] if is_wrong else leaves

    async def _hear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._act.manner is Manner.DEAF:
            await trio.sleep_forever()

    async def _misbehave(self) -> None:
        match self._act.manner:
            case Manner.STALLS | Manner.DEAF:
                await trio.sleep_forever()
            case Manner.LIES:
                raise NotFound("not here")
            case Manner.CUT:
                raise LocalError("the disk is gone")
            case Manner.BUSY if not self._was_busy:
                self._was_busy = True
                raise Busy("others are served", retry_after_ms=500)
            case Manner.HONEST | Manner.WRONG | Manner.BUSY:
                pass


@asynccontextmanager
async def faulty_peers(
    file: MemorySource, acts: Sequence[Act], sent: list[int]
) -> AsyncIterator[Sequence[Source]]:
    """One peer for each act, and a node connected to all of them."""
    hub = MemoryHub()
    here = hub.network(b"\1" * 32, CHAIN)
    async with trio.open_nursery() as nursery:
        await nursery.start(here.run)
        sources: list[Source] = []
        for number, act in enumerate(acts):
            there = hub.network(bytes([number + 2]) * 32, CHAIN)
            BlockServer(there, FaultyShelf(file, act, sent))
            await nursery.start(there.run)
            await here.connect(hub.address(there.peer_id))
            sources.append(PeerSource(here, there.peer_id))
        yield sources
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def served_store(store: ModelStore) -> AsyncIterator[Source]:
    """A peer that serves a real store."""
    hub = MemoryHub()
    here, there = hub.network(b"\1" * 32, CHAIN), hub.network(b"\2" * 32, CHAIN)
    BlockServer(there, store)
    async with trio.open_nursery() as nursery:
        await nursery.start(here.run)
        await nursery.start(there.run)
        await here.connect(hub.address(there.peer_id))
        yield PeerSource(here, there.peer_id)
        nursery.cancel_scope.cancel()
