"""What a node does for files beside storing them: copies, deals, and intents that wait.

Opens the outbox, starts the three parts, and closes it again. Must not know: how any of them works.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import trio

from prsm.node.chain.driver import Driver
from prsm.node.chain.wallet import Wallet
from prsm.node.replication.custody import Custody
from prsm.node.replication.driver import Repair
from prsm.node.replication.outbox import Outbox
from prsm.node.supervise import Supervisor
from prsm.protocol.errors import Unsupported
from prsm.storage.store.model_store import ModelStore

_Part = TypeVar("_Part", Outbox, Custody)


@dataclass(frozen=True, slots=True)
class Ground:
    """What upkeep stands on; `data` is the node's folder for databases."""

    driver: Driver
    wallet: Wallet
    store: ModelStore
    data: Path


class Upkeep:
    """Repair, custody and the outbox of one node."""

    def __init__(self, ground: Ground, repair: Repair) -> None:
        self.repair = repair
        self._ground = ground
        self._outbox: Outbox | None = None
        self._custody: Custody | None = None

    @property
    def outbox(self) -> Outbox:
        """Intents that wait.

        Raises:
            Unsupported: it does not run.
        """
        return _running(self._outbox)

    @property
    def custody(self) -> Custody:
        """Deals of this node's account.

        Raises:
            Unsupported: it does not run.
        """
        return _running(self._custody)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep up until cancelled."""
        ground = self._ground
        outbox = await Outbox.open(
            ground.data / "outbox.db", ground.wallet, ground.driver.clock, self._is_online
        )
        try:
            custody = Custody(
                ground.driver, ground.wallet, outbox, ground.store, ground.data / "custody"
            )
            self._outbox, self._custody = outbox, custody
            async with trio.open_nursery() as nursery:
                await nursery.start(Supervisor("outbox").run, outbox.run)
                await nursery.start(Supervisor("custody").run, custody.run)
                await nursery.start(Supervisor("repair").run, self.repair.run)
                task_status.started()
        finally:
            self._outbox = self._custody = None
            with trio.CancelScope(shield=True):
                await outbox.close()

    def _is_online(self) -> bool:
        """Is there a validator who could take a transaction, ourselves included?"""
        driver = self._ground.driver
        here = {info.peer for info in driver.network.peers()} | {driver.network.peer_id}
        return any(each.peer_id in here for each in driver.validators.validators)


def _running(part: _Part | None) -> _Part:
    if part is None:
        raise Unsupported("deals and intents are not open yet", hint="try again in a second")
    return part
