"""What one WebSocket costs the others: how much of it is parsed in one turn of the loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypercorn.protocol.events import Data, Event
from typing_extensions import override
from wsproto.frame_protocol import Frame, FrameProtocol

from prsm.node.web.websocket import WebSocket
from tests.tools.rpc_door import open_door


class _Turns(trio.abc.Instrument):
    """How many frames were parsed in each turn of the loop that parsed any; rounds of the loop."""

    def __init__(self) -> None:
        self.frames = [0]
        self.rounds = 0

    @override
    def before_io_wait(self, timeout: float) -> None:
        self.rounds += 1

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.frames[-1]:
            self.frames.append(0)


async def test_frames_of_nothing_leave_others_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 frames fit into one read: parsing them held the loop for a sixth of a second."""
    turns, parse = _Turns(), FrameProtocol.received_frames

    def received_frames(machine: FrameProtocol) -> Iterator[Frame]:
        for one in parse(machine):
            turns.frames[-1] += 1
            yield one

    async with open_door(tmp_path) as door:
        socket = await door.socket()
        monkeypatch.setattr(FrameProtocol, "received_frames", received_frames)
        trio.lowlevel.add_instrument(turns)
        begin, nothing, end = (bytes([head, 0x80, 0, 0, 0, 0]) for head in (0x01, 0x00, 0x80))
        await socket.send_raw(begin + nothing * 20_000 + end)
        assert (await socket.call("rpc_ping"))["result"]
        trio.lowlevel.remove_instrument(turns)
    assert sum(turns.frames) > 20_000
    assert max(turns.frames) <= 1_000


async def test_a_long_message_waits_for_nobody_between_two_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one frame, and no work: a turn for each 4 KiB took a busy node ten times as long."""
    turns, handle, waited = _Turns(), WebSocket.handle, list[int]()

    async def counted(machine: WebSocket, event: Event) -> None:
        before = turns.rounds
        await handle(machine, event)
        if isinstance(event, Data):
            waited.append(turns.rounds - before)

    async with open_door(tmp_path) as door:
        socket = await door.socket()
        monkeypatch.setattr(WebSocket, "handle", counted)
        trio.lowlevel.add_instrument(turns)
        assert (await socket.call("rpc_ping", text="x" * 500_000))["error"]
        trio.lowlevel.remove_instrument(turns)
    assert len(waited) < 100
    assert not any(waited)
