"""What a session decides, and what it has under way.

Knows leaves and names of sources. Must not know who decides (`wants`) or who carries it out
(`fetching`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from prsm.storage.interfaces import Leaf


class Outcome(Enum):
    """How an ask ended at its source."""

    DONE = "done"  # what is still missing of it was doubled and came from elsewhere
    LACKS = "lacks"  # it says that it does not hold the next one
    LATE = "late"  # it gave up waiting: the leaves may be asked of it again, not for ever
    BUSY = "busy"  # it says when to come back
    FAILED = "failed"  # down, broken, or lying: it is dropped


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this source for these leaves, in order."""

    number: int
    source: str
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Hedge:
    """Ask this source too for leaves another one owes; who comes second is cancelled."""

    number: int
    source: str
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop waiting for an ask; it has ended already for the session."""

    number: int
    source: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Never ask this source again; `why` names it and what was awaited.

    Attributes:
        source: its name.
        why: one sentence.
        is_lie: it answered, but not as it had said; otherwise it was too slow.
    """

    source: str
    why: str
    is_lie: bool = False


Action = Ask | Hedge | Cancel | Drop


@dataclass(slots=True)
class Open:
    """An ask under way: what it still owes, and since when."""

    number: int
    source: str
    pending: dict[int, Leaf]
    since_ms: int
    is_hedge: bool
    came: int = 0  # leaves

    @property
    def size(self) -> int:
        """Bytes it still owes."""
        return sum(leaf.size for leaf in self.pending.values())


@dataclass(slots=True)
class Waste:
    """Bytes that were asked for twice, and how many may be."""

    allowed: int
    doubled: int = 0

    @property
    def left(self) -> int:
        """Bytes that may still be doubled."""
        return self.allowed - self.doubled


def named(asks: Sequence[Open]) -> str:
    """Say what some asks still owe."""
    indexes = sorted(index for ask in asks for index in ask.pending)
    return f"leaves {indexes[0]}..{indexes[-1]}" if indexes else "nothing"
