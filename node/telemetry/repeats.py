"""Lines that repeat: the first ones are written, the rest is counted and told with the next.

A peer that cannot be dialled, or one that sends junk, must not fill a disk or hide other lines.
Pure: times are handed in. Knows: words of lines. Must not know: how they are written.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_S: Final = 60.0
ALIKE_MAX: Final = 3  # lines in a window with the same fields
KIND_MAX: Final = 60  # lines in a window of one event, whatever their fields
KNOWN_MAX: Final = 512

Key = tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    began_s: float
    most: int
    passed: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Lines that were held back.

    Attributes:
        key: what they have in common.
        times: how many.
        over_s: since the first of the window.
    """

    key: Key
    times: int
    over_s: float


class Repeats:
    """Decides which lines pass."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()
        self._told: list[Told] = []

    def passes(self, kind: Key, alike: Key, now_s: float) -> bool:
        """Whether a line is written.

        Args:
            kind: level, room and event of it.
            alike: the same and its fields.
            now_s: monotonic.
        """
        self._end(now_s)
        found = [self._of(kind, KIND_MAX, now_s), self._of(alike, ALIKE_MAX, now_s)]
        if all(one.passed < one.most for one in found):
            for one in found:
                one.passed += 1
            return True
        # Counted once, where it is narrowest: a line alike to others is told as that.
        narrow = found[1] if found[1].passed >= found[1].most else found[0]
        narrow.held += 1
        return False

    def told(self, now_s: float) -> list[Told]:
        """What was held back in windows that are over; each is told once."""
        self._end(now_s)
        found, self._told = self._told, []
        return found

    def rest(self, now_s: float) -> list[Told]:
        """Everything held back until now: nothing more comes."""
        while self._seen:
            self._close(next(iter(self._seen)), now_s)
        found, self._told = self._told, []
        return found

    def _of(self, key: Key, most: int, now_s: float) -> _Seen:
        found = self._seen.get(key)
        if found is None:
            if len(self._seen) >= KNOWN_MAX:
                self._close(next(iter(self._seen)), now_s)
            found = self._seen[key] = _Seen(now_s, most)
        return found

    def _end(self, now_s: float) -> None:
        while self._seen:
            oldest = next(iter(self._seen))
            if now_s - self._seen[oldest].began_s < WINDOW_S:
                return
            self._close(oldest, now_s)

    def _close(self, key: Key, now_s: float) -> None:
        seen = self._seen.pop(key)
        if seen.held:
            self._told.append(Told(key, seen.held, now_s - seen.began_s))
