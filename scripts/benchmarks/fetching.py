"""Measure a fetch of 1 GiB from three peers, each a process, beside bitswap of libp2p and raw TCP.

Run: python scripts/bench.py storage, or python scripts/benchmarks/fetching.py

All four processes share this machine's processors. What a fetch does includes the hash of each
leaf, the write into its place, a sync every 64 MiB, and the seal at the end. Knows stores and range
streams. Must not know how a fetch decides.
"""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.net.blocks import BlockServer, PeerSource
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.network import PeerNetwork
from prsm.protocol.limits import MIB
from prsm.storage.cid import Cid, parse_cid
from prsm.storage.fetch.exchange import Exchange
from prsm.storage.store.model_store import ModelStore

GIB: Final = 1 << 30
CHAIN: Final = ChainIdentity(chain=b"benchnet", genesis=b"b" * 32, agent="prsm/bench")
LISTEN: Final = ["/ip4/127.0.0.1/tcp/0"]
PEERS: Final = 3
SIZE: Final = GIB
STOCK_SCRIPT: Final = str(Path(__file__).with_name("stock_bitswap.py"))
RAW_BYTES: Final = GIB // 2
ROUNDS: Final = 3
# What is served is read from memory, as a file is that was just published; writes go to the disk.
MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
Row = tuple[str, float, str]
FETCH: Final = "fetch 1 GiB from 3 peers"
STOCK: Final = "libp2p's own bitswap, 32 MiB from 1 peer"
RAW: Final = "raw TCP 1 MiB writes with sha256"
LIMITS: Final = {FETCH: STOCK, "fetch 1 GiB from 1 peer": RAW}


def seeds() -> list[bytes]:
    """Keys of the serving peers."""
    return [bytes([number]) * 32 for number in range(1, PEERS + 1)]


async def serve(store_folder: Path, seed: bytes) -> None:
    """A serving process: prints where it listens."""
    store = await ModelStore.open(store_folder, quota=64 * GIB)
    network = libp2p_network(seed, CHAIN, listen=LISTEN)
    BlockServer(network, store)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        print(json.dumps({"address": network.addresses[0]}), flush=True)


async def fetch(folder: Path, root: Cid, addresses: Sequence[str], size: int) -> dict[str, float]:
    """The fetching process: what it took."""
    store = await ModelStore.open(folder, quota=64 * GIB)
    network: PeerNetwork = libp2p_network(b"\x09" * 32, CHAIN, listen=LISTEN)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        peers = [await network.connect(address) for address in addresses]
        sources = [PeerSource(network, peer) for peer in peers]
        before, cpu, began = _rss(), _cpu_s(), time.monotonic()
        fetched = await Exchange(store).fetch(root, size, sources)
        seconds = time.monotonic() - began
        nursery.cancel_scope.cancel()
    assert sum(fetched.bytes_by_source.values()) == size
    shares = [fetched.bytes_by_source.get(peer, 0) for peer in peers]
    await store.close()
    return {
        "mb_s": size / seconds / 1e6,
        "rss_mib": (_peak_rss() - before) / MIB,
        "cpu_s": _cpu_s() - cpu,
        "wasted": fetched.wasted_bytes / size * 100,
        "least_share": min(shares) / size * 100,
    }


def measure_all() -> list[Row]:
    """All rows."""
    room = shutil.disk_usage(MEMORY_FOLDER).free if MEMORY_FOLDER.is_dir() else 0
    served = MEMORY_FOLDER if room > (PEERS + 2) * SIZE else None
    with (
        tempfile.TemporaryDirectory(prefix="prsm-fetch-") as folder,
        tempfile.TemporaryDirectory(prefix="prsm-served-", dir=served) as holders,
    ):
        return trio.run(_measure, Path(folder), Path(holders))


