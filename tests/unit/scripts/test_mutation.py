"""The parts of the mutation run that need no operators: where a change is, and what it weighs."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "scripts"))  # behind all others: it has a module `test`
mutation = importlib.import_module("mutation")
plants = importlib.import_module("mutation_plants")
hunt = importlib.import_module("mutation_hunt")

_TEXT = """
class Purse:
    @property
    def full(self) -> bool:
        return self.coins > (
            self.room
        )

    @full.setter
    def full(self, value: bool) -> None:
        self.coins = value


def spend(
    purse: Purse,
    amount: int = 1,
) -> None:
    if purse.coins < amount:
        raise ValueError
    purse.coins -= amount
"""


def test_functions_of_one_name_are_told_apart_by_their_order() -> None:
    places = [place for place, _ in plants.functions("purse.py", _TEXT)]
    assert places == [
        plants.Place("purse.py", "spend", 0),
        plants.Place("purse.py", "Purse.full", 0),
        plants.Place("purse.py", "Purse.full", 1),
    ]


def test_lines_stay_where_they_are_when_decorators_are_hidden() -> None:
    hidden = plants.without_decorators(_TEXT)
    assert "@" not in hidden
    assert hidden.count("\n") == _TEXT.count("\n")
    assert hidden.splitlines()[3] == _TEXT.splitlines()[3]


def test_statement_is_found_by_any_of_its_lines_and_a_body_is_not_its_head() -> None:
    spans = plants.statements(_TEXT)
    assert range(5, 8) in spans  # the whole of the return
    assert range(14, 18) in spans  # the head of spend, without what it does
    assert range(18, 19) in spans  # the question alone


def test_change_is_told_by_the_new_line_or_the_one_that_is_gone() -> None:
    assert plants.change_of("a\nb < c\n", "a\nb <= c\n") == "b <= c"
    assert plants.change_of("a\nb\n", "a\n") == "without: b"
    assert plants.change_of("a(\nb,\nc,\n)\n", "a(\nb,\n )\n") == "without: c, )"


def test_tests_of_a_statement_are_the_quickest_that_the_time_allows() -> None:
    survey = hunt.Survey({"purse.py": {5: [0, 1], 6: [2]}}, [5.0, 0.1, 4.0])
    assert survey.tests_of("purse.py", range(5, 7), 10.0) == [1, 2, 0]
    assert survey.tests_of("purse.py", range(5, 7), 5.0) == [1, 2]
    assert survey.tests_of("purse.py", range(5, 6), 0.01) == [1]  # never none at all
    assert survey.tests_of("purse.py", range(8, 9), 10.0) == []


def test_report_counts_what_was_found_and_names_what_nobody_explains() -> None:
    report = mutation.Report(4, 2)
    place = plants.Place("consensus/pbft/votes.py", "Tally.add", 0)
    for change, by in (("a", "test_a"), ("b", None), ("c", hunt.NO_END), ("d", None)):
        report.outcomes.append(hunt.Outcome(place, 7, change, by))
    found = report.summary(40, {"votes.py Tally.add: b": "the same"})
    assert (found["tried"], found["killed"], found["without_end"]) == (4, 2, 1)
    assert (found["score"], found["explained"]) == (0.5, 1)
    assert found["survivors"] == ["consensus/pbft/votes.py:7 votes.py Tally.add: d"]
    assert found["interval_95"] == [0.15, 0.85]
    assert "interval_95" not in report.summary(4, {})


@pytest.mark.parametrize("part", ["pbft", "ledger"])
def test_each_explained_survivor_names_a_function_there_is(part: str) -> None:
    known = set()
    for path in (ROOT / "consensus" / part).glob("*.py"):
        for place, _ in plants.functions(path.name, path.read_text()):
            known.add(f"{place.path} {place.function}")
    for name in mutation.explained(part):
        assert name.split(":")[0] in known, name
