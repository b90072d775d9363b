"""The node's own alerts: it looks at its numbers and says what holds, since when, and when it ends.

Knows: the rules, its metrics. Must not know: who is told. What has to be judged over minutes is
kept for an hour, a value each ten seconds.
"""

import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from prsm.node.telemetry import logs
from prsm.node.telemetry.alertrules import RULES, Rule
from prsm.node.telemetry.metrics import Metrics

LOOK_S: Final = 10.0
REMEMBERED: Final = 360  # values: one hour

log = logs.get("alerts")

_Query = tuple[str, tuple[tuple[str, str], ...]]  # a metric, and labels it must have


@dataclass(frozen=True, slots=True)
class Change:
    """An alert that fires since now, or no more."""

    rule: Rule
    is_firing: bool
    since_ms: int  # wall clock: since when it holds


class Memory:
    """A node's numbers, now and up to an hour back; of the past only what somebody asked for.

    Args:
        metrics: of the node.
        worst_lag_s: of its loop, lately.
    """

    def __init__(self, metrics: Metrics, worst_lag_s: Callable[[], float]) -> None:
        self._metrics, self._worst_lag_s = metrics, worst_lag_s
        self._past: dict[_Query, deque[float]] = {}

    @property
    def worst_lag_s(self) -> float:
        """How late the loop was at worst, of the last seconds."""
        return self._worst_lag_s()

    def look(self) -> None:
        """Take what is asked for into the past."""
        self._metrics.refresh()
        for query, past in self._past.items():
            past.append(self._read(query))

    def now(self, name: str, **labels: str) -> float:
        """A metric summed over all label sets that have these values."""
        return self._metrics.total(name, **labels)

    def grown(self, name: str, seconds: float, **labels: str) -> float:
        """By how much it grew in the last seconds, or since it was asked for first."""
        query = (name, tuple(sorted(labels.items())))
        past = self._past.get(query)
        if past is None:
            past = self._past[query] = deque((self._read(query),), maxlen=REMEMBERED + 1)
        back = min(round(seconds / LOOK_S), len(past) - 1)
        return past[-1] - past[-1 - back]

    def _read(self, query: _Query) -> float:
        name, labels = query
        return self._metrics.total(name, **dict(labels))


class Alerts:
    """Watches the rules of one node.

    Args:
        memory: what they look at.
        wall_ms: the node's clock.
        tell: told of each change.
        rules: all that the node can judge itself.
    """

    def __init__(
        self,
        memory: Memory,
        wall_ms: Callable[[], int],
        tell: Callable[[Change], None],
        *,
        rules: tuple[Rule, ...] = RULES,
    ) -> None:
        self._memory, self._wall_ms, self._tell = memory, wall_ms, tell
        self._rules = tuple(rule for rule in rules if rule.holds is not None)
        self._holds_since: dict[str, int] = {}
        self.firing: dict[str, Change] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look each ten seconds until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Judge every rule now."""
        self._memory.look()
        now_ms = self._wall_ms()
        for rule in self._rules:
            assert rule.holds is not None
            if rule.holds(self._memory):
                since_ms = self._holds_since.setdefault(rule.name, now_ms)
                if now_ms - since_ms >= rule.for_s * 1000 and rule.name not in self.firing:
                    self._change(Change(rule, is_firing=True, since_ms=since_ms))
            else:
                self._holds_since.pop(rule.name, None)
                fired = self.firing.get(rule.name)
                if fired is not None:
                    self._change(Change(rule, is_firing=False, since_ms=fired.since_ms))

    def _change(self, change: Change) -> None:
        rule = change.rule
        if change.is_firing:
            self.firing[rule.name] = change
            log.warning("alert", name=rule.name, severity=rule.severity, text=rule.text)
        else:
            del self.firing[rule.name]
            log.info("alert is over", name=rule.name)
        self._tell(change)


def count_firing(alerts: Alerts, metrics: Metrics) -> None:
    """Say how many fire, by severity."""
    for severity in ("info", "warning", "critical"):
        firing = sum(one.rule.severity == severity for one in alerts.firing.values())
        metrics.put("prsm_alerts_firing", firing, severity)


def watch(
    metrics: Metrics,
    *,
    worst_lag_s: Callable[[], float],
    wall_ms: Callable[[], int],
    tell: Callable[[Change], None],
) -> Alerts:
    """Make the alerts of a node, and have its metrics count them.

    Args:
        metrics: of the node.
        worst_lag_s: of its loop.
        wall_ms: its clock.
        tell: told of each change.
    """
    alerts = Alerts(Memory(metrics, worst_lag_s), wall_ms, tell)
    metrics.on_read(functools.partial(count_firing, alerts))
    return alerts
