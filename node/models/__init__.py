"""The models of this node: prepared, stored, named on the ledger, fetched from peers."""

from prsm.node.models.models import Models
from prsm.node.models.records import (
    Checked,
    Gone,
    Known,
    OpenFile,
    Pinned,
    Standing,
    Tools,
    UnknownModel,
    Wanted,
    WorkerState,
)
from prsm.node.models.taskfile import TaskState
from prsm.node.models.tasks import Task, Tasks

__all__ = [
    "Checked",
    "Gone",
    "Known",
    "Models",
    "OpenFile",
    "Pinned",
    "Standing",
    "Task",
    "TaskState",
    "Tasks",
    "Tools",
    "UnknownModel",
    "Wanted",
    "WorkerState",
]
