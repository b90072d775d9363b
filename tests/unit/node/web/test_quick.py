"""Plain calls are answered where they are read, with the same bytes as on the long way."""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypercorn.events import Event, RawData
from structlog.testing import capture_logs
from typing_extensions import override

from prsm.node.rpc.dispatch import Dispatcher
from prsm.node.web.connection import Connection
from prsm.node.web.quick import QuickCalls, Side, Taken
from prsm.node.web.serve import Bounds
from tests.tools.rpc_door import PING, OpenDoor, auth, exchange, open_door, read_answer, request

_OWN = re.compile(rb'(x-request-id: [0-9a-f]{16}|date: [^\r]*)\r\n|"trace_id":"[0-9a-f]{16}"')
NOTE = b'{"jsonrpc":"2.0","method":"rpc_ping"}'
BODIES = [
    PING,
    NOTE,
    b"[" + PING + b"," + NOTE + b"]",
    b'{"jsonrpc":"2.0","id":1,"method":"nobody_has"}',
    b"no json",
]
MORE: list[dict[str, str | None]] = [
    {},
    {"Accept": "*/*", "User-Agent": "curl/8", "Connection": "keep-alive"},
    {"X-Request-Id": "mine-1"},
    {"X-Request-Id": "no good"},
    {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"},
    {"traceparent": "00-nothing"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Content-Type": "application/json; charset=utf-8"},
]
ODD: list[dict[str, str | None]] = [
    {"Authorization": None},
    {"Authorization": "Basic eDp5"},
    {"Authorization": "Bearer " + "0" * 64},
    {"Host": "evil.test"},
    {"Host": None},
    {"Origin": "http://evil.test"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Content-Type": "text/plain"},
    {"Content-Type": None},
    {"Content-Length": None, "Transfer-Encoding": "chunked"},
    {"Transfer-Encoding": "chunked"},
    {"Expect": "100-continue"},
    {"Connection": "close"},
    {"Upgrade": "websocket", "Connection": "Upgrade"},
    {"Signature": "prsm=:x:", "Signature-Input": "prsm=()"},
    {"Content-Length": "+44"},
    {"Content-Length": "044"},
    {"X": "\x7f"},
    {"X": ""},
    {"authorization": "Bearer x"},
]


@dataclass
class Seen:
    """What the quick way took, as the bytes that were read; and the door's own quick way."""

    took: list[bytes] = field(default_factory=list)
    calls: list[QuickCalls] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Looks over the shoulder of every quick way."""
    noted = Seen()
    take, init = QuickCalls.take, QuickCalls.__init__

    def watched(calls: QuickCalls, data: bytes, side: Side) -> Taken | None:
        found = take(calls, data, side)
        if found is not None:
            noted.took.append(data)
        return found

    def begun(calls: QuickCalls, *parts: Any) -> None:  # noqa: ANN401 - as it is made
        init(calls, *parts)
        noted.calls.append(calls)

    monkeypatch.setattr(QuickCalls, "take", watched)
    monkeypatch.setattr(QuickCalls, "__init__", begun)
    return noted


async def raw_answer(
    door: OpenDoor, raw: bytes, *, is_unix: bool = False, patience_s: float = 2.0
) -> bytes:
    """The bytes of the answer, but for what each answer has of its own."""
    stream = await (door.unix() if is_unix else door.tcp())
    data = b""
    async with stream:
        await stream.send_all(raw)
        with trio.move_on_after(patience_s):
            while not _is_whole(data):
                more = await stream.receive_some()
                if not more:
                    break
                data += more
    return _OWN.sub(b"", data)


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    size = re.search(rb"content-length: ([0-9]+)", head.lower())
    return bool(found) and len(body) >= int(size[1] if size else 0)


@pytest.mark.parametrize("is_unix", [False, True])
async def test_answers_are_those_of_the_long_way(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch, *, is_unix: bool
) -> None:
    async with open_door(tmp_path) as door:
        bearer: dict[str, str | None] = {"Host": "localhost"} if is_unix else auth(door)
        asked = [request(headers={**bearer, **more}) for more in MORE]
        asked += [request(headers=bearer, body=body) for body in BODIES]
        quick = [await raw_answer(door, raw, is_unix=is_unix) for raw in asked]
        assert seen.took == asked
        monkeypatch.setattr(QuickCalls, "take", lambda *_: None)
        assert [await raw_answer(door, raw, is_unix=is_unix) for raw in asked] == quick


@pytest.mark.parametrize("more", ODD, ids=str)
async def test_what_is_odd_goes_the_long_way(
    tmp_path: Path, seen: Seen, more: dict[str, str | None]
) -> None:
    async with open_door(tmp_path) as door:
        await raw_answer(door, request(headers={**auth(door), **more}), patience_s=0.05)
        await raw_answer(door, request(path="/rpc?x=1", headers=auth(door)))
        await raw_answer(door, request("GET", headers=auth(door)))
        assert seen.took == []


async def test_no_mutant_is_taken_that_the_long_way_refuses(tmp_path: Path, seen: Seen) -> None:
    """Bytes of a good request are changed, doubled or left out; what is taken stays as safe."""
    dice = random.Random(20261122)
    async with open_door(tmp_path) as door:
        good = request(headers={**auth(door), "User-Agent": "x y", "Accept": "*/*"})
        side = Side(("127.0.0.1", 1), is_local=True)
        took: list[bytes] = []
        for _ in range(2_000):
            raw = bytearray(good)
            for _ in range(dice.randrange(1, 3)):
                at = dice.randrange(len(raw))
                raw[at : at + dice.randrange(2)] = dice.choice(
                    (b"", b" ", b"\r\n", b":", b"\t", b"0", b"a", bytes((dice.randrange(256),)))
                )
            found = seen.calls[0].take(bytes(raw), side)
            if found is not None:
                took.append(bytes(raw))
        assert 50 < len(took) < 1_500
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QuickCalls, "take", lambda *_: None)
            for raw_one in took[::8]:
                answer = await exchange(await door.tcp(), raw_one)
                assert answer.status in {200, 204}, raw_one


class Steps(trio.abc.Instrument):
    """Counts steps of tasks that serve a connection."""

    def __init__(self) -> None:
        self.count = 0

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """As trio calls it."""
        self.count += "_run_handler" in task.name or "Connection" in task.name


async def test_a_call_is_one_step_of_one_task(tmp_path: Path, seen: Seen) -> None:
    async with open_door(tmp_path) as door:
        async with await door.tcp() as stream:
            raw = request(headers=auth(door))
            for _ in range(2):
                await stream.send_all(raw)
                await read_answer(stream)
            await trio.testing.wait_all_tasks_blocked()
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            for _ in range(10):
                await stream.send_all(raw)
                await read_answer(stream)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(steps)
            assert steps.count == 10
        assert len(seen.took) == 12


async def test_a_token_that_is_taken_back_is_refused_with_the_head_it_had(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        text = await door.token("read")
        raw = request(headers={**auth(door), "Authorization": f"Bearer {text}"})
        async with await door.tcp() as stream:
            await stream.send_all(raw)
            assert (await read_answer(stream)).status == 200
            await door.tokens.revoke(door.tokens.verify(text).id)
            await stream.send_all(raw)
            assert (await read_answer(stream)).status == 401


async def test_heads_are_remembered_without_their_token_and_not_for_ever(
    tmp_path: Path, seen: Seen
) -> None:
    async with open_door(tmp_path) as door:
        calls, side = seen.calls[0], Side(("127.0.0.1", 1), is_local=True)
        for number in range(300):
            raw = request(headers={**auth(door), "X-Request-Id": f"n{number}"})
            found = calls.take(raw, side)
            assert found is not None
            assert found.caller.trace_id == f"n{number}"
        heads = calls._heads
        assert 0 < len(heads) <= 256
        assert door.cookie not in repr(heads)


async def test_the_cookie_is_not_taken_from_afar(tmp_path: Path, seen: Seen) -> None:
    async with open_door(tmp_path) as door:
        calls, text = seen.calls[0], await door.token("read")
        cookie = request(headers=auth(door))
        token = request(headers={**auth(door), "Authorization": f"Bearer {text}"})
        near, far = Side(("127.0.0.1", 1), is_local=True), Side(("192.0.2.1", 1), is_local=False)
        assert [calls.take(raw, near) is not None for raw in (cookie, token)] == [True, True]
        assert [calls.take(raw, far) is not None for raw in (cookie, token)] == [False, True]
        assert calls.take(cookie, Side(None, is_local=True)) is not None  # its own checks


async def test_what_comes_while_a_call_waits_is_answered_after_it(
    tmp_path: Path, seen: Seen
) -> None:
    release = trio.Event()
    async with open_door(tmp_path) as door:
        door.node.before["rpc_ping"] = release.wait
        second = PING.replace(b'"id":1', b'"id":2')
        buffer = bytearray()
        async with await door.tcp() as stream:
            await stream.send_all(request(headers=auth(door)))
            await door.node.wait_calls(1)
            await stream.send_all(request(headers=auth(door), body=second))
            await trio.testing.wait_all_tasks_blocked()
            assert len(door.node.calls) == 1
            release.set()
            got = [(await read_answer(stream, buffer)).json["id"] for _ in range(2)]
            assert got == [1, 2]
            await stream.send_all(request(headers=auth(door)))
            assert (await read_answer(stream, buffer)).status == 200
        assert len(seen.took) == 3


async def test_two_calls_in_one_read_go_the_long_way_in_order(tmp_path: Path, seen: Seen) -> None:
    async with open_door(tmp_path) as door:
        raw = request(headers=auth(door))
        buffer = bytearray()
        async with await door.tcp() as stream:
            await stream.send_all(raw + raw.replace(b'"id":1', b'"id":2'))
            assert [(await read_answer(stream, buffer)).json["id"] for _ in range(2)] == [1, 2]
            assert seen.took == []
            await stream.send_all(raw)
            assert (await read_answer(stream, buffer)).status == 200
            assert seen.took == [raw]
            await stream.send_all(raw[:60])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(raw[60:])
            assert (await read_answer(stream, buffer)).status == 200
            assert seen.took == [raw]


async def test_a_fault_of_the_node_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path) as door, await door.tcp() as stream:
        raw = request(headers=auth(door))
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr(Dispatcher, "answer", _fail)
            await stream.send_all(raw)
            answer = await read_answer(stream)
        assert (answer.status, answer.json["error"]["code"]) == (500, -32603)
        assert "secret" not in str(answer.json)
        assert [line["event"] for line in lines] == ["request failed"]
        await stream.send_all(raw)
        assert (await read_answer(stream)).status == 200


async def _fail(*_parts: object) -> bytes:  # noqa: ASYNC124 - in place of one that waits
    raise RuntimeError("secret")


async def test_a_call_inside_a_body_is_a_body(tmp_path: Path, seen: Seen) -> None:
    """The body comes in a piece of its own, which is a whole request by itself."""
    async with open_door(tmp_path) as door, await door.tcp() as stream:
        inner = request(headers=auth(door))
        outer = request(headers={**auth(door), "Content-Length": str(len(inner))}, body=b"")
        await stream.send_all(outer)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(inner)
        answer = await read_answer(stream)
        assert answer.json["error"]["code"] == -32700
        assert seen.took == []
        assert door.node.calls == []


async def test_a_client_that_only_listens_gets_the_answer_of_a_call_that_waits(
    tmp_path: Path,
) -> None:
    """It closed its side behind the request; the answer is written, then the connection ends."""
    release = trio.Event()
    async with open_door(tmp_path) as door:
        door.node.before["rpc_ping"] = release.wait
        async with await door.tcp() as stream:
            await stream.send_all(request(headers=auth(door)))
            await door.node.wait_calls(1)
            await stream.send_eof()
            await trio.testing.wait_all_tasks_blocked(0.01)
            release.set()
            assert (await read_answer(stream)).status == 200
            with trio.fail_after(2):
                assert await stream.receive_some() == b""


async def test_only_the_first_write_behind_a_read_takes_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or who is told things and reads them at once could keep the loop to itself."""
    stock = Connection.protocol_send

    async def twice(connection: Connection, event: Event) -> None:
        if not isinstance(event, RawData):
            await stock(connection, event)
            return
        with trio.testing.assert_no_checkpoints():
            await stock(connection, event)
        with trio.testing.assert_checkpoints():
            await stock(connection, event)

    monkeypatch.setattr(Connection, "protocol_send", twice)
    async with open_door(tmp_path) as door, await door.tcp() as stream:
        buffer = bytearray()
        for _ in range(2):
            await stream.send_all(request(headers=auth(door)))
            got = [(await read_answer(stream, buffer)).status for _ in range(2)]
            assert got == [200, 200]


async def test_silence_behind_quick_calls_ends_a_connection(tmp_path: Path) -> None:
    bounds = Bounds(idle_s=0.1)
    async with open_door(tmp_path, bounds=bounds) as door, await door.tcp() as stream:
        for _ in range(4):
            await stream.send_all(request(headers=auth(door)))
            assert (await read_answer(stream)).status == 200
            await trio.sleep(0.04)
        began = trio.current_time()
        with trio.fail_after(2):
            assert await stream.receive_some() == b""
        assert trio.current_time() - began > 0.02
