"""Ways that are kept short: slices while somebody goes first, all at once otherwise."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.net.circuit import CREDIT_BYTES_MIN
from prsm.node.net.interface import Channel
from prsm.node.net.ways import SHORT_BYTES, SLICE_BYTES, CircuitWay, open_yielding


class Hop:
    """Keeps what is written until it is read."""

    def __init__(self) -> None:
        self.is_over = False
        self.unread_bytes = 0
        self.moved = trio.lowlevel.ParkingLot()

    async def wait_moved(self) -> None:
        await self.moved.park()

    def read(self, size: int) -> None:
        self.unread_bytes -= size
        self.moved.unpark_all()


class Stream:
    """Writes into a hop; notes the sizes."""

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.sizes: list[int] = []

    async def read_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(bytes_max)

    async def write_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(data))
        self.hop.unread_bytes += len(data)


async def test_slices_wait_for_those_before_them(nursery: trio.Nursery) -> None:
    hop = Hop()
    inner = Stream(hop)

    async def opener(channel: Channel) -> Stream:
        await trio.lowlevel.checkpoint()
        assert channel is Channel.BULK
        return inner

    stream = await open_yielding(opener, CircuitWay(hop), lambda: True, Channel.BULK)
    assert await stream.read_some(3) == bytes(3)
    nursery.start_soon(stream.write_all, bytes(SHORT_BYTES + 2 * SLICE_BYTES + 1))
    await wait_all_tasks_blocked()
    most = SHORT_BYTES + SLICE_BYTES
    assert hop.unread_bytes == most
    hop.read(SLICE_BYTES - 1)
    await wait_all_tasks_blocked()
    assert hop.unread_bytes == SHORT_BYTES + 1
    hop.read(CREDIT_BYTES_MIN)
    await wait_all_tasks_blocked()
    assert sum(inner.sizes) == SHORT_BYTES + 2 * SLICE_BYTES + 1
    assert max(inner.sizes) == SLICE_BYTES


async def test_nothing_is_cut_when_nobody_goes_first() -> None:
    hop = Hop()
    inner = Stream(hop)

    async def opener(_channel: Channel) -> Stream:
        await trio.lowlevel.checkpoint()
        return inner

    wanted = [True, False]
    stream = await open_yielding(opener, CircuitWay(hop), lambda: wanted.pop(0), Channel.RANGE)
    await stream.write_all(bytes(4 * SHORT_BYTES))
    assert inner.sizes == [SLICE_BYTES, 4 * SHORT_BYTES - SLICE_BYTES]


@pytest.mark.parametrize("above", [0, SHORT_BYTES])
async def test_way_that_has_ended_or_is_short_holds_nobody(
    above: int, autojump_clock: MockClock
) -> None:
    hop = Hop()
    hop.unread_bytes = 1
    way = CircuitWay(hop, above=lambda: above)
    with trio.move_on_after(1) as scope:
        await way.wait_short()
    assert scope.cancelled_caught is bool(above)
    hop.is_over = True
    await way.wait_short()
