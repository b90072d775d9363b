"""Start many daemons on this machine: how long until all see all, and what each holds in memory.

Run: python scripts/bench.py daemons

Knows processes and their files under /proc. Must not know what the daemons do. Without models, so
without workers: each node is one process.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.four_nodes import cpu_seconds

from prsm.node.rpc.methods.node import NodeStatus
from prsm.protocol.limits import KIB
from prsm.testnet.launch import Network, Node, Rig, create, wait_peers
from prsm.testnet.processes import NotInTime

Row = tuple[str, float, str]
COUNT: Final = 32  # as the bar says
CONNECT_SECONDS_MAX: Final = 60.0
RSS_MIB_MAX: Final = 130.0
WAIT_SECONDS: Final = 180.0  # over the bar, so that a miss has a figure too
REST_SECONDS: Final = 10.0  # all connected, the chain runs with nothing to do
ALL_CONNECTED: Final = "start to all connected"
RSS_MAX: Final = "RSS of the largest daemon"
LIMITS: Final[Mapping[str, str]] = {
    ALL_CONNECTED: "bar: all connected",
    RSS_MAX: "bar: RSS of a daemon",
}


@contextmanager
def _daemons(count: int) -> Iterator[Network]:
    with tempfile.TemporaryDirectory(prefix="prsm-many-") as folder:
        network = create(Path(folder) / "net", count, rig=Rig(models=False))
        try:
            yield network
        finally:
            network.stop()


def measure_all(count: int = COUNT) -> list[Row]:
    """Start so many validators at once, wait until each sees all others, look, and stop them."""
    rows: list[Row] = []
    with _daemons(count) as network:
        began = time.monotonic()
        deadline = began + WAIT_SECONDS
        for node in network.nodes:
            node.start()
        for node in network.nodes:
            node.wait_ready(deadline)
        rows.append((f"{count} daemons: start to all ready", time.monotonic() - began, "s"))
        missing = _wait_all(network.nodes, deadline)
        rows.append((ALL_CONNECTED, time.monotonic() - began, "s"))
        if missing:
            rows.append(("given up then: nodes without all peers", missing, "nodes"))
        rows.append(("CPU of all daemons until then", cpu_seconds(network), "s"))
        rows += _rested(network)
        rows += _memory(network.nodes)
    rows += [
        ("bar: all connected", CONNECT_SECONDS_MAX, "s"),
        ("bar: RSS of a daemon", RSS_MIB_MAX, "MiB"),
    ]
    return rows


def _wait_all(nodes: list[Node], deadline: float) -> int:
    """Wait until each sees all others; how many did not at the deadline."""
    missing = 0
    for node in nodes:
        try:
            wait_peers(node, len(nodes) - 1, deadline)
        except NotInTime:
            missing += 1
    return missing


def _rested(network: Network) -> list[Row]:
    """CPU and blocks of a network nobody asks anything of."""
    cpu, height, began = cpu_seconds(network), _height(network.nodes[0]), time.monotonic()
    while time.monotonic() < began + REST_SECONDS:
        time.sleep(0.5)  # noqa: TID251 - this process only waits
    seconds = time.monotonic() - began
    used = cpu_seconds(network) - cpu
    return [
        ("CPU of a daemon at rest", 100 * used / seconds / len(network.nodes), "% core"),
        ("blocks at rest", (_height(network.nodes[0]) - height) / seconds, "1/s"),
    ]


def _height(node: Node) -> int:
    with node.client() as client:
        return client.call("node_getStatus", result=NodeStatus).height


def _memory(nodes: list[Node]) -> list[Row]:
    """Rss counts what processes share in each of them, Pss only its part."""
    found = [_rollup(node.pid) for node in nodes]
    rss = [each["Rss"] / KIB for each in found]
    pss = [each["Pss"] / KIB for each in found]
    return [
        (RSS_MAX, max(rss), "MiB"),
        ("RSS, median", statistics.median(rss), "MiB"),
        ("PSS of the largest daemon", max(pss), "MiB"),
        ("PSS of all daemons", sum(pss), "MiB"),
    ]


def _rollup(pid: int) -> dict[str, int]:
    """KiB by name of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {line.partition(":")[0]: int(line.split()[1]) for line in lines}
