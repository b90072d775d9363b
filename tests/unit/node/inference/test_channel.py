"""Frames between a daemon and its child, both ends as they ship, over one socket pair."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio

from prsm.node.inference.channel import Channel, ChannelClosed
from prsm.node.worker.pipe import Pipe
from prsm.protocol.framing import Flow
from prsm.protocol.limits import MIB
from prsm.protocol.messages.pipe import PIPE_FRAME_BYTES_MAX, Cancel
from prsm.protocol.messages.steps import Said, Say

SIZES = (0, 1, 2048, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 40_000)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, Pipe, socket.socket]]:
    """The daemon's end, the child's, and the socket under the child's."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours, frame_bytes_max=PIPE_FRAME_BYTES_MAX)
        await trio.lowlevel.checkpoint()
        yield channel, Pipe(theirs.fileno()), theirs
        channel.close()


@pytest.mark.parametrize("size", SIZES)
async def test_frames_written_together_are_read_apart(
    size: int, ends: tuple[Channel, Pipe, socket.socket]
) -> None:
    """Three frames stand in the socket before the first is read, whichever side wrote them."""
    channel, pipe, _ = ends
    tails = [bytes([number]) * size for number in range(3)]
    for number, tail in enumerate(tails):
        await channel.send(Say(is_last=False), request_id=number, tail=[tail])
        pipe.write(Said(), request_id=number, tail=[memoryview(tail)])
    for number, tail in enumerate(tails):
        asked = pipe.read()
        assert (asked.flow, asked.request_id, bytes(asked.tail)) == (Flow.CALL, number, tail)
        told = await channel.receive()
        assert (told.flow, told.request_id, bytes(told.tail)) == (Flow.REPLY, number, tail)


async def test_what_does_not_fit_the_socket_follows(
    ends: tuple[Channel, Pipe, socket.socket],
) -> None:
    """A tensor of 4 MiB, and a small frame behind it, each way while the other side reads."""
    channel, pipe, _ = ends
    tensor = bytes(range(256)) * (4 * MIB // 256)

    async def send() -> None:
        await channel.send(Say(is_last=False), request_id=1, tail=[tensor])
        await channel.send(Cancel(), flow=Flow.ONE_WAY, request_id=1)

    def answer() -> None:
        assert pipe.read().tail == tensor
        assert pipe.read().body == Cancel()
        pipe.write(Said(), request_id=1, tail=[memoryview(tensor)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(trio.to_thread.run_sync, answer)
        told = await channel.receive()
    assert told.tail == tensor


async def test_what_came_before_the_end_is_read_and_half_a_frame_is_not(
    ends: tuple[Channel, Pipe, socket.socket],
) -> None:
    channel, pipe, theirs = ends
    pipe.write(Said(), request_id=1, tail=[memoryview(b"last words")])
    theirs.send(b"\0\0\0\x09\0\0")
    theirs.shutdown(socket.SHUT_RDWR)
    assert bytes((await channel.receive()).tail) == b"last words"
    with pytest.raises(ChannelClosed):
        await channel.receive()
    with pytest.raises(ChannelClosed):
        await channel.send(Cancel())
