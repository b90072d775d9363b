"""Measure the model store: adding, verifying, opening, small blocks, what is found again.

Run: python scripts/bench.py storage. Each figure of 1 GiB is measured in a process of its own, so
that its memory and its CPU are its own; between them stand the limits of the same run: sha256 on
one core, and `cp` followed by fdatasync.
"""

import argparse
import bisect
import hashlib
import heapq
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.protocol.limits import KIB, MIB
from prsm.storage.errors import NotFound
from prsm.storage.store.model_store import ModelStore

Row = tuple[str, float, str]
SIZE: Final = 1024 * MIB
REPEATS: Final = 3
OPENS: Final = 200
BLOCKS: Final = 1024
BLOCK: Final = 256 * KIB
THINGS: Final = 1000
ASKS: Final = 20_000
ZIPF: Final = 1.1
NETWORK: Final = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")

SHA256: Final = "sha256 of 1 GiB, one core"
SHA256_CPU: Final = "sha256 of 1 GiB, CPU"
COPY: Final = "cp of 1 GiB + fdatasync"
SLOWER: Final = "the slower of sha256 and cp + fdatasync"
ADD: Final = "add of 1 GiB (bar 0.8)"
ADD_CPU: Final = "add of 1 GiB, CPU (bar 2.5)"
ADD_RSS: Final = "add of 1 GiB, peak memory (bar 150)"
MOVE: Final = "add of 1 GiB with --move"
VERIFY: Final = "verify of 1 GiB in the page cache (bar 0.9)"
OPEN: Final = "open of a cached model p50 (bar 5)"
OPEN_LATE: Final = "open of a cached model p99"
CALLS: Final = "network calls of all opens (bar 0)"
PUT: Final = "put of 1,024 blocks of 256 KiB, 64 at a time"
BELADY: Final = "found, with Belady's choice"
FOUND: Final = "found, Zipf(1.1), room for a tenth (bar 0.85)"
LIMITS: Final = {
    ADD: SLOWER,
    ADD_CPU: SHA256_CPU,
    MOVE: SLOWER,
    VERIFY: SHA256,
    PUT: COPY,
    FOUND: BELADY,
}


def measure_all() -> list[Row]:
    """Everything; about a minute, and 3 GiB of the folder for temporary files."""
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="prsm-bench-") as name:
        folder = Path(name)
        write_model(folder / "model")
        for _ in range(REPEATS):
            for kind in ("limits", "add", "move"):
                for row, value in child(kind, folder).items():
                    seen.setdefault(row, []).append(value)
                if kind == "add":  # its store is opened and verified, then thrown away
                    for row, value in child("use", folder).items():
                        seen.setdefault(row, []).append(value)
                shutil.rmtree(folder / "store", ignore_errors=True)
        for row, value in child("blocks", folder).items():
            seen.setdefault(row, []).append(value)
    units = {ADD_RSS: "MiB", OPEN: "ms", OPEN_LATE: "ms", CALLS: "", SHA256_CPU: "s", ADD_CPU: "s"}
    rows = [
        (name, statistics.median(values), units.get(name, "MB/s")) for name, values in seen.items()
    ]
    return rows + found_again()


