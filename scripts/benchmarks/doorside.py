"""The other side of the door's benchmark: a door in a process of its own, and frames by hand.

Knows: HTTP and WebSocket as bytes. Must not know: what is measured.
"""

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


@dataclass
class Served:
    """The other process."""

    process: trio.Process
    port: int
    echo: int
    token: str
    _buffer: bytearray = field(default_factory=bytearray)

    async def ask(self, word: str) -> dict[str, float]:
        """One command; what the process is like after it."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(word.encode() + b"\n")
        found: dict[str, float] = json.loads(await self.line())
        return found

    async def line(self) -> bytes:
        """The next line it says."""
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            more = await self.process.stdout.receive_some(65536)
            assert more, "the served side ended"
            self._buffer += more
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line

    def http(self, body: bytes) -> bytes:
        """A call as a request."""
        head = (
            f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def upgrade(self) -> bytes:
        """The handshake of a WebSocket."""
        head = (
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        return head.encode()

    async def tcp(self) -> trio.SocketStream:
        """A connection to the door."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def websocket(self) -> trio.SocketStream:
        """A WebSocket after its handshake."""
        stream = await self.tcp()
        await stream.send_all(self.upgrade())
        answer = await stream.receive_some(65536)
        assert answer.startswith(b"HTTP/1.1 101"), answer[:200]
        return stream


@asynccontextmanager
async def served(program: str) -> AsyncIterator[Served]:
    """Start the other process, on the last core where there are two."""
    command = [sys.executable, "-W", "ignore", program, "--serve"]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    cores = sorted(os.sched_getaffinity(0))
    try:
        if len(cores) > 1:
            os.sched_setaffinity(process.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1])
        found = Served(process, 0, 0, "")
        line = b""
        while not line.startswith(b'{"port"'):  # lines of its log come first
            line = await found.line()
        where = json.loads(line)
        found.port, found.echo, found.token = where["port"], where["echo"], where["token"]
        yield found
    finally:
        os.sched_setaffinity(0, cores)
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes."""
    while data := await stream.receive_some(65536):
        await stream.send_all(data)


def text_frame(body: bytes) -> bytes:
    """A masked text frame whose mask changes nothing."""
    size = len(body)
    head = bytes([0x81, 0x80 | size]) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + bytes(4) + body


class Frames:
    """Counts frames of a server, which are never masked; pings are left unanswered for a while."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Bodies of the text frames that are complete now."""
        found, data, at = [], self._rest + data, 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                if len(data) - at < 4:
                    break
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if len(data) < start + size:
                break
            if data[at] & 0x0F == 1:
                found.append(data[start : start + size])
            at = start + size
        self._rest = data[at:]
        return found


async def read_http(stream: trio.SocketStream) -> None:
    """One answer, which comes in one piece."""
    data = await stream.receive_some(65536)
    assert data.startswith(b"HTTP/1.1 200"), data[:200]
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += await stream.receive_some(65536)


async def timed(count: int, turn: Callable[[], Awaitable[None]]) -> list[float]:
    """Seconds of each of so many turns, sorted; a tenth more comes before, unmeasured."""
    times = []
    for number in range(-count // 10, count):
        began = time.perf_counter()
        await turn()
        if number >= 0:
            times.append(time.perf_counter() - began)
    return sorted(times)
