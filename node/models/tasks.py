"""Long work of this node's own store: it goes on when its caller goes away, and can be looked at.

Knows: kinds, states, progress of tasks. Must not know: what a task does. A job is work of others
that is paid for (`inference/jobs`); a task is work of this node on its own files.

Invariants: one task of a kind and subject runs at a time, a second start joins it; at most
`TASKS_MAX` run and `KEPT_MAX` that ended are remembered.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.models.meter import Meter
from prsm.node.net.interface import Busy
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError
from prsm.storage.errors import NotFound

log = logs.get("tasks")

TASKS_MAX: Final = 32
KEPT_MAX: Final = 64


class TaskState(Enum):
    """Where a task is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskCancelled(LocalError):
    """Somebody ended the task, or the node is stopping."""

    reason = "cancelled"


@dataclass(slots=True, eq=False)
class Task:
    """One long work.

    Attributes:
        id: for people: `pull-1f0c2a9b`.
        kind: `pull`, `add`, `verify`, `scrub`, `repair`.
        subject: what it works on, for people.
        meter: bytes.
        began_ms: wall clock.
        clock: of the node.
        token: of the event loop.
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
        return self.result


Work = Callable[[Task], Awaitable[object]]


class Tasks:
    """Runs tasks, and remembers those that ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, Task] = {}  # oldest first
        self._nursery: trio.Nursery | None = None
        self.on_change: list[Callable[[Task], None]] = []  # told when one begins and ends

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is started, until cancelled; then every task ends as cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def start(self, kind: str, subject: str, work: Work) -> Task:
        """Start a task, or join the one that does the same already.

        Raises:
            Busy: too many run, or the node is stopping.
        """
        running = [task for task in self._tasks.values() if task.state is TaskState.RUNNING]
        for task in running:
            if (task.kind, task.subject) == (kind, subject):
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
        )
        self._forget_old()
        self._tasks[task.id] = task
        self._nursery.start_soon(self._do, task, work)
        self._tell(task)
        return task

    async def do(self, kind: str, subject: str, work: Work) -> object:
        """Start or join a task and wait for its result; the task outlives its caller.

        Raises:
            Busy: as `start`.
            PrsmError: why the task failed.
        """
        task = self.start(kind, subject, work)
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

    def cancel(self, task_id: str) -> Task:
        """End a task; what it has done stays. Nothing happens to one that is over.

        Raises:
            NotFound: as `get`.
        """
        task = self.get(task_id)
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
                    hint="start it again: what is verified stays",
                )
            task.ended_ms = self._clock.wall_ms()
            task.over.set()
            self._tell(task)

    def _tell(self, task: Task) -> None:
        for listener in self.on_change:
            listener(task)

    def _forget_old(self) -> None:
        over = [name for name, task in self._tasks.items() if task.state is not TaskState.RUNNING]
        for name in over[: max(0, len(over) - KEPT_MAX + 1)]:
            del self._tasks[name]
