"""`python3 scripts/check.py [--fast]`: the one gate, at a desk and in CI.

Runs each step, prints its seconds, stops at the first failure. Knows commands and their order; the
rules themselves are in pyproject.toml and `scripts/tidy.py`. Uses the standard library alone and
the tools of `.venv`, whichever Python starts it.

Two lanes, for two cores. First what starts daemons, which waits as much as it works, and beside it,
at the lowest priority, what only reads the code. Whichever lane is free goes on with the other
tests in five processes, the longest first: whole nodes, the simulator (which coverage would slow
five times over), unit tests of the node and of the rest, and those that coverage watches.

A test file that failed beside all this runs once more at the end, alone: on two busy cores a
deadline of real time may pass for no fault of the code. If it passes, so does the gate, whose last
line then names the file: that is a race to be mended, and never more than `AGAIN_MAX` at a time.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from environment import PYTHON, ROOT, VENV

AGAIN_MAX: Final = 2  # files that may fail once: more is no chance
BRANCH_COVERAGE_MIN: Final = 90
MARKS: Final = "not long and not ipfs"  # what the gate runs
FLOORS: Final = ("protocol", "consensus", "storage", "node", "testnet")
_SIMULATION: Final = "tests/simulation"
# What coverage reports is covered by these alone; watching the others too costs a minute.
_COVERED: Final = (
    *("tests/unit/consensus", "tests/unit/protocol", "tests/property/consensus"),
    *("tests/property/test_codec.py", "tests/scenarios", "tests/paper"),
)
# Whole nodes in one process: they cover what unit tests cover, slower.
_JOINED: Final = ("tests/integration", "tests/power", "tests/conformance", "tests/fuzz")
# 114 and 128 know the name of a started function, not one that hands task_status on; 100 is ruff's
# too, 300 is asyncio's, and each costs a fifth of the time; the 9xx family (off by default, until
# --disable is given) wants a checkpoint in every async function.
_ASYNC_OFF: Final = (
    "ASYNC100,ASYNC114,ASYNC128,ASYNC300,ASYNC900,ASYNC910,ASYNC911,ASYNC912,ASYNC913"
)
_ROOMS: Final = "tests/unit/node"
_PROCESSES: Final = ("tests/e2e", "tests/interop")


class Step(NamedTuple):
    """A command of the gate; the gate fails when it exits with anything but 0."""

    name: str
    command: Sequence[str]


def quick_steps() -> list[Step]:
    """What is done in a second or two."""
    return [
        Step("format", ["ruff", "format", "--check", "--quiet", "."]),
        Step("lint", ["ruff", "check", "--quiet", "."]),
        Step("tidy", [str(PYTHON), "scripts/tidy.py"]),
        Step("contracts", ["lint-imports", "--no-logo"]),
    ]


def reading_steps(files: Sequence[str], *, changed: bool = False) -> list[list[Step]]:
    """What reads these files and all types without running them: chains for two cores.

    Args:
        files: of the repository.
        changed: they are the changed ones: tests are linted only then, at a desk. All of them
            cost a minute of two cores, and what they show is of the tests' own time.
    """
    names = [name for name in files if name.endswith(".py") and _is_async(name)]
    tests = [name for name in names if name.startswith("tests/")]
    lint = ["flake8-async", f"--disable={_ASYNC_OFF}"]
    async_lint = [
        Step("async lint", [*lint, *sorted(set(names) - set(tests))]),
        # A fake behind a port has nothing to await (124); a test bounds its clean-up (102).
        Step("async lint, tests", [*lint[:1], f"{lint[1]},ASYNC102,ASYNC124", *tests]),
    ]
    types = [
        Step("types", ["mypy"]),
        Step("types of tests", ["mypy", "tests"]),
        Step("types of scripts", ["mypy", "scripts"]),
    ]
    wanted = async_lint if changed else async_lint[:1]
    return [types, [step for step in wanted if len(step.command) > 2]]


def whole_steps() -> list[Step]:
    """What looks at the tree as one: dangers, and what is written twice.

    Bandit looks for what is high; ruff's S rules see the rest, and take reasons.
    """
    folders = [name for name in (*FLOORS, "scripts") if (ROOT / name).is_dir()]
    command = ["bandit", "--quiet", "--configfile=pyproject.toml", "--severity-level=high"]
    return [
        Step("security", [*command, "--recursive", *folders]),
        Step("duplication", [str(PYTHON), "scripts/duplication.py"]),
    ]


def test_steps(marks: str) -> tuple[list[list[Step]], list[Step]]:
    """Chains of steps that run side by side, and what starts daemons."""
    pytest = [str(PYTHON), "-m", "pytest", "--quiet", "--durations=5", f"-m={marks}"]
    coverage = [str(PYTHON), "-m", "coverage", "run", *pytest[1:]]
    apart = (*_COVERED, _SIMULATION, _ROOMS, *_JOINED, *_PROCESSES)
    wanted = (
        Step("whole nodes", [*pytest, *filter(_has_tests, _JOINED)]),
        Step("simulator", [*pytest, _SIMULATION]),
        Step("rooms of the node", [*pytest, _ROOMS]),
        Step("other tests", [*pytest, *(f"--ignore={name}" for name in apart)]),
        Step("ledger, agreement", [*coverage, *_COVERED]),
    )
    beside = [[step] for step in wanted]
    folders = [folder for folder in _PROCESSES if _has_tests(folder)]
    return beside, [Step("daemons", [*pytest, *folders])] if folders else []


def changed_files() -> list[str]:
    """Files that differ from HEAD or are new to git."""
    return _git("diff", "--name-only", "HEAD") + _git("ls-files", "-o", "--exclude-standard")


def tests_of(files: Sequence[str]) -> list[str]:
    """The test files among these, and the unit tests of the modules among them."""
    found = set()
    for name in files:
        path = Path(name)
        if path.suffix != ".py":
            continue
        if path.parts[0] == "tests" and path.name.startswith("test_"):
            found.add(name)
        found.add(str(Path("tests", "unit", path.parent, f"test_{path.name}")))
    return sorted(
        name
        for name in found
        if (ROOT / name).exists() and not name.startswith((_SIMULATION, *_PROCESSES))
    )


def failed_files(output: str) -> list[str]:
    """The test files that a report of pytest names as failed, each once."""
    return sorted(set(re.findall(r"^(?:FAILED|ERROR) (tests/[^:\s]+\.py)", output, re.MULTILINE)))


def run(step: Step, again: list[str] | None = None) -> bool:
    """Run one step; its output is shown only when it fails, or is the tests' own.

    Args:
        step: to run.
        again: takes the test files that failed, if there are few, and the step counts as passed:
            whoever hands the list runs them again.
    """
    begin = time.monotonic()
    if "pytest" in step.command:
        print(f"{step.name:18}   ...", flush=True)
    done = subprocess.run(
        step.command,
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # 5 is pytest's word for "nothing selected"; an empty selection is no failure.
    nothing = done.returncode == 5 and "pytest" in step.command
    ok = done.returncode == 0 or nothing
    verdict = "ok" if ok else f"FAILED (exit {done.returncode})"
    if not ok or "pytest" in step.command:
        print(done.stdout.rstrip(), flush=True)
    print(f"{step.name:18} {time.monotonic() - begin:7.1f} s  {verdict}", flush=True)
    if not ok and again is not None and done.returncode == 1 and "pytest" in step.command:
        files = failed_files(done.stdout)
        again += files
        return len(files) > 0 and len(again) <= AGAIN_MAX
    return ok


def run_alone(files: Sequence[str], marks: str) -> bool:
    """Run test files again with nothing beside them; say which pass only so."""
    if not files:
        return True
    command = [str(PYTHON), "-m", "pytest", "--quiet", f"-m={marks}", *files]
    if not run(Step("again, alone", command)):
        return False
    print(f"RACE: failed beside others, passed alone: {' '.join(files)}", flush=True)
    return True


def report_coverage() -> bool:
    """Print the branch coverage of protocol/ and consensus/; the missing lines if it is low."""
    command = [str(PYTHON), "-m", "coverage", "report"]
    total = subprocess.run(
        [*command, "--format=total", "--precision=1"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    figure = float(total.stdout) if total.returncode == 0 else 0.0
    print(f"coverage with branches, protocol/ and consensus/: {figure} %", flush=True)
    if figure >= BRANCH_COVERAGE_MIN:
        return True
    print(total.stderr.strip())
    subprocess.run(command, cwd=ROOT, env=_environment(), check=False)
    print(f"coverage of {figure} %, at least {BRANCH_COVERAGE_MIN} %")
    return False


def at_rest(step: Step) -> Step:
    """The step at the lowest priority: it takes what others leave of the processors."""
    return Step(step.name, ["nice", "-n19", *step.command])


def run_beside(chains: Sequence[Sequence[Step]], again: list[str] | None = None) -> bool:
    """Run chains of steps on two cores; a chain ends at its first failure. `again`: see `run`."""

    def in_turn(chain: Sequence[Step]) -> bool:
        return all(run(step, again) for step in chain)

    with ThreadPoolExecutor(max_workers=2) as pool:
        return all(list(pool.map(in_turn, chains)))


def gate(*, fast: bool, marks: str) -> bool:
    """Run the gate; True if every step passed."""
    if not all(map(run, quick_steps())):
        return False
    if not fast:
        reading = [step for chain in reading_steps(_git("ls-files")) for step in chain]
        chains, daemons = test_steps(marks)
        quiet = [at_rest(step) for step in (*reading, *whole_steps())]
        again: list[str] = []
        passed = run_beside([daemons, quiet, *chains], again) and report_coverage()
        return passed and run_alone(again, marks)
    files = changed_files()
    if not run_beside(reading_steps(files, changed=True)):
        return False
    tests = tests_of(files)
    command = [str(PYTHON), "-m", "pytest", "--quiet", f"-m=not slow and {MARKS}", *tests]
    return not tests or run(Step("changed tests", command))


def main() -> None:
    """Read the arguments, run the gate, say how long it took."""
    parser = argparse.ArgumentParser(description="Run the gate of PRSM.")
    parser.add_argument("--fast", action="store_true", help="no whole test run: at most a minute")
    parser.add_argument("--marks", default=MARKS, help=f'pytest marks to run (default: "{MARKS}")')
    arguments = parser.parse_args()
    if not (VENV / "bin" / "ruff").exists():
        sys.exit("error: the tools are not installed: try python3 scripts/test.py")
    begin = time.monotonic()
    passed = gate(fast=arguments.fast, marks=arguments.marks)
    print(f"gate: {'passed' if passed else 'FAILED'} in {time.monotonic() - begin:.0f} s")
    sys.exit(0 if passed else 1)


def _environment() -> dict[str, str]:
    paths = {"PYTHONPATH": str(ROOT / "src"), "MYPYPATH": str(ROOT / "scripts")}
    bins = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **paths, "PATH": bins}


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def _is_async(name: str) -> bool:
    text = (ROOT / name).read_text()
    return "async " in text or "trio" in text


def _has_tests(folder: str) -> bool:
    return any((ROOT / folder).rglob("test_*.py"))


if __name__ == "__main__":
    main()
