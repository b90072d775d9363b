"""How well one source of blocks does: latency, rate, faults, and when it is tried again. Pure.

Knows times and dice handed in. Must not know sockets, or what a source is. Source:
docs/spec/storage.md, "Pool"; full jitter: Brooker, "Exponential Backoff And Jitter" (AWS, 2015).

Invariants: five faults within 30 s open the breaker; while it is open nothing is asked but one
probe when its time has come; any answer closes it.
"""

from collections import deque
from enum import Enum
from random import Random
from typing import Annotated, Final

import msgspec

from prsm.protocol.limits import INT_MAX, MIB

FAULTS_OPEN: Final = 5
FAULTS_WITHIN_MS: Final = 30_000
BACK_OFF_FIRST_MS: Final = 500
BACK_OFF_LONGEST_MS: Final = 60_000
UNFIT_MS: Final = 3_600_000  # of a source that answers what nobody can use
RUN_BYTES: Final = 8 * MIB  # what the next ask will be about
# Nobody knows of a new source: behind one that is known to be good, before one that is not.
GUESSED_LATENCY_MS: Final = 500
GUESSED_RATE: Final = 1 * MIB
# A rate is not learnt from less: a small block tells the latency only.
MEASURED_BYTES_MIN: Final = 64 * 1024
_NEW_SHARE: Final = 0.3  # of a sum in the moving average
_TEXT_MAX: Final = 300
_DOUBLINGS_MAX: Final = 16

_Natural = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]


class State(Enum):
    """What a source may be asked now."""

    OK = "ok"
    OPEN = "open"  # its breaker: nothing, until the next try
    PROBING = "probing"  # one call is under way, and decides
    UNFIT = "unfit"  # answers, and not what was asked for


class SavedHealth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What outlives a restart of one source.

    Attributes:
        name: of the source.
        latency_ms: moving average; 0: unknown.
        rate_bps: moving average of bytes a second; 0: unknown.
        opened: how often its breaker opened since it last answered.
        wait_ms: from the start on, until it is tried again.
        is_unfit: it waits because of what it answers.
        last_error: one sentence.
    """

    name: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX)]
    latency_ms: _Natural
    rate_bps: _Natural
    opened: _Natural
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=UNFIT_MS)]
    is_unfit: bool
    last_error: Annotated[str, msgspec.Meta(max_length=_TEXT_MAX)]


class Health:
    """The health of one source.

    Args:
        dice: spreads the next tries.
    """

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._faults: deque[int] = deque(maxlen=FAULTS_OPEN)
        self._latency_ms = 0.0
        self._rate_bps = 0.0
        self._opened = 0
        self._until_ms: int | None = None  # of the open breaker
        self._is_unfit = False
        self._is_probing = False
        self.faults = 0  # in all
        self.bytes = 0
        self.last_error = ""

    @property
    def latency_ms(self) -> int:
        """Moving average; 0: unknown."""
        return round(self._latency_ms)

    @property
    def rate_bps(self) -> int:
        """Moving average of bytes a second; 0: unknown."""
        return round(self._rate_bps)

    @property
    def state(self) -> State:
        """What it may be asked."""
        if self._is_probing:
            return State.PROBING
        if self._until_ms is None:
            return State.OK
        return State.UNFIT if self._is_unfit else State.OPEN

    def wait_ms(self, *, now_ms: int) -> int:
        """Until it may be asked; 0: now."""
        if self._is_probing:
            return BACK_OFF_FIRST_MS
        return max(0, (self._until_ms or now_ms) - now_ms)

    def expected_ms(self, *, now_ms: int) -> float:
        """How long the next run would take, faults of late counted as a longest back-off each."""
        rate = self._rate_bps or GUESSED_RATE
        latency = self._latency_ms or GUESSED_LATENCY_MS
        return latency + 1000 * RUN_BYTES / rate + BACK_OFF_LONGEST_MS * self._recent(now_ms)

    def begin(self, *, now_ms: int) -> bool:
        """Say whether a call may be made now; of an open breaker it is the one probe."""
        if self._is_probing or self.wait_ms(now_ms=now_ms):
            return False
        self._is_probing = self._until_ms is not None
        return True

    def abandoned(self) -> None:
        """A call was given up by its caller: nothing is known from it."""
        self._is_probing = False

    def answered(self, *, took_ms: int, size: int) -> None:
        """Note an answer, be it that it does not hold the block.

        Args:
            took_ms: from the call to its end.
            size: bytes of blocks in it.
        """
        self._until_ms, self._opened = None, 0
        self._is_unfit = self._is_probing = False
        self._faults.clear()
        self.bytes += size
        if size < MEASURED_BYTES_MIN:
            self._latency_ms = _moved(self._latency_ms, max(1, took_ms))
        else:
            self._rate_bps = _moved(self._rate_bps, 1000 * size / max(1, took_ms))

    def failed(self, what: str, *, now_ms: int, is_unfit: bool = False) -> None:
        """Note a fault.

        Args:
            what: one sentence.
            now_ms: monotonic.
            is_unfit: what it answers is of no use, and will be for an hour.
        """
        self.faults += 1
        self.last_error = what[:_TEXT_MAX]
        self._faults.append(now_ms)
        was_probing, self._is_probing = self._is_probing, False
        if is_unfit:
            self._is_unfit, self._until_ms = True, now_ms + UNFIT_MS
        elif was_probing or self._recent(now_ms) >= FAULTS_OPEN:
            self._open(now_ms)

    def save(self, name: str, *, now_ms: int) -> SavedHealth:
        """What is kept over a restart."""
        return SavedHealth(
            name=name[:_TEXT_MAX],
            latency_ms=self.latency_ms,
            rate_bps=self.rate_bps,
            opened=self._opened,
            wait_ms=min(UNFIT_MS, self.wait_ms(now_ms=now_ms)),
            is_unfit=self._is_unfit,
            last_error=self.last_error,
        )

    def load(self, saved: SavedHealth, *, now_ms: int) -> None:
        """Go on where an earlier run ended."""
        self._latency_ms, self._rate_bps = saved.latency_ms, saved.rate_bps
        self._opened, self._is_unfit = saved.opened, saved.is_unfit
        self.last_error = saved.last_error
        if saved.opened or saved.is_unfit:
            self._until_ms = now_ms + saved.wait_ms

    def _open(self, now_ms: int) -> None:
        longest = BACK_OFF_FIRST_MS << min(self._opened, _DOUBLINGS_MAX)
        self._until_ms = now_ms + self._dice.randint(0, min(longest, BACK_OFF_LONGEST_MS))
        self._opened += 1

    def _recent(self, now_ms: int) -> int:
        return sum(now_ms - at <= FAULTS_WITHIN_MS for at in self._faults)


def _moved(average: float, value: float) -> float:
    return value if not average else average + _NEW_SHARE * (value - average)
