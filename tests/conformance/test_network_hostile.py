"""Hostile bytes on a control stream, on every implementation: one peer is closed, nothing else.

Method: a bare transport dials an honest node and writes what it likes.
"""

from collections.abc import AsyncIterator

import pytest
import trio

from prsm.node.net.handshake import greet
from prsm.node.net.interface import (
    Channel,
)
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.limits import MIB
from tests.tools.networks import ASK, CHAIN, HAVE, World, answering, ended


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


def raw_head(kind: int, body: bytes) -> bytes:
    return encode_frame(
        Head(version=1, flow=Flow.CALL, kind=kind, request_id=1, trace=b"", body=body)
    )


HOSTILE = {
    "random bytes": b"\xff" * 64,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "oversized frame": (64 * MIB).to_bytes(4, "big") + (10).to_bytes(4, "big"),
    "empty head": (4).to_bytes(4, "big") + (0).to_bytes(4, "big"),
    "head that is no msgpack": (8).to_bytes(4, "big")
    + (4).to_bytes(4, "big")
    + b"\xc1\xc1\xc1\xc1",
    "call before hello": raw_head(50, b"\x91\xc4\x24" + b"r" * 36),
}


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_hostile_first_bytes_close_that_peer_only(world: World, name: str) -> None:
    one, two = await world.pair(answering(lambda _i: (HAVE, b"")))
    connection = await world.rogue(two)
    stream = await connection.stream(Channel.CTL)
    await stream.write_all(HOSTILE[name])
    with trio.fail_after(10):
        await ended(stream)
    assert await one.network.call(two.peer, ASK, channel=Channel.CTL) == (HAVE, b"")
    assert [info.peer for info in two.network.peers()] == [one.peer]


@pytest.mark.parametrize("name", [n for n in HOSTILE if n != "call before hello"])
async def test_hostile_bytes_after_the_hello_close_that_peer_only(world: World, name: str) -> None:
    """The rogue greets as an honest node does, then breaks the frames; it is penalised."""
    one, two = await world.pair(answering(lambda _i: (HAVE, b"")))
    connection = await world.rogue(two)
    stream = await connection.stream(Channel.CTL)
    await greet(stream, CHAIN.hello(()), dialler=True)
    await two.wait(lambda: len(two.network.peers()) == 2)
    rogue = next(info.peer for info in two.network.peers() if info.peer != one.peer)
    await stream.write_all(HOSTILE[name])
    await two.wait_lost(rogue)
    assert await one.network.call(two.peer, ASK, channel=Channel.CTL) == (HAVE, b"")
    assert two.network.peers()[0].peer == one.peer
