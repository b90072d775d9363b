"""How well each worker serves each model: successes, times, last errors, probes; by the hour.

Knows figures of the past. Must not know who decides by them. Bounded: so many pairs, the oldest
goes first; a week of hours for each.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

PAIRS_MAX: Final = 512
TIMES_MAX: Final = 512  # the last so many answers make p50 and p99
ERRORS_MAX: Final = 8
HOURS_MAX: Final = 7 * 24
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong, and when (wall clock, ms)."""

    at_ms: int
    reason: str
    what: str


@dataclass(slots=True)
class Hour:
    """What an hour saw."""

    began_ms: int
    done: int = 0
    failed: int = 0
    total_ms: int = 0


@dataclass(slots=True, eq=False)
class Service:
    """One worker's service for one model.

    Attributes:
        done: requests answered.
        failed: requests that had no answer of it.
        rows: answered.
        probes_done: golden rows answered as the class says.
        probes_failed: golden rows answered otherwise, or not.
    """

    model: bytes
    worker: bytes
    done: int = 0
    failed: int = 0
    rows: int = 0
    probes_done: int = 0
    probes_failed: int = 0
    probed_ms: int = 0
    in_row: int = 0  # failures since the last answer
    struck_ms: int = 0
    errors: deque[Fault] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX))
    hours: deque[Hour] = field(default_factory=lambda: deque(maxlen=HOURS_MAX))
    times_ms: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES_MAX))

    @property
    def success_percent(self) -> float:
        """Of all requests; 100 before the first."""
        total = self.done + self.failed
        return 100.0 if not total else 100.0 * self.done / total

    def quantile_ms(self, percent: int) -> float:
        """Of the last answers; 0 without any."""
        ordered = sorted(self.times_ms)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0

    def hour(self, now_ms: int) -> Hour:
        """The hour of now."""
        began_ms = now_ms - now_ms % HOUR_MS
        if not self.hours or self.hours[-1].began_ms != began_ms:
            self.hours.append(Hour(began_ms))
        return self.hours[-1]


class HealthBook:
    """All services this node has seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[bytes, bytes], Service] = OrderedDict()
        self.golden: OrderedDict[bytes, bytes] = OrderedDict()  # class -> root of its outputs

    def of(self, model: bytes, worker: bytes) -> Service:
        """The service of a worker for a model; a new one when there is none."""
        key = (model, worker)
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = Service(model, worker)
            while len(self._seen) > PAIRS_MAX:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return found

    def list(self, model: bytes | None = None) -> Iterable[Service]:
        """Those of a model, or all."""
        return [one for one in self._seen.values() if model is None or one.model == model]

    def note_answer(self, service: Service, *, rows: int, took_ms: float, now_ms: int) -> None:
        """A request was answered."""
        service.done += 1
        service.rows += rows
        service.in_row = 0
        service.times_ms.append(took_ms)
        hour = service.hour(now_ms)
        hour.done += 1
        hour.total_ms += int(took_ms)

    def note_failure(self, service: Service, *, reason: str, what: str, now_ms: int) -> None:
        """A request had no answer of this worker."""
        service.failed += 1
        service.in_row += 1
        service.struck_ms = now_ms
        service.errors.append(Fault(now_ms, reason, what))
        service.hour(now_ms).failed += 1

    def note_probe(self, service: Service, *, why: str, now_ms: int) -> None:
        """Golden rows were answered: right when `why` is empty."""
        service.probed_ms = now_ms
        if not why:
            service.probes_done += 1
            return
        service.probes_failed += 1
        service.in_row += 1
        service.struck_ms = now_ms
        service.errors.append(Fault(now_ms, "probe_failed", why))

    def golden_of(self, class_id: bytes, root: bytes) -> bool:
        """Are these the outputs on golden rows that the class gave before, or its first ones?"""
        known = self.golden.setdefault(class_id, root)
        self.golden.move_to_end(class_id)
        if len(self.golden) > PAIRS_MAX:
            self.golden.popitem(last=False)
        return known == root

    def is_out(self, model: bytes, worker: bytes, *, now_ms: int) -> bool:
        """Is a worker left alone for now: 2 s after a failure, twice as long after each further?"""
        found = self._seen.get((model, worker))
        if found is None or not found.in_row:
            return False
        pause_ms = min(PAUSE_MS_MAX, PAUSE_MS << min(20, found.in_row - 1))
        return found.struck_ms <= now_ms < found.struck_ms + pause_ms  # clocks are set back, too


PAUSE_MS: Final = 2_000
PAUSE_MS_MAX: Final = 900_000