def write_model(path: Path) -> None:
    """Write 1 GiB, every MiB of it another one, and wait until it is on disk."""
    piece = random.Random(1).randbytes(MIB)  # noqa: S311 - figures, not keys
    with path.open("wb") as file:
        for number in range(SIZE // MIB):
            file.write(number.to_bytes(8, "big") + piece[8:])
        os.fsync(file.fileno())


def child(kind: str, folder: Path) -> dict[str, float]:
    """Measure one thing in a process of its own."""
    command = [sys.executable, __file__, kind, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows: dict[str, float] = json.loads(done.stdout)
    return rows


def measure_limits(folder: Path) -> dict[str, float]:
    """What no store can pass."""
    piece = random.Random(1).randbytes(MIB)  # noqa: S311 - figures, not keys
    began, cpu = time.perf_counter(), time.process_time()
    whole = hashlib.sha256()
    for _ in range(SIZE // MIB):
        whole.update(piece)
    rows = {SHA256: _rate(began), SHA256_CPU: time.process_time() - cpu}
    began = time.perf_counter()
    subprocess.run(["/bin/cp", "--reflink=never", folder / "model", folder / "copy"], check=True)
    with (folder / "copy").open("rb+") as file:
        os.fdatasync(file.fileno())
    rows[COPY] = _rate(began)
    (folder / "copy").unlink()
    return rows | {SLOWER: min(rows[SHA256], rows[COPY])}


def measure_add(folder: Path) -> dict[str, float]:
    """Hash, copy, and make durable."""
    began, cpu = time.perf_counter(), time.process_time()
    trio.run(partial(_add, folder, folder / "model", move=False))
    rate, seconds = _rate(began), time.process_time() - cpu
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {ADD: rate, ADD_CPU: seconds, ADD_RSS: peak_kib / KIB}


def measure_move(folder: Path) -> dict[str, float]:
    """Hash a file where it lies, and give it another name."""
    os.link(folder / "model", folder / "moved")
    began = time.perf_counter()
    trio.run(partial(_add, folder, folder / "moved", move=True))
    return {MOVE: _rate(began)}


async def _add(folder: Path, path: Path, *, move: bool) -> None:
    store = await ModelStore.open(folder / "store", quota=2 * SIZE)
    await store.add_file(path, move=move)
    await store.close()


def measure_use(folder: Path) -> dict[str, float]:
    """Verify what was added, then open it many times, counting calls to any network."""
    calls: list[str] = []
    sys.addaudithook(lambda event, _arguments: calls.append(event) if event in NETWORK else None)
    rows: dict[str, float] = trio.run(_use, folder)
    return rows | {CALLS: len(calls)}


async def _use(folder: Path) -> dict[str, float]:
    store = await ModelStore.open(folder / "store", quota=2 * SIZE)
    (root,) = [file.root for file in await store.list()]
    await trio.run_process(["/bin/cp", await store.path(root), "/dev/null"])  # into the cache
    began = time.perf_counter()
    await store.verify(root)
    rate = _rate(began)
    taken = []
    for _ in range(OPENS):
        began = time.perf_counter()
        async with store.lease(root, holder="bench", purpose="open") as path:
            os.close(os.open(path, os.O_RDONLY))
        taken.append(1000 * (time.perf_counter() - began))
    await store.close()
    taken.sort()
    return {VERIFY: rate, OPEN: taken[OPENS // 2], OPEN_LATE: taken[OPENS * 99 // 100]}


def measure_blocks(folder: Path) -> dict[str, float]:
    """Put blocks by themselves: they are rows."""
    return trio.run(_put, folder)


async def _put(folder: Path) -> dict[str, float]:
    store = await ModelStore.open(folder / "rows", quota=2 * SIZE)
    dice = random.Random(2)  # noqa: S311 - as above
    blocks = [dice.randbytes(BLOCK) for _ in range(BLOCKS)]
    began = time.perf_counter()
    for first in range(0, BLOCKS, 64):
        await store.blocks.put_many(blocks[first : first + 64])
    rate = BLOCKS * BLOCK / (time.perf_counter() - began) / 1e6
    await store.close()
    return {PUT: rate}


def found_again() -> list[Row]:
    """How often something is still here when it is asked for, beside the best choice there is."""
    trace = zipf_trace(THINGS, ASKS)
    memory = Path("/dev/shm")  # noqa: S108 - nothing is to be durable here; a name of our own in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        hits = trio.run(_trace, Path(name), trace)
    best = belady_hits(trace, THINGS // 10)
    return [(BELADY, 100 * best / ASKS, "%"), (FOUND, 100 * hits / ASKS, "%")]


def zipf_trace(things: int, asks: int) -> list[int]:
    """Numbers of things asked for, the n-th with weight n ** -1.1."""
    dice = random.Random(1)  # noqa: S311 - as above
    sums = list(itertools.accumulate((n + 1) ** -ZIPF for n in range(things)))
    return [bisect.bisect_left(sums, dice.random() * sums[-1]) for _ in range(asks)]


def belady_hits(trace: Sequence[int], room: int) -> int:
    """Count the hits of who knows the future and drops what is asked for last."""
    after = [len(trace)] * len(trace)
    last: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        after[place] = last.get(trace[place], len(trace) + trace[place])
        last[trace[place]] = place
    held: dict[int, int] = {}
    late: list[tuple[int, int]] = []
    hits = 0
    for place, thing in enumerate(trace):
        if thing in held:
            hits += 1
        elif len(held) >= room:
            while held.get(late[0][1]) != -late[0][0]:
                heapq.heappop(late)
            del held[heapq.heappop(late)[1]]
        held[thing] = after[place]
        heapq.heappush(late, (-after[place], thing))
    return hits


async def _trace(folder: Path, trace: Sequence[int]) -> int:
    """Ask a real store for every thing of a trace; what it lacks is put again."""
    blocks = [number.to_bytes(8, "big") * (KIB // 8) for number in range(THINGS)]
    digests = [hashlib.sha256(raw).digest() for raw in blocks]
    store = await ModelStore.open(folder / "store", quota=THINGS // 10 * KIB)
    hits = 0
    for thing in trace:
        try:
            await store.blocks.get(digests[thing])
            hits += 1
        except NotFound:
            await store.blocks.put(digests[thing], blocks[thing])
    await store.close()
    return hits


def _rate(began: float) -> float:
    return SIZE / (time.perf_counter() - began) / 1e6


KINDS: Final[dict[str, Callable[[Path], dict[str, float]]]] = {
    "limits": measure_limits,
    "add": measure_add,
    "move": measure_move,
    "use": measure_use,
    "blocks": measure_blocks,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(json.dumps(KINDS[options.kind](options.folder)))
