"""The plans of this node: begun, kept at every step, gone on with after a crash, cancelled.

Each plan is one task; a failing plan never affects another. Must not know: how a step is done.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Final

import trio

from prsm.node.clock import TrioClock
from prsm.node.home import Home
from prsm.node.inference.interface import Chain
from prsm.node.inference.job import UnknownJobId
from prsm.node.inference.jobs import Internal, Jobs, NotFinished
from prsm.node.net.interface import Busy
from prsm.node.workplans.checkpoints import Checkpoints, name_of
from prsm.node.workplans.graph import UnknownStep, Workplan
from prsm.node.workplans.progress import PlanRun, PlanState, row_of, run_of
from prsm.node.workplans.steps import Bench, Finder, Steps
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.tensors import Tensor
from prsm.storage.jobs import JobStore, kept_jobs
from prsm.storage.store.model_store import ModelStore

PLANS_RUNNING_MAX: Final = 8
PLANS_KEPT: Final = 64
DROP_AGAIN_S: Final = 600.0  # after a disk that refused: full, as a rule, until a person comes

log = logging.getLogger(__name__)


class Plans:
    """Runs plans side by side.

    Args:
        bench: what their steps work with.
        keep: opens the store where plans survive this process; None: nowhere.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        keep: Callable[[], AbstractAsyncContextManager[JobStore]] | None = None,
    ) -> None:
        self._with, self._keep = bench, keep
        self._store: JobStore | None = None
        self._plans: dict[bytes, PlanRun] = {}  # the oldest first
        self._nursery: trio.Nursery | None = None
        self._unread: set[str] = set()  # names of kept plans that this version cannot read
        self._forgotten: set[str] = set()  # names of plans whose outputs are still pinned
        self._is_compared = False  # with what is pinned: an earlier process may have left some
        self._to_drop = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with the plans an earlier process left, and run submitted ones until cancelled.

        Jobs run before this starts. A store that does not open is logged: plans run, and are
        forgotten with the process.
        """
        async with AsyncExitStack() as stack:
            if self._keep is not None:
                try:
                    self._store = await stack.enter_async_context(self._keep())
                    await self._load(self._store)
                except LocalError as error:
                    log.warning("plans are not kept over a restart: %s", error.what)
                    self._store = None
            self._is_compared = self._store is None  # then what is pinned may be of kept plans
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for run in self._plans.values():
                    nursery.start_soon(self._reclaim if run.is_over else self._do, run)
                nursery.start_soon(self._drop_forgotten)  # no plan waits for the disk
                try:
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    self._nursery = None

    async def submit(self, plan: Workplan) -> bytes:
        """Check, keep and begin a plan; its id is also the name of its escrow.

        Raises:
            PlanFault: what stands against it.
            PlanTooLarge: more texts and arrays than are kept.
            Busy: too many run, or the service does not.
        """
        run = PlanRun(self._with.new_id(), plan, self._with.clock.wall_ms())
        if self._nursery is None or self.running >= PLANS_RUNNING_MAX:
            raise Busy(f"{self.running} plans run, at most {PLANS_RUNNING_MAX}")
        self._plans[run.id] = run
        try:
            await self._save(run)
        except BaseException:
            del self._plans[run.id]
            raise
        self._nursery.start_soon(self._do, run)
        return run.id

    @property
    def running(self) -> int:
        """Plans at work now."""
        return sum(not run.is_over for run in self._plans.values())

    def get(self, plan_id: bytes) -> PlanRun:
        """A plan, to be read only.

        Raises:
            UnknownJobId: never submitted here, or forgotten.
        """
        run = self._plans.get(plan_id)
        if run is None:
            raise UnknownJobId(
                f"no plan {plan_id.hex()[:16]} on this node", hint="prsm plan ls shows them"
            )
        return run

    def list(self) -> tuple[PlanRun, ...]:
        """All plans that are kept, newest first."""
        return tuple(reversed(self._plans.values()))

    async def wait(self, plan_id: bytes) -> PlanRun:
        """Return once the plan is over; the caller sets the deadline.

        Raises:
            UnknownJobId: as `get`.
        """
        run = self.get(plan_id)
        await run.over.wait()
        return run

    def cancel(self, plan_id: bytes) -> None:
        """Stop a plan; the outputs of steps that are done stay.

        Raises:
            UnknownJobId: as `get`.
        """
        self.get(plan_id).scope.cancel()

    async def result(self, plan_id: bytes, step: str = "") -> tuple[Tensor, ...]:
        """The outputs of a step, read by their CID; without a name, of the last one.

        Raises:
            UnknownJobId, UnknownStep: there is none.
            NotFinished: it is not done.
            NotFound, Corrupt: they are not here any more.
        """
        run = self.get(plan_id)
        name = step or next(reversed(run.steps))
        if name not in run.steps:
            raise UnknownStep(
                f"the plan has no step {name!r}", step=name, hint=f"it has: {', '.join(run.steps)}"
            )
        found = run.steps[name]
        if found.output is None:
            if found.error is not None:
                raise found.error
            raise NotFinished(f"step {name} is {found.state.value}", hint="wait for it")
        return await self._with.checkpoints.read(found.output)

    async def _do(self, run: PlanRun) -> None:
        steps = Steps(run, self._with, lambda: self._save(run))
        try:
            with run.scope:
                await steps.run()
                run.end(PlanState.DONE)
            if run.scope.cancelled_caught:
                run.end(PlanState.CANCELLED, NotFinished("the plan was cancelled"))
        except PrsmError as error:
            run.end(PlanState.FAILED, error)
        except Exception as error:  # one plan must not take the others down
            log.exception("plan %s", run.id.hex()[:16])
            run.end(PlanState.FAILED, Internal(f"{type(error).__name__} inside the node"))
        try:
            await self._save(run)
        except PrsmError as error:  # it is over all the same; a restart would go on with it
            log.warning("plan %s is not kept: %s", run.id.hex()[:16], error.what)
        run.over.set()
        try:
            await self._forget_old()
        except PrsmError as error:  # the other plans go on, and its escrow comes back
            log.warning("old plans are not all forgotten: %s", error.what)
        await self._reclaim(run)

    async def _reclaim(self, run: PlanRun) -> None:
        """Fetch back what is locked; then the row may go when it is old."""
        owed = run.owes
        await Steps(run, self._with, lambda: self._save(run)).reclaim()
        if not owed:
            return
        try:
            await self._save(run)
            if self._store is not None:
                await self._store.prune(PLANS_KEPT)
        except PrsmError as error:
            log.warning("plan %s is looked at again later: %s", run.id.hex()[:16], error.what)

    async def _save(self, run: PlanRun) -> None:
        row = row_of(run)
        if self._store is not None:
            await self._store.put(row)
        else:
            await trio.lowlevel.checkpoint()

    async def _load(self, store: JobStore) -> None:
        rows = [*await store.newest(PLANS_KEPT), *await store.unfinished()]
        by_id = {row.id: row for row in rows}
        for row in sorted(by_id.values(), key=lambda row: (row.made_ms, row.id)):
            try:
                self._plans[row.id] = run_of(row)
            except PrsmError as error:
                self._unread.add(name_of(row.id))
                log.warning("kept plan %s is passed over: %s", row.id.hex()[:16], error.what)

    async def _forget_old(self) -> None:
        over = [run for run in self._plans.values() if run.is_over]
        for run in over[: max(0, len(over) - PLANS_KEPT)]:
            del self._plans[run.id]
            self._forgotten.add(name_of(run.id))
        self._to_drop.set()
        if self._store is not None:
            await self._store.prune(PLANS_KEPT)

    async def _drop_forgotten(self) -> None:
        """Let the outputs of forgotten plans go; what the disk refuses is tried again."""
        is_done = await self._drop()
        while True:
            if is_done:
                await self._to_drop.wait()
            else:
                await trio.sleep(DROP_AGAIN_S)
            self._to_drop = trio.Event()
            is_done = await self._drop()

    async def _drop(self) -> bool:
        """Try once, first with what an earlier process left pinned; are all gone?"""
        try:
            if not self._is_compared:
                names = await self._with.checkpoints.names()
                kept = {name_of(plan) for plan in self._plans}
                self._forgotten |= names - kept - self._unread
                self._is_compared = True
            for name in sorted(self._forgotten):
                await self._with.checkpoints.drop(name)
                self._forgotten.discard(name)
        except PrsmError as error:
            log.warning("outputs of forgotten plans stay for now: %s", error.what)
            return False
        return True


def open_plans(home: Home, store: ModelStore, *, jobs: Jobs, chain: Chain, finder: Finder) -> Plans:
    """The plans of a node, kept in its data folder; nothing runs yet."""
    checkpoints = Checkpoints(store, home.models)
    bench = Bench(jobs, chain, checkpoints, finder, TrioClock())
    return Plans(bench, keep=partial(kept_jobs, home.data / "plans.db"))
