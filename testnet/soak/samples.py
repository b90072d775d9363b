"""What each daemon of a network takes, every ten seconds: memory, files, tasks, lag, disk.

Knows: /proc, the daemon's own counters. Must not know: faults, or what a figure should be. Each
look is written down at once, so that a run that ends before its time can be judged as well. A
paused or dead daemon has no counters; what the kernel knows of it is written all the same.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.protocol.errors import PrsmError
from prsm.testnet import books
from prsm.testnet.processes import Node
from prsm.testnet.vitals import UNKNOWN, open_files

BOOK: Final = "samples.jsonl"
EVERY_SECONDS: Final = 10.0
ASK_SECONDS: Final = 4.0
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LAG: Final = "prsm_loop_lag_seconds"


class Child(msgspec.Struct, frozen=True, array_like=True):
    """A process below a daemon: a worker, an index."""

    pid: int
    rss_bytes: int


class Sample(msgspec.Struct, frozen=True):
    """A daemon at one moment; -1 or nothing for what could not be seen.

    Attributes:
        at_s: since the samples began.
        place: of the node.
        pid: of the process; another one is another line of every figure.
        tasks: of the daemon's loop.
        lag: how many timers fired up to each bound (seconds), since the process began.
        disk_bytes: that its home takes.
    """

    at_s: float
    place: int
    pid: int
    rss_bytes: int
    children: tuple[Child, ...]
    fds: int
    threads: int
    height: int = UNKNOWN
    tasks: int = UNKNOWN
    lag: tuple[tuple[float, int], ...] = ()
    disk_bytes: int = UNKNOWN


@dataclass(frozen=True, slots=True)
class Samples:
    """Looks at every daemon of a network again and again.

    Args:
        folder: of the network.
        nodes: their processes may be others at each look.
    """

    folder: Path
    nodes: Sequence[Node]

    async def run(self) -> None:
        """Look and write down until cancelled."""
        began = time.monotonic()
        ticks = 0
        while True:
            for place, node in enumerate(self.nodes):
                if node.pid:
                    at_s = round(time.monotonic() - began, 2)
                    found = await trio.to_thread.run_sync(partial(take, place, node, at_s=at_s))
                    if found is not None:
                        books.add(self.folder / BOOK, found)
            ticks += 1
            left = began + ticks * EVERY_SECONDS - time.monotonic()
            await trio.sleep(max(0.0, left))


def read(folder: Path) -> list[Sample]:
    """Everything that was seen, in the order it was written."""
    return books.read(folder / BOOK, Sample)


def take(place: int, node: Node, *, at_s: float) -> Sample | None:
    """Look at one daemon; None if its process is gone."""
    pid = node.pid
    try:
        seen = Sample(
            at_s=at_s,
            place=place,
            pid=pid,
            rss_bytes=rss_bytes(pid),
            children=tuple(_children(pid)),
            fds=open_files(pid),
            threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
            disk_bytes=disk_bytes(node.home.root),
        )
    except OSError:
        return None
    counted = _counters(node)
    return msgspec.structs.replace(
        seen,
        height=int(counted.get("prsm_consensus_height", UNKNOWN)),
        tasks=int(counted.get("prsm_loop_tasks", UNKNOWN)),
        lag=lag_of(counted),
    )


def _counters(node: Node) -> Mapping[str, float]:
    """A daemon's own counters; none if it does not answer."""
    try:
        with node.client(timeout_s=ASK_SECONDS) as client:
            status, text = client.get("/metrics")
    except (PrsmError, RpcError, OSError):
        return {}
    return counters_of(text.decode()) if status == 200 else {}


def counters_of(text: str) -> dict[str, float]:
    """Prometheus's text by series, labels and all, as it stands there."""
    found = {}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series and not line.startswith("#"):
            found[series] = float(value)
    return found


def lag_of(counted: Mapping[str, float]) -> tuple[tuple[float, int], ...]:
    """The cumulative histogram of the loop's lag, by ascending bound."""
    head = f'{LAG}_bucket{{le="'
    found = {
        float(series[len(head) :].removesuffix('"}')): int(count)
        for series, count in counted.items()
        if series.startswith(head) and "+Inf" not in series
    }
    every = counted.get(f"{LAG}_count")
    rows = sorted(found.items())
    # JSON has no infinity: beyond the last bound counts as at most a minute.
    return tuple(rows) if every is None else (*rows, (60.0, int(every)))


def rss_bytes(pid: int) -> int:
    """What a process holds in memory.

    Raises:
        OSError: there is none of that number.
    """
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE_BYTES


def _children(pid: int) -> list[Child]:
    """All processes below one, as far as they still are there."""
    below = [pid]
    found = []
    for one in below:
        try:
            lists = [p.read_bytes() for p in Path(f"/proc/{one}/task").glob("*/children")]
            if one != pid:
                found.append(Child(one, rss_bytes(one)))
        except OSError:
            continue
        below += [int(word) for each in lists for word in each.split()]
    return found


def disk_bytes(folder: Path) -> int:
    """What a folder takes on its disk; files that go meanwhile are not counted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += 512 * os.lstat(os.path.join(root, name)).st_blocks  # noqa: PTH118 - thousands of files
            except OSError:
                continue
    return total
