"""How fast bytes come, and how long runs take: a moving average and a quantile, both bounded.

Knows bytes and milliseconds handed in. Must not know whose they are.
"""

import math
from collections import deque
from typing import Final

TAU_MS: Final = 1_000  # a second ago counts a third of now
SETTLE_MS: Final = 20  # bytes that come within it are one sample: frames arrive in bursts
SAMPLES_MAX: Final = 64


class Rate:
    """Exponentially weighted bytes a second, over the time somebody was waiting for them.

    Args:
        now_ms: monotonic; counting begins here.
    """

    __slots__ = ("_at_ms", "_bytes", "_value")

    def __init__(self, *, now_ms: int) -> None:
        self._at_ms = now_ms
        self._bytes = 0
        self._value = 0.0

    @property
    def bytes_per_s(self) -> int:
        """The average; 0 before anything came."""
        return int(self._value)

    def rest(self, *, now_ms: int) -> None:
        """Nobody waited until now: that time does not count."""
        self._at_ms = now_ms
        self._bytes = 0

    def add(self, size: int, *, now_ms: int) -> None:
        """Count bytes that came."""
        self._bytes += size
        passed_ms = now_ms - self._at_ms
        if passed_ms < SETTLE_MS:
            return
        sample = self._bytes * 1000 / passed_ms
        weight = 1.0 if not self._value else 1 - math.exp(-passed_ms / TAU_MS)
        self._value += (sample - self._value) * weight
        self._at_ms, self._bytes = now_ms, 0

    def fade(self, *, now_ms: int) -> int:
        """What it is worth now if nothing has come since; bytes a second."""
        idle_ms = max(0, now_ms - self._at_ms - TAU_MS)
        return int(self._value * math.exp(-idle_ms / TAU_MS))


class Durations:
    """The last durations of something."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: deque[int] = deque(maxlen=SAMPLES_MAX)

    def add(self, duration_ms: int) -> None:
        """Note one."""
        self._kept.append(duration_ms)

    def p95_ms(self) -> int:
        """The duration that 19 of 20 keep; 0 before any."""
        if not self._kept:
            return 0
        ordered = sorted(self._kept)
        return ordered[(len(ordered) * 95 - 1) // 100]
