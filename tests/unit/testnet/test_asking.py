"""The asking of load programs: answers, refusals, lost connections, a node started anew."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio

from prsm.node.home import Home, write_private
from prsm.node.rpc.client import Endpoint, RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.testnet.asking import Asker, Door

Answer = Callable[[dict[str, object], str], bytes]  # request, token -> the whole HTTP answer


def answer(status: int, document: object, *, more: str = "") -> bytes:
    body = msgspec.json.encode(document)
    return f"HTTP/1.1 {status} X\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


def echo(request: dict[str, object], _token: str) -> bytes:
    return answer(200, {"jsonrpc": "2.0", "id": request["id"], "result": request["params"]})


async def serve(reply: Answer, stream: trio.SocketStream) -> None:
    """Requests that come in one piece, answered in pieces."""
    async with stream:
        async for data in stream:
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            token = head.decode().partition("Bearer ")[2]
            whole = reply(msgspec.json.decode(body, type=dict[str, object]), token)
            for part in (whole[:7], whole[7:40], whole[40:]):
                await stream.send_all(part)
            if not whole:
                return


async def start(nursery: trio.Nursery, folder: Path, reply: Answer, *, cookie: str = "one") -> Door:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, partial(serve, reply), listeners)
    home = Home(folder)
    home.run.mkdir(exist_ok=True)
    port = listeners[0].socket.getsockname()[1]
    endpoint = Endpoint(pid=1, http=f"http://127.0.0.1:{port}")
    write_private(home.endpoint, msgspec.json.encode(endpoint))
    write_private(home.cookie, cookie.encode())
    return Door(home)


async def test_answers_come_over_one_kept_connection(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Two calls, one accept: the second finds nothing of the first in its way."""
    asker = Asker(await start(nursery, tmp_path, echo))
    with trio.fail_after(5):
        for number in (1, 2):
            params = {"n": number}
            assert await asker.call("anything", params, result=dict[str, int]) == params
    asker.close()


async def test_refusal_is_typed(nursery: trio.Nursery, tmp_path: Path) -> None:
    """As the daemon's own client raises it."""
    error = {"code": -32011, "message": "used", "data": {"reason": "bad_nonce"}}
    door = await start(nursery, tmp_path, lambda _r, _t: answer(200, {"error": error}))
    asker = Asker(door)
    with trio.fail_after(5), pytest.raises(RpcError) as refused:
        await asker.call("anything", result=int)
    asker.close()
    assert refused.value.reason == "bad_nonce"


async def test_connection_that_ends_without_an_answer_is_said(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    """Nobody knows whether the call ran; it is not sent again."""
    seen: list[object] = []

    def hang_up(request: dict[str, object], _token: str) -> bytes:
        seen.append(request["id"])
        return b""

    door = await start(nursery, tmp_path, hang_up)
    asker = Asker(door)
    for _ in range(2):
        with trio.fail_after(5), pytest.raises(NodeUnreachable):
            await asker.call("anything", result=int)
    assert seen == [1, 2]


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    """A home without a running node, and a port nobody listens on."""
    door = Door(Home(tmp_path))
    with pytest.raises(NodeUnreachable):
        await Asker(door).call("anything", result=int)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    door.port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(NodeUnreachable):
        await Asker(door).call("anything", result=int)


async def test_new_cookie_is_read_after_a_restart(nursery: trio.Nursery, tmp_path: Path) -> None:
    """401 comes before a call runs, so it may be sent again with the new token."""

    def picky(request: dict[str, object], token: str) -> bytes:
        return echo(request, token) if token == "two" else answer(401, {})

    door = await start(nursery, tmp_path, picky, cookie="two")
    door.read()
    door.cookie = "one"
    asker = Asker(door)
    with trio.fail_after(5):
        assert await asker.call("anything", {}, result=dict[str, int]) == {}
    asker.close()


async def test_cancelled_call_leaves_no_answer_for_the_next_one(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    """Its connection is closed: a late answer is nobody's."""
    door = await start(nursery, tmp_path, lambda _r, _t: b"HTTP/1.1 200 X\r\n")
    asker = Asker(door)
    with trio.move_on_after(0.05) as scope:
        await asker.call("anything", result=int)
    assert scope.cancelled_caught
    (await start(nursery, tmp_path, echo)).read()
    door.read()
    with trio.fail_after(5):
        assert await asker.call("anything", {}, result=dict[str, int]) == {}
    asker.close()
