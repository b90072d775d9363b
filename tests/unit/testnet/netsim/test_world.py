"""Runs of small simulated networks: the same twice, and blind to nothing that is switched off."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prsm.node.net.places import place_of
from prsm.protocol.errors import LocalError
from prsm.testnet.netsim.plan import Plan, Role, Scheme
from prsm.testnet.netsim.scenarios import SCENARIOS, mesh_back_ms, scaled, without
from prsm.testnet.netsim.scene import place_for
from prsm.testnet.netsim.world import Outcome, play

ROOT = Path(__file__).parents[4]
SMALL = Plan(nodes=24, silent=200, loss=100, churn=100, records=6, settle_ms=4_000, drain_ms=8_000)


def _play(name: str, nodes: int, *switched_off: str, seed: int = 0) -> list[str]:
    scenario = SCENARIOS[name]
    plan = without(scaled(scenario.plan, nodes=nodes, seed=seed), switched_off)
    return scenario.broken(play(plan))


@pytest.mark.slow
def test_same_plan_gives_the_same_run() -> None:
    first, second = play(SMALL, traced=True), play(SMALL, traced=True)
    assert first == second
    assert len(first.trace) > 300
    assert play(replace(SMALL, seed=1), traced=True).trace != first.trace
    assert play(SMALL).trace == ()


_TRACE = """
from prsm.testnet.netsim.plan import Plan, Scheme
from prsm.testnet.netsim.world import play
for seed, scheme in enumerate(Scheme):
    plan = Plan(seed=seed, nodes=16, silent=200, loss=100, churn=100, sybils=24, scheme=scheme,
                flash_ms=5_000, records=6, settle_ms=4_000, drain_ms=8_000)
    outcome = play(plan, traced=True)
    print("\\n".join(outcome.trace))
    print(outcome.figures, outcome.mesh, outcome.ways, outcome.counts)
"""


@pytest.mark.slow
def test_trace_is_the_same_under_two_hash_seeds() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", _TRACE]
        done = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=ROOT)
        traces.append(done.stdout)
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 500


@pytest.mark.slow
def test_lossy_network_delivers_and_without_repair_it_does_not() -> None:
    assert _play("lossy", 100) == []
    assert _play("lossy", 100, "repair")


@pytest.mark.slow
def test_sybils_silent_all_at_once_are_survived_and_without_scoring_they_are_not() -> None:
    plan = replace(
        SCENARIOS["flash"].plan,
        nodes=30,
        sybils=240,
        records=45,
        every_ms=1_000,
        settle_ms=6_000,
        flash_ms=10_000,
        drain_ms=4_000,
    )
    scored = play(plan)
    blind = play(without(plan, ("scoring",)))
    assert mesh_back_ms(scored, plan.flash_ms) == 0
    assert scored.figures.within_1s == 1.0
    assert mesh_back_ms(blind, plan.flash_ms) != 0
    assert blind.figures.within_1s < 0.95
    assert blind.figures.delivered == 1.0  # pulled


def _forged(*, scoring: bool) -> tuple[Outcome, int]:
    plan = replace(SMALL, silent=0, loss=0, churn=0, sybils=30, scheme=Scheme.FORGE)
    outcome = play(replace(plan, scoring=scoring), traced=True)
    return outcome, sum(" lost " in line for line in outcome.trace)


@pytest.mark.slow
def test_forgers_lose_their_links_unless_faults_are_not_counted() -> None:
    counted, links_lost = _forged(scoring=True)
    ignored, links_kept = _forged(scoring=False)
    assert links_lost > 100
    assert links_kept == 0
    assert counted.figures.delivered == ignored.figures.delivered == 1.0


def test_network_without_the_guard_comes_together_when_nobody_attacks() -> None:
    plan = Plan(nodes=20, guard=False, records=3, settle_ms=4_000, drain_ms=2_000)
    assert play(plan).figures.delivered == 1.0


def test_addresses_are_public_and_sybils_crowd_in_their_groups() -> None:
    plan = Plan(nodes=300, sybils=300, sybil_groups=4)
    honest = [place_for(plan, number, Role.HONEST) for number in range(300)]
    sybils = [place_for(plan, number, Role.SYBIL) for number in range(300, 600)]
    for place in (*honest[:20], *sybils[:20]):
        assert place_of(place.text) == place
    assert len({place.group for place in sybils}) == 4
    assert len({place.group for place in honest}) > 150
    assert not {place.group for place in honest} & {place.group for place in sybils}


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"loss": 1000}, {"sybil_groups": 0}])
def test_plan_out_of_bounds_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(LocalError, match=next(iter(wrong))):
        play(Plan(**wrong))  # type: ignore[arg-type]  # by name
