"""`python3 scripts/powerloss.py cuts|lies|kills [--count N] [--seed N] [--jobs N]`: the long runs.

`cuts`: the power of a disk that keeps its promises goes at N places. `lies`: of a disk whose syncs
lied. `kills`: a validator is killed N times, its homes are copied and brought back. Prints one JSON
document; exit code 1 if anything promised was lost, or signed twice. Method: docs/testing.md.

Each network (1,000 places, or 100 kills) is a process of its own with its own seed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import structlog  # noqa: E402 - the path comes first
import trio  # noqa: E402 - the path comes first

from tests.tools.power.cuts import lying, ordinary  # noqa: E402 - the path comes first
from tests.tools.power.kills import Universe  # noqa: E402 - the path comes first
from tests.tools.power.record import record  # noqa: E402 - the path comes first

_A_NETWORK: Final = {"cuts": 1_000, "lies": 500, "kills": 100}
FAULTS_SHOWN: Final = 20

Document = dict[str, object]


def run_network(work: str, count: int, seed: int) -> Document:
    """One network, in this process."""
    structlog.configure(processors=[_drop])  # each start says what it found
    if work == "kills":
        return _kill(count, seed)
    recording = record(seed, rounds=3, blocks=20)
    cuts = trio.run(ordinary if work == "cuts" else lying, recording, count, seed)
    return {"networks": 1, "operations": len(recording.tape.operations), **vars(cuts)}


def _kill(count: int, seed: int) -> Document:
    """Universes one after the other: one ends early when another home of the key has signed."""
    total: Document = {"networks": 1, "universes": 0, "kills": 0}
    while (left := count - _number(total["kills"])) > 0:
        number = _number(total["universes"])
        with tempfile.TemporaryDirectory() as folder:
            tally = Universe(10_000 * number + seed, Path(folder)).run(left)
        total = add(total, {"universes": 1, "kills": tally.kills, **vars(tally)})
    return total


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def run_all(work: str, count: int, seed: int, jobs: int) -> Document:
    """All networks, each in a process, so many at once; the sum of what they say."""
    total: Document = {}
    with ThreadPoolExecutor(jobs) as pool:
        networks = [pool.submit(_start, work, part, seed + n) for n, part in _parts(work, count)]
        for done in as_completed(networks):
            one = done.result()
            total = add(total, one)
            print(f"{total['networks']} of {len(networks)}", file=sys.stderr, flush=True)
    return total


def add(total: Mapping[str, object], one: Mapping[str, object]) -> Document:
    """Sums of numbers, lists joined, tables added entry by entry."""
    result = dict(total)
    for name, value in one.items():
        known = result.get(name)
        if known is None:
            result[name] = value
        elif isinstance(value, dict) and isinstance(known, dict):
            result[name] = add(known, value)
        else:
            assert isinstance(value, int | list)
            result[name] = known + value  # type: ignore[operator]  # both are of one kind
    return result


def _parts(work: str, count: int) -> Iterator[tuple[int, int]]:
    size = _A_NETWORK[work]
    for number, start in enumerate(range(0, count, size)):
        yield number, min(size, count - start)


def _start(work: str, count: int, seed: int) -> Document:
    command = [sys.executable, __file__, work, "--count", str(count), "--seed", str(seed), "--one"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=sorted(_A_NETWORK))
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="one network, in this process")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_network(options.work, options.count, options.seed)))
        return 0
    began = time.monotonic()
    document = run_all(options.work, options.count, options.seed, options.jobs)
    faults = document["faults"]
    assert isinstance(faults, list)
    if (limits := document.get("limits")) is not None:
        assert isinstance(limits, list)
        document["limits"] = len(limits)
    document |= {
        "faults": len(faults),
        "first_faults": faults[:FAULTS_SHOWN],
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(document, indent=1))
    return 1 if faults else 0


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
