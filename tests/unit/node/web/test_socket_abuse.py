"""What no honest WebSocket does: its own connection ends, nothing else notices, nothing stays."""

import gc
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from prsm.node.memory import give_back, keep_compact, rss_bytes
from prsm.node.web.serve import Bounds
from tests.tools.rpc_door import OpenDoor, auth, open_door
from tests.tools.sockets import Closed, Rejected

TURNS = int(os.environ.get("PRSM_TURNS", "1000"))
MIB = 1024 * 1024


@dataclass(frozen=True)
class Abuse:
    """Bytes instead of, or after, a handshake.

    Attributes:
        says: what is sent; with `is_open` after a good handshake.
        reads: whether the client reads at all.
        resets: it ends with a reset.
    """

    says: Callable[[], bytes]
    is_open: bool = True
    reads: bool = True
    resets: bool = False


def frame(
    op: int, body: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """One frame, whole or wrong."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | op])
    bit = 0x80 if mask else 0
    if len(body) < 126:
        head += bytes([bit | len(body)])
    elif len(body) < 65536:
        head += struct.pack("!BH", bit | 126, len(body))
    else:
        head += struct.pack("!BQ", bit | 127, len(body))
    return head + (bytes(4) if mask else b"") + body


def text(body: str) -> bytes:
    return frame(1, body.encode())


CALL = '{"jsonrpc":"2.0","id":1,"method":"rpc_ping"}'
ABUSES: dict[str, Abuse] = {
    "no mask": Abuse(lambda: frame(1, b"{}", mask=False)),
    "reserved opcode": Abuse(lambda: frame(3, b"x")),
    "reserved control opcode": Abuse(lambda: frame(11)),
    "reserved bits": Abuse(lambda: frame(1, b"{}", rsv=7)),
    "compressed without asking": Abuse(lambda: frame(1, b"\xaa\x02\x00", rsv=4)),
    "continuation of nothing": Abuse(lambda: frame(0, b"x")),
    "text inside a text": Abuse(lambda: frame(1, b"{", fin=False) + frame(1, b"}")),
    "ping in parts": Abuse(lambda: frame(9, b"x", fin=False)),
    "long ping": Abuse(lambda: frame(9, b"x" * 126)),
    "close of one byte": Abuse(lambda: frame(8, b"x")),
    "close with a code nobody may send": Abuse(lambda: frame(8, struct.pack("!H", 1005))),
    "close whose reason is no text": Abuse(lambda: frame(8, struct.pack("!H", 1000) + b"\xff")),
    "no UTF-8": Abuse(lambda: frame(1, b"\xff\xfe")),
    "half a character": Abuse(lambda: frame(1, b"\xe2\x82")),
    "bytes": Abuse(lambda: frame(2, b"{}")),
    "a size of 2^63": Abuse(lambda: b"\x81\xff" + b"\xff" * 8 + bytes(4) + b"x" * 100),
    "a size of 1 GiB": Abuse(lambda: b"\x81\xff" + struct.pack("!Q", 2**30) + bytes(4) + b"x" * 9),
    "more than a message may hold": Abuse(lambda: frame(1, b" " * (MIB + 1))),
    "the same in parts": Abuse(
        lambda: frame(1, b" " * 65536, fin=False) + frame(0, b" " * 65536, fin=False) * 20
    ),
    "goes on after that": Abuse(
        lambda: frame(1, b" " * 4096, fin=False) + frame(0, b" " * MIB) * 3
    ),
    "a thousand pings, nothing read": Abuse(
        lambda: frame(9, b"x" * 125) * 1000, reads=False, resets=True
    ),
    "calls and a reset": Abuse(lambda: text(CALL) * 50, reads=False, resets=True),
    "talks after its close": Abuse(lambda: frame(8, struct.pack("!H", 1000)) + text(CALL) * 5),
    "deep JSON": Abuse(lambda: text("[" * 100_000)),
    "half a frame and a reset": Abuse(lambda: text(CALL)[:9], reads=False, resets=True),
    "no version": Abuse(lambda: handshake(version=None), is_open=False),
    "version 7": Abuse(lambda: handshake(version="7"), is_open=False),
    "no key": Abuse(lambda: handshake(key=None), is_open=False),
    "HTTP/1.0": Abuse(lambda: handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), is_open=False),
    "frames before the answer": Abuse(lambda: handshake() + text(CALL) * 3, is_open=False),
    "half a handshake": Abuse(lambda: handshake()[:60], is_open=False, reads=False, resets=True),
}
_door: list[OpenDoor] = []


def handshake(version: str | None = "13", key: str | None = "dGhlIHNhbXBsZSBub25jZQ==") -> bytes:
    fields = {
        **auth(_door[-1]),
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": version,
        "Sec-WebSocket-Key": key,
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["GET /ws HTTP/1.1", *lines, "\r\n"]).encode()


class NoPlace(Exception):
    """As many connections are open as may be."""


async def suffer(door: OpenDoor, abuse: Abuse) -> None:
    """One abuse, until its connection is over."""
    stream = await door.tcp()
    try:
        if abuse.is_open:
            await stream.send_all(handshake())
            answer = await stream.receive_some(4096)
            if not answer or answer.startswith(b"HTTP/1.1 503"):
                raise NoPlace  # or so long on its way that the door had given it up
            assert answer.startswith(b"HTTP/1.1 101"), answer
        await stream.send_all(abuse.says())
        if abuse.reads:
            await stream.send_eof()
            with trio.fail_after(10):
                while await stream.receive_some(65536):
                    pass
        if abuse.resets:
            stream.socket.setsockopt(*_LINGER)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it ended us first
    finally:
        stream.socket.close()


async def suffer_in_turn(door: OpenDoor, abuse: Abuse) -> None:
    """The same, once there is a place for it: those before are just ending."""
    with trio.fail_after(30):
        while True:
            with suppress(NoPlace):
                return await suffer(door, abuse)


_LINGER = (1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: close is a reset


async def healthy(door: OpenDoor) -> None:
    """Slots become free again, and calls are answered."""
    for _ in range(2):
        with trio.fail_after(10):
            while True:
                with suppress(Rejected, Closed):
                    socket = await door.socket()
                    break
        assert (await socket.call("rpc_ping"))["result"]


async def test_every_abuse_ends_its_own_connection(tmp_path: Path) -> None:
    """With places for two connections: one that stayed would be missed at once."""
    async with open_door(tmp_path, bounds=Bounds(connections=2, idle_s=0.2, write_s=0.2)) as door:
        _door.append(door)
        bystander = await door.socket()
        for name, abuse in ABUSES.items():
            await suffer_in_turn(door, abuse)
            assert (await bystander.call("rpc_ping"))["result"], name


@pytest.mark.long
async def test_a_thousand_turns_leave_nothing(tmp_path: Path) -> None:
    keep_compact()  # as a daemon begins
    async with open_door(tmp_path, bounds=Bounds(connections=64, idle_s=0.2, write_s=0.2)) as door:
        _door.append(door)
        await _all(door, 1)
        gc.collect()
        give_back()  # as a daemon does: what the allocator keeps free is no growth
        before = rss_bytes()
        await _all(door, TURNS // 20)
        await healthy(door)
        gc.collect()
        give_back()
        assert rss_bytes() - before <= 32 * MIB


async def _all(door: OpenDoor, rounds: int) -> None:
    """Every abuse by twenty clients at a time."""
    for abuse in ABUSES.values():
        for _ in range(rounds):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(suffer_in_turn, door, abuse)
            for book in (door.node.calls, door.node.callers):  # the stand-in keeps all of them
                book.clear()
