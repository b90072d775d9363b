"""Subscriptions over the door's own WebSockets, from plain code, from asyncio and from trio."""

from collections.abc import Iterator

import anyio
import anyio.lowlevel
import msgspec
import pytest

from prsm.client import AsyncClient, Client, Retries, RpcError, errors
from prsm.node.rpc.methods.subscriptions import HeadRow
from tests.tools.rpc_node import sample
from tests.tools.served import Served, serve_node

QUICK = Retries(tries=3, first_s=0.001, most_s=0.002)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_node(tmp_path_factory.mktemp("door")) as one:
        yield one


def head(height: int) -> HeadRow:
    plain = msgspec.to_builtins(sample(HeadRow))
    return msgspec.convert({**plain, "height": height}, type=HeadRow)


@pytest.fixture
def publish(served: Served) -> Iterator[list[int]]:
    """Heights that each `rpc_ping` makes the node tell."""
    heights: list[int] = []

    async def before() -> None:
        await anyio.lowlevel.checkpoint()
        while heights:
            served.door.events.publish("heads", head(heights.pop(0)))

    served.node.before["rpc_ping"] = before
    yield heights
    served.node.before.clear()


def test_rows_are_heard_as_they_come(served: Served, publish: list[int]) -> None:
    with Client(served.home, retries=QUICK) as client, client.subscribe("heads") as heads:
        publish += [5, 6]
        client.rpc.ping()
        first, second = heads.next(10), heads.next(10)
        assert (first.result.height, second.result.height) == (5, 6)
        assert second.seq == first.seq + 1
        with pytest.raises(errors.DeadlinePassed, match="no row of heads"):
            heads.next(0.01)
        publish += [7]
        client.rpc.ping()
        assert heads.next(10).result.height == 7


def test_rows_that_are_past_come_first(served: Served, publish: list[int]) -> None:
    with Client(served.home, retries=QUICK) as client:
        publish += [20, 21]
        client.rpc.ping()
        with client.subscribe("heads", wanted={"height": 21}, resume_from=0) as heads:
            assert heads.next(10).result.height == 21


def test_a_reader_goes_on_where_its_connection_broke(served: Served, publish: list[int]) -> None:
    with Client(served.home, retries=QUICK) as client, client.subscribe("heads") as heads:
        publish += [30]
        client.rpc.ping()
        assert heads.next(10).result.height == 30
        assert heads._stream is not None
        heads._stream.shutdown(2)
        publish += [31, 32]
        client.rpc.ping()
        assert [heads.next(10).result.height for _ in range(2)] == [31, 32]


def test_what_the_node_refuses_is_typed(served: Served) -> None:
    with (
        Client(served.home, retries=QUICK) as client,
        pytest.raises(errors.InvalidParams, match="topic"),
        client.subscribe("nonsense"),
    ):
        pass


def test_a_token_that_is_not_good_is_told(served: Served) -> None:
    with Client(served.home, node=served.door.bound.http, retries=QUICK) as client:
        good = served.door.home.cookie.read_text(encoding="ascii")
        served.door.home.cookie.write_text("stale", encoding="ascii")
        try:
            with pytest.raises(RpcError) as caught, client.subscribe("heads"):
                pass
        finally:
            served.door.home.cookie.write_text(good, encoding="ascii")
    assert caught.value.reason == "unauthorised"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_hears_rows(backend: str, served: Served, publish: list[int]) -> None:
    async def main() -> list[int]:
        found: list[int] = []
        async with (
            AsyncClient(served.home, retries=QUICK) as client,
            client.subscribe("heads") as heads,
        ):
            publish.extend([40, 41])
            await client.rpc.ping()
            with anyio.fail_after(10):
                async for event in heads:
                    found.append(event.result.height)
                    if len(found) == 2:
                        break
            assert heads._stream is not None
            await heads._stream.aclose()
            publish.append(42)
            await client.rpc.ping()
            with anyio.fail_after(10):
                found.append((await heads.next()).result.height)
        return found

    assert anyio.run(main, backend=backend) == [40, 41, 42]
