"""Long work of this node's own store: it goes on when its caller goes away, and can be looked at.

Knows: kinds, states, progress of tasks. Must not know: what a task does. A job is work of others
that is paid for (`inference/jobs`); a task is work of this node on its own files.

Invariants: one task of a kind and subject runs at a time, a second start joins it; at most
`TASKS_MAX` run and `KEPT_MAX` that ended are remembered, also by the next run of the node. What
runs when the node ends is told by the next run as interrupted; `mending` goes on with fetches.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.models.meter import Meter
from prsm.node.models.taskfile import Noted, TaskState, load_tasks, save_tasks
from prsm.node.net.interface import Busy
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.errors import NotFound

log = logs.get("tasks")

TASKS_MAX: Final = 32
KEPT_MAX: Final = 64


class TaskCancelled(LocalError):
    """Somebody ended the task, or the node is stopping."""

    reason = "cancelled"


class TaskInterrupted(LocalError):
    """The node ended while the task was at work."""

    reason = "interrupted"


class ResultGone(LocalError):
    """The task was done by an earlier run of the node; results are not kept."""

    reason = "not_found"


@dataclass(slots=True, eq=False)
class Task:
    """One long work.

    Attributes:
        id: for people: `pull-1f0c2a9b`.
        kind: `pull`, `add`, `import`, `verify`, `scrub`, `repair`.
        subject: what it works on, for people.
        meter: bytes.
        began_ms: wall clock.
        clock: of the node.
        token: of the event loop.
        again: what a person types to have it done again; empty: nobody typed it.
        wanted_by: tenants that started or joined it; "" is the node itself, or its operator.
        sources: bytes by who sent them.
        result: what it answers once it is done.
        error: why it failed.
    """

    id: str
    kind: str
    subject: str
    meter: Meter
    began_ms: int
    clock: Clock
    token: trio.lowlevel.TrioToken
    again: str = ""
    wanted_by: set[str] = field(default_factory=set)
    state: TaskState = TaskState.RUNNING
    ended_ms: int | None = None
    sources: dict[str, int] = field(default_factory=dict)
    result: object = None
    error: PrsmError | None = None
    over: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def report(self, done: int, size: int | None = None) -> None:
        """Note how many bytes are done; of the event loop's thread alone (see `counting`)."""
        if size is not None:
            self.meter.size = size
        self.meter.note(done, now_ms=self.clock.monotonic_ms())

    def counting(self, before: int, size: int) -> Callable[[int], None]:
        """What a worker thread tells bytes of a part, after `before` bytes of the others."""
        return lambda count: self.token.run_sync_soon(self.report, before + count, size)

    @property
    def hint(self) -> str:
        """What to do once it was cut short."""
        return f"type it again: {self.again}" if self.again else "start it again"

    def stalled_ms(self) -> int:
        """How long nothing has moved; 0 below ten seconds and once it is over."""
        if self.state is not TaskState.RUNNING:
            return 0
        return self.meter.stalled_ms(self.clock.monotonic_ms())

    def answer(self) -> object:
        """The result of a task that is over.

        Raises:
            PrsmError: why it failed.
        """
        assert self.over.is_set()
        if self.error is not None:
            raise self.error
        if isinstance(self.result, ResultGone):
            raise self.result
        return self.result


Work = Callable[[Task], Awaitable[object]]


