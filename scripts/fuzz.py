"""Long fuzzing of every decoder on the wire, by libFuzzer with coverage of Python (atheris).

The targets are those of the gate (tests/fuzz/targets.py). A run goes in turns, each a process of
its own at the lowest priority; what was done is added up in `.fuzz/totals.json`, so it can be ended
at any time and taken up again: the target that needs the least time to have enough comes first. An
input that made a target fail is kept in `.fuzz/failed/NAME/`.

    python scripts/fuzz.py --target gossip --runs 10000000   # until that many in all
    python scripts/fuzz.py --runs 10000000 --minutes 60      # every target; no turn ends later
    python scripts/fuzz.py --memory                          # peak memory by size of the input
    python scripts/fuzz.py --report [--json]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from math import inf
from pathlib import Path
from random import Random
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / ".fuzz"
TURN_SECONDS: Final = 120
TURN_SECONDS_MIN: Final = 20  # starting takes some of it
NICE: Final = 19
INPUT_BYTES_MIN: Final = 256  # twice the longest seed else: time goes into shapes, not lengths
INPUT_BYTES_MAX: Final = 5_120  # longer ones are bombs, and measured by --memory
INPUT_SECONDS_MAX: Final = 5
STRUCTURED_EACH: Final = 6  # one mutant of so many is by structure; it costs as much as some runs
MEMORY_BAR_MIB: Final = 32  # for each MiB of input
NAMES: Final = (
    *("frames", "messages", "consensus", "hello", "transactions", "gossip", "pubsub", "receipts"),
    *("tensors", "proofs", "chunks", "snapshots", "blocks", "manifest", "dag", "addresses"),
    "car",
    *("card", "vectors", "versions"),
    *("muxer", "bitswap", "log", "records", "genesis"),
)
_UNITS: Final = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
Totals = dict[str, dict[str, float]]


def main() -> int:
    """Run what is asked for; 1 if a target failed or took too much memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=NAMES, action="append", help="by default all")
    parser.add_argument("--runs", type=int, default=0, help="executions of each target in all")
    parser.add_argument("--turn", type=int, default=TURN_SECONDS, help="seconds of a turn")
    parser.add_argument("--minutes", type=float, default=inf, help="of all turns; else no end")
    parser.add_argument("--memory", action="store_true", help="measure peak memory")
    parser.add_argument("--report", action="store_true", help="print what was done so far")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    if options.child:
        fuzz(options.child[0], seconds=int(options.child[1]))
    names = tuple(options.target or NAMES)
    if options.memory:
        measure(names)
    elif not options.report:
        os.nice(NICE)
        run(names, runs=options.runs, turn_seconds=options.turn, seconds=60 * options.minutes)
    return report(names, as_json=options.json)


def run(names: Sequence[str], *, runs: int, turn_seconds: int, seconds: float = inf) -> None:
    """Give targets turns, one target after the other, until all have enough or the time is over.

    A target that failed gets no further turn: it would fail again.
    """
    left = list(names)
    until = time.monotonic() + seconds
    while (name := nearest(load(), left, runs=runs)) is not None:
        began = time.monotonic()
        length = int(min(turn_seconds, until - began))
        if length < min(turn_seconds, TURN_SECONDS_MIN):
            return
        executions, failed = turn(name, length)
        totals = load()
        totals[name]["executions"] += executions
        totals[name]["seconds"] += time.monotonic() - began
        totals[name]["failures"] += failed
        save(totals)
        note = f"{name}: {totals[name]['executions']:,.0f} executions"
        print(note + (", FAILED" if failed else ""), file=sys.stderr, flush=True)
        if failed:
            left.remove(name)
        elif not executions:
            raise SystemExit(f"{name} did not run")


def nearest(totals: Totals, names: Sequence[str], *, runs: int) -> str | None:
    """The target that has enough soonest, at the pace it has had; one that never ran comes first.

    Args:
        totals: what was done so far.
        names: of those to choose from.
        runs: how many executions are enough.
    """

    def seconds_left(name: str) -> float:
        row = totals[name]
        return (runs - row["executions"]) * row["seconds"] / max(1.0, row["executions"])

    wanting = [name for name in names if totals[name]["executions"] < runs]
    return min(wanting, key=seconds_left, default=None)


