"""The open tabs: slots for requests, a new tab before the old one is full, settled when done with.

Knows when a tab is opened and closed, and which workers it gets. Must not know what is asked.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from prsm.node.inference.capacity import ask_all
from prsm.node.inference.interface import Halted, NoBond, ReceiptStore
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.planner import PriceOverCap, RuntimeMismatch, TooFewPeers, WorkerOffer
from prsm.node.inference.serving.closing import reclaim, settle
from prsm.node.inference.serving.health import HealthBook
from prsm.node.inference.serving.probes import probe
from prsm.node.inference.serving.purse import Purse
from prsm.node.inference.serving.tab import Tab, TabKind, TabRules, TabState
from prsm.node.net.interface import Busy
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.transactions.payloads import unit_batches_max

PROBE_ROWS: Final = 8  # of golden rows whose batch is free
SLOTS_MIN: Final = 4
FIRST_SLOTS: Final = 32  # of the first tab of a kind; each further one has twice as many
TABS_MAX: Final = 64  # not settled yet, of all kinds
KEPT_MAX: Final = 64  # settled ones that can still be looked at
LOOK_S: Final = 1.0

log = logging.getLogger(__name__)
CheckPrice = Callable[[int], None]  # micro-FTNS of a slot; raises `PriceOverCap`: too dear


class UnknownTab(LocalError):
    """No such tab on this node."""

    reason = "unknown_job"


@dataclass(frozen=True, slots=True)
class ServingRules:
    """Bounds of serving.

    Attributes:
        idle_s: a tab that nobody used for so long is closed.
        slots_max: requests of one tab; fewer where more opinions must fit a settlement.
        tab: of each.
    """

    idle_s: float = 60.0
    slots_max: int = 1024
    tab: TabRules = field(default_factory=TabRules)


@dataclass(slots=True, eq=False)
class _Row:
    """The tabs of one kind."""

    tabs: list[Tab] = field(default_factory=list)  # open, the oldest first
    slots: int = FIRST_SLOTS
    is_opening: bool = False
    error: PrsmError | None = None  # of the last opening
    price: int = 0  # of a slot of the tab that was opened last, or was too dear
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def is_empty(self) -> bool:
        """Is there nothing to keep it for?"""
        return not self.tabs and not self.is_opening and self.slots == FIRST_SLOTS

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Tabs:
    """All tabs of this node as a requester.

    Args:
        requester: what jobs of ours work with.
        health: who served well; workers that failed lately are left out.
        rules: bounds.
        notes: where ids of tabs survive until nothing is locked in them.
        new_id: makes 32-byte job ids; random outside tests.
    """

    def __init__(
        self,
        requester: Requester,
        health: HealthBook,
        *,
        rules: ServingRules,
        notes: ReceiptStore,
        new_id: Callable[[], bytes],
    ) -> None:
        self._links, self._models, self._clock = requester.links, requester.models, requester.clock
        self._health = health
        self._rules, self._notes, self._new_id = rules, notes, new_id
        self._rows: dict[TabKind, _Row] = {}
        self._all: dict[bytes, Tab] = {}
        self._nursery: trio.Nursery | None = None
        self.on_lost: list[Callable[[bytes], object]] = []  # told of each worker that failed
        self._links.departures.listeners.append(self._leave)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open and close tabs until cancelled; those that are open then are settled by workers."""
        async with trio.open_nursery() as nursery:
            noted = await self._notes.load()  # refused, nothing was begun that it would cut
            self._nursery = nursery
            try:
                for tab in self._left():
                    self._settle_soon(tab)
                for job in noted:
                    if job not in self._all or self._all[job].is_over:
                        nursery.start_soon(self._reclaim, job)
                task_status.started()
                while True:
                    await trio.sleep(LOOK_S)
                    self._look()
            finally:
                self._nursery = None

    def _left(self) -> Sequence[Tab]:
        """Tabs that a crash of this part left on their way, opened or closed by nobody now."""
        known = {tab.job for row in self._rows.values() for tab in row.tabs}
        return [tab for job, tab in self._all.items() if job not in known and not tab.is_over]

    def list(self) -> tuple[Tab, ...]:
        """All tabs that are kept, newest first."""
        return tuple(reversed(self._all.values()))

    async def price(self, kind: TabKind, manifest: ModelManifest, check: CheckPrice) -> int:
        """Micro-FTNS of a slot now, of a new tab if need be; raises as `slot` and the check do."""
        return (await self._with_room(kind, manifest, check)).slot_price

    async def slot(self, kind: TabKind, manifest: ModelManifest, purse: Purse) -> tuple[Tab, int]:
        """A free slot, of a new tab if need be, its price taken; the caller sets the deadline.

        Raises:
            PriceOverCap: its workers may ask for more than the purse has.
            Busy: too many tabs are not settled yet, or the service does not run.
            PlanRefused: no workers for that.
            LocalError: the lock was refused.
        """
        tab = await self._with_room(kind, manifest, purse.check)
        purse.take(tab.slot_price)
        number = tab.take_slot()
        if 2 * sum(each.free for each in self._rows[kind].tabs) <= len(tab.batch_rows):
            with suppress(Busy):  # ahead of those to come: this request has its slot
                self._open_soon(kind, manifest, Purse().check)
        return tab, number

    async def _with_room(self, kind: TabKind, manifest: ModelManifest, check: CheckPrice) -> Tab:
        """A tab with a free slot, which is still free when this returns."""
        while True:
            row = self._rows.setdefault(kind, _Row())
            for tab in row.tabs:
                if tab.free:
                    return tab
            self._open_soon(kind, manifest, check)
            await row.changed.wait()
            if row.error is not None and not any(tab.free for tab in row.tabs):
                if not isinstance(row.error, PriceOverCap):
                    raise _anew(row.error)
                check(row.price)  # too dear for another's cap; for ours?

    def kinds_of(self, model: bytes) -> tuple[TabKind, ...]:
        """Kinds of which tabs are open for a model."""
        return tuple(kind for kind, row in self._rows.items() if kind.model == model and row.tabs)

    def warm(self, kind: TabKind, manifest: ModelManifest) -> None:
        """Open a tab before somebody asks."""
        row = self._rows.setdefault(kind, _Row())
        if not any(tab.free for tab in row.tabs):
            self._open_soon(kind, manifest, Purse().check)

    def retire(self, model: bytes) -> None:
        """Close all tabs of a model: what is under way is answered, nothing new goes there."""
        for kind in self.kinds_of(model):
            for tab in self._rows[kind].tabs:
                tab.seal()
        self._look()

    def close(self, job: bytes) -> Tab:
        """Close one tab.

        Raises:
            UnknownTab: there is none of that name.
        """
        tab = self._all.get(job)
        if tab is None:
            raise UnknownTab(f"no tab {job.hex()[:16]}", hint="prsm serve ls shows them")
        tab.seal()
        self._look()
        return tab

    def _leave(self, peer: PeerId) -> None:
        """Close the tabs of a worker that goes away; what is under way is answered first."""
        for row in self._rows.values():
            for tab in row.tabs:
                if peer in (offer.peer for offer in tab.offers if offer.worker in tab.opened):
                    tab.seal()
        self._look()

    # -- opening

    def _open_soon(self, kind: TabKind, manifest: ModelManifest, check: CheckPrice) -> None:
        row = self._rows[kind]
        if row.is_opening:
            return
        live = sum(not tab.is_over for tab in self._all.values())
        if self._nursery is None or live >= TABS_MAX:
            raise Busy(f"{live} tabs are not settled yet, at most {TABS_MAX}", retry_after_ms=2000)
        row.is_opening, row.error = True, None
        self._nursery.start_soon(self._open, kind, manifest, row, check)

    async def _open(
        self, kind: TabKind, manifest: ModelManifest, row: _Row, check: CheckPrice
    ) -> None:
        try:
            tab = await self._make(kind, manifest, row.slots)
            row.price = tab.slot_price
            check(row.price)  # before anything is locked
            self._keep(tab)
            await self._bring_up(tab)
        except PrsmError as error:
            log.warning("no tab for %s: %s", manifest.name, error.what)
            row.error = error
        else:
            tab.last_used = trio.current_time()  # from now on it could be used
            row.tabs.append(tab)
            row.slots = min(2 * row.slots, self._most_slots(kind))
        finally:
            row.is_opening = False
            row.wake()

    async def _bring_up(self, tab: Tab) -> None:
        """Open a tab and probe its workers before anybody is served by them."""
        try:
            await self._notes.keep(tab.job, 0, tab.job)  # before money can move
            await tab.open()
        except PrsmError as error:
            tab.error = error
            self._settle_soon(tab)
            raise
        for worker in tab.ready:
            await self._probe(tab, worker)

    async def _probe(self, tab: Tab, worker: bytes) -> None:
        why = await probe(tab, worker, self._models, self._health)
        if why is None:
            return
        service = self._health.of(tab.kind.model, worker)
        self._health.note_probe(service, why=why, now_ms=self._clock.wall_ms())
        if why:
            tab.lose(worker, f"golden rows: {why}")

    async def _make(self, kind: TabKind, manifest: ModelManifest, slots: int) -> Tab:
        chain = self._links.chain
        if chain.is_halted(kind.model):
            raise Halted(f"model {kind.model.hex()[:16]} is halted on the ledger")
        shard = next(shard for shard in manifest.shards if shard.stages == 1)
        offers = await ask_all(self._links.network, chain, self._links.verifier)
        chosen = self._choose(kind, manifest, offers)
        count = min(slots, self._most_slots(kind), *(self._bonded(kind, one) for one in chosen))
        return Tab(
            job=self._new_id(),
            kind=kind,
            manifest=manifest,
            shard=shard,
            offers=chosen,
            batch_rows=(PROBE_ROWS, *(kind.rows,) * (count - 1)),
            links=self._links,
            rules=self._rules.tab,
            on_lost=partial(self._note_lost, kind.model),
        )

    def _most_slots(self, kind: TabKind) -> int:
        return min(self._rules.slots_max, unit_batches_max(kind.opinions))

    def _choose(
        self, kind: TabKind, manifest: ModelManifest, offers: Sequence[WorkerOffer]
    ) -> tuple[WorkerOffer, ...]:
        """The workers of a tab: who holds the model, then who failed least, price, account."""
        able = [offer for offer in offers if offer.runtime == manifest.compute.runtime]
        if len(offers) >= kind.opinions > len(able):
            others = sorted({offer.runtime for offer in offers} - {manifest.compute.runtime})
            raise RuntimeMismatch(
                f"{len(able)} workers run {manifest.compute.runtime}, {kind.opinions} are needed",
                value=tuple(others),
                limit=manifest.compute.runtime,
                hint="install the same version of PRSM on the workers",
            )
        now_ms = self._clock.wall_ms()
        free = [
            offer
            for offer in able
            if offer.slots_free and not self._health.is_out(kind.model, offer.worker, now_ms=now_ms)
        ]
        if len(free) < kind.opinions:
            raise TooFewPeers(
                f"{len(free)} workers are free and well, {kind.opinions} are needed",
                value=len(free),
                limit=kind.opinions,
                hint="connect more workers, or wait until they are free",
            )
        free = [offer for offer in free if self._bonded(kind, offer) >= SLOTS_MIN]
        if len(free) < kind.opinions:
            raise NoBond(
                f"{len(free)} workers have pledged enough for {SLOTS_MIN} requests answered alone",
                hint="ask for 2 or 3 opinions, or for workers with a bond",
            )
        free.sort(key=partial(self._rank, kind))
        return tuple(free[: kind.opinions])

    def _bonded(self, kind: TabKind, offer: WorkerOffer) -> int:
        """Slots a worker's pledge covers; where several answer, or for nothing, none is asked."""
        if kind.opinions > 1 or not offer.price_per_row:
            return self._most_slots(kind)
        rows = self._links.chain.bonded_for(offer.worker) // offer.price_per_row
        return 1 + max(0, rows - PROBE_ROWS) // kind.rows

    def _rank(self, kind: TabKind, offer: WorkerOffer) -> tuple[bool, int, int, bytes]:
        service = self._health.of(kind.model, offer.worker)
        failing = int(10 - service.success_percent // 10)
        return (kind.model not in offer.models, failing, offer.price_per_row, offer.worker)

    # -- closing

    def _look(self) -> None:
        """Settle what is done with, and forget what nobody asks for."""
        for row in self._rows.values():
            for tab in row.tabs:
                if tab.is_stale(self._rules.idle_s):
                    tab.seal()
            over = [tab for tab in row.tabs if tab.state is not TabState.OPEN]
            row.tabs = [tab for tab in row.tabs if tab.state is TabState.OPEN]
            for tab in over:
                self._settle_soon(tab)
        for kind in [kind for kind, row in self._rows.items() if row.is_empty]:
            del self._rows[kind]

    def _settle_soon(self, tab: Tab) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._settle, tab)

    async def _settle(self, tab: Tab) -> None:
        try:
            await settle(tab)
            await self._notes.drop(tab.job, 0)
        except PrsmError as error:
            log.warning("tab %s stays noted: %s", tab.job.hex()[:8], error.what)
        except Exception:  # one tab must not take the others down
            log.exception("tab %s", tab.job.hex()[:16])
            tab.state = TabState.FAILED
        finally:
            if tab.is_over:  # nobody asks for them any more; cut before, it is settled later
                tab.inputs.clear()

    async def _reclaim(self, job: bytes) -> None:
        """Fetch back what an earlier process locked; its workers settle what they did."""
        try:
            await reclaim(self._links.chain, job)
            await self._notes.drop(job, 0)
        except PrsmError as error:
            log.warning("tab %s stays noted: %s", job.hex()[:8], error.what)

    def _note_lost(self, model: bytes, worker: bytes, why: str) -> None:
        service = self._health.of(model, worker)
        now_ms = self._clock.wall_ms()
        self._health.note_failure(service, reason="worker_lost", what=why, now_ms=now_ms)
        for tell in self.on_lost:
            tell(worker)

    def _keep(self, tab: Tab) -> None:
        self._all[tab.job] = tab
        over = [job for job, each in self._all.items() if each.is_over]
        for job in over[: max(0, len(over) - KEPT_MAX)]:
            del self._all[job]


def slot_rows(rows: int) -> int:
    """The size of the slot a request of so many rows takes: the next power of two."""
    return 1 << max(0, rows - 1).bit_length()


def _anew(error: PrsmError) -> PrsmError:
    """The same refusal as an object of its own: each who is told adds what the call cost so far."""
    made = type(error).__new__(type(error), *error.args)
    vars(made).update(vars(error))
    return made
