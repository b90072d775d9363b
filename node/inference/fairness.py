"""Who is served next: deficit round robin over requesters, by cost, in a bounded queue.

Pure. A requester that asks for much waits behind itself, not others behind it: in each round every
waiting requester may use up the same cost. Must not know time, tensors or peers.
Source: M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round robin", 1996.

Invariants: a requester stands in the round while it has something waiting, and only then; what
waits is within `QueueBounds`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from prsm.protocol.errors import LocalError
from prsm.protocol.limits import MIB

T = TypeVar("T")
# Cost a requester may use in a round: the shortest text. With more, who has many waiting would be
# served several times before who asks one at a time is served again.
QUANTUM: Final = 8


class QueueFull(LocalError):
    """No room for more, of all requesters or of this one."""

    reason = "busy"


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """What may wait.

    Attributes:
        items: of all requesters.
        items_each: of one.
        size: bytes of all.
    """

    items: int = 4096
    items_each: int = 256
    size: int = 256 * MIB


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """Something that waits."""

    who: bytes
    item: T
    cost: int
    size: int


@dataclass(slots=True)
class _Line(Generic[T]):
    waiting: deque[Entry[T]] = field(default_factory=deque)
    deficit: int = 0


class FairQueue(Generic[T]):
    """What waits, by requester.

    Args:
        bounds: of what may wait.
        quantum: cost a requester may use up in a round.
    """

    def __init__(self, bounds: QueueBounds | None = None, *, quantum: int = QUANTUM) -> None:
        self._bounds = bounds or QueueBounds()
        self._quantum = quantum
        self._lines: dict[bytes, _Line[T]] = {}
        self._round: deque[bytes] = deque()  # the first one's turn
        self._is_granted = False  # has the first one got its quantum of this turn?
        self.items = self.size = self.cost = 0

    @property
    def requesters(self) -> int:
        """How many have something waiting."""
        return len(self._lines)

    def waiting(self) -> frozenset[bytes]:
        """Who has something waiting."""
        return frozenset(self._lines)

    def put(self, who: bytes, item: T, *, cost: int, size: int) -> Entry[T]:
        """Add at the end of a requester's line.

        Raises:
            QueueFull: names the bound.
        """
        bounds, line = self._bounds, self._lines.get(who)
        if self.items >= bounds.items:
            raise QueueFull(f"{self.items} requests wait, at most {bounds.items}")
        if line is not None and len(line.waiting) >= bounds.items_each:
            raise QueueFull(f"{len(line.waiting)} of your requests wait, at most that many")
        if self.size + size > bounds.size:
            raise QueueFull(f"{self.size} bytes wait and {size} more, at most {bounds.size}")
        if line is None:
            line = self._lines[who] = _Line()
            self._round.append(who)
        entry = Entry(who, item, max(1, cost), size)
        line.waiting.append(entry)
        self._count(entry, +1)
        return entry

    def take(self, *, is_barred: Callable[[bytes], bool] | None = None) -> Entry[T] | None:
        """The next one in turn, or None when nothing waits.

        Args:
            is_barred: requesters that are passed over now.
        """
        open_to = [who for who in self._round if is_barred is None or not is_barred(who)]
        if not open_to:
            return None
        allowed = frozenset(open_to)
        while True:
            for _ in range(len(self._round)):
                who = self._round[0]
                if who in allowed and (entry := self._take_from(who)) is not None:
                    return entry
                self._round.rotate(-1)
                self._is_granted = False
            self._skip_rounds(open_to)

    def take_alike(self, is_alike: Callable[[T], bool]) -> Entry[T] | None:
        """The first in any line, in the order of turns, that fits; its requester pays its cost.

        Its line may fall into debt by that, and waits longer for its next turn.
        """
        for who in self._round:
            head = self._lines[who].waiting[0]
            if is_alike(head.item):
                return self._pop(who, head)
        return None

    def remove(self, entry: Entry[T]) -> bool:
        """Take an entry out that is not wanted any more; False when it had its turn."""
        line = self._lines.get(entry.who)
        if line is None or entry not in line.waiting:
            return False
        line.waiting.remove(entry)
        self._count(entry, -1)
        self._leave_if_empty(entry.who)
        return True

    def _take_from(self, who: bytes) -> Entry[T] | None:
        """The first of a line whose turn it is, if what it may use in this round suffices."""
        line = self._lines[who]
        if not self._is_granted:
            line.deficit += self._quantum
            self._is_granted = True
        return self._pop(who, line.waiting[0]) if line.waiting[0].cost <= line.deficit else None

    def _pop(self, who: bytes, entry: Entry[T]) -> Entry[T]:
        line = self._lines[who]
        line.waiting.popleft()
        line.deficit -= entry.cost
        self._count(entry, -1)
        self._leave_if_empty(who)
        return entry

    def _leave_if_empty(self, who: bytes) -> None:
        if not self._lines[who].waiting:
            del self._lines[who]
            if self._round[0] == who:
                self._is_granted = False
            self._round.remove(who)

    def _skip_rounds(self, open_to: Sequence[bytes]) -> None:
        """Nobody could be served in a whole round: grant all those at once that change nothing."""
        lines = [self._lines[who] for who in open_to]
        short = min(line.waiting[0].cost - line.deficit for line in lines)
        rounds = max(0, -(-short // self._quantum) - 1)
        for line in lines:
            line.deficit += rounds * self._quantum

    def _count(self, entry: Entry[T], sign: int) -> None:
        self.items += sign
        self.size += sign * entry.size
        self.cost += sign * entry.cost
