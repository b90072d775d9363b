"""What a node writes down about its callers, joined: the audit log and its anchors.

Knows: the parts by their constructors, the order of their layers, their handlers. Must not know:
how a part works, transports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from prsm.node.api.audit import AuditApi
from prsm.node.audit import AuditLog
from prsm.node.auditing import Anchors, Auditing
from prsm.node.rpc.dispatch import Handler, Layer
from prsm.node.supervise import Supervisor
from prsm.node.workshop import Opened


@dataclass(frozen=True, slots=True)
class Books:
    """The audit log of a node, and what vouches for it."""

    audit: AuditLog
    anchors: Anchors

    @property
    def layers(self) -> Sequence[Layer]:
        """What every call passes, the outermost first."""
        return (Auditing(self.audit).layer,)

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return AuditApi(self.audit, self.anchors).handlers()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Anchor the audit log now and then, until cancelled."""
        await Supervisor("audit").run(self.anchors.run, task_status=task_status)


async def open_books(opened: Opened) -> Books:
    """Open what is kept in the data folder.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    start, chain = opened.start, opened.chain
    clock = chain.driver.clock
    audit = await AuditLog.open(start.home.data, clock)
    every_ms = start.config.audit.anchor_every_s * 1000
    anchors = Anchors(audit, chain.wallet, chain.driver, every_ms=every_ms)
    return Books(audit, anchors)
