import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import prsm
from prsm.node.worker.sandbox import landlock_abi, layers

pytestmark = pytest.mark.slow


_needs_all_layers = pytest.mark.skipif(
    landlock_abi() == 0 or "seccomp" not in layers(),
    reason="this kernel or machine lacks Landlock or the seccomp table",
)


def _probe(mode: str) -> dict[str, str]:
    environment = {"PYTHONPATH": str(Path(prsm.__file__).parents[1]), "PATH": os.defpath}
    command = [sys.executable, "-m", "prsm.node.worker.probes", mode]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    answer = json.loads(done.stdout)
    if mode != "none":
        assert answer["layers"] == list(layers())
        assert answer["seal_ms"] < 1000  # the bar of 5 ms is the benchmark's
    probes: dict[str, str] = answer["probes"]
    return probes


def test_probes_are_open_when_unsealed() -> None:
    """Goal: the probes can succeed at all. Method: run them without any layer."""
    answers = _probe("none")
    shut = sorted(name for name, answer in answers.items() if answer != "open")
    # Some kernels and containers refuse these to everybody.
    assert set(shut) <= {"make a user namespace", "run by io_uring", "read the parent's memory"}


@_needs_all_layers
def test_probes_are_closed_when_sealed() -> None:
    """Goal: nothing is left open by all three layers. Method: the same probes, sealed."""
    answers = _probe("sealed")
    assert len(answers) >= 14
    assert set(answers.values()) <= {"refused", "killed by SIGSYS"}


@_needs_all_layers
def test_pinning_child_may_write_one_small_file_and_no_more() -> None:
    """Goal: Landlock holds where seccomp lets files be opened. Method: the pinning profile."""
    answers = _probe("pinning")
    assert answers.pop("write a file here") == "open"
    assert set(answers.values()) <= {"refused", "killed by SIGSYS"}


def test_layers_start_with_rlimits() -> None:
    assert layers()[0] == "rlimits"
