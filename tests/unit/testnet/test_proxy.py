"""The fault proxy: times on memory streams by a mock clock, connections on loopback."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, memory_stream_one_way_pair, wait_all_tasks_blocked

from prsm.testnet.proxy import (
    CLEAR,
    RTO_FIRST_MS,
    STALLED,
    Conditions,
    Proxy,
    Way,
    pump,
)


def way_of(conditions: Conditions = CLEAR) -> Way:
    return Way(random.Random(1), conditions)


class Pipe:
    """A pump between two memory streams; `arrived` lists (time, bytes)."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.sender, self._source = memory_stream_one_way_pair()
        self._sink, self._end = memory_stream_one_way_pair()
        self.arrived: list[tuple[float, bytes]] = []
        self.is_over = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect)
            task_status.started()
            await pump(self._source, self._sink, self.way)
            await self._sink.aclose()
        self.is_over = True

    async def _collect(self) -> None:
        began = trio.current_time()
        async for data in self._end:
            self.arrived.append((round(trio.current_time() - began, 3), bytes(data)))


async def test_delay_is_one_way_and_does_not_add_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Two chunks in the same moment are both 50 ms late, not 50 and 100."""
    pipe = Pipe(way_of(Conditions(delay_ms=50)))
    await nursery.start(pipe.run)
    await pipe.sender.send_all(b"one")
    await trio.sleep(0.01)
    await pipe.sender.send_all(b"two")
    await trio.sleep(1)
    assert pipe.arrived == [(0.05, b"one"), (0.06, b"two")]
    assert pipe.way.bytes_passed == 6


def lossy_once() -> Way:
    """The first chunk is lost; what follows, and what is sent again, gets through."""
    way = way_of()
    way.dice.seed(3)  # 0.24, then 0.54
    way.set(Conditions(delay_ms=10, loss=0.3))
    return way


async def test_lost_chunk_comes_after_the_senders_timer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Nothing behind it shows the sender what is missing."""
    pipe = Pipe(lossy_once())
    await nursery.start(pipe.run)
    await pipe.sender.send_all(b"one")
    await trio.sleep(5)
    assert pipe.way.chunks_lost == 1
    assert pipe.arrived == [(round(RTO_FIRST_MS / 1000 + 0.01, 3), b"one")]


async def test_later_chunk_brings_a_lost_one_back_and_waits_for_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A round trip after the later one arrived; order is TCP's."""
    pipe = Pipe(lossy_once())
    await nursery.start(pipe.run)
    await pipe.sender.send_all(b"one")
    await trio.sleep(0.05)
    pipe.way.set(Conditions(delay_ms=10))
    await pipe.sender.send_all(b"two")
    await trio.sleep(5)
    assert pipe.arrived == [(0.08, b"one"), (0.08, b"two")]


def test_share_of_lost_chunks_is_the_one_asked_for() -> None:
    """10 % of 10,000 draws, and the doubled timeouts of those lost again."""
    way = way_of(Conditions(loss=0.1))
    assert 900 < sum(way.is_lost() for _ in range(10_000)) < 1_100
    late = [round(way.timeouts_s(), 3) for _ in range(10_000)]
    assert {0.2, 0.6, 1.4} <= set(late)
    assert 900 < sum(each > 0.2 for each in late) < 1_100


