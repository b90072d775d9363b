"""Snapshots as one room of the node: making, serving, taking, and pruning what they make old.

Knows: in which order the parts run. Must not know: how a chunk is checked.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.outcome import LedgerTip
from prsm.node.chain.driver import Driver
from prsm.node.chain.history import block_of
from prsm.node.chain.snapshots.evidence import Shown
from prsm.node.chain.snapshots.make import Maker, keep_latest
from prsm.node.chain.snapshots.serve import Server
from prsm.node.chain.snapshots.take import Ground, Taker
from prsm.node.telemetry import logs
from prsm.storage.errors import Corrupt, Full, StoreUnavailable
from prsm.storage.snapshots import SnapshotFiles

log = logs.get("snapshots")

EVERY: Final = 1_000  # heights: seconds under full load, hours when idle
PRUNE_BLOCKS: Final = 64  # a slice: commits wait for some milliseconds
PRUNE_SECONDS: Final = 5.0  # between looks whether something is old


@dataclass(frozen=True, slots=True)
class SnapshotRules:
    """What an operator decides.

    Attributes:
        every: heights between two snapshots of this node; 0 makes none.
        prune: forget blocks below the oldest snapshot that is kept, once nothing in them can
            convict anybody any more.
    """

    every: int = EVERY
    prune: bool = False


class Snapshots:
    """Makes, serves and takes snapshots for one driver."""

    def __init__(
        self,
        driver: Driver,
        files: SnapshotFiles,
        rules: SnapshotRules,
        *,
        rebuild: Callable[[dict[bytes, bytes], LedgerTip], Ledger],
        distrust_log: Callable[[Shown], Awaitable[str | None]],
    ) -> None:
        """Join a driver and a network that do not run yet.

        Args:
            driver: whose state it is.
            files: where snapshots lie.
            rules: of the operator.
            rebuild: a ledger of this network over a whole state and its tip.
            distrust_log: called before a state from elsewhere is installed, with its
                certificates; why this node may sign nothing from then on, None if it may.
        """
        parameters = driver.ledger.genesis.parameters
        self._driver = driver
        self._files = files
        self._rules = rules
        self._horizon_ms = parameters.unbonding_ms
        self._maker = Maker(driver, files, every=rules.every, bits=parameters.tree_bits)
        Server(driver, files)
        far = rules.every or EVERY
        self.taker = Taker(Ground(driver, files, far, rebuild, distrust_log))

    @property
    def bucket_entries(self) -> int:
        """Entries of the state's largest bucket when a snapshot was last made; 0 before one."""
        return self._maker.bucket_entries

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        await trio.to_thread.run_sync(self._files.staging("making").discard)  # of a killed process
        await keep_latest(self._driver, self._files)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._maker.run)
            await nursery.start(self.taker.run)
            if self._rules.prune:
                nursery.start_soon(self._keep_pruning)
            task_status.started()

    async def _keep_pruning(self) -> None:
        while True:
            try:
                pruned = await self.prune()
            except (Corrupt, Full, StoreUnavailable) as error:
                log.warning("nothing pruned", why=error.what)
                pruned = 0
            if not pruned:
                await trio.sleep(PRUNE_SECONDS)

    async def prune(self) -> int:
        """Forget one slice of old blocks; returns how many.

        Raises:
            Corrupt, Full, StoreUnavailable: the disk refused.
        """
        driver, store = self._driver, self._driver.store
        heights = await trio.to_thread.run_sync(self._files.heights)
        first = await store.first_height()
        if not heights or first is None or not first < heights[0] <= driver.ledger.height:
            return 0  # also of a ledger below its snapshots: an older file was put back
        below = min(heights[0], first + PRUNE_BLOCKS)
        newest = await store.block(below - 1)
        if newest is None:  # a snapshot took the ledger's place meanwhile
            return 0
        time_ms = block_of(newest).header.time_ms
        if time_ms > driver.ledger.tip.time_ms - self._horizon_ms:
            return 0  # still evidence
        pruned = await store.prune(below, count_max=PRUNE_BLOCKS)
        driver.held = (driver.held[0], max(below, driver.held[1]))
        log.info("blocks pruned", below=below)
        return pruned