async def _measure(folder: Path, holders: Path) -> list[Row]:
    file = holders / "file"
    dice = Random(1)  # noqa: S311 - a file to measure with
    with file.open("wb") as out:
        for _ in range(SIZE // MIB):
            out.write(dice.randbytes(MIB))
    root = None
    for number in range(PEERS):
        store = await ModelStore.open(holders / f"peer{number}", quota=64 * GIB)
        root = (await store.add_file(file)).root
        await store.close()
    assert root is not None
    file.unlink()
    rounds: list[dict[str, float]] = []
    stock: list[float] = []
    raw: list[float] = []
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(
                _process(__file__, "serve", holders / f"peer{n}", seed.hex())
            )
            for n, seed in enumerate(seeds())
        ]
        for number in range(ROUNDS):
            raw.append(await _raw())
            stock.append(await _stock())
            rounds.append(await _fetched(folder / f"all{number}", root, addresses))
            sys.stderr.write(
                f"{rounds[-1]['mb_s']:.0f} of {stock[-1]:.0f} and {raw[-1]:.0f} MB/s\n"
            )
        alone = await _fetched(folder / "one", root, addresses[:1])

    def middle(key: str) -> float:
        return statistics.median(told[key] for told in rounds)

    return [
        (FETCH, middle("mb_s"), "MB/s"),
        ("fetch 1 GiB from 1 peer", alone["mb_s"], "MB/s"),
        (STOCK, statistics.median(stock), "MB/s"),
        (RAW, statistics.median(raw), "MB/s"),
        ("fetch: growth of the fetching process", middle("rss_mib"), "MiB"),
        ("fetch: processor time of the fetching process", middle("cpu_s"), "s/GiB"),
        ("fetch: bytes that came in vain", middle("wasted"), "%"),
        ("fetch: share of the peer that gave least", middle("least_share"), "%"),
    ]


async def _fetched(target: Path, root: Cid, addresses: Sequence[str]) -> dict[str, float]:
    """One fetch in a process of its own."""
    told = await _ask(__file__, "fetch", target, str(root), *addresses)
    shutil.rmtree(target)
    return told


@asynccontextmanager
async def _process(script: str, *words: object) -> AsyncIterator[str]:
    """A process that serves; yields its address."""
    command = [sys.executable, "-W", "ignore", script, *map(str, words)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(4096)
        yield str(json.loads(line)["address"])
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _ask(script: str, *words: object) -> dict[str, float]:
    """A process that measures; returns what it says."""
    command = [sys.executable, "-W", "ignore", script, *map(str, words)]
    done = await trio.run_process(command, capture_stdout=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


async def _stock() -> float:
    """Two processes of libp2p's own bitswap; MB/s."""
    async with _process(STOCK_SCRIPT, "serve") as address:
        return (await _ask(STOCK_SCRIPT, "fetch", address))["mb_s"]


async def _raw() -> float:
    """Two processes of plain TCP: one writes 1 MiB at a time, the other hashes; MB/s."""
    async with _process(__file__, "raw-serve") as port:
        return (await _ask(__file__, "raw-fetch", port))["mb_s"]


async def raw_serve() -> None:
    """Write `RAW_BYTES` to whoever connects."""

    async def write(stream: trio.SocketStream) -> None:
        data = bytes(MIB)
        for _ in range(RAW_BYTES // MIB):
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, write, 0)
        print(json.dumps({"address": listeners[0].socket.getsockname()[1]}), flush=True)


async def raw_fetch(port: int) -> dict[str, float]:
    """Hash what comes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    hasher, left, began = hashlib.sha256(), RAW_BYTES, time.monotonic()
    while left:
        data = await stream.receive_some(MIB)
        await trio.to_thread.run_sync(hasher.update, data)
        left -= len(data)
    return {"mb_s": RAW_BYTES / (time.monotonic() - began) / 1e6}


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def _peak_rss() -> int:
    """Of this program alone: ru_maxrss also counts the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) * 1024


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; with words behind it, it is one of the other processes."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    match words:
        case ["serve", folder, seed]:
            trio.run(serve, Path(folder), bytes.fromhex(seed))
        case ["fetch", folder, root, *addresses]:
            print(json.dumps(trio.run(fetch, Path(folder), parse_cid(root), addresses, SIZE)))
        case ["raw-serve"]:
            trio.run(raw_serve)
        case ["raw-fetch", port]:
            print(json.dumps(trio.run(raw_fetch, int(port))))
        case _:
            for name, value, unit in measure_all():
                print(f"  {name:<48} {value:>9.2f} {unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
