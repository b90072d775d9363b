"""What time it is: one port, so that a test or a simulator decides.

Knows: trio's clock and the wall clock. Must not know: who asks, or why. Deadlines stay with the
caller (`trio.fail_after`); the simulator has its own clock of virtual milliseconds.
"""

import functools
import time
from datetime import UTC, datetime
from typing import Final, Protocol

import trio

from prsm.protocol.ids import Millis

_LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


class Clock(Protocol):
    """Two clocks in integer milliseconds."""

    def monotonic_ms(self) -> Millis:
        """Time that never goes back; only differences mean something."""
        ...

    def wall_ms(self) -> Millis:
        """Milliseconds since 1970 in UTC; may jump when somebody sets the clock."""
        ...


class TrioClock:
    """The clocks of a running trio loop; `MockClock` moves the monotonic one in tests."""

    def monotonic_ms(self) -> Millis:
        """Trio's time in milliseconds.

        Raises:
            RuntimeError: called outside `trio.run`.
        """
        return Millis(int(trio.current_time() * 1000))

    def wall_ms(self) -> Millis:
        """The machine's UTC time in milliseconds."""
        return Millis(time.time_ns() // 1_000_000)


def utc_text(wall_ms: int) -> str:
    """Write a wall time as RFC 3339 in UTC with milliseconds, the form of JSON-RPC and logs.

    What comes after the last year it can write, as a stranger's manifest may, is its last moment.
    """
    seconds, millis = divmod(min(wall_ms, _LAST_MS), 1000)
    return f"{_second_text(seconds)}.{millis:03d}Z"


@functools.lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    """Kept: a status names the same three moments again and again, at 5 us each."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
