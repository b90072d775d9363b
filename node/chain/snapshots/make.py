"""Makes snapshots of this node's own state, beside the chain and never in its way.

At a due height the driver waits for the start of one read transaction (below a millisecond);
everything else happens in threads, chunk by chunk, with pauses. A snapshot of height H is there
once block H + 1 is: its header must name the root that the chunks lead to, so what is on disk is
compared with what the network agreed on. Source: docs/spec/storage.md, "Snapshots".
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import trio

from prsm.consensus.ledger.chunks import Chunk, cut, root_of
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of, certificate_of, receipts_of
from prsm.node.telemetry import logs
from prsm.protocol.codec import encode
from prsm.protocol.limits import BUCKET_BYTES_MAX, SNAPSHOT_CHUNKS_MAX, SYNC_BYTES_MAX
from prsm.protocol.messages.sync import Snapshot
from prsm.protocol.proofs import bucket_index
from prsm.storage.errors import Corrupt, Full, StoreUnavailable
from prsm.storage.ledger import StoredBlock
from prsm.storage.ledgerview import LedgerView
from prsm.storage.snapshots import SnapshotFiles, Staging

log = logs.get("snapshots")

KEPT: Final = 2  # a peer that takes one needs it for a while after the next is made
PAUSE_SECONDS: Final = 0.02  # after each chunk, which takes about 50 ms of a core


@dataclass(frozen=True, slots=True)
class _Made:
    height: int
    chunks: list[Chunk]  # without their bytes, by first bucket
    longest: int  # bytes of the largest one


class Maker:
    """Makes a snapshot at every due height of this node's chain."""

    def __init__(self, driver: Driver, files: SnapshotFiles, *, every: int, bits: int) -> None:
        """Use a driver that does not run yet.

        Args:
            driver: whose state it is.
            files: where snapshots go.
            every: heights between two; 0 for none.
            bits: of the state's tree.
        """
        self._driver = driver
        self._files = files
        self._every = every
        self._bits = bits
        self.bucket_entries = 0  # of the largest bucket, when a state was last cut
        self._views_in, self._views_out = trio.open_memory_channel[LedgerView](1)
        driver.on_durable = self._pin

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make snapshots until cancelled."""
        task_status.started()
        async for view in self._views_out:
            try:
                await self._make(view)
            except (Corrupt, Full, StoreUnavailable) as error:
                log.warning("no snapshot", height=view.height, why=error.what)
            finally:
                view.close()

    async def _pin(self, height: int) -> None:
        """Keep the state after a due height readable; a snapshot still in the making goes on."""
        if not self._every or height % self._every:
            return
        try:
            view = await self._driver.store.view()
        except (Corrupt, StoreUnavailable) as error:
            log.warning("no snapshot", height=height, why=error.what)
            return
        try:
            self._views_in.send_nowait(view)
        except trio.WouldBlock:
            view.close()
            log.info("no snapshot: the last one is still being made", height=height)

    async def _make(self, view: LedgerView) -> None:
        staging = self._files.staging("making")
        await trio.to_thread.run_sync(staging.discard)
        chunks = cut(view.pairs(lambda key: bucket_index(key, self._bits)), bits=self._bits)
        heads: list[Chunk] = []
        longest = 0
        while (chunk := await trio.to_thread.run_sync(_next, chunks, staging)) is not None:
            longest = max(longest, len(chunk.raw))
            heads.append(replace(chunk, raw=b""))
            await trio.sleep(PAUSE_SECONDS)
        self.bucket_entries = max(chunk.bucket_entries for chunk in heads)
        heads.sort(key=lambda chunk: chunk.first)
        view.close()
        await self._publish(_Made(view.height, heads, longest), staging)

    async def _publish(self, made: _Made, staging: Staging) -> None:
        height, store = made.height, self._driver.store
        await self._driver.wait_height(height + 1)
        last, after = await store.block(height), await store.block(height + 1)
        if last is None or after is None:  # pruned, or another snapshot was installed above it
            await trio.to_thread.run_sync(staging.discard)
            return
        found = snapshot_of(last, after, made.chunks)
        raw = encode(found)
        if root_of(found.chunks, bits=self._bits) != found.header.state_root:
            log.error("the ledger file differs from what the network agreed on", height=height)
            await trio.to_thread.run_sync(staging.discard)
        elif (
            len(found.chunks) > SNAPSHOT_CHUNKS_MAX
            or len(raw) > SYNC_BYTES_MAX
            or made.longest > BUCKET_BYTES_MAX
        ):  # nobody could fetch it: those before it stay
            chunks, longest = len(found.chunks), made.longest
            log.error("too large for a snapshot", height=height, chunks=chunks, longest=longest)
            await trio.to_thread.run_sync(staging.discard)
        else:
            roots = [head.root for head in found.chunks]
            await trio.to_thread.run_sync(staging.publish, height, raw, roots)
            log.info("snapshot", height=height, chunks=len(roots))
            await keep_latest(self._driver, self._files)


async def keep_latest(driver: Driver, files: SnapshotFiles) -> None:
    """Drop all snapshots but the last ones, and let peers know which this node serves.

    Raises:
        StoreUnavailable: the disk refused.
    """
    heights = await trio.to_thread.run_sync(files.heights)
    for height in heights[:-KEPT]:
        await trio.to_thread.run_sync(files.drop, height)
    first = await driver.store.first_height()
    driver.held = (heights[-1] if heights else 0, 1 if first is None else first)


def snapshot_of(last: StoredBlock, after: StoredBlock, chunks: list[Chunk]) -> Snapshot:
    """What proves the state after `last`: mostly the header of the block after it."""
    return Snapshot(
        header=block_of(after).header,
        certificate=certificate_of(after),
        block=block_of(last),
        block_certificate=certificate_of(last),
        receipts=receipts_of(last),
        chunks=tuple(chunk.head for chunk in chunks),
    )


def _next(chunks: Iterator[Chunk], staging: Staging) -> Chunk | None:
    """Cut and write one chunk."""
    chunk = next(chunks, None)
    if chunk is not None:
        staging.put(chunk.root, chunk.raw)
    return chunk
