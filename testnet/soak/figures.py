"""What a soak's books say: slopes without the kills, lag, files, tasks, who answered; pure.

Knows: samples, visits, arithmetic. Must not know: where they come from. A process is a line of its
own; a node's slope is the one all of its lines share, each around its own mean (least squares with
an intercept for each process), and a line's first minutes, while caches fill, are left out.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from prsm.testnet.outages import shape
from prsm.testnet.soak.newcomers import Step
from prsm.testnet.soak.samples import Sample
from prsm.testnet.soak.visitors import ANSWERED, AWAY, Visit

WARM_SECONDS: Final = 600.0  # of a process: what it loads at its start is no growth
MIB: Final = 1024 * 1024
HOUR_SECONDS: Final = 3_600.0
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One process as long as it lived.

    Attributes:
        place: of the node.
        samples: in order of time.
    """

    place: int
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """From its first sample to its last."""
        return self.samples[-1].at_s - self.samples[0].at_s

    def warm(self, warm_s: float) -> list[Sample]:
        """Without the beginning."""
        first = self.samples[0].at_s + warm_s
        return [sample for sample in self.samples if sample.at_s >= first]


def lines_of(samples: Iterable[Sample]) -> list[Line]:
    """Every process of every node, by place and first sample."""
    found: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.place, sample.pid), []).append(sample)
    lines = [Line(place, tuple(rows)) for (place, _), rows in found.items()]
    return sorted(lines, key=lambda line: (line.place, line.samples[0].at_s))


def slope(groups: Iterable[Sequence[Point]]) -> float | None:
    """The common slope of several lines; None where no time passes."""
    above = below = 0.0
    for points in groups:
        if not points:
            continue
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        above += sum((x - mean_x) * (y - mean_y) for x, y in points)
        below += sum((x - mean_x) ** 2 for x, _ in points)
    return above / below if below else None


def lag_p99_ms(lines: Iterable[Line]) -> float | None:
    """The bound that 99 of 100 timers of some processes kept, milliseconds; None if none fired.

    The counts of a process begin with it, so its last sample that has any tells all.
    """
    counts: Counter[float] = Counter()
    for line in lines:
        last = next((sample.lag for sample in reversed(line.samples) if sample.lag), ())
        for bound, count in last:
            counts[bound] += count
    if not counts:
        return None
    every = max(counts.values())
    return next(1000 * bound for bound, count in sorted(counts.items()) if count >= 0.99 * every)


def node_row(lines: Sequence[Line], *, warm_s: float) -> dict[str, object]:
    """One node's figures over all of its processes.

    Args:
        lines: of one place.
        warm_s: of each process, that no slope sees.
    """
    longest = max(lines, key=lambda line: line.seconds)
    warm = [line.warm(warm_s) for line in lines]
    seen = [sample for line in lines for sample in line.samples]
    told = [sample.tasks for sample in longest.warm(warm_s) if sample.tasks >= 0]
    return {
        "processes": len(lines),
        "longest_s": round(longest.seconds),
        "slope_s": round(max(0.0, longest.seconds - warm_s)),
        "rss_mib": [round(s.rss_bytes / MIB, 1) for s in _ends(longest.samples)],
        "rss_mib_max": round(max(s.rss_bytes for s in seen) / MIB, 1),
        "rss_mib_per_h": _hourly([[(s.at_s, s.rss_bytes / MIB) for s in rows] for rows in warm]),
        "children": max(len(s.children) for s in seen),
        "children_mib_max": round(max(map(_children_mib, seen)), 1),
        "children_mib_per_h": _hourly(
            [[(s.at_s, _children_mib(s)) for s in rows] for rows in warm]
        ),
        "fds": [s.fds for s in _ends(longest.samples)],
        "fds_max": max(s.fds for s in seen),
        "fds_per_h": _hourly([[(s.at_s, s.fds) for s in rows] for rows in warm]),
        "tasks": [told[0], told[-1]] if told else [],
        "tasks_per_h": _hourly([[(s.at_s, s.tasks) for s in r if s.tasks >= 0] for r in warm]),
        "threads_max": max(s.threads for s in seen),
        "lag_p99_ms": lag_p99_ms(lines),
        "disk_mib": [round(s.disk_bytes / MIB, 1) for s in _ends(seen)],
    }


def nodes_of(samples: Iterable[Sample], *, warm_s: float) -> dict[int, dict[str, object]]:
    """The figures of each node."""
    lines = lines_of(samples)
    places = sorted({line.place for line in lines})
    return {
        place: node_row([line for line in lines if line.place == place], warm_s=warm_s)
        for place in places
    }


def availability(visits: Sequence[Visit]) -> dict[str, object]:
    """Who answered of those that no fault held down, and what the others said."""
    expected = [visit for visit in visits if visit.outcome != AWAY]
    answered = [visit for visit in expected if visit.outcome == ANSWERED]
    missing = Counter(f"{v.method}: {v.outcome}" for v in expected if v.outcome != ANSWERED)
    return {
        "reads": len(expected),
        "reads_answered": len(answered),
        "reads_share": round(len(answered) / max(1, len(expected)), 5),
        "reads_of_nodes_held_down": len(visits) - len(expected),
        "read_ms": shape([visit.took_ms for visit in answered]) if answered else {},
        "reads_missed": dict(missing.most_common(20)),
    }


def models_of(steps: Iterable[Step]) -> dict[str, object]:
    """Steps that worked, and why others did not."""
    rows = list(steps)
    return {
        "worked": dict(Counter(step.step for step in rows if not step.why)),
        "failed": dict(Counter(f"{step.step}: {step.why}" for step in rows if step.why)),
    }


def _ends(samples: Sequence[Sample]) -> tuple[Sample, Sample]:
    return samples[0], samples[-1]


def _children_mib(sample: Sample) -> float:
    return sum(child.rss_bytes for child in sample.children) / MIB


def _hourly(groups: Sequence[Sequence[Point]]) -> float | None:
    found = slope(groups)
    return None if found is None else round(found * HOUR_SECONDS, 2)
