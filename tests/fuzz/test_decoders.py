"""Decoders of the wire under mutants of valid bytes: a record or a typed refusal, nothing else.

The gate's share; `scripts/fuzz.py` runs the same targets for millions of executions.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutants import mutate
from tests.fuzz.seeds import found, seeds
from tests.fuzz.targets import TARGETS

MUTANTS = 40  # of one example: drawing it costs more than running them
BOMBS = 12
PEAK_RATIO_MAX = 32
NEVER_TAKEN = {"frames", "chunks"}  # a stream that ends; a root that nobody gave


def test_long_runs_have_the_same_targets() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "fuzz.py"))
    assert set(script["NAMES"]) == set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_valid_bytes_are_taken(name: str) -> None:
    assert seeds(name)
    taken = [TARGETS[name](seed) for seed in seeds(name)]
    assert any(taken) or name in NEVER_TAKEN


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_bytes_that_once_failed_do_not_again(name: str) -> None:
    for raw in found(name):
        TARGETS[name](raw)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=40)
@given(number=st.integers(0, 2**32 - 1))
def test_mutants_of_valid_bytes_are_taken_or_refused(name: str, number: int) -> None:
    """By structure; a failing example is one number."""
    dice = Random(number)
    target = TARGETS[name]
    for _ in range(MUTANTS):
        target(mutate(dice.choice(seeds(name)), dice, prefix=min(target.choices, 1)))


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(max_examples=20)
@given(raw=st.binary(max_size=256))
def test_any_bytes_are_taken_or_refused(name: str, raw: bytes) -> None:
    TARGETS[name](raw)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frames", "chunks", "pubsub", "genesis"])
def test_a_mebibyte_of_small_things_takes_bounded_memory(name: str) -> None:
    """The decoders that take the largest inputs; `scripts/fuzz.py --memory` measures all.

    In a program of its own: a heap that other tests have used keeps what it gives back.
    """
    command = [sys.executable, "-c", _MEASURE, name, str(BOMBS)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    ratios = [float(word) for word in done.stdout.split()]
    assert len(ratios) == BOMBS
    assert max(ratios) <= PEAK_RATIO_MAX


_MEASURE = """
import sys
from itertools import islice
from tests.fuzz.bombs import bombs, peak_ratio
name, count = sys.argv[1], int(sys.argv[2])
print(*(peak_ratio(name, bomb) for bomb in islice(bombs(name), count)))
"""
