"""When a node calls for a person: each rule seen to fire and to end, by the node's own numbers."""

from dataclasses import dataclass, field

import pytest

from prsm.node.telemetry.alertrules import RULES, Rule
from prsm.node.telemetry.alerts import LOOK_S, Alerts, Change, Memory, watch
from prsm.node.telemetry.metrics import Metrics

HEALTHY = {
    "prsm_node_up": 1.0,
    "prsm_peers_expected": 1.0,
    "prsm_disk_free_bytes": 1e12,
    "prsm_storage_quota_bytes": 1e10,
    "prsm_rpc_certificate_left_seconds": 20 * 86_400.0,
}


@dataclass
class World:
    """A node's numbers under a clock that the test moves."""

    now_ms: int = 1_700_000_000_000
    lag_s: float = 0.0
    told: list[Change] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    height: int = 0

    def __post_init__(self) -> None:
        for name, value in HEALTHY.items():
            self.metrics.put(name, value)
        self.metrics.put("prsm_peers", 3, "out")
        self.alerts = watch(
            self.metrics,
            worst_lag_s=lambda: self.lag_s,
            wall_ms=lambda: self.now_ms,
            tell=self.told.append,
        )

    def spend(self, seconds: float, *, grows: bool = True) -> None:
        """Let the node look as often as it does in that time."""
        for _ in range(round(seconds / LOOK_S)):
            self.now_ms += int(LOOK_S * 1000)
            self.height += grows
            self.metrics.put("prsm_consensus_height", self.height)
            self.alerts.look()

    @property
    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return set(self.alerts.firing)


def test_a_door_without_tls_has_no_certificate_that_ends() -> None:
    world = World()
    world.metrics.put("prsm_rpc_certificate_left_seconds", 0)  # as one that was never told
    world.spend(600)
    assert world.told == []
    world.metrics.put("prsm_rpc_certificate_left_seconds", -5)
    world.spend(600)
    assert world.firing == {"CertificateEnds"}


def test_a_healthy_node_calls_nobody_for_two_hours() -> None:
    world = World()
    world.spend(7_200)
    assert world.told == []


# What goes wrong -> which alert, and whether it ends by itself once the cause is gone.
STATES = {
    "NodeHalted": ("prsm_node_up", 0.0, ()),
    "NoPeers": ("prsm_peers", 0.0, ("out",)),
    "SyncingLong": ("prsm_node_syncing", 1.0, ()),
    "DiskLow": ("prsm_disk_free_bytes", 1e9, ()),
    "StorageFull": ("prsm_storage_bytes", 9.5e9, ("files",)),
    "BucketCrowded": ("prsm_state_bucket_entries", 256.0, ()),
    "CertificateEnds": ("prsm_rpc_certificate_left_seconds", 2.5 * 86_400, ()),
    "ThreadsExhausted": ("prsm_thread_pool_busy", 40.0, ()),
}
COUNTS = {
    "ViewChanges": ("prsm_consensus_view_changes_total", ("silent",), 31),
    "Equivocation": ("prsm_consensus_equivocations_total", (), 1),
    "Slashed": ("prsm_slashed_base_units_total", (), 5),
    "IntegrityFailures": ("prsm_storage_integrity_failures_total", (), 1),
    "JobsFail": ("prsm_jobs_total", ("failed",), 4),
    "WrongAnswers": ("prsm_verification_total", ("outvoted",), 1),
    "InternalErrors": ("prsm_rpc_requests_total", ("rpc_ping", "-32603"), 1),
    "SubscribersDropped": ("prsm_ws_dropped_total", (), 1),
    "BadTokens": ("prsm_rpc_bad_tokens_total", (), 11),
    "PartRestarts": ("prsm_part_restarts_total", ("sync",), 4),
}
TEMPORARY = {"HeightStuck", "LoopLag"}
ELSEWHERE = {rule.name for rule in RULES if rule.holds is None}


def test_every_rule_is_tried_here() -> None:
    assert {*STATES, *COUNTS, *TEMPORARY, *ELSEWHERE} == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def rule_of(name: str) -> Rule:
    return next(rule for rule in RULES if rule.name == name)


@pytest.mark.parametrize("name", STATES)
def test_a_state_fires_after_its_time_and_ends_with_it(name: str) -> None:
    metric, value, labels = STATES[name]
    world, rule = World(), rule_of(name)
    before = world.metrics.value(metric, *labels)
    world.spend(600)
    world.metrics.put(metric, value, *labels)
    world.spend(max(0, rule.for_s - LOOK_S))
    assert world.told == [], "it must hold for a while first"
    world.spend(2 * LOOK_S)
    assert [(one.rule.name, one.is_firing) for one in world.told] == [(name, True)]
    world.metrics.refresh()
    assert world.metrics.value("prsm_alerts_firing", rule.severity) == 1
    world.metrics.put(metric, before, *labels)
    world.spend(LOOK_S)
    assert [(one.rule.name, one.is_firing) for one in world.told[1:]] == [(name, False)]
    assert world.told[0].since_ms == world.told[1].since_ms
    assert world.firing == set()


@pytest.mark.parametrize("name", COUNTS)
def test_an_event_fires_and_is_over_when_it_is_long_past(name: str) -> None:
    metric, labels, by = COUNTS[name]
    world = World()
    world.spend(600)
    world.metrics.inc(metric, *labels, by=by)
    world.spend(rule_of(name).for_s + LOOK_S if rule_of(name).for_s < 300 else 290)
    if rule_of(name).for_s >= 300:  # it has to go on for as long
        world.metrics.inc(metric, *labels, by=by)
        world.spend(20)
    assert world.firing == {name}
    world.spend(3_700)
    assert world.firing == set()


def test_a_height_that_stands_still_matters_only_while_transactions_wait() -> None:
    world = World()
    world.spend(600)
    world.spend(600, grows=False)
    assert world.firing == set(), "nothing to agree on"
    world.metrics.put("prsm_mempool_size", 5)
    world.spend(130, grows=False)
    assert world.firing == {"HeightStuck"}
    world.spend(LOOK_S)
    assert world.firing == set()


def test_a_loop_that_is_held_fires_after_five_minutes() -> None:
    world = World()
    world.lag_s = 0.8
    world.spend(290)
    assert world.firing == set()
    world.spend(30)
    assert world.firing == {"LoopLag"}


def test_growth_is_of_the_time_asked_for() -> None:
    metrics = Metrics()
    memory = Memory(metrics, lambda: 0.0)
    assert memory.grown("prsm_jobs_total", 60, state="done") == 0
    for _ in range(10):
        metrics.inc("prsm_jobs_total", "done")
        metrics.inc("prsm_jobs_total", "failed")
        memory.look()
    assert memory.grown("prsm_jobs_total", 30, state="done") == 3
    assert memory.grown("prsm_jobs_total", 3_600, state="done") == 10
    assert memory.now("prsm_jobs_total") == 20


def test_rules_that_others_judge_are_left_to_them() -> None:
    alerts = Alerts(Memory(Metrics(), lambda: 0.0), lambda: 0, lambda _change: None)
    assert {rule.name for rule in alerts._rules} == {rule.name for rule in RULES} - ELSEWHERE
