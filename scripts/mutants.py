"""Plant known bugs (scripts/mutants.toml) in a copy of the code and let the simulator find them.

`python scripts/mutants.py [--only M1,M4] [--limit 5000] [--jobs 2]` prints, for each bug, the
seed that showed it. A bug nobody finds is a hole in the tests: exit code 1. The unchanged code
must pass the same seeds: `python -m prsm.testnet.sim --seeds 0:5000`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("protocol", "consensus", "testnet", "storage", "node", "src/prsm")


@dataclass(frozen=True)
class Mutant:
    """A bug: what it is, and (file, text, other text) for each place it changes."""

    name: str
    what: str
    changes: tuple[tuple[str, str, str], ...]


def load() -> list[Mutant]:
    """Read scripts/mutants.toml."""
    with (ROOT / "scripts" / "mutants.toml").open("rb") as file:
        entries = tomllib.load(file)["mutant"]
    return [
        Mutant(
            entry["name"],
            entry["what"],
            tuple((change["file"], change["old"], change["new"]) for change in entry["change"]),
        )
        for entry in entries
    ]


def main() -> int:
    """Hunt the chosen mutants; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names separated by commas")
    parser.add_argument("--limit", type=int, default=5_000, help="seeds (default 5000)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args()
    names = set(options.only.split(",")) - {""}
    chosen = [mutant for mutant in load() if not names or mutant.name in names]
    killed = sum(hunt(mutant, limit=options.limit, jobs=options.jobs) for mutant in chosen)
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


def hunt(mutant: Mutant, *, limit: int, jobs: int) -> bool:
    """Plant one bug, play seeds until one fails, print which; False if none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        plant(mutant, copy)
        command = [sys.executable, "-m", "prsm.testnet.sim", "--seeds", f"0:{limit}"]
        command += ["--jobs", str(jobs), "--first", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        failures = json.loads(done.stdout)["failures"]
    except (ValueError, KeyError):
        print(f"{mutant.name} {mutant.what}: did not run: {done.stderr[-400:]}")
        return False
    for seed, violations in failures.items():
        print(f"{mutant.name} {mutant.what}: seed {seed}: {violations[0]}")
        return True
    print(f"{mutant.name} {mutant.what}: NOT FOUND in {limit} seeds")
    return False


def plant(mutant: Mutant, copy: Path) -> None:
    """Copy the code and change it; each text must stand exactly once in its file."""
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, text, other in mutant.changes:
        path = copy / name
        source = path.read_text()
        if source.count(text) != 1:
            raise SystemExit(f"{mutant.name}: {source.count(text)} places of {text!r} in {name}")
        path.write_text(source.replace(text, other))


if __name__ == "__main__":
    sys.exit(main())
