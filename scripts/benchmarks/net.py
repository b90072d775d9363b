"""Measure the network between two processes on loopback, beside raw TCP in the same run.

Run: python scripts/bench.py net
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from prsm.node.net.guard import peer_of
from prsm.node.net.handshake import ChainIdentity
from prsm.node.net.host import libp2p_network
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.network import PeerNetwork
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB, MIB
from prsm.protocol.messages.models import AskHave, Have

CHAIN: Final = ChainIdentity(chain=b"benchnet", genesis=b"b" * 32, agent="prsm/bench")
BOTH: Final = [peer_of(bytes([number]) * 32) for number in (1, 2)]  # as validators to each other
LISTEN: Final = ["/ip4/127.0.0.1/tcp/0"]
ASK: Final = AskHave(root=b"r" * 36)
HAVE: Final = Have(size=0, leaves=0, bitset=b"x" * 150)  # the answer's frame is about 200 bytes
CALLS: Final = 2000
CONNECTS: Final = 20
BESIDE_CALLS: Final = 1000
BESIDE_BYTES: Final = 100_000_000  # a second
BULK_BYTES: Final = 128 * MIB
Row = tuple[str, float, str]
RAW_ECHO: Final = "raw TCP echo 200 B p50"
RAW_BULK: Final = "raw TCP 1 MiB writes with sha256"
LIMITS: Final = {
    "call 200 B p50": RAW_ECHO,
    "call 200 B p99": RAW_ECHO,
    "connect p50": RAW_ECHO,
    "bulk frames of 256 KiB with sha256": RAW_BULK,
    "bulk frames of 1024 KiB with sha256": RAW_BULK,
}


class Sink:
    """The served side: answers calls, hashes what arrives on bulk, says how much that was."""

    def __init__(self) -> None:
        self.received = 0
        self.wanted = 0
        self.hasher = hashlib.sha256()
        self.done = trio.Event()

    def take(self, incoming: Incoming) -> None:
        """Hash one bulk message."""
        self.hasher.update(incoming.tail)
        self.received += len(incoming.tail)
        if self.received >= BULK_BYTES:
            self.done.set()

    async def answer(self, incoming: Incoming) -> Answer:
        """Answer at once, or when all of a bulk run has arrived."""
        await trio.lowlevel.checkpoint()
        if incoming.tail == b"wait":
            await self.done.wait()
            self.done, self.received = trio.Event(), 0
        return HAVE, b""


async def serve() -> None:
    """Run the other process: a node, and a raw TCP port beside it."""
    network = libp2p_network(b"\2" * 32, CHAIN, listen=LISTEN)
    network.trust(BOTH)
    sink = Sink()
    network.on_message(Have, sink.take)
    network.on_call(AskHave, sink.answer)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        listeners = await nursery.start(trio.serve_tcp, serve_raw, 0)
        port = listeners[0].socket.getsockname()[1]
        print(json.dumps({"address": network.addresses[0], "port": port}), flush=True)


async def serve_raw(stream: trio.SocketStream) -> None:
    """Echo 200 bytes at a time, or swallow `BULK_BYTES` and say so."""
    kind = await stream.receive_some(1)
    if kind == b"e":
        while data := await stream.receive_some(4096):
            await stream.send_all(data)
        return
    received = 0
    hasher = hashlib.sha256()
    while received < BULK_BYTES:
        data = await stream.receive_some(MIB)
        hasher.update(data)
        received += len(data)
    await stream.send_all(b"k")


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, int, int]]:
    """Start the other process; yields its address, its raw port and its process id."""
    command = [sys.executable, "-W", "ignore", __file__, "--serve"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(4096)
        where = json.loads(line)
        yield where["address"], where["port"], process.pid
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def measure_raw(port: int) -> list[Row]:
    """Raw TCP: the limit of this machine now."""
    echo = await trio.open_tcp_stream("127.0.0.1", port)
    await echo.send_all(b"e")
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await echo.send_all(b"x" * 200)
        await echo.receive_some(4096)
        times.append(time.perf_counter() - began)
    await echo.aclose()
    sink = await trio.open_tcp_stream("127.0.0.1", port)
    await sink.send_all(b"s")
    block = bytes(MIB)
    began = time.perf_counter()
    for _ in range(BULK_BYTES // MIB):
        await sink.send_all(block)
    await sink.receive_some(1)
    rate = BULK_BYTES / (time.perf_counter() - began) / 1e6
    await sink.aclose()
    return [
        (RAW_ECHO, 1000 * statistics.median(times), "ms"),
        (RAW_BULK, rate, "MB/s"),
    ]


async def measure_connect(network: PeerNetwork, address: str) -> list[Row]:
    """Dial, Noise, Yamux, hello; then hang up."""
    times = []
    for _ in range(CONNECTS):
        began = time.perf_counter()
        peer = await network.connect(address)
        times.append(time.perf_counter() - began)
        await network.disconnect(peer)
        while network.peers():  # noqa: ASYNC110 - a benchmark between two measurements
            await trio.sleep(0.01)
        await trio.sleep(0.3)
    return [
        ("connect p50", 1000 * statistics.median(times), "ms"),
        ("connect max", 1000 * max(times), "ms"),
    ]


async def measure_calls(network: PeerNetwork, peer: PeerId) -> list[Row]:
    """Calls one after the other on the kept control stream."""
    times = []
    cpu = time.process_time()
    for _ in range(CALLS):
        began = time.perf_counter()
        await network.call(peer, ASK, channel=Channel.CTL, tail=b"x" * 100)
        times.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    times.sort()
    return [
        ("call 200 B p50", 1000 * times[CALLS // 2], "ms"),
        ("call 200 B p99", 1000 * times[CALLS * 99 // 100], "ms"),
        ("call CPU, caller", 1000 * cpu / CALLS, "ms"),
    ]


async def measure_bulk(network: PeerNetwork, peer: PeerId, size: int) -> list[Row]:
    """One-way frames on bulk, hashed by the other side, until it has them all."""
    tail = bytes(size)
    began = time.perf_counter()
    for _ in range(BULK_BYTES // size):
        await network.send(peer, HAVE, channel=Channel.BULK, tail=tail)
    await network.call(peer, ASK, channel=Channel.CTL, tail=b"wait")
    rate = BULK_BYTES / (time.perf_counter() - began) / 1e6
    return [(f"bulk frames of {size // KIB} KiB with sha256", rate, "MB/s")]


async def measure_beside(network: PeerNetwork, peer: PeerId) -> list[Row]:
    """Calls while blocks of 1 MiB go to the same peer, at 100 MB/s and as fast as they can."""
    rows: list[Row] = []
    for name, rate in ((f"{BESIDE_BYTES // 1_000_000} MB/s", BESIDE_BYTES), ("full bulk", 0)):
        times = []
        sent = 0
        began = trio.current_time()

        async def send(rate: int = rate, began: float = began) -> None:
            nonlocal sent
            while True:
                await network.send(peer, HAVE, channel=Channel.RANGE, tail=bytes(MIB))
                sent += MIB
                ahead_s = sent / rate - (trio.current_time() - began) if rate else 0.0
                await trio.sleep(max(0.0, ahead_s))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for _ in range(BESIDE_CALLS):
                await trio.sleep(0.002)
                at = time.perf_counter()
                await network.call(peer, ASK, channel=Channel.CTL, tail=b"x" * 100)
                times.append(time.perf_counter() - at)
            mean = sent / (trio.current_time() - began) / 1e6
            nursery.cancel_scope.cancel()
        times.sort()
        rows += [
            (f"call beside {name} p50", 1000 * times[BESIDE_CALLS // 2], "ms"),
            (f"call beside {name} p99", 1000 * times[BESIDE_CALLS * 99 // 100], "ms"),
            (f"bulk meanwhile ({name})", mean, "MB/s"),
        ]
        await trio.sleep(0.5)
    return rows


async def measure() -> list[Row]:
    """Run every measurement against one other process."""
    rows: list[Row] = []
    async with served() as (address, port, pid), trio.open_nursery() as nursery:
        network = libp2p_network(b"\1" * 32, CHAIN, listen=LISTEN)
        network.trust(BOTH)
        await nursery.start(network.run)
        rows += await measure_raw(port)
        rows += await measure_connect(network, address)
        peer = await network.connect(address)
        rows += await measure_calls(network, peer)
        for size in (256 * KIB, MIB):
            rows += await measure_bulk(network, peer, size)
        rows += await measure_beside(network, peer)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])  # noqa: ASYNC240 - procfs
        rows.append(("RSS of the served process", pages * 4096 / MIB, "MiB"))
        nursery.cancel_scope.cancel()
    return rows


def measure_all() -> list[Row]:
    """Run every measurement, for a caller without a loop."""
    return trio.run(measure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; `--serve` is the other process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="run as the other process")
    options = parser.parse_args(arguments)
    if options.serve:
        trio.run(serve)
        return 0
    for name, value, unit in measure_all():
        print(f"  {name:<36} {value:>9.2f} {unit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
