"""task_: long work of this node on its own files, from start to end."""

from typing import Final, Literal

from prsm.node.rpc.pages import Page, PageParams
from prsm.node.rpc.spec import (
    Count,
    Method,
    Params,
    Result,
    Scope,
    TaskIdText,
    WaitMs,
)

_EXAMPLE: Final = "pull-00000000"


class TaskFault(Result, frozen=True):
    """Why a task failed."""

    reason: str
    what: str
    hint: str


class TaskInfo(Result, frozen=True):
    """A task: how far it is, how fast, and since when nothing moved.

    `eta_ms` is null while nobody can tell; `stalled_ms` is 0 below ten seconds of silence;
    `size_bytes` is 0 while it is unknown.
    """

    task_id: TaskIdText
    state: Literal["done", "running", "failed", "cancelled"]
    kind: str
    subject: str
    size_bytes: Count
    done_bytes: Count
    rate_bytes_per_s: Count
    eta_ms: Count | None
    stalled_ms: Count
    sources: dict[str, int]  # bytes by who sent them, while it is fetched
    began: str
    ended: str | None
    error: TaskFault | None = None


class TaskList(Page, frozen=True):
    """Tasks that run, and the last that ended; newest first."""

    items: tuple[TaskInfo, ...]


class TaskParams(Params, frozen=True):
    """Which task; with `wait_ms` the answer comes when it ends, or then."""

    task_id: TaskIdText
    wait_ms: WaitMs = 0


class TaskIdParams(Params, frozen=True):
    """Which task."""

    task_id: TaskIdText


METHODS: Final = (
    Method(
        "task_list",
        PageParams,
        TaskList,
        Scope.READ,
        "Long work on this node's files: what runs, and what ended.",
        words=("task", "ls"),
        page_by="task_id",
    ),
    Method(
        "task_get",
        TaskParams,
        TaskInfo,
        Scope.READ,
        "How far a task is.",
        words=("task", "show"),
        positional=("task_id",),
        deadline_ms=70_000,
        example=TaskParams(_EXAMPLE),
    ),
    Method(
        "task_cancel",
        TaskIdParams,
        TaskInfo,
        Scope.WRITE,
        "End a task; what it has done stays.",
        words=("task", "cancel"),
        positional=("task_id",),
        example=TaskIdParams(_EXAMPLE),
    ),
)
