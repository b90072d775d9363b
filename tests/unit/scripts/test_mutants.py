"""The planted bugs are of this code: each text stands where it is changed, each test is there."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mutants import Mutant

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts"))  # behind all others: it has a module `test`
mutants = importlib.import_module("mutants")


@pytest.mark.parametrize("mutant", mutants.load(), ids=lambda mutant: mutant.name)
def test_planted_bug_finds_its_place(mutant: "Mutant") -> None:
    """A line that was rewritten since takes its bug with it, and nobody would hunt it."""
    assert mutant.changes
    for name, text, other in mutant.changes:
        assert (ROOT / name).read_text().count(text) == 1, name
        assert text != other
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).exists(), test


def test_plant_that_cannot_run_has_found_nothing() -> None:
    """A name that is not there fails each seed, whatever the bug does."""
    raised = "the code under test raised "
    assert mutants.judge({"10": [raised + "AssertionError: 6 micro-FTNS out of nothing"]}, 5)[0]
    assert mutants.judge({"10": ["5 certificates: node 4 decided"]}, 5)[0]
    assert not mutants.judge({"10": [raised + "NameError: name 'Phase' is not defined"]}, 5)[0]
    assert mutants.judge({}, 5) == (False, "5 seeds")
