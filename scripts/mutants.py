"""Plant known bugs (scripts/mutants.toml) in a copy of the code and let the tests find them.

`python scripts/mutants.py [--only M1,M4] [--jobs 2] [--json]` prints, for each bug, the seed of the
simulator that showed it, or the directed test that failed. A bug nobody finds is a hole in the
tests: exit code 1. The unchanged code must pass the same seeds and tests.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = ("protocol", "consensus", "testnet", "storage", "node", "src/prsm")
FOLDERS_OF_TESTS: Final = ("tests", "docs", "scripts")
LIMIT: Final = 5_000  # seeds; rarer bugs say so themselves
MISSPELT: Final = ("NameError", "ImportError", "AttributeError", "SyntaxError")
FAILED: Final = 1  # exit code of pytest when tests ran and some failed


@dataclass(frozen=True)
class Mutant:
    """A bug: what it is, (file, text, other text) of each place, and who must find it."""

    name: str
    what: str
    changes: tuple[tuple[str, str, str], ...]
    limit: int  # seeds
    tests: tuple[str, ...]  # directed ones instead of seeds


@dataclass(frozen=True)
class Hunt:
    """How a hunt ended."""

    name: str
    what: str
    killed: bool
    by: str
    seconds: float


def load() -> list[Mutant]:
    """Read scripts/mutants.toml."""
    with (ROOT / "scripts" / "mutants.toml").open("rb") as file:
        entries = tomllib.load(file)["mutant"]
    made = [
        Mutant(
            entry["name"],
            entry["what"],
            tuple((change["file"], change["old"], change["new"]) for change in entry["change"]),
            entry.get("limit", LIMIT),
            tuple(entry.get("tests", ())),
        )
        for entry in entries
    ]
    return sorted(made, key=lambda mutant: int(mutant.name[1:]))


def main() -> int:
    """Hunt the chosen mutants; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names separated by commas")
    parser.add_argument("--limit", type=int, help="seeds at most, for all")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args()
    names = set(options.only.split(",")) - {""}
    chosen = [mutant for mutant in load() if not names or mutant.name in names]
    hunts = []
    for mutant in chosen:
        done = hunt(mutant, limit=options.limit or mutant.limit, jobs=options.jobs)
        hunts.append(done)
        if not options.json:
            word = "" if done.killed else "NOT FOUND, "
            print(f"{done.name} {done.what}: {word}{done.by} ({done.seconds:.0f} s)", flush=True)
    killed = sum(done.killed for done in hunts)
    if options.json:
        rows = [vars(done) for done in hunts]
        print(json.dumps({"mutants": len(chosen), "killed": killed, "hunts": rows}))
    else:
        print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


def hunt(mutant: Mutant, *, limit: int, jobs: int) -> Hunt:
    """Plant one bug, and see who finds it."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        plant(mutant, copy)
        killed, by = _test(mutant, copy) if mutant.tests else _play(copy, limit, jobs)
    return Hunt(mutant.name, mutant.what, killed, by, round(time.monotonic() - begin, 1))


def plant(mutant: Mutant, copy: Path) -> None:
    """Copy the code and change it; each text must stand exactly once in its file."""
    for name in (*FOLDERS, *(FOLDERS_OF_TESTS if mutant.tests else ())):
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, text, other in mutant.changes:
        path = copy / name
        source = path.read_text()
        if source.count(text) != 1:
            raise SystemExit(f"{mutant.name}: {source.count(text)} places of {text!r} in {name}")
        path.write_text(source.replace(text, other))


def _play(copy: Path, limit: int, jobs: int) -> tuple[bool, str]:
    """Play seeds until one fails."""
    command = [sys.executable, "-m", "prsm.testnet.sim", "--seeds", f"0:{limit}"]
    done = _run([*command, "--jobs", str(jobs), "--first", "--json"], copy)
    try:
        failures = json.loads(done.stdout)["failures"]
    except (ValueError, KeyError):
        return False, f"did not run: {done.stderr[-400:]}"
    return judge(failures, limit)


def judge(failures: dict[str, list[str]], limit: int) -> tuple[bool, str]:
    """Whether the first failing seed found the bug, and how; a plant that cannot run is none."""
    for seed, violations in failures.items():
        by = f"seed {seed}: {violations[0]}"
        return not any(f"raised {name}" in by for name in MISSPELT), by
    return False, f"{limit} seeds"


def _test(mutant: Mutant, copy: Path) -> tuple[bool, str]:
    """Run directed tests; one must fail, and none must be unable to run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = _run([*command, *mutant.tests], copy)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode == FAILED and failed:
        return True, failed[0].partition(" - ")[0].removeprefix("FAILED ")
    return False, (done.stdout[-400:] + done.stderr[-200:]).strip().replace("\n", " | ")


def _run(command: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
