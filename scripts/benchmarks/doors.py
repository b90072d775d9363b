"""Measure the door: calls, pushes, ten thousand connections; beside a bare trio echo in one run.

The served side is the door of a node with the methods that need no node (`rpc_ping`, the sub_
methods), on a core of its own where there are two. Frames are written by hand here, so that this
side costs little.

Run: python scripts/benchmarks/doors.py [--connections 10000]
"""

import argparse
import gc
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.doorside import Frames, Served, echo, read_http, served, text_frame, timed

from prsm.node.api.events import EventsApi
from prsm.node.hardening import COLLECT_EVERY
from prsm.node.home import Home
from prsm.node.memory import rss_bytes
from prsm.node.rpc.dispatch import Handler, bind
from prsm.node.rpc.methods.node import Pong
from prsm.node.rpc.methods.subscriptions import TOPICS, HeadRow
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Caller, NoParams
from prsm.node.telemetry import logs
from prsm.node.telemetry.events import Events
from prsm.node.web.app import Health, fence, log_fault
from prsm.node.web.serve import Bounds, Door, serve
from prsm.protocol.limits import KIB

CALLS: Final = 1_600
PIPELINE: Final = 32
SUBSCRIBERS: Final = 100
ROWS: Final = 512
ROWS_A_TURN: Final = 128
CONNECTIONS: Final = 10_000
ACTIVE: Final = 200
ACTIVE_S: Final = 8.0
THINK_S: Final = 0.1
OPENING_AT_ONCE: Final = 50
PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"rpc_ping"}'
Row = tuple[str, float, str]

ECHO: Final = "trio echo of 200 B, one after the other"
HTTP_BAR, HTTP_P50_BAR, HTTP_P99_BAR = "bar of 2,000/s", "bar of 0.6 ms", "bar of 2 ms"
WS_BAR, PUSH_BAR, RSS_BAR = "bar of 8,000/s", "bar of 18,000/s", "bar of 50 KiB"
MANY_BAR: Final = "bar of 200 ms"
BARS: Final[list[Row]] = [
    (HTTP_BAR, 2_000, "/s"),
    (HTTP_P50_BAR, 0.6, "ms"),
    (HTTP_P99_BAR, 2.0, "ms"),
    (WS_BAR, 8_000, "/s"),
    (PUSH_BAR, 18_000, "/s"),
    (RSS_BAR, 50, "KiB"),
    (MANY_BAR, 200, "ms"),
]
LIMITS: Final[Mapping[str, str]] = {
    "HTTP calls, one after the other": HTTP_BAR,
    "HTTP call p50": HTTP_P50_BAR,
    "HTTP call p99": HTTP_P99_BAR,
    "WebSocket calls, one after the other": ECHO,
    f"WebSocket calls, {PIPELINE} at a time": WS_BAR,
    f"rows pushed to {SUBSCRIBERS - 1} of {SUBSCRIBERS}, one reading nothing": PUSH_BAR,
    "RSS of a connection": RSS_BAR,
    "call p99 of the active ones": MANY_BAR,
}


# -- the served side


async def serve_door() -> None:
    """Run the other process; commands come as lines on standard input."""
    logs.configure(level="warning")
    gc.set_threshold(*COLLECT_EVERY)  # as the daemon does
    gc.freeze()
    events = Events(TOPICS)

    async def ping(_params: NoParams, _caller: Caller) -> Pong:  # noqa: ASYNC124 - a handler
        return Pong(time="2026-01-01T00:00:00Z")

    handlers: dict[str, Handler] = {"rpc_ping": ping, **EventsApi(events).handlers()}
    methods = {name: METHODS[name] for name in handlers}
    dispatcher = bind(handlers, methods=methods, fence=fence, on_fault=log_fault)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.create()
        door = Door("127.0.0.1", 0, home.cookie, events=events)
        bounds = Bounds(connections=20_000, idle_s=300.0)
        health = Health("bench", "0", lambda: "")
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(
                partial(serve, dispatcher, door=door, health=health, bounds=bounds)
            )
            echoes = await nursery.start(trio.serve_tcp, echo, 0)
            where = {
                "port": bound.port,
                "echo": echoes[0].socket.getsockname()[1],
                "token": home.cookie.read_text(encoding="ascii").strip(),
            }
            print(json.dumps(where), flush=True)
            await obey(events)
            nursery.cancel_scope.cancel()


async def obey(events: Events) -> None:
    """Do what the other side asks, until it closes."""
    lines = trio.lowlevel.FdStream(os.dup(0))
    height = 0
    async for data in lines:
        for word in data.split():
            if word == b"publish":
                for _ in range(ROWS_A_TURN):
                    height += 1
                    zero = "0x" + "00" * 32
                    row = HeadRow(height, zero, "2026-01-01T00:00:00Z", 0, 0, 0, zero)
                    events.publish("heads", row)
                    await trio.lowlevel.checkpoint()
            facts = {"rss": rss_bytes(), "cpu": time.process_time(), "dropped": events.dropped}
            print(json.dumps(facts), flush=True)


