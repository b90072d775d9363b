"""What a check says, and what it looks at.

Knows: shapes. Must not know: any check.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prsm.node.config import Config
from prsm.node.home import Home

Level = Literal["ok", "note", "warning", "fault"]
Answers = Mapping[str, Mapping[str, Any]]  # method -> what the running node answered


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        number: `D-07`.
        name: what was looked at.
        level: only a fault keeps the node from working.
        what: one sentence with value and limit.
        fix: what to type; empty where all is well.
        can_fix: whether `mend` does it.
    """

    number: str
    name: str
    level: Level
    what: str
    fix: str = ""
    can_fix: bool = False


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at.

    Attributes:
        home: the folder.
        config: what is set; None if it cannot be read.
        why_not: why the configuration cannot be read.
        running: process of the node that holds the folder; 0 if none.
        answers: of the running node; empty if it does not run or does not answer.
        now_ms: wall time.
        other: who holds the folder and is no node, such as `prsm backup`; empty if nobody.
    """

    home: Home
    config: Config | None
    why_not: str
    running: int
    answers: Answers
    now_ms: int
    other: str = ""

    @property
    def status(self) -> Mapping[str, Any]:
        """The answer of node_getStatus; empty if there is none."""
        return self.answers.get("node_getStatus", {})


Check = Callable[[Patient], Finding]
