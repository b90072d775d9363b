"""Measure a snapshot of 100,000 accounts: cut beside a busy loop, checked, and installed.

Run: python scripts/benchmarks/snapshots.py
"""

import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.consensus.ledger.chunks import Chunk, cut, open_chunk
from prsm.consensus.ledger.records import Balance, Nonce, account_key
from prsm.consensus.ledger.tree import Tree
from prsm.node.chain.snapshots.make import PAUSE_SECONDS
from prsm.node.hardening import SWITCH_SECONDS
from prsm.protocol.codec import encode
from prsm.protocol.proofs import bucket_index
from prsm.storage.ledger import LedgerStore, StoredBlock
from prsm.storage.snapshots import SnapshotFiles, Staging

ACCOUNTS: Final = 100_000
BITS: Final = 14
TICK_SECONDS: Final = 0.001
IDLE_SECONDS: Final = 2.0
IDLE: Final = "lateness of a tick each ms, nothing else, p99"
Row = tuple[str, float, str]
LIMITS: Final[Mapping[str, str]] = {"lateness of a tick each ms, beside the cut, p99": IDLE}


def measure_all() -> list[Row]:
    """Every figure, in about ten seconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)  # as in a daemon
    try:
        with tempfile.TemporaryDirectory() as folder:
            return trio.run(_measure, Path(folder))
    finally:
        sys.setswitchinterval(before)


async def _measure(folder: Path) -> list[Row]:
    rows: list[Row] = []
    state = _state()
    store = await LedgerStore.open(folder / "ledger.db")
    try:
        began = time.perf_counter()
        await store.install(StoredBlock(1, bytes(32), b"", b"", b""), state=state, epochs=[])
        rows.append(("installing it, one transaction", time.perf_counter() - began, "s"))
        began = time.perf_counter()
        Tree(BITS, state.items())
        rows.append(("its tree, from nothing", time.perf_counter() - began, "s"))
        rows.append((IDLE, await _lateness(_wait), "ms"))
        staging = SnapshotFiles(folder / "snapshots").staging("making")
        chunks: list[Chunk] = []
        cpu = time.process_time()

        async def make() -> None:
            began = time.perf_counter()
            view = await store.view()
            rows.append(("begin of its read transaction", _ms(began), "ms"))
            pending = cut(view.pairs(lambda key: bucket_index(key, BITS)), bits=BITS)

            def step() -> Chunk | None:
                chunk = next(pending, None)
                if chunk is not None:
                    staging.put(chunk.root, chunk.raw)
                return chunk

            while (chunk := await trio.to_thread.run_sync(step)) is not None:
                chunks.append(chunk)
                await trio.sleep(PAUSE_SECONDS)
            view.close()

        rows.append((next(iter(LIMITS)), await _lateness(make), "ms"))
        rows.append(("cutting and writing it, CPU", time.process_time() - cpu, "s"))
    finally:
        with trio.CancelScope(shield=True):
            await store.close()
    rows.append(("chunks", len(chunks), ""))
    rows.append(("bytes of all chunks", sum(len(chunk.raw) for chunk in chunks) / 2**20, "MiB"))
    rows.append(("checking a chunk", _check(chunks, staging), "ms"))
    return rows


def _state() -> dict[bytes, bytes]:
    state = {}
    for number in range(ACCOUNTS):
        address = hashlib.sha256(b"%d" % number).digest()
        state[account_key(address, 0)] = encode(Balance(10**9 + number))
        state[b"n" + address] = encode(Nonce(1 + number % 7))
    return state


async def _lateness(work: Callable[[], Awaitable[None]]) -> float:
    """How late a loop ticks beside some work, ms at the 99th percentile."""
    late: list[float] = []
    async with trio.open_nursery() as nursery:

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await trio.sleep(TICK_SECONDS)
                late.append(1000 * (time.perf_counter() - began - TICK_SECONDS))

        nursery.start_soon(tick)
        await work()
        nursery.cancel_scope.cancel()
    return statistics.quantiles(late, n=100)[98]


async def _wait() -> None:
    await trio.sleep(IDLE_SECONDS)


def _check(chunks: list[Chunk], staging: Staging) -> float:
    began = time.perf_counter()
    for chunk in chunks:
        raw = staging.get(chunk.root)
        assert raw is not None
        open_chunk(raw, chunk.head, first=chunk.first, bits=BITS)
    return _ms(began) / len(chunks)


def _ms(began: float) -> float:
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    for name, value, unit in measure_all():
        sys.stdout.write(f"{name:55} {value:10.2f} {unit}\n")