class Tasks:
    """Runs tasks, and remembers those that ended.

    Args:
        clock: of the node.
        path: where they are noted for the next run; None: nowhere.
    """

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        self._path = path
        self._changed = trio.Event()
        self._tasks: dict[str, Task] = {}  # oldest first
        self._nursery: trio.Nursery | None = None
        self.on_change: list[Callable[[Task], None]] = []  # told when one begins and ends

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is started, until cancelled; then every task ends as cancelled."""
        if self._path is not None:
            await self._load(self._path)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                # Nothing is noted on the way out: what runs then was interrupted, not cancelled.
                await self._note_changes()
            finally:
                self._nursery = None

    def start(
        self, kind: str, subject: str, work: Work, *, again: str = "", tenant: str = ""
    ) -> Task:
        """Start a task, or join the one that does the same already.

        Args:
            kind: `Task.kind`.
            subject: `Task.subject`.
            work: what it does.
            again: what a person types to have it done again.
            tenant: for whom.

        Raises:
            Busy: too many run, the same is being ended, or the node is stopping.
        """
        running = [task for task in self._tasks.values() if task.state is TaskState.RUNNING]
        for task in running:
            if (task.kind, task.subject) == (kind, subject):
                if task.scope.cancel_called:  # who joined would be told that they cancelled it
                    what = f"{kind} of {subject} is being ended: ask again when it is over"
                    raise Busy(what, retry_after_ms=1000)
                task.wanted_by.add(tenant)
                return task
        if self._nursery is None:
            raise Busy("this node starts or stops: it takes no long work now")
        if len(running) >= TASKS_MAX:
            raise Busy(f"{len(running)} tasks run, at most {TASKS_MAX}", retry_after_ms=1000)
        task = Task(
            id=f"{kind}-{secrets.token_hex(4)}",
            kind=kind,
            subject=subject,
            meter=Meter(self._clock.monotonic_ms()),
            began_ms=self._clock.wall_ms(),
            clock=self._clock,
            token=trio.lowlevel.current_trio_token(),
            again=again,
            wanted_by={tenant},
        )
        self._forget_old()
        self._tasks[task.id] = task
        self._nursery.start_soon(self._do, task, work)
        self._tell(task)
        return task

    async def do(self, kind: str, subject: str, work: Work, *, again: str = "") -> object:
        """Start or join a task and wait for its result; the task outlives its caller.

        Raises:
            Busy: as `start`.
            PrsmError: why the task failed.
        """
        task = self.start(kind, subject, work, again=again)
        await task.over.wait()
        return task.answer()

    def get(self, task_id: str) -> Task:
        """A task by its id, or by a prefix that only one has.

        Raises:
            NotFound: none, or several.
        """
        found = [task for name, task in self._tasks.items() if name.startswith(task_id)]
        exact = self._tasks.get(task_id)
        if exact is None and len(found) != 1:
            what = f"{len(found)} tasks are called so" if found else "no such task"
            raise NotFound(f"{what}: {task_id[:64]!r}", hint="see: prsm task ls")
        return exact or found[0]

    def list(self) -> tuple[Task, ...]:
        """All tasks, newest first."""
        return tuple(reversed(self._tasks.values()))

    def cancel(self, task_id: str, tenant: str = "") -> Task:
        """End a task; what it has done stays. Nothing happens to one that is over.

        A tenant ends it for itself: while others want it, it goes on. The operator ends it for all.

        Raises:
            NotFound: as `get`.
        """
        task = self.get(task_id)
        task.wanted_by.discard(tenant)
        if not tenant or not task.wanted_by:
            task.scope.cancel()
        return task

    async def _do(self, task: Task, work: Work) -> None:
        try:
            with task.scope:
                task.result = await work(task)
                task.state = TaskState.DONE
        except PrsmError as error:
            task.state, task.error = TaskState.FAILED, error
            log.info("task failed", task=task.id, subject=task.subject, why=error.what)
        except Exception as error:  # a fault of one task must not end the others
            task.state = TaskState.FAILED
            task.error = LocalError(f"{task.kind} failed: {type(error).__name__}")
            log.exception("task broke", task=task.id, subject=task.subject)
        finally:
            if task.state is TaskState.RUNNING:
                task.state = TaskState.CANCELLED
                task.error = TaskCancelled(
                    f"{task.kind} of {task.subject} was ended after {task.meter.done} bytes",
                    hint=task.hint,
                )
            task.ended_ms = self._clock.wall_ms()
            task.over.set()
            self._tell(task)

    async def _load(self, path: Path) -> None:
        try:
            noted = await trio.to_thread.run_sync(load_tasks, path)
        except LocalError as error:  # what became of old tasks is no reason not to start
            log.warning("tasks of the last run are not known", why=error.what)
            return
        token = trio.lowlevel.current_trio_token()
        for row in noted:
            known = self._tasks.get(row.id)
            # After a crash of this part alone we know more than the file; what it says to be at
            # work was cut by that, and cancelled by nobody.
            is_cut = row.state is TaskState.RUNNING
            if known is None or (is_cut and known.state is TaskState.CANCELLED):
                self._tasks[row.id] = _ended(row, self._clock, token)
        self._forget_old()

    async def _note_changes(self) -> None:
        """Write the tasks down whenever one begins or ends, those of a moment at once."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            if self._path is None:
                continue
            save = partial(save_tasks, self._path, [_noted(task) for task in self._tasks.values()])
            try:
                with trio.CancelScope(shield=True):  # bounded: one small write
                    await trio.to_thread.run_sync(save)
            except LocalError as error:  # the next run will know less
                log.warning("tasks cannot be noted", why=error.what)

    def _tell(self, task: Task) -> None:
        self._changed.set()
        for listener in self.on_change:
            listener(task)

    def _forget_old(self) -> None:
        over = [name for name, task in self._tasks.items() if task.state is not TaskState.RUNNING]
        for name in over[: max(0, len(over) - KEPT_MAX + 1)]:
            del self._tasks[name]


def _noted(task: Task) -> Noted:
    error = task.error
    return Noted(
        id=task.id,
        kind=task.kind,
        subject=task.subject,
        state=task.state,
        began_ms=task.began_ms,
        ended_ms=task.ended_ms,
        size=task.meter.size,
        done=task.meter.done,
        reason="" if error is None else error.reason,
        what="" if error is None else error.what,
        hint="" if error is None else error.hint,
        again=task.again,
    )


def _ended(row: Noted, clock: Clock, token: trio.lowlevel.TrioToken) -> Task:
    """A task of an earlier run: how it ended, or that it was interrupted."""
    meter = Meter(clock.monotonic_ms(), row.size, row.done)
    task = Task(row.id, row.kind, row.subject, meter, row.began_ms, clock, token, row.again)
    task.state, task.ended_ms = row.state, row.ended_ms
    if task.state is TaskState.RUNNING:
        task.state, task.ended_ms = TaskState.FAILED, clock.wall_ms()
        task.error = TaskInterrupted(
            f"the node ended during {row.kind} of {row.subject}", hint=task.hint
        )
    elif task.state is TaskState.DONE:
        task.result = ResultGone(
            f"{row.id} was done by an earlier run of this node, and its result is not kept",
            hint="ask for what it made: prsm model ls",
        )
    else:  # of whatever class it was, its reason counts
        fault = type("FormerFault", (LocalError,), {"reason": row.reason})
        task.error = fault(row.what, hint=row.hint)
    task.over.set()
    return task
