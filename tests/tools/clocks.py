"""A clock that a test sets."""

from dataclasses import dataclass

from prsm.protocol.ids import Millis


@dataclass
class SetClock:
    """Both times are what the test says."""

    now_ms: int = 1_700_000_000_000

    def monotonic_ms(self) -> Millis:
        return Millis(self.now_ms)

    def wall_ms(self) -> Millis:
        return Millis(self.now_ms)
