"""Measure reads of a node that agrees on transfers meanwhile: four real daemons on loopback.

Transfers come at a fixed rate over the control stream, as `prsm-testnet bench` sends them, from a
process of its own. Reads of another process come each 20 ms whatever the last one took; a latency
counts from the moment the read was due, so a slow node cannot slow its own clock. With `--every 0`
the next one follows the last, as calls of a script do.

Run: python scripts/benchmarks/busy.py [--rates 0,500,1000] [--seconds 8] [--every MS]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.home import Home
from prsm.node.rpc.client import Client, find
from prsm.protocol.errors import PrsmError
from prsm.testnet.bench.run import Options, run_bench

RATES: Final = (0, 500, 1_000, 2_000)
SECONDS: Final = 8
EVERY_MS: Final = 20
START_S: Final = 60.0
LOOK_S: Final = 0.1
NAMES: Final = ("node_getStatus", "consensus_getState", "rpc_ping")
IDLE_RATE: Final = 1  # a second: the chain is as good as idle
ONE_BY_ONE: Final = "idle, one read after the other"
Row = tuple[str, float, str]
LIMITS: Final[Mapping[str, str]] = {}
BAR: Final = "bar: p99 of 50 ms busy, 2 ms idle; p50 of 0.6 ms idle"


def measure(rate: int, seconds: int, every_ms: int) -> tuple[list[float], dict[str, float]]:
    """Read one node of a network that is offered so many transfers a second.

    Returns:
        Seconds of each read of the middle of the run, sorted; what the load's side says.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = ["--load", str(max(rate, IDLE_RATE)), "--seconds", str(seconds), "--folder", folder]
        load = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, *words], stdout=subprocess.PIPE
        )
        reads = _read(Home(Path(folder) / "net" / "node1"), load, every_ms / 1000)
        assert load.stdout is not None
        told: dict[str, float] = json.loads(load.stdout.read())
        assert load.wait() == 0
    # The load runs in the last seconds before the network ends.
    end = reads[-1][0]
    return sorted(late for at, late in reads if end - seconds < at < end - 1), told


def _read(home: Home, load: "subprocess.Popen[bytes]", every_s: float) -> list[tuple[float, float]]:
    """Moments and latencies of all reads until the network ends."""
    rest = threading.Event()
    until = time.monotonic() + START_S
    while not home.endpoint.exists():
        assert load.poll() is None, "the load ended"
        assert time.monotonic() < until, "no daemon came up"
        rest.wait(LOOK_S)
    reads: list[tuple[float, float]] = []
    with Client(find(home)) as client:
        due = time.perf_counter()
        try:
            while load.poll() is None:
                due = due + every_s if every_s else time.perf_counter()
                rest.wait(max(0.0, due - time.perf_counter()))
                client.call_raw(NAMES[len(reads) % len(NAMES)], {})
                reads.append((time.perf_counter(), time.perf_counter() - due))
        except PrsmError:
            pass  # the network has ended
    return reads


def measure_all() -> list[Row]:
    """Reads one after the other of an idle node, then each 20 ms beside each rate."""
    rows: list[Row] = []
    for rate, every_ms in ((0, 0), *((rate, EVERY_MS) for rate in RATES)):
        name = f"{rate or IDLE_RATE} tx/s offered" if every_ms else ONE_BY_ONE
        times, told = measure(rate, SECONDS, every_ms)
        rows += [
            (f"{name}: committed", told["committed_tx_s"], "tx/s"),
            (f"{name}: read p50", 1000 * times[len(times) // 2], "ms"),
            (f"{name}: read p99", 1000 * times[len(times) * 99 // 100], "ms"),
        ]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each rate; `--load` is the other process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--every", type=int, default=EVERY_MS, help="ms between two reads")
    parser.add_argument("--load", type=int, help="run as the other process")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    if options.load is not None:
        wanted = Options(rate=options.load, seconds=options.seconds, accounts=1_000)
        print(json.dumps(asdict(run_bench(wanted, folder=options.folder))))
        return 0
    print(BAR)
    for rate in map(int, options.rates.split(",")):
        times, told = measure(rate, options.seconds, options.every)
        print(
            f"  {rate:>6} tx/s offered, {told['committed_tx_s']:>7.0f} committed, others took "
            f"{told['others_percent']:>3.0f} %: {len(times)} reads, "
            f"p50 {1000 * times[len(times) // 2]:>6.2f} ms, "
            f"p99 {1000 * times[len(times) * 99 // 100]:>6.2f} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