def turn(name: str, seconds: int) -> tuple[int, bool]:
    """One process of libFuzzer; executions, and whether an input made the target fail."""
    command = [sys.executable, __file__, "--child", name, str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    found = _UNITS.search(done.stderr) or _UNITS.search(done.stdout)
    if done.returncode:
        log = FOLDER / "failed" / f"{name}-{time.time_ns()}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(done.stdout + done.stderr)
    return int(found[1]) if found else 0, bool(done.returncode)


def fuzz(name: str, *, seconds: int) -> None:
    """Become libFuzzer; does not return."""
    import atheris  # noqa: PLC0415 - only a fuzzing process has it

    with atheris.instrument_imports(include=["prsm.protocol", "prsm.consensus", "prsm.storage"]):
        from tests.fuzz.seeds import found, seeds  # noqa: PLC0415 - instrumented
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented
    from tests.fuzz.mutants import mutate  # noqa: PLC0415 - not instrumented

    target = TARGETS[name]
    given, grown = FOLDER / "seeds" / name, FOLDER / "corpus" / name
    given.mkdir(parents=True, exist_ok=True)
    grown.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*seeds(name), *found(name))):
        (given / str(number)).write_bytes(seed)
    artifacts = FOLDER / "failed" / name
    artifacts.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            (artifacts / sha256(data).hexdigest()[:16]).write_bytes(data)
            raise

    dice = Random(time.time_ns())  # noqa: S311 - chooses mutants

    def mutant(data: bytes, size_max: int, number: int) -> bytes:
        if number % STRUCTURED_EACH == 0:
            return mutate(data, dice, prefix=min(target.choices, 1))[:size_max]
        changed: bytes = atheris.Mutate(data, size_max)
        return changed

    longest = max(map(len, seeds(name)))
    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={min(max(INPUT_BYTES_MIN, 2 * longest), INPUT_BYTES_MAX)}",
        f"-timeout={INPUT_SECONDS_MAX}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([name, *flags, str(grown), str(given)], one, custom_mutator=mutant)
    atheris.Fuzz()


def measure(names: Sequence[str]) -> None:
    """Peak memory of a target over its bombs, each in a process of its own."""
    from tests.fuzz.bombs import bombs, peak_ratio  # noqa: PLC0415 - after the path is set

    for name in names:
        worst = max(peak_ratio(name, bomb) for bomb in bombs(name))
        totals = load()
        totals[name]["peak_mib_per_mib"] = round(worst, 1)
        save(totals)


def load() -> Totals:
    """What all runs did so far."""
    empty = {"executions": 0.0, "seconds": 0.0, "failures": 0.0, "peak_mib_per_mib": -1.0}
    path = FOLDER / "totals.json"
    known: Totals = json.loads(path.read_text()) if path.exists() else {}
    return {name: empty | known.get(name, {}) for name in NAMES}


def save(totals: Totals) -> None:
    """Keep it, whole or not at all."""
    FOLDER.mkdir(exist_ok=True)
    fresh = FOLDER / "totals.new"
    fresh.write_text(json.dumps(totals, indent=1))
    fresh.rename(FOLDER / "totals.json")


def report(names: Sequence[str], *, as_json: bool) -> int:
    """Print the totals; 1 if one of them is over its bar."""
    totals = {name: row for name, row in load().items() if name in names}
    if as_json:
        print(json.dumps(totals, indent=1))
    else:
        print("| decoder | executions | per second | uncaught | peak MiB for a MiB |")
        print("|---|---|---|---|---|")
        for name, row in totals.items():
            rate = row["executions"] / row["seconds"] if row["seconds"] else 0.0
            peak = f"{row['peak_mib_per_mib']:.1f}" if row["peak_mib_per_mib"] >= 0 else ""
            cells = f"{row['executions']:,.0f} | {rate:,.0f} | {row['failures']:.0f} | {peak}"
            print(f"| {name} | {cells} |")
    bad = [row for row in totals.values() if row["failures"]]
    large = [row for row in totals.values() if row["peak_mib_per_mib"] > MEMORY_BAR_MIB]
    return 1 if bad or large else 0


if __name__ == "__main__":
    sys.exit(main())
