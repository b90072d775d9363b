"""What a node counts of itself, and how Prometheus reads it.

One `Metrics` belongs to one node: rooms reach it through the context of the task that runs them
(`here`), so two nodes in one process count apart, and a part that runs alone counts nowhere.
Plain dicts hold the numbers, since all of it happens on one loop; prometheus-client writes the text
and reads the process. Knows: the table of names. Must not know: rooms, clocks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from prsm.node.telemetry.metrictable import BY_NAME, METRICS, Kind, Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # what every Prometheus reads
SERIES_MAX: Final = 1_000  # of a metric: a label that is no closed set shows itself as `other`
OTHER: Final = "other"

_HERE: ContextVar["Metrics | None"] = ContextVar("metrics", default=None)

Labels = tuple[str, ...]


class _Histogram:
    """Counts of one label set by bucket; the last one is for what exceeds all bounds."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0


class Metrics:
    """The numbers of one node."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = {row.name: {} for row in METRICS}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {
            row.name: {} for row in METRICS if row.kind is Kind.HISTOGRAM
        }
        self._readers: list[Callable[[Metrics], None]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Table(self))
        ProcessCollector(registry=self._registry)

    def inc(self, name: str, *labels: str, by: float = 1) -> None:
        """Count something.

        Args:
            name: of a counter in the table.
            labels: values, in the table's order.
            by: how much; never negative.
        """
        values = self._values[name]
        labels = self._bounded(values, labels)
        values[labels] = values.get(labels, 0) + by

    def put(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, or a counter that its room keeps itself."""
        values = self._values[name]
        values[self._bounded(values, labels)] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Sort a value into a histogram."""
        found = self._histograms[name]
        labels = self._bounded(found, labels)
        buckets = BY_NAME[name].buckets
        entry = found.get(labels)
        if entry is None:
            entry = found[labels] = _Histogram(len(buckets))
        entry.counts[bisect_left(buckets, value)] += 1
        entry.total += value

    def value(self, name: str, *labels: str) -> float:
        """A counter or gauge as it stands; of a histogram how many values were sorted in."""
        if name in self._histograms:
            entry = self._histograms[name].get(labels)
            return 0 if entry is None else sum(entry.counts)
        return self._values[name].get(labels, 0)

    def total(self, name: str, **labels: str) -> float:
        """A counter or gauge summed over all label sets that have these values."""
        row = BY_NAME[name]
        wanted = [(row.labels.index(label), value) for label, value in labels.items()]
        return sum(
            value
            for held, value in self._values[name].items()
            if all(held[place] == text for place, text in wanted)
        )

    def on_read(self, reader: Callable[["Metrics"], None]) -> None:
        """Have a room bring its own counts up to date before each reading."""
        self._readers.append(reader)

    def refresh(self) -> None:
        """Ask every room for its counts."""
        for reader in self._readers:
            reader(self)

    def render(self) -> bytes:
        """Everything in the Prometheus text format; about 10 ms for a hundred series."""
        self.refresh()
        return generate_latest(self._registry)

    def families(self) -> Iterable[Family]:
        """Everything of the table, as prometheus-client writes it."""
        for row in METRICS:
            if row.kind is Kind.HISTOGRAM:
                yield self._histogram(row)
            else:
                yield self._plain(row)

    def _plain(self, row: Metric) -> Family:
        values = self._values[row.name]
        if row.kind is Kind.COUNTER:
            counter = CounterMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in values.items():
                counter.add_metric(labels, value)
            if not values and not row.labels:
                counter.add_metric((), 0)
            return counter
        gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for labels, value in values.items():
            gauge.add_metric(labels, value)
        return gauge

    def _histogram(self, row: Metric) -> Family:
        family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
        for labels, entry in self._histograms[row.name].items():
            running, buckets = 0, []
            for bound, count in zip((*row.buckets, float("inf")), entry.counts, strict=True):
                running += count
                buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", running))
            family.add_metric(labels, buckets=buckets, sum_value=entry.total)
        return family

    @staticmethod
    def _bounded(known: dict[Labels, float] | dict[Labels, _Histogram], labels: Labels) -> Labels:
        if labels in known or len(known) < SERIES_MAX:
            return labels
        return (OTHER,) * len(labels)


class _Table(Collector):
    """What prometheus-client asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @override
    def collect(self) -> Iterable[Family]:
        """Yield the families of the table."""
        return self._metrics.families()


def begin(metrics: Metrics) -> None:
    """Have this task, and all it starts from here on, count there."""
    _HERE.set(metrics)


def here() -> Metrics | None:
    """Where this task counts; None in a part that runs alone."""
    return _HERE.get()


def inc(name: str, *labels: str, by: float = 1) -> None:
    """Count something in this task's node."""
    found = _HERE.get()
    if found is not None:
        found.inc(name, *labels, by=by)


def observe(name: str, value: float, *labels: str) -> None:
    """Sort a value into a histogram of this task's node."""
    found = _HERE.get()
    if found is not None:
        found.observe(name, value, *labels)
