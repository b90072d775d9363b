"""How much a connection sets aside for a read: little, and much only while reads are full."""

import os

import pytest
import trio

from prsm.node.net import gate
from prsm.node.net.interface import Channel
from prsm.protocol.limits import MIB
from tests.tools.networks import ASK, HAVE, World, answering

pytestmark = pytest.mark.slow


async def test_only_full_reads_are_followed_by_large_ones(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, int]] = []  # bytes set aside, bytes that came

    def read(descriptor: int, size: int) -> bytes:
        data = os.read(descriptor, size)
        reads.append((size, len(data)))
        return data

    with trio.fail_after(30):
        one, two = await World(nursery, "libp2p").pair(answering(lambda _: (HAVE, b"")))
        monkeypatch.setattr(gate, "os", _System(read))
        await one.network.call(two.peer, ASK, channel=Channel.CTL)
        assert {size for size, _ in reads} == {gate.READ_BYTES}
        reads.clear()
        for _ in range(8):
            tail = bytes(MIB // 2)
            await one.network.send(two.peer, HAVE, channel=Channel.BULK, tail=tail)
        await two.wait(lambda: len(two.messages) == 8)
        assert gate.READ_BYTES_MAX in {size for size, _ in reads}
        assert max(came for _, came in reads) > gate.READ_BYTES
        await one.network.call(two.peer, ASK, channel=Channel.CTL)
        reads.clear()
        await one.network.call(two.peer, ASK, channel=Channel.CTL)
        assert {size for size, _ in reads} == {gate.READ_BYTES}
        nursery.cancel_scope.cancel()


class _System:
    """What a gate asks of the system, with its reads seen."""

    write = staticmethod(os.write)

    def __init__(self, read: object) -> None:
        self.read = read
