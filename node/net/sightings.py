"""What others say of how this node can be reached, and when that is believed: pure.

Knows groups of peers, times handed in, and counts. Must not know who is asked or how. One owner
can hold many addresses of a group (`places`), so a group has one voice, its latest.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Final

GROUPS_MIN: Final = 2  # distinct ones that say the same, and more than say otherwise
VOICES_MAX: Final = 128
AGE_MAX_MS: Final = 30 * 60_000


class Verdict(Enum):
    """Can others dial this node?"""

    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Voice:
    said: str
    at_ms: int


class Quorum:
    """The latest word of each group, and the one that enough of them share."""

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}

    def note(self, group: str, said: str, *, now_ms: int) -> None:
        """Take a group's word; it replaces its earlier one."""
        self._voices.pop(group, None)
        self._voices[group] = _Voice(said, now_ms)
        if len(self._voices) > VOICES_MAX:
            del self._voices[next(iter(self._voices))]

    def last_ms(self, group: str) -> int | None:
        """When a group last said something."""
        voice = self._voices.get(group)
        return voice.at_ms if voice else None

    def counts(self, *, now_ms: int) -> Counter[str]:
        """How many groups say what; words of over half an hour are forgotten."""
        fresh = {g: v for g, v in self._voices.items() if now_ms - v.at_ms < AGE_MAX_MS}
        self._voices = fresh
        return Counter(voice.said for voice in fresh.values())

    def believed(self, *, now_ms: int) -> str | None:
        """What at least two groups say, and more than say anything else; None if nothing is."""
        first, second = [*self.counts(now_ms=now_ms).most_common(2), ("", 0), ("", 0)][:2]
        return first[0] if first[1] >= GROUPS_MIN and first[1] > second[1] else None

    def clear(self) -> None:
        """Forget everything: this node is somewhere else now."""
        self._voices.clear()


class Sightings:
    """At which ip others see this node, and whether they could dial it."""

    def __init__(self) -> None:
        self._seen = Quorum()
        self._dialled = Quorum()
        self._ip: str | None = None

    def saw(self, group: str, ip: str, *, now_ms: int) -> None:
        """A peer of a group sees this node's connection come from an ip."""
        self._seen.note(group, ip, now_ms=now_ms)
        believed = self.ip(now_ms=now_ms)
        if believed and self._ip and believed != self._ip:
            self._dialled.clear()  # what was true of the old address
        self._ip = believed or self._ip

    def dialled(self, group: str, *, reached: bool, now_ms: int) -> None:
        """A peer of a group has dialled this node, or could not."""
        verdict = Verdict.REACHABLE if reached else Verdict.UNREACHABLE
        self._dialled.note(group, verdict.value, now_ms=now_ms)

    def asked_ms(self, group: str) -> int | None:
        """When a group last said whether it could dial this node."""
        return self._dialled.last_ms(group)

    def ip(self, *, now_ms: int) -> str | None:
        """The ip that is believed to be this node's."""
        return self._seen.believed(now_ms=now_ms)

    def verdict(self, *, now_ms: int) -> Verdict:
        """What is believed of this node's being dialled."""
        return Verdict(self._dialled.believed(now_ms=now_ms) or Verdict.UNKNOWN.value)

    def voices(self, *, now_ms: int) -> tuple[Counter[str], Counter[str]]:
        """How many groups see it where, and how many could or could not dial it."""
        return self._seen.counts(now_ms=now_ms), self._dialled.counts(now_ms=now_ms)
