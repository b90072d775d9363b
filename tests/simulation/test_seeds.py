"""Whole networks under faults: the bar of the gate, and the control that shows it can fail.

What a seed once showed is a script in tests/scenarios: a plan drawn from a seed changes whenever
a fault is added.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prsm.testnet.sim.__main__ import main
from prsm.testnet.sim.batch import play
from prsm.testnet.sim.plan import draw
from prsm.testnet.sim.shrink import difference, shrink
from prsm.testnet.sim.world import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_thousand_seeds_hold_every_invariant_and_go_on() -> None:
    summary = play(range(2_000), jobs=2)
    assert summary.failures == {}
    assert summary.seeds == 2_000
    # The runs are worth something: blocks are agreed on, and nobody is quiet by mistake.
    assert summary.events > 1_000_000
    assert summary.heights > 6_000


@pytest.mark.slow
def test_control_with_half_of_the_stake_lying_breaks_agreement() -> None:
    """The checker is not blind: most runs of a broken fault bound show two blocks at a height."""
    summary = play(range(40), control=True)
    broken = [what for what in summary.failures.values() if "two blocks decided" in what[0]]
    assert len(broken) >= 20


@pytest.mark.slow
def test_trace_is_the_same_under_two_hash_seeds() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-c", _TRACE]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, check=True, cwd=ROOT)
        traces.append(done.stdout)
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 5_000


_TRACE = """
from prsm.testnet.sim.world import run
for seed in range(12):
    outcome = run(seed, traced=True)
    print("\\n".join(outcome.trace))
    print(outcome.events, outcome.height, outcome.heal_ms)
"""


def test_same_seed_gives_the_same_run() -> None:
    first, second = run(7, traced=True), run(7, traced=True)
    assert first == second
    assert first.trace


def test_main_prints_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:3", "--json"]) == 0
    document = capsys.readouterr().out
    for key in ("seeds", "events", "violations", "not_live", "events_per_second"):
        assert f'"{key}"' in document
    assert main(["--seeds", "0:2"]) == 0
    assert "violations: 0" in capsys.readouterr().out


def test_main_shows_one_seed_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--trace"]) == 0
    shown = capsys.readouterr().out
    assert "PREPARE" in shown
    assert "seed 3: height" in shown


def test_main_fails_for_a_control_run_that_finds_nothing() -> None:
    assert main(["--seeds", "0:0", "--control"]) == 1
    assert main(["--seeds", "0:12", "--control"]) == 0


def test_shrink_leaves_out_what_the_failure_does_not_need() -> None:
    """The failure here: liars, and more than one crash."""
    plan = next(draw(seed) for seed in range(100) if draw(seed).liars and draw(seed).crashes > 3)
    smallest = shrink(plan, lambda each: bool(each.liars) and each.crashes > 1)
    assert smallest.crashes == 2
    assert smallest.liars == plan.liars
    assert smallest.scripts == ()
    assert (smallest.loss, smallest.partitions, smallest.forgetful) == (0, 0, None)
    assert smallest.faults_ms < 200
    assert "crashes: 2" in difference(smallest)


@pytest.mark.slow
def test_main_shrinks_a_failing_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--shrink", "3"]) == 0
    assert "does not fail" in capsys.readouterr().out
    assert main(["--shrink", "1", "--control", "--trace"]) == 1
    shown = capsys.readouterr().out
    assert "liars: (0, 1)" in shown
    assert "PREPARE" in shown
    assert "partitions" not in shown