async def test_stalled_way_keeps_bytes_until_it_heals(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Nothing is lost in a partition of TCP: it arrives late, in order, end included."""
    pipe = Pipe(way_of(STALLED))
    await nursery.start(pipe.run)
    await pipe.sender.send_all(b"kept")
    await pipe.sender.aclose()
    await trio.sleep(60)
    assert pipe.arrived == []
    assert not pipe.is_over, "the end of a stream does not cross a partition either"
    pipe.way.set(CLEAR)
    await trio.sleep(0.001)
    assert pipe.arrived == [(60.0, b"kept")]
    assert pipe.is_over


async def test_bandwidth_is_kept(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """1,000 bytes at 1,000 bytes a second, twice."""
    pipe = Pipe(way_of(Conditions(bytes_per_s=1_000)))
    await nursery.start(pipe.run)
    for _ in range(2):
        await pipe.sender.send_all(bytes(1_000))
        await trio.sleep(0.001)
    await trio.sleep(10)
    assert [when for when, _ in pipe.arrived] == [1.0, 2.0]


async def test_jitter_keeps_the_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Late by chance, never overtaken."""
    pipe = Pipe(way_of(Conditions(jitter_ms=500)))
    await nursery.start(pipe.run)
    sent = [bytes([number]) for number in range(50)]
    for data in sent:
        await pipe.sender.send_all(data)
        await trio.sleep(0.001)
    await trio.sleep(10)
    assert b"".join(data for _, data in pipe.arrived) == b"".join(sent)
    assert pipe.arrived[0][0] > 0


@pytest.mark.parametrize("bad", [{"delay_ms": -1}, {"loss": 1.0}, {"bytes_per_s": -1}])
def test_conditions_no_link_can_have(bad: dict[str, int]) -> None:
    """A total loss is a stall, and is said so."""
    with pytest.raises(AssertionError):
        Conditions(**bad)  # type: ignore[arg-type] # wrong on purpose


def test_partition_stalls_between_groups_in_both_directions() -> None:
    """Two of five against three; a node in no group is alone; healing clears all."""
    proxy = Proxy.bind(5)
    try:
        proxy.partition({0, 1}, {2, 3})
        open_ways = {pair for pair, way in proxy.ways.items() if not way.conditions.is_stalled}
        assert open_ways == {(0, 1), (1, 0), (2, 3), (3, 2)}
        proxy.heal()
        assert all(way.conditions == CLEAR for way in proxy.ways.values())
        proxy.silence(4)
        stalled = {pair for pair, way in proxy.ways.items() if way.conditions.is_stalled}
        assert stalled == {(4, 0), (4, 1), (4, 2), (4, 3)}
    finally:
        proxy.close()


Answer = Callable[[trio.SocketStream], Awaitable[None]]


async def start_server(nursery: trio.Nursery, answer: Answer) -> int:
    """A server of loopback; returns its port."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, listeners)
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def start_proxy(nursery: trio.Nursery) -> Proxy:
    """Two nodes; both of them are echo servers."""
    proxy = Proxy.bind(2)
    targets = [await start_server(nursery, echo) for _ in range(2)]
    await nursery.start(proxy.run, targets)
    return proxy


async def test_bytes_go_through_both_ways_on_loopback(nursery: trio.Nursery) -> None:
    """One connection of node 0 to node 1 uses both ways of the pair, and no other listener."""
    proxy = await start_proxy(nursery)
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port(0, 1)) as stream:
        with trio.fail_after(5):
            await stream.send_all(b"over there")
            assert await stream.receive_some() == b"over there"
    assert proxy.ways[0, 1].bytes_passed == proxy.ways[1, 0].bytes_passed == 10


async def test_one_way_fault_stops_only_that_way(nursery: trio.Nursery) -> None:
    """What node 1 says to node 0 does not arrive, although node 1 hears node 0."""
    proxy = await start_proxy(nursery)
    proxy.silence(1)
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port(0, 1)) as stream:
        await stream.send_all(b"hello")
        with trio.move_on_after(0.1) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        assert proxy.ways[0, 1].bytes_passed == 5
        proxy.heal()
        with trio.fail_after(5):
            assert await stream.receive_some() == b"hello"


async def test_cut_resets_the_connections_of_a_pair(nursery: trio.Nursery) -> None:
    """Both directions of dialling; the link then takes new connections."""
    proxy = await start_proxy(nursery)
    streams = [
        await trio.open_tcp_stream("127.0.0.1", proxy.port(0, 1)),
        await trio.open_tcp_stream("127.0.0.1", proxy.port(1, 0)),
    ]
    with trio.fail_after(5):
        for stream in streams:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        assert proxy.cut(1, 0) == 2
        for stream in streams:
            assert await ended(stream)
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port(0, 1)) as again:
            await again.send_all(b"y")
            assert await again.receive_some() == b"y"


async def test_dead_node_ends_the_dial_and_frees_the_connection(nursery: trio.Nursery) -> None:
    """Nobody listens behind the proxy: the dialler sees the end, as with a refused connection."""
    proxy = Proxy.bind(2)
    gone = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = gone[0].socket.getsockname()[1]
    await gone[0].aclose()
    await nursery.start(proxy.run, [port, port])
    with trio.fail_after(5):
        stream = await trio.open_tcp_stream("127.0.0.1", proxy.port(0, 1))
        assert await ended(stream)
    await wait_all_tasks_blocked()
    assert proxy.cut(0, 1) == 0


async def ended(stream: trio.SocketStream) -> bool:
    async with stream:
        try:
            return not await stream.receive_some()
        except trio.BrokenResourceError:
            return True
