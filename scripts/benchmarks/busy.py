"""Measure reads of a node that agrees on transfers meanwhile: four real daemons on loopback.

Reads come every few milliseconds whatever the last one took; a latency counts from the moment the
read was due. Run: python scripts/benchmarks/busy.py [--rates 200,500]
"""

import argparse
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.four_nodes import Payers, measure_rate, running

from prsm.testnet.launch import Network

RATES: Final = (100, 200)
READ_EVERY_S: Final = 0.02
IDLE_S: Final = 4.0
READS: Final[Sequence[tuple[str, Mapping[str, object]]]] = (
    ("node_getStatus", {}),
    ("consensus_getState", {}),
    ("rpc_ping", {}),
)
BAR: Final = "bar of 50 ms"
Row = tuple[str, float, str]


class Reader:
    """Reads one node on a kept connection, in a thread of its own."""

    def __init__(self, network: Network) -> None:
        self.times: list[float] = []
        self._node = network.nodes[0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._node.client() as client:
            due = time.perf_counter()
            for number in range(10**9):
                due += READ_EVERY_S
                if self._stop.wait(max(0.0, due - time.perf_counter())):
                    return
                name, params = READS[number % len(READS)]
                client.call_raw(name, dict(params))
                self.times.append(time.perf_counter() - due)


def rows_of(what: str, reader: Reader) -> list[Row]:
    """Percentiles of one run."""
    times = sorted(reader.times)
    return [
        (f"{what}: reads", len(times), ""),
        (f"{what}: read p50", 1000 * times[len(times) // 2], "ms"),
        (f"{what}: read p99", 1000 * times[len(times) * 99 // 100], "ms"),
    ]


def measure_all(rates: Sequence[int] = RATES) -> list[Row]:
    """Reads of an idle node, then at each rate of transfers."""
    sys.setswitchinterval(0.0005)
    rows: list[Row] = [(BAR, 50.0, "ms")]
    with running() as network:
        with Reader(network) as reader:
            threading.Event().wait(IDLE_S)
        rows += rows_of("idle", reader)
        payers = Payers(network)
        for rate in rates:
            with Reader(network) as reader:
                done = measure_rate(network, payers, rate)
            rows += rows_of(f"{rate} tx/s offered", reader)
            rows += [row for row in done if "committed" in row[0] or "CPU of a daemon" in row[0]]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    rates = [int(rate) for rate in parser.parse_args(arguments).rates.split(",")]
    for name, value, unit in measure_all(rates):
        print(f"  {name:<44} {value:>10.2f} {unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