async def measure_echo(found: Served) -> list[Row]:
    """What a bare stream of the same loop costs: the limit of this machine now."""
    stream = await trio.open_tcp_stream("127.0.0.1", found.echo)

    async def turn() -> None:
        await stream.send_all(b"x" * 200)
        await stream.receive_some(65536)

    times = await timed(CALLS, turn)
    await stream.aclose()
    return [(ECHO, 1 / statistics.mean(times), "/s")]


async def measure_http(found: Served) -> list[Row]:
    """Calls one after the other on a kept connection."""
    raw = found.http(PING)

    def turns(count: int) -> list[float]:
        # As commands and scripts call: blocking, without a loop of this side in the figure.
        times = []
        with socket.create_connection(("127.0.0.1", found.port)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(count):
                at = time.perf_counter()
                plain.sendall(raw)
                answer = plain.recv(65536)  # head and body leave in one write
                times.append(time.perf_counter() - at)
                assert answer.endswith(b"}"), answer
        return sorted(times)

    await trio.to_thread.run_sync(turns, 100)
    before = (await found.ask("facts"))["cpu"]
    times = await trio.to_thread.run_sync(turns, CALLS)
    cpu = (await found.ask("facts"))["cpu"] - before
    return [
        ("HTTP calls, one after the other", 1 / statistics.mean(times), "/s"),
        ("HTTP call p50", 1000 * times[len(times) // 2], "ms"),
        ("HTTP call p99", 1000 * times[len(times) * 99 // 100], "ms"),
        ("HTTP call, CPU of the door", 1e6 * cpu / CALLS, "us"),
    ]


async def measure_websocket(found: Served) -> list[Row]:
    """The same over a WebSocket, and many at a time."""
    stream, raw = await found.websocket(), text_frame(PING)
    frames = Frames()

    async def turns(count: int) -> None:
        await stream.send_all(raw * count)
        while count > 0:
            count -= len(frames.feed(await stream.receive_some(65536)))

    await timed(100, partial(turns, 1))
    before = (await found.ask("facts"))["cpu"]
    times = await timed(CALLS, partial(turns, 1))
    middle = (await found.ask("facts"))["cpu"]
    many = await timed(CALLS // 8, partial(turns, PIPELINE))
    after = (await found.ask("facts"))["cpu"]
    await stream.aclose()
    return [
        ("WebSocket calls, one after the other", 1 / statistics.mean(times), "/s"),
        ("WebSocket call p50", 1000 * times[len(times) // 2], "ms"),
        ("WebSocket call p99", 1000 * times[len(times) * 99 // 100], "ms"),
        ("WebSocket call, CPU of the door", 1e6 * (middle - before) / (CALLS * 1.1), "us"),
        (
            f"WebSocket calls, {PIPELINE} at a time",
            PIPELINE / statistics.mean(many),
            "/s",
        ),
        (
            f"WebSocket call, {PIPELINE} at a time, CPU of the door",
            1e6 * (after - middle) / (PIPELINE * CALLS // 8 * 1.1),
            "us",
        ),
    ]


async def measure_pushes(found: Served) -> list[Row]:
    """Rows to a hundred subscribers; one of them reads nothing and has a narrow pipe."""
    asked = b'{"jsonrpc":"2.0","id":1,"method":"sub_subscribe","params":{"topic":"heads"}}'
    deaf = trio.socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    await deaf.connect(("127.0.0.1", found.port))
    await deaf.send(found.upgrade())
    await deaf.recv(4096)
    await deaf.send(text_frame(asked))
    streams = [await found.websocket() for _ in range(SUBSCRIBERS - 1)]
    readers = [Frames() for _ in streams]
    counts = [0] * len(streams)
    for index, stream in enumerate(streams):
        await stream.send_all(text_frame(asked))
        while not readers[index].feed(await stream.receive_some(65536)):
            pass
    before = await found.ask("facts")
    began = time.perf_counter()

    async def read(index: int, until: int) -> None:
        while counts[index] < until:
            data = await streams[index].receive_some(262144)
            counts[index] += len(readers[index].feed(data))

    for turn in range(1, ROWS // ROWS_A_TURN + 1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.ask, "publish")
            for index in range(len(streams)):
                nursery.start_soon(read, index, turn * ROWS_A_TURN)
    seconds = time.perf_counter() - began
    after = await found.ask("facts")
    for stream in streams:
        await stream.aclose()
    deaf.close()
    pushed = sum(counts)
    name = f"rows pushed to {SUBSCRIBERS - 1} of {SUBSCRIBERS}, one reading nothing"
    return [
        (name, pushed / seconds, "/s"),
        ("rows the others lost", ROWS * len(streams) - pushed, ""),
        ("connections dropped as too slow", after["dropped"] - before["dropped"], ""),
        ("row pushed, CPU of the door", 1e6 * (after["cpu"] - before["cpu"]) / pushed, "us"),
    ]


class Crowd:
    """Many connections to one door, half of them WebSockets.

    Attributes:
        failures: what went wrong with any of them.
    """

    def __init__(self, found: Served) -> None:
        self.failures = 0
        self._found = found
        self._http: list[trio.SocketStream] = []
        self._sockets: list[trio.SocketStream] = []
        self._limiter = trio.CapacityLimiter(OPENING_AT_ONCE)
        self._raw = found.http(PING)

    @property
    def size(self) -> int:
        """How many are open."""
        return len(self._http) + len(self._sockets)

    async def open(self, count: int) -> None:
        """Open so many."""
        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(self._open_one, number)

    async def call(self) -> list[float]:
        """Have a few of them call for a while; seconds of each call, sorted."""
        times: list[float] = []
        with trio.move_on_after(ACTIVE_S):
            async with trio.open_nursery() as nursery:
                for number in range(ACTIVE // 2):
                    wait_s = THINK_S * number / (ACTIVE // 2)
                    by_http = partial(self._by_http, self._http[number])
                    nursery.start_soon(self._keep_calling, by_http, wait_s, times)
                    by_socket = partial(self._by_socket, self._sockets[number], Frames())
                    nursery.start_soon(self._keep_calling, by_socket, wait_s, times)
        return sorted(times)

    def close(self) -> None:
        """Close all."""
        for stream in (*self._http, *self._sockets):
            stream.socket.close()

    async def _open_one(self, number: int) -> None:
        async with self._limiter:
            try:
                if number % 2:
                    self._sockets.append(await self._found.websocket())
                    return
                stream = await self._found.tcp()
                await self._by_http(stream)
                self._http.append(stream)
            except (OSError, AssertionError, trio.BrokenResourceError):
                self.failures += 1

    async def _keep_calling(
        self, turn: Callable[[], Awaitable[None]], wait_s: float, times: list[float]
    ) -> None:
        await trio.sleep(wait_s)
        try:
            while True:
                at = time.perf_counter()
                await turn()
                times.append(time.perf_counter() - at)
                await trio.sleep(THINK_S)
        except (OSError, AssertionError, trio.BrokenResourceError):
            self.failures += 1

    async def _by_http(self, stream: trio.SocketStream) -> None:
        await stream.send_all(self._raw)
        await read_http(stream)

    async def _by_socket(self, stream: trio.SocketStream, frames: Frames) -> None:
        await stream.send_all(text_frame(PING))
        while not frames.feed(await stream.receive_some(65536)):
            pass


async def measure_many(found: Served, count: int) -> list[Row]:
    """So many connections, half of them WebSockets, a few of them calling."""
    crowd = Crowd(found)
    before = await found.ask("facts")
    began = time.perf_counter()
    await crowd.open(count)
    opening = time.perf_counter() - began
    after = await found.ask("facts")
    gc.disable()  # this side's pauses are not the door's
    times = await crowd.call()
    gc.enable()
    calm = await found.ask("facts")
    rows = [
        ("connections opened, half WebSockets", crowd.size, ""),
        ("opening of one", 1000 * opening / count, "ms"),
        ("RSS of a connection", (after["rss"] - before["rss"]) / count / KIB, "KiB"),
        (f"calls of {ACTIVE} active ones", len(times) / ACTIVE_S, "/s"),
        ("call p50 of the active ones", 1000 * times[len(times) // 2], "ms"),
        ("call p99 of the active ones", 1000 * times[len(times) * 99 // 100], "ms"),
        ("errors", crowd.failures, ""),
        ("CPU of the door meanwhile", 100 * (calm["cpu"] - after["cpu"]) / ACTIVE_S, "% core"),
    ]
    crowd.close()
    return rows


async def measure(connections: int, tell: Callable[[Sequence[Row]], None]) -> None:
    """Every measurement against one other process; each part is told when it is done."""
    tell(BARS)
    async with served(__file__) as found:
        tell(await measure_echo(found))
        tell(await measure_http(found))
        tell(await measure_websocket(found))
        tell(await measure_pushes(found))
        tell(await measure_many(found, connections))


def measure_all() -> list[Row]:
    """Run everything, for a caller without a loop."""
    rows: list[Row] = []
    trio.run(measure, CONNECTIONS, rows.extend)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows; `--serve` is the other process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="run as the other process")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)  # the active ones at least
    options = parser.parse_args(arguments)
    if options.serve:
        trio.run(serve_door)
        return 0

    trio.run(measure, max(ACTIVE, options.connections), print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
