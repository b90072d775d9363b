"""`scripts/bench.py PART|all [--json]`: figures beside their limits; PART is a key of `PARTS`.

`scripts/bench.py net --daemons 32` measures the start of so many daemons instead.

A figure alone says little on a shared machine; its ratio to a limit measured a moment before says
more. Prints command, commit, machine, date and what others took of the processors meanwhile.
Knows parts, tables and the machine. Must not know how a part measures: see `scripts/benchmarks`.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

# As in a worker: one thread for each runtime, said before numpy is loaded.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

LOADED_PERCENT: Final = 10.0  # of one core, by others: above it a run is marked
Row = tuple[str, float, str]


@dataclass(frozen=True, slots=True)
class Part:
    """What one part measured.

    Attributes:
        rows: name, value, unit.
        limits: name of a row -> name of the row that is its limit.
        others_percent: of one core that other programs took during the run.
        seconds: of the run.
    """

    rows: Sequence[Row]
    limits: Mapping[str, str]
    others_percent: float
    seconds: float

    @property
    def is_loaded(self) -> bool:
        """Did others take so much that the figures say little?"""
        return self.others_percent > LOADED_PERCENT

    def lines(self) -> list[dict[str, str | float]]:
        """The rows as documents; `ratio` is value / limit."""
        values = {name: value for name, value, _ in self.rows}
        found: list[dict[str, str | float]] = []
        for name, value, unit in self.rows:
            line: dict[str, str | float] = {"name": name, "value": value, "unit": unit}
            limit = self.limits.get(name)
            if limit is not None and values.get(limit):
                line |= {"limit": values[limit], "limit_of": limit, "ratio": value / values[limit]}
            found.append(line)
        return found


def measure_ledger() -> tuple[list[Row], Mapping[str, str]]:
    """The ledger in this process, then four real nodes."""
    from benchmarks import four_nodes, ledger  # noqa: PLC0415 - each part loads its own libraries

    rows = ledger.measure_all()
    rows += four_nodes.measure_all({name: value for name, value, _ in rows})
    return rows, {**ledger.LIMITS, **four_nodes.LIMITS}


def measure_replica() -> tuple[list[Row], Mapping[str, str]]:
    """One replica on all cores, fed with recorded blocks."""
    from benchmarks import replica  # noqa: PLC0415 - as above

    return replica.measure_all(), replica.LIMITS


def measure_net() -> tuple[list[Row], Mapping[str, str]]:
    """Kept streams between two processes, then agreement beside bulk."""
    from benchmarks import classes, net  # noqa: PLC0415 - as above

    return net.measure_all() + classes.measure_all(), {**net.LIMITS, **classes.LIMITS}


def measure_daemons(count: int) -> tuple[list[Row], Mapping[str, str]]:
    """Many daemons started at once."""
    from benchmarks import many  # noqa: PLC0415 - as above

    return many.measure_all(count), many.LIMITS


def measure_relay() -> tuple[list[Row], Mapping[str, str]]:
    """A circuit through a relay beside a direct connection."""
    from benchmarks import relayed  # noqa: PLC0415 - as above

    return relayed.measure_all(), relayed.LIMITS


def measure_snapshots() -> tuple[list[Row], Mapping[str, str]]:
    """A snapshot of 100,000 accounts, made, checked and installed."""
    from benchmarks import snapshots  # noqa: PLC0415 - as above

    return snapshots.measure_all(), snapshots.LIMITS


def measure_storage() -> tuple[list[Row], Mapping[str, str]]:
    """The model store: 1 GiB added, verified, opened, and what stays when room is short."""
    from benchmarks import fetching, storage  # noqa: PLC0415 - as above

    rows = storage.measure_all() + fetching.measure_all()
    return rows, {**storage.LIMITS, **fetching.LIMITS}


def measure_inference() -> tuple[list[Row], Mapping[str, str]]:
    """Sealed children and pipelines of them, jobs of daemons; then cheats, and who is caught."""
    from benchmarks import (  # noqa: PLC0415 - as above
        cheats,
        copied,
        generation,
        inference,
        pipeline,
        sealing,
    )

    rows = inference.measure_all() + sealing.measure_all()
    rows += cheats.measure_all() + copied.measure_all()
    rows += pipeline.measure_all()
    rows += generation.measure_all(trials=4)  # 50 by its own command: a daemon is started for each
    limits = {**inference.LIMITS, **cheats.LIMITS, **copied.LIMITS, **pipeline.LIMITS}
    return rows, {**limits, **generation.LIMITS}


def measure_serving() -> tuple[list[Row], Mapping[str, str]]:
    """Small requests to a warm worker, through two real daemons; then two hundred tenants."""
    from benchmarks import serving  # noqa: PLC0415 - as above

    return serving.measure_all(), serving.LIMITS


PARTS: Final[Mapping[str, Callable[[], tuple[list[Row], Mapping[str, str]]]]] = {
    "ledger": measure_ledger,
    "replica": measure_replica,
    "net": measure_net,
    "relay": measure_relay,
    "inference": measure_inference,
    "serving": measure_serving,
    "snapshots": measure_snapshots,
    "storage": measure_storage,
}


def run(measure: Callable[[], tuple[list[Row], Mapping[str, str]]]) -> Part:
    """Measure one part, and how much of the processors others took meanwhile."""
    busy, own, began = _busy_seconds(), _own_seconds(), time.monotonic()
    rows, limits = measure()
    seconds = time.monotonic() - began
    others = (_busy_seconds() - busy) - (_own_seconds() - own)
    return Part(rows, limits, max(0.0, 100 * others / seconds), seconds)


def machine() -> dict[str, str | int]:
    """What it ran on."""
    info = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def commit() -> str:
    """The commit the figures are of; `+` behind it: with changes not committed."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    short = git("rev-parse", "--short=10", "HEAD")
    return (short or "unknown") + ("+" if git("status", "--porcelain", "-uno") else "")


