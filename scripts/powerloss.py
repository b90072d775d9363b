"""`python3 scripts/powerloss.py cuts|lies|kills [--count N] [--seed N]`: the long runs.

`cuts`: the power of a disk that keeps its promises goes at N places. `lies`: of a disk whose syncs
lied. `kills`: a validator is killed N times, its homes are copied and brought back. Prints one JSON
document; exit code 1 if anything promised was lost, or signed twice. Method: docs/testing.md.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import structlog  # noqa: E402 - the path comes first
import trio  # noqa: E402 - the path comes first

from tests.tools.power.cuts import Cuts, lying, ordinary  # noqa: E402 - the path comes first
from tests.tools.power.kills import Tally, Universe  # noqa: E402 - the path comes first
from tests.tools.power.record import Recording, record  # noqa: E402 - the path comes first

POINTS_A_RUN: Final = 1_000
KILLS_A_UNIVERSE: Final = 100
FAULTS_SHOWN: Final = 20
_Cut = Callable[[Recording, int, int], Awaitable[Cuts]]


def cuts(count: int, seed: int) -> dict[str, object]:
    """Crash points over recorded runs of three starts and 60 blocks each."""
    return _points(count, seed, ordinary)


def lies(count: int, seed: int) -> dict[str, object]:
    """The same for disks whose syncs lied."""
    return _points(count, seed, lying)


def _points(count: int, seed: int, cut: _Cut) -> dict[str, object]:
    total, runs, operations = Cuts(), 0, 0
    while total.points < count:
        recording = record(seed + runs, rounds=3, blocks=20)
        points = min(POINTS_A_RUN, count - total.points)
        one = trio.run(partial(cut, recording, points, seed + runs))
        _add(total, one)
        runs += 1
        operations += len(recording.tape.operations)
        print(f"{total.points} points, {len(total.faults)} faults", file=sys.stderr, flush=True)
    return {"runs": runs, "operations": operations, **vars(total)}


def kills(count: int, seed: int) -> dict[str, object]:
    """Kills over networks that live for a hundred of them."""
    total, universes = Tally(), 0
    while total.kills < count:
        with tempfile.TemporaryDirectory() as folder:
            universe = Universe(seed + universes, Path(folder))
            one = universe.run(min(KILLS_A_UNIVERSE, count - total.kills))
        _add(total, one)
        universes += 1
        for fault in one.faults:
            print(f"universe {seed + universes - 1}: {fault}", file=sys.stderr, flush=True)
        print(f"{total.kills} kills, {len(total.faults)} faults", file=sys.stderr, flush=True)
    return {"universes": universes, "kills": total.kills, **vars(total)}


def _add(total: Cuts | Tally, one: object) -> None:
    for name, value in vars(one).items():
        known = getattr(total, name)
        setattr(
            total, name, Counter(known) + value if isinstance(value, Counter) else known + value
        )


WORKS: Final[dict[str, Callable[[int, int], dict[str, object]]]] = {
    "cuts": cuts,
    "lies": lies,
    "kills": kills,
}


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=sorted(WORKS))
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(processors=[_drop])  # each start says what it found
    began, cpu = time.monotonic(), time.process_time()
    document = WORKS[options.work](options.count, options.seed)
    faults = document["faults"]
    assert isinstance(faults, list)
    document |= {
        "faults": len(faults),
        "first_faults": faults[:FAULTS_SHOWN],
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    print(json.dumps(document, indent=1))
    return 1 if faults else 0


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
