"""What a node writes down about its callers, joined: audit log, tenants, what tokens spend.

Knows: the parts by their constructors, the order of their layers, their handlers. Must not know:
how a part works, transports.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from prsm.consensus.ledger.records import Job as Escrow
from prsm.node.api.audit import AuditApi
from prsm.node.api.events import EventsApi
from prsm.node.api.ledger import fees_by
from prsm.node.api.tenants import TenantsApi
from prsm.node.callers.audit import AuditLog
from prsm.node.callers.auditing import Anchors, Auditing
from prsm.node.callers.costs import Costs
from prsm.node.callers.halves import start_then_wait
from prsm.node.callers.refusals import Refusals
from prsm.node.callers.spending import Spending
from prsm.node.callers.stores import StoredObject
from prsm.node.callers.tenants import FindObject, Tenants
from prsm.node.callers.tokens import Tokens
from prsm.node.clock import Clock
from prsm.node.models import Models
from prsm.node.models.mending import ASKS_NOBODY
from prsm.node.rpc.dispatch import Handler, Layer
from prsm.node.supervise import Supervisor
from prsm.node.telemetry.events import Events
from prsm.node.work.workshop import Opened, Workshop
from prsm.protocol.errors import PrsmError
from prsm.storage.database import Database
from prsm.storage.outlays import Limits, Outlays
from prsm.storage.tenancy import Tenancy, open_database

_FETCHES: Final = ("pull", "repair")  # kinds of tasks that bring a model here


@dataclass(frozen=True, slots=True)
class Books:
    """The audit log of a node and what vouches for it, its tenants, what their tokens spend."""

    audit: AuditLog
    anchors: Anchors
    refusals: Refusals
    tenants: Tenants
    spending: Spending
    clock: Clock
    database: Database
    events: Events

    @property
    def layers(self) -> Sequence[Layer]:
        """What every call passes, the outermost first."""
        audit = Auditing(self.audit).layer
        return (audit, start_then_wait, self.tenants.layer, self.spending.layer)

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            **AuditApi(self.audit, self.anchors).handlers(),
            **TenantsApi(self.tenants, self.spending, self.clock).handlers(),
            **EventsApi(self.events, self.tenants.may_hear).handlers(),
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Anchor and settle now and then, until cancelled; then close the file of tenants."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(Supervisor("audit").run, self.anchors.run)
                await nursery.start(Supervisor("refusals").run, self.refusals.run)
                await nursery.start(Supervisor("spending").run, self.spending.run)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True):  # bounded: closing a file
                await self.database.close()


async def open_books(opened: Opened, work: Workshop, tokens: Tokens) -> Books:
    """Open what is kept in the data folder; `run` closes it.

    Raises:
        Full, StoreUnavailable, Corrupt, Conflict: the disk refused, or a file is damaged or in use.
    """
    start, chain = opened.start, opened.chain
    driver, clock = chain.driver, chain.driver.clock
    audit = await AuditLog.open(start.home.data, clock)
    every_ms = start.config.audit.anchor_every_s * 1000
    anchors = Anchors(audit, chain.wallet, driver, every_ms=every_ms)
    database = await open_database(start.home.data / "tenancy.db")

    def find_escrow(job: bytes) -> Escrow | None:
        return driver.ledger.view.job(job)

    generations = work.generating.generations
    costs = Costs(find_escrow, clock, work.jobs, work.plans, generations)

    chain.wallet.on_sent.append(costs.note_sent)

    tenants = Tenants(
        Tenancy(database),
        clock,
        is_over=costs.is_over,
        find_object=_finder(work.models),
        is_fetched=partial(_is_fetched, work.models),
    )
    await tenants.load()
    fees = fees_by(lambda: driver.ledger.parameters)
    spending = Spending(Outlays(database), limits_of(tokens), costs, clock, fees)
    refusals = Refusals(audit, clock)
    return Books(audit, anchors, refusals, tenants, spending, clock, database, work.feed.events)


def limits_of(tokens: Tokens) -> Callable[[str], Limits | None]:
    """What tokens may spend, by id; nothing for one that is not there."""

    def find(token_id: str) -> Limits | None:
        found = tokens.find(token_id)
        return None if found is None else Limits(found.spend_limit, found.daily_cap)

    return find


def _is_fetched(models: Models, cid: str) -> bool:
    """Does a task bring this model here now?"""
    for task in models.tasks.list():
        if task.kind in _FETCHES and not task.over.is_set():
            with suppress(PrsmError):  # it means nothing any more
                if str(models.resolve(task.subject.removesuffix(ASKS_NOBODY))) == cid:
                    return True
    return False


def _finder(models: Models) -> FindObject:
    async def find(ref: str) -> StoredObject:
        known = await models.find(ref)
        return StoredObject(str(known.cid), known.manifest.total_bytes, known.is_held)

    return find