def table(part: Part) -> str:
    """The part as a Markdown table, aligned for people."""
    cells = [["figure", "measured", "unit", "limit", "ratio", "the limit is"]]
    for line in part.lines():
        row = [str(line["name"]), _number(line["value"]), str(line["unit"])]
        if "limit" in line:
            row += [_number(line["limit"]), f"{float(line['ratio']):.2f}", str(line["limit_of"])]
        cells.append(row + [""] * (6 - len(row)))
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    right = {1, 3, 4}
    cells.insert(
        1, [("-" * (w - 1) + ":") if i in right else "-" * w for i, w in enumerate(widths)]
    )
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        )
        + " |"
        for row in cells
    )


def print_part(name: str, part: Part) -> None:
    """Head and table of one part."""
    where = machine()
    loaded = ", loaded: ratios only" if part.is_loaded else ""
    print(f"### `python scripts/bench.py {' '.join([name, *sys.argv[2:]])}`\n")
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {where['cpu']}, "
        f"{where['cores']} cores, Python {where['python']}, {where['system']}, "
        f"{part.seconds:.0f} s, others took {part.others_percent:.0f} % of a core{loaded}\n"
    )
    print(table(part), flush=True)


def document(parts: Mapping[str, Part]) -> dict[str, object]:
    """All parts for programs."""
    return {
        "command": "python scripts/bench.py " + " ".join(sys.argv[1:]),
        "commit": commit(),
        "machine": machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "parts": {
            name: {
                "seconds": round(part.seconds, 1),
                "others_percent": round(part.others_percent, 1),
                "loaded": part.is_loaded,
                "figures": part.lines(),
            }
            for name, part in parts.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--json", action="store_true", help="print one document")
    parser.add_argument("--daemons", type=int, help="net: start so many daemons, nothing else")
    options = parser.parse_args(arguments)
    if options.daemons is not None and options.part != "net":
        parser.error("--daemons goes with net")
    names = list(PARTS) if options.part == "all" else [options.part]
    done: dict[str, Part] = {}
    for name in names:
        part = PARTS[name]
        done[name] = run(partial(measure_daemons, options.daemons) if options.daemons else part)
        if not options.json:
            print_part(name, done[name])
            if name != names[-1]:
                print()
    if options.json:
        print(json.dumps(document(done), indent=1))
    return 0


def _busy_seconds() -> float:
    """Seconds all processors were busy or taken away; interrupts of our own sockets left out."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, steal = (int(fields[i]) for i in (0, 1, 2, 7))
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Processor seconds of this process and of all it started and has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _number(value: str | float) -> str:
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.2f}"


if __name__ == "__main__":
    sys.exit(main())
