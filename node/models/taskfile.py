"""What a run of the node notes of its tasks, so that the next one can say what became of them.

Knows: one small file. Must not know: what a task does, or when one changes (`tasks`).
"""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from prsm.protocol.jsontext import UNREADABLE
from prsm.storage.wholefile import refused, replace_file

FILE_BYTES_MAX: Final = 1 << 20
# Bytes and milliseconds; a larger one could be read, and not be written again.
Figure = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TaskState(Enum):
    """Where a task is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Noted(msgspec.Struct, frozen=True):
    """A task as it stood; `ended_ms` is None while it ran, `reason` empty unless it failed."""

    id: str
    kind: str
    subject: str
    state: TaskState
    began_ms: Figure
    ended_ms: Figure | None
    size: Figure
    done: Figure
    reason: str
    what: str
    hint: str
    again: str = ""  # nodes before it was noted did not write it


def load_tasks(path: Path) -> Sequence[Noted]:
    """Read what an earlier run noted, oldest first; a missing or damaged file is nothing.

    Raises:
        StoreUnavailable: the disk refused.
    """
    if not path.exists():
        return ()
    with refused(path), path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX)
    try:
        return msgspec.json.decode(raw, type=list[Noted])
    except UNREADABLE:
        return ()


def save_tasks(path: Path, noted: Sequence[Noted]) -> None:
    """Write all of it, whole or not at all.

    Raises:
        Full, StoreUnavailable: the disk refused.
    """
    replace_file(path, msgspec.json.encode(noted))
