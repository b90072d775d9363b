"""Handlers of task_: how far long work of this node is.

Knows: tasks. Must not know: what a task does, transports.
"""

from typing import Final, Literal, TypeVar

import trio

from prsm.node.clock import utc_text
from prsm.node.models import Task, Tasks, TaskState
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import tasks as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.errors import LocalError

_R = TypeVar("_R")
_State = Literal["done", "running", "failed", "cancelled"]
_STATES: Final[dict[TaskState, _State]] = {
    TaskState.RUNNING: "running",
    TaskState.DONE: "done",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
}


class OtherTask(LocalError):
    """The task that was named did something else."""

    reason = "invalid_params"


class TasksApi:
    """Answers about tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {"task_list": self.list, "task_get": self.get, "task_cancel": self.cancel}

    async def list(self, _params: NoParams, _caller: Caller) -> api.TaskList:
        """Tasks that run, and the last that ended."""
        return api.TaskList(items=tuple(task_info(task) for task in self._tasks.list()))

    async def get(self, params: api.TaskParams, _caller: Caller) -> api.TaskInfo:
        """How far a task is; with `wait_ms`, when it ends or then."""
        task = self._tasks.get(params.task_id)
        with trio.move_on_after(params.wait_ms / 1000):
            await task.over.wait()
        return task_info(task)

    async def cancel(self, params: api.TaskIdParams, caller: Caller) -> api.TaskInfo:
        """End a task, for a tenant unless others want it too."""
        task = self._tasks.cancel(params.task_id, caller.tenant)
        if task.scope.cancel_called:
            await task.over.wait()
        return task_info(task)


async def result_of(task: Task, shape: type[_R]) -> _R:
    """Wait for a task; its result.

    Raises:
        OtherTask: it was told to do something else.
        PrsmError: why it failed.
    """
    await task.over.wait()
    answer = task.answer()
    if not isinstance(answer, shape):
        raise OtherTask(f"{task.id} is a {task.kind}", hint="prsm task ls")
    return answer


def task_info(task: Task) -> api.TaskInfo:
    """A task as it is told."""
    meter, error = task.meter, task.error
    is_running = task.state is TaskState.RUNNING
    return api.TaskInfo(
        task_id=task.id,
        state=_STATES[task.state],
        kind=task.kind,
        subject=task.subject,
        size_bytes=meter.size,
        done_bytes=meter.done,
        rate_bytes_per_s=meter.rate_bytes_per_s if is_running else 0,
        eta_ms=meter.eta_ms if is_running else None,
        stalled_ms=task.stalled_ms(),
        sources=dict(task.sources),
        began=utc_text(task.began_ms),
        ended=None if task.ended_ms is None else utc_text(task.ended_ms),
        error=None if error is None else api.TaskFault(error.reason, error.what, error.hint),
    )
