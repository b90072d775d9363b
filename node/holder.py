"""Who has a node's folder: what its lock file says of the process that holds it.

Knows: the file's content. Must not know: where it lies, who may have it.
"""

import json
import os
from dataclasses import dataclass
from typing import Final

DESTROY: Final = "prsm destroy"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: of the process; 0 if it did not say.
        since_s: seconds since 1970.
        work: what it does, as a person typed it; empty if it is the node.
    """

    pid: int
    since_s: int
    work: str = ""


def write_holder(fd: int, work: str) -> None:
    """Say that this process holds the lock, and what for."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "work": work}).encode(), 0)


def read_holder(fd: int) -> Holder:
    """Who holds the lock of this file."""
    try:
        told = json.loads(os.pread(fd, 256, 0))
        pid, work = told["pid"], told.get("work", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        pid, work = 0, ""
    pid = pid if isinstance(pid, int) else 0
    return Holder(pid, int(os.fstat(fd).st_mtime), work if isinstance(work, str) else "")
