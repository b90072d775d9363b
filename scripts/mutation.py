"""`scripts/mutation.py pbft|ledger`: change the code in one place at a time; do the tests notice?

Plants what mutmut's operators make of each function (mutation_plants.py), runs the tests that
execute the statement (mutation_hunt.py), and prints the score: the share of mutants some test
fails for. With `--sample N` it takes N of them by chance and adds the 95 % interval of the score;
with `--again FILE` only the survivors an earlier document lists, once tests were written.
Survivors that no test can find are explained, by class, in mutation.toml; any other is printed, and
the exit code is 1 if the score is under 85 %.
"""

import argparse
import contextlib
import json
import math
import os
import random
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from mutation_hunt import CPU_SECONDS, NO_END, Hunt, Outcome
from mutation_plants import MUTMUT, ROOT, Mutant, Place, Source

from prsm.testnet.bench.machine import commit

SCORE_MIN: Final = 0.85
_CONSENSUS: Final = ROOT / "consensus"
_TESTS: Final = {
    "pbft": (
        "tests/unit/consensus/pbft",
        "tests/scenarios",
        "tests/paper",
        "scripts/mutation_seeds.py",
    ),
    "ledger": (
        *("tests/unit/consensus/ledger", "tests/property/consensus/ledger", "tests/paper"),
        "tests/unit/testnet/test_verify_receipt.py",  # the independent reader of receipt_document
    ),
}


def main() -> int:
    """Hunt; return the exit code."""
    options = _options()
    package = _CONSENSUS / options.part
    sources = [Source(path) for path in sorted(package.glob("*.py")) if options.only in path.name]
    mutants = [mutant for source in sources for mutant in source.mutants()]
    chosen = mutants
    if options.sample and options.sample < len(mutants):
        chosen = random.Random(options.seed).sample(mutants, options.sample)  # noqa: S311 - which are tried
    if options.again:
        survivors = json.loads(options.again.read_text())["survivors"]
        known = {each.partition(" ")[2] for each in survivors}  # lines move with the tests' mending
        chosen = mutants = [mutant for mutant in chosen if _is_among(mutant, known)]
    report = Report(len(chosen), os.dup(2))
    hunt = Hunt(package, sources, chosen, report.note, options.jobs)
    begin, tree = time.monotonic(), commit()
    arguments = ["-q", "-m", "not long", "-p", "no:cacheprovider", *_TESTS[options.part]]
    with _silence():
        status = pytest.main(arguments, plugins=[hunt])
    if hunt.survey.failed or status not in (0, 5) or not report.outcomes:
        print(f"the unchanged code fails: {hunt.survey.failed or status}", file=sys.stderr)
        return 2
    summary: dict[str, object] = {"package": f"consensus/{options.part}", "operators": MUTMUT}
    summary |= {"commit": tree} | report.summary(len(mutants), explained(options.part))
    summary |= {"cpu_seconds_each": CPU_SECONDS, "seconds": round(time.monotonic() - begin)}
    print(json.dumps(summary, indent=1) if options.json else _text(summary))
    return 0 if report.score >= SCORE_MIN or options.again else 1


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what pytest prints about its own session from the report."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


class Report:
    """Counts outcomes and shows survivors as they are found."""

    def __init__(self, wanted: int, screen: int) -> None:
        self.outcomes: list[Outcome] = []
        self._wanted = wanted
        self._screen = screen

    def note(self, outcome: Outcome) -> None:
        """Take one in."""
        self.outcomes.append(outcome)
        if outcome.by is None:
            title = _title(outcome.place, outcome.change)
            self._show(f"survived {outcome.place.path}:{outcome.line} {title}\n")
        if len(self.outcomes) % 200 == 0:
            killed = sum(each.by is not None for each in self.outcomes)
            self._show(f"{len(self.outcomes)} of {self._wanted}: {killed} found\n")

    @property
    def score(self) -> float:
        """The share that was found, of all that were tried."""
        return sum(each.by is not None for each in self.outcomes) / len(self.outcomes)

    def summary(self, all_of_them: int, known: dict[str, str]) -> dict[str, object]:
        """The figures, and the survivors nobody has explained."""
        tried = len(self.outcomes)
        survivors = [each for each in self.outcomes if each.by is None]
        open_ones = [each for each in survivors if _title(each.place, each.change) not in known]
        killed = tried - len(survivors)
        found: dict[str, object] = {"mutants": all_of_them, "tried": tried, "killed": killed}
        found["without_end"] = sum(each.by == NO_END for each in self.outcomes)
        found |= {"score": round(self.score, 4), "explained": len(survivors) - len(open_ones)}
        if tried < all_of_them * 9 // 10:
            found["interval_95"] = [round(each, 4) for each in _interval(killed, tried)]
        found["survivors"] = [
            f"{each.place.path}:{each.line} {_title(each.place, each.change)}" for each in open_ones
        ]
        return found

    def _show(self, line: str) -> None:
        os.write(self._screen, line.encode())


def _interval(killed: int, tried: int) -> tuple[float, float]:
    """Wilson's score interval at 95 %."""
    z = 1.96
    share = killed / tried
    middle = share + z * z / (2 * tried)
    half = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried))
    scale = 1 + z * z / tried
    return (middle - half) / scale, (middle + half) / scale


def _title(place: Place, change: str) -> str:
    """How mutation.toml calls it: no line number, so that it stays true when others move."""
    return f"{Path(place.path).name} {place.function}: {change}"


def _is_among(mutant: Mutant, titles: set[str]) -> bool:
    """Is it one of these? Only those of its function are compiled to see."""
    where = _title(mutant.place, "")
    if not any(each.startswith(where) for each in titles):
        return False
    planted = mutant.plant()
    return planted is not None and _title(mutant.place, planted.change) in titles


def explained(part: str) -> dict[str, str]:
    """The mutants that change nothing a test could see, with the reason of their class."""
    with (ROOT / "scripts" / "mutation.toml").open("rb") as file:
        classes = tomllib.load(file)[part]
    return {name: each["reason"] for each in classes for name in each["mutants"]}


def _text(summary: dict[str, object]) -> str:
    survivors = summary.pop("survivors")
    assert isinstance(survivors, list)
    lines = [f"{name}: {value}" for name, value in summary.items()]
    return "\n".join([*lines, f"not explained: {len(survivors)}", *survivors])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=sorted(_TESTS))
    parser.add_argument("--sample", type=int, default=0, help="so many, by chance; 0 is all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--again", type=Path, help="only the survivors this document lists")
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
