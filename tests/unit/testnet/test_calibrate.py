"""The simulator plays the links that real nodes have; what a hop costs shows in its median."""

import json

import pytest

from prsm.testnet.calibrate import main, plan_of, simulate
from prsm.testnet.gossip import Options

SMALL = Options(nodes=10, dials=3, delay=40, rate=2, seconds=5)


def test_simulator_has_the_links_of_the_processes() -> None:
    plan = plan_of(SMALL, handling_ms=3)
    assert 20 <= len(plan.wired) <= 30
    assert len({frozenset(link) for link in plan.wired}) == len(plan.wired)
    assert plan.records == 10


def test_median_is_that_of_whole_hops() -> None:
    """Between direct neighbours it is one hop, else two: nothing but delay and handling counts."""
    figures = simulate(SMALL, handling_ms=0)
    assert figures.delivered == 1.0
    assert figures.p50_ms in {40, 80}
    slower = simulate(SMALL, handling_ms=10)
    assert slower.p50_ms in {50, 100}


def test_main_simulates_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--simulated", "--nodes", "8", "--seconds", "3", "--handling", "0"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["simulated_p50_ms"] in {50, 100}
    assert "ratio" not in document
