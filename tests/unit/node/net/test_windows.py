"""Streams on their way out: windows, credit that wakes, packets, and what the kernel may hold."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from socket import IPPROTO_TCP
from typing import cast

import pytest
import trio
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.net import gate, guard, windows
from prsm.node.net.frames import HEADER
from prsm.node.net.host import Libp2pTransport
from prsm.node.net.muxed import socket_of
from tests.tools.networks import World


class Wire:
    """As much of a connection as a stream that writes needs."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    async def _write_frame(self, frame: bytes) -> None:
        self.frames.append(frame)


def made() -> tuple[windows.WindowedStream, Wire]:
    wire = Wire()
    stream = vars(yamux)["YamuxStream"](1, wire, is_initiator=True)
    assert isinstance(stream, windows.WindowedStream)
    return stream, wire


def sizes(wire: Wire) -> list[int]:
    return [HEADER.unpack_from(frame)[4] for frame in wire.frames]


def test_windows_grow_to_a_mebibyte_at_most() -> None:
    guard.apply()
    assert yamux.MAX_WINDOW_SIZE == guard.WINDOW_BYTES_MAX == 1024 * 1024


async def test_frames_fill_one_packet_each() -> None:
    guard.apply()
    stream, wire = made()
    await stream.write(b"x" * (2 * windows.DATA_BYTES_MAX + 5))
    assert sizes(wire) == [windows.DATA_BYTES_MAX, windows.DATA_BYTES_MAX, 5]
    assert max(map(len, wire.frames)) == MAX_PLAINTEXT_LENGTH


async def test_writer_goes_on_in_the_moment_credit_comes(autojump_clock: MockClock) -> None:
    guard.apply()
    stream, wire = made()
    stream.send_window = 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, b"x" * 30)
        await trio.sleep(0.25)
        assert sizes(wire) == [10]
        stream.send_window += 15
        assert stream.credit is not None
        stream.credit.set()
        began = trio.current_time()
        await wait_all_tasks_blocked()
        assert sizes(wire) == [10, 15]
        assert trio.current_time() == began
        stream.send_window += 5  # in a frame with flags: stock code tells nobody
    assert sizes(wire) == [10, 15, 5]
    assert trio.current_time() - began <= windows.CREDIT_LOOK_SECONDS


async def test_writer_without_credit_gives_up_after_five_seconds(
    autojump_clock: MockClock,
) -> None:
    guard.apply()
    stream, _ = made()
    stream.send_window = 0
    began = trio.current_time()
    with pytest.raises(MuxedStreamError, match="no credit"):
        await stream.write(b"x")
    assert trio.current_time() - began == windows.CREDIT_SECONDS


@pytest.mark.slow
async def test_kernel_holds_at_most_128_kib_unsent(nursery: trio.Nursery) -> None:
    one, two = await World(nursery, "libp2p").pair()
    for node in (one, two):
        transport = cast("Libp2pTransport", node.network._transport)
        [connection] = transport._connections
        socket = socket_of(connection).socket
        assert socket.getsockopt(IPPROTO_TCP, gate.TCP_NOTSENT_LOWAT) == gate.UNSENT_BYTES_MAX
    nursery.cancel_scope.cancel()
