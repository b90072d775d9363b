"""What a node does for files beside storing them: copies, deals, and intents that wait.

Starts the three parts. Must not know: how any of them works.
"""

from dataclasses import dataclass
from pathlib import Path

import trio

from prsm.node.chain.driver import Driver
from prsm.node.chain.outbox import Outbox
from prsm.node.chain.wallet import Wallet
from prsm.node.replication.custody import Custody
from prsm.node.replication.driver import Repair
from prsm.node.supervise import Supervisor
from prsm.protocol.errors import Unsupported
from prsm.storage.store.model_store import ModelStore


@dataclass(frozen=True, slots=True)
class Ground:
    """What upkeep stands on; `data` is the node's folder for databases."""

    driver: Driver
    wallet: Wallet
    store: ModelStore
    data: Path
    outbox: Outbox


class Upkeep:
    """Repair, custody and the outbox of one node."""

    def __init__(self, ground: Ground, repair: Repair) -> None:
        self.repair = repair
        self._ground = ground
        self._custody: Custody | None = None

    @property
    def outbox(self) -> Outbox:
        """What waits for the ledger."""
        return self._ground.outbox

    @property
    def custody(self) -> Custody:
        """Deals of this node's account.

        Raises:
            Unsupported: it does not run.
        """
        if self._custody is None:
            raise Unsupported("deals are not open yet", hint="try again in a second")
        return self._custody

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep up until cancelled."""
        ground = self._ground
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(Supervisor("outbox").run, ground.outbox.run)
                self._custody = Custody(
                    *(ground.driver, ground.wallet, ground.outbox, ground.store),
                    ground.data / "custody",
                )
                await nursery.start(Supervisor("custody").run, self._custody.run)
                await nursery.start(Supervisor("repair").run, self.repair.run)
                task_status.started()
        finally:
            self._custody = None
