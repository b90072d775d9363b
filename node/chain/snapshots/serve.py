"""Serves snapshots and headers of epochs to peers: bounded, one call of a peer at a time.

Believes nobody and keeps nothing in memory but the list of chunks of what it serves.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import trio

from prsm.node.chain.driver import Driver
from prsm.node.net.interface import Answer, Busy, Incoming
from prsm.node.telemetry import logs
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import decode
from prsm.protocol.headers import Header
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, SYNC_BYTES_MAX
from prsm.protocol.messages.sync import (
    ChunkHead,
    EpochProof,
    GetChunk,
    GetChunkPart,
    GetEpochHeaders,
    GetSnapshot,
    GotChunk,
    GotChunkPart,
    GotEpochHeaders,
    Snapshot,
    SnapshotMeta,
)
from prsm.protocol.validators import Members
from prsm.storage.errors import Corrupt, NotFound
from prsm.storage.ledger import EpochHeader
from prsm.storage.snapshots import SnapshotFiles

log = logs.get("snapshots")

SERVED_MAX: Final = 4  # calls at once, of distinct peers: each holds up to a frame in memory


class Server:
    """Answers `GetSnapshot`, `GetChunk`, `GetChunkPart` and `GetEpochHeaders`."""

    def __init__(self, driver: Driver, files: SnapshotFiles) -> None:
        """Register the answers; the network does not run yet."""
        self._store = driver.store
        self._files = files
        self._lists: dict[int, tuple[ChunkHead, ...]] = {}
        self._busy: set[PeerId] = set()
        driver.network.on_call(GetSnapshot, self._serve_meta)
        driver.network.on_call(GetChunk, self._serve_chunk)
        driver.network.on_call(GetChunkPart, self._serve_part)
        driver.network.on_call(GetEpochHeaders, self._serve_epochs)

    async def _serve_meta(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetSnapshot)
        async with self._turn(incoming.peer):
            raw = await trio.to_thread.run_sync(self._read_meta, ask.height)
        return SnapshotMeta(height=ask.height), raw

    async def _serve_chunk(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetChunk)
        async with self._turn(incoming.peer):
            raw = await trio.to_thread.run_sync(self._read_part, ask.height, ask.index, 0)
        return GotChunk(height=ask.height, index=ask.index), raw

    async def _serve_part(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetChunkPart)
        async with self._turn(incoming.peer):
            raw = await trio.to_thread.run_sync(self._read_part, ask.height, ask.index, ask.offset)
        return GotChunkPart(height=ask.height, index=ask.index, offset=ask.offset), raw

    async def _serve_epochs(self, incoming: Incoming) -> Answer:
        ask = incoming.message
        assert isinstance(ask, GetEpochHeaders)
        async with self._turn(incoming.peer):
            kept = await self._store.epoch_headers(ask.first, count_max=ask.count)
        successive = [item for step, item in enumerate(kept) if item.epoch == ask.first + step]
        return GotEpochHeaders(epochs=tuple(proof_of(item) for item in successive)), b""

    @asynccontextmanager
    async def _turn(self, peer: PeerId) -> AsyncIterator[None]:
        if peer in self._busy or len(self._busy) >= SERVED_MAX:
            raise Busy(f"{len(self._busy)} calls for snapshots run, at most one of a peer")
        self._busy.add(peer)
        try:
            yield
        finally:
            self._busy.discard(peer)

    def _read_meta(self, height: int) -> bytes:
        with self._dropped(height):
            return self._files.meta(height)

    def _read_part(self, height: int, index: int, at: int) -> bytes:
        with self._dropped(height):
            heads = self._lists.get(height)
            if heads is None:
                raw = self._files.meta(height)
                heads = decode(raw, Snapshot, size_max=BULK_FRAME_BYTES_MAX).chunks
                self._lists = {height: heads, **dict(list(self._lists.items())[:1])}
            if index >= len(heads):
                raise NotFound(f"chunk {index} of {len(heads)}")
            return self._files.part(height, heads[index].root, at=at, size_max=SYNC_BYTES_MAX)

    @contextmanager
    def _dropped(self, height: int) -> Iterator[None]:
        """A damaged snapshot is dropped: peers hear that it is not here."""
        try:
            yield
        except Corrupt as error:
            log.exception("snapshot dropped", height=height)
            self._files.drop(height)
            raise NotFound(f"the snapshot of height {height} is not here") from error


def proof_of(kept: EpochHeader) -> EpochProof:
    """What is kept of an epoch, as it travels."""
    return EpochProof(
        header=decode(kept.header, Header, size_max=len(kept.header)),
        certificate=decode(kept.certificate, Certificate, size_max=len(kept.certificate)),
        members=decode(kept.members, Members, size_max=len(kept.members)),
    )
