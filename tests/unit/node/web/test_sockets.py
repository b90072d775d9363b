"""The WebSocket door on real loopback sockets: calls, subscriptions, and how it ends."""

import functools
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypercorn.events import Event, RawData
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.events import Event as WebSocketEvent

from prsm.node.rpc.methods import subscriptions as api
from prsm.node.rpc.spec import Caller
from prsm.node.web import sockets as door_sockets
from prsm.node.web.auth import Gate
from prsm.node.web.connection import Connection
from prsm.node.web.serve import Bounds
from tests.tools.rpc_door import OpenDoor, auth, exchange, open_door, request
from tests.tools.sockets import Closed, Rejected, Socket, until


def head(height: int) -> api.HeadRow:
    """A row of `heads`."""
    zero = "0x" + "00" * 32
    return api.HeadRow(height, zero, "2026-01-01T00:00:00Z", 0, 0, 0, zero)


def call(method: str, call_id: int, **params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}


async def test_calls_batches_and_notifications_are_answered(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        assert (await socket.call("rpc_ping"))["result"]
        await socket.send([call("rpc_ping", 7), call("no_suchMethod", 8)])
        with trio.fail_after(5):
            ping, unknown = await socket.receive()
        assert ping["id"] == 7
        assert unknown["error"]["data"]["reason"] == "unknown_method"
        await socket.send({"jsonrpc": "2.0", "method": "rpc_ping"})
        await socket.send_raw(socket.wire.send(TextMessage(data="no json")))
        with trio.fail_after(5):
            assert (await socket.receive())["error"]["code"] == -32700
        assert [name for name, _ in door.node.calls] == ["rpc_ping"] * 3
        assert door.node.callers[0].name == "cookie"


async def test_first_frame_may_say_who_calls(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket(token=None)
        answer = await socket.call("rpc_login", token=door.cookie)
        assert answer["result"]["name"] == "cookie"
        assert answer["result"]["expires"] is None
        assert (await socket.call("rpc_ping"))["result"]


@pytest.mark.parametrize("first", ["rpc_ping", "rpc_login"])
async def test_without_a_good_token_nothing_is_answered(tmp_path: Path, first: str) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket(token=None)
        token = {"token": "f" * 64} if first == "rpc_login" else {}
        await socket.send(call(first, 1, **token))
        if first == "rpc_login":
            assert (await socket.answer_to(1))["error"]["code"] == -32001
        assert await socket.wait_closed() == door_sockets.WHO_ARE_YOU
        assert not door.node.calls


async def test_a_silent_socket_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_sockets, "LOGIN_S", 0.05)
    async with open_door(tmp_path) as door:
        socket = await door.socket(token=None)
        assert await socket.wait_closed() == door_sockets.WHO_ARE_YOU


async def test_a_bad_token_or_a_foreign_page_gets_no_socket(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        with pytest.raises(Rejected) as refused:
            await door.socket(token="f" * 64)
        assert refused.value.status == 401
        assert json.loads(refused.value.body)["error"]["data"]["reason"] == "unauthorised"
        upgrade: dict[str, str | None] = {
            **auth(door),
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Content-Type": None,
            "Content-Length": None,
            "Origin": "http://evil.example",
        }
        answer = await exchange(await door.tcp(), request("GET", "/ws", headers=upgrade, body=b""))
        assert answer.status == 403
        plain: dict[str, str | None] = {**upgrade, "Upgrade": None, "Origin": None}
        answer = await exchange(await door.tcp(), request("GET", "/ws", headers=plain, body=b""))
        assert (answer.status, answer.json["error"]["data"]["reason"]) == (426, "wrong_http")
        assert (answer.headers["upgrade"], answer.headers["connection"]) == (
            *("websocket", "upgrade, close"),
        )


async def test_rows_are_told_with_their_numbers_after_the_answer(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        door.events.publish("heads", head(1))
        socket = await door.socket()
        answer = await socket.call("sub_subscribe", topic="heads", resume_from=0)
        assert answer["result"] == {"subscription": "1", "topic": "heads", "seq": 1}
        assert not socket.told
        door.events.publish("heads", head(2))
        for seq in (1, 2):
            row = await socket.next_told()
            assert (row["subscription"], row["seq"], row["result"]["height"]) == ("1", seq, seq)
        answer = await socket.call("sub_unsubscribe", subscription="1")
        assert answer["result"] == {"subscription": "1"}
        assert not door.events.is_heard("heads")
        answer = await socket.call("sub_unsubscribe", subscription="1")
        assert answer["error"]["data"]["reason"] == "not_found"


async def test_a_filter_passes_rows_by_value_or_list(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        await socket.call("sub_subscribe", topic="heads", filter={"height": 2})
        await socket.call("sub_subscribe", topic="models", filter={"event": ["gone", "x"]})
        for height in (1, 2):
            door.events.publish("heads", head(height))
        door.events.publish("models", api.ModelRow("a", "c", "held"))
        door.events.publish("models", api.ModelRow("b", "c", "gone"))
        assert (await socket.next_told())["seq"] == 2
        assert (await socket.next_told())["result"]["name"] == "b"
        answer = await socket.call("sub_subscribe", topic="heads", filter={"hight": 2})
        assert "did you mean 'height'?" in answer["error"]["data"]["hint"]
        answer = await socket.call("sub_subscribe", topic="tides")
        assert answer["error"]["code"] == -32602


async def test_what_is_no_longer_kept_is_counted(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for height in range(1, 1_101):
            door.events.publish("heads", head(height))
        socket = await door.socket()
        await socket.call("sub_subscribe", topic="heads", resume_from=40)
        note = await socket.next_told()
        assert note == {"subscription": "1", "seq": 100, "result": None, "missed": 60}
        for seq in range(101, 1_101):
            assert (await socket.next_told())["seq"] == seq


async def test_over_http_nothing_can_be_subscribed(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        body = json.dumps(call("sub_subscribe", 1, topic="heads")).encode()
        answer = await exchange(await door.tcp(), request(headers=auth(door), body=body))
        assert answer.json["error"]["data"]["reason"] == "only_by_socket"
        assert "/ws" in answer.json["error"]["data"]["hint"]


async def test_seventeenth_subscription_is_refused(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        for _ in range(api.SUBSCRIPTIONS_MAX):
            assert "result" in await socket.call("sub_subscribe", topic="heads")
        answer = await socket.call("sub_subscribe", topic="heads")
        assert answer["error"]["code"] == -32005


async def test_who_does_not_read_is_dropped_alone(tmp_path: Path) -> None:
    """One of three reads nothing: it is cut off and counted, the others miss no row."""
    async with open_door(tmp_path, bounds=Bounds(write_s=30)) as door:
        sockets = [await door.socket() for _ in range(3)]
        for socket in sockets:
            await socket.call("sub_subscribe", topic="models")
        row = api.ModelRow("n" * 20_000, "c", "held")
        seen = [0, 0]

        async def read(index: int) -> None:
            while seen[index] < 1_500:
                seen[index] = (await sockets[index].next_told())["seq"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, 0)
            nursery.start_soon(read, 1)
            for count in range(1, 1_501):
                door.events.publish("models", row)
                await until(functools.partial(_have_seen, seen, count - 100))
        assert seen == [1_500, 1_500]
        assert door.events.dropped == 1
        with trio.fail_after(5):
            await until(lambda: door.events.subscribers()["models"] <= 2)
        assert await sockets[2].wait_closed() in {1006, door_sockets.TOO_SLOW}


def _have_seen(seen: list[int], seq: int) -> bool:
    return min(seen) >= seq


async def test_a_stopping_node_answers_what_runs_and_says_why_it_closes(tmp_path: Path) -> None:
    release = trio.Event()
    async with open_door(tmp_path, bounds=Bounds(drain_s=30)) as door:
        door.node.before["node_getStatus"] = release.wait
        socket = await door.socket()
        idle = await door.socket(token=None)
        await socket.send(call("node_getStatus", 1))
        await door.node.wait_calls(1)
        door.nursery.cancel_scope.cancel()
        codes: list[int] = []

        async def end() -> None:
            codes.append(await idle.wait_closed())
            release.set()

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(end)
                assert (await socket.answer_to(1))["result"]
                codes.append(await socket.wait_closed())
        assert codes == [door_sockets.GOING_AWAY] * 2


async def test_bytes_are_no_calls(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        await socket.send_raw(socket.wire.send(BytesMessage(data=b"{}")))
        assert await socket.wait_closed() == door_sockets.NO_TEXT


async def test_calls_that_came_together_leave_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by itself, a call took a turn of the loop and a write: more than the call."""
    writes: list[bytes] = []
    stock = Connection.protocol_send

    async def note(connection: Connection, event: Event) -> None:
        if isinstance(event, RawData):
            writes.append(event.data)
        await stock(connection, event)

    monkeypatch.setattr(Connection, "protocol_send", note)
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        writes.clear()
        frames = [TextMessage(data=json.dumps(call("rpc_ping", number))) for number in range(20)]
        await socket.send_raw(b"".join(map(socket.wire.send, frames)))
        with trio.fail_after(5):
            answers = [await socket.receive() for _ in frames]
    assert sorted(one["id"] for one in answers) == list(range(20))
    assert len(writes) == 1


async def test_of_pings_that_came_together_the_last_is_answered(tmp_path: Path) -> None:
    """Each answer was a write: a thousand pings in 131 kB cost a fifth of a second of the loop."""
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        pings = [socket.wire.send(Ping(payload=str(number).encode())) for number in range(400)]
        await socket.send_raw(b"".join(pings))
        pongs: list[Pong] = []
        with trio.fail_after(5):
            while not pongs or pongs[-1].payload != b"399":
                socket.wire.receive_data(await socket.stream.receive_some())
                pongs += [event for event in socket.wire.events() if isinstance(event, Pong)]
    assert len(pongs) < 40


@pytest.mark.parametrize(
    ("last", "code"), [(CloseConnection(code=1000), 1000), (BytesMessage(data=b"{}"), 1003)]
)
async def test_what_came_before_the_end_is_heard(
    tmp_path: Path, last: WebSocketEvent, code: int
) -> None:
    """In one read: more calls than are handed over at once, then the end."""
    silent = {"jsonrpc": "2.0", "method": "rpc_ping"}
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        frames = [TextMessage(data=json.dumps(silent))] * 100
        await socket.send_raw(b"".join(map(socket.wire.send, [*frames, last])))
        assert await socket.wait_closed() == code
        with trio.fail_after(5):
            await until(lambda: len(door.node.calls) == 100)


async def test_a_message_too_large_ends_its_connection_alone(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        text = "x" * (1024 * 1024 + 1)
        await socket.send_raw(socket.wire.send(TextMessage(data=text)))
        assert await socket.wait_closed() == 1009
        assert (await (await door.socket()).call("rpc_ping"))["result"]


async def test_sockets_that_went_leave_nothing(tmp_path: Path) -> None:
    """The slot and the subscriptions are free at once, not a ping's span later."""
    async with open_door(tmp_path, bounds=Bounds(connections=2)) as door:
        for _ in range(3):
            with trio.fail_after(5):
                socket = await _free_slot(door)
                await socket.call("sub_subscribe", topic="heads")
                await socket.stream.aclose()
                await until(lambda: not door.events.is_heard("heads"))


async def _free_slot(door: OpenDoor) -> Socket:
    while True:
        with suppress(Rejected):
            return await door.socket()


async def test_a_peer_that_answers_no_ping_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prsm.node.web.serve._WEBSOCKET_PING_S", 0.02)
    async with open_door(tmp_path) as door:
        alive = await door.socket()
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_for_ever, alive)
                # On a busy machine the door may give up even those who would have answered.
                while True:
                    with suppress(Closed, Rejected):
                        await (await door.socket()).call("sub_subscribe", topic="heads")
                        break
                await until(lambda: not door.events.is_heard("heads"))
                await until(lambda: bool(alive.pings))
                nursery.cancel_scope.cancel()
        assert door.events.subscribers()["heads"] == 0


async def _read_for_ever(socket: Socket) -> None:
    with suppress(Closed):
        while True:
            await socket.receive()


async def test_a_token_that_ended_ends_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_door(tmp_path) as door:
        socket = await door.socket()
        assert (await socket.call("rpc_ping"))["result"]
        monkeypatch.setattr("prsm.node.web.auth.Gate.is_live", lambda _gate, _caller: False)
        await socket.send(call("rpc_ping", 9))
        assert await socket.wait_closed() == door_sockets.WHO_ARE_YOU
        assert len(door.node.calls) == 1


async def test_a_subscription_ends_with_the_token_that_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another token took its place meanwhile: its rights are not those of the first."""
    monkeypatch.setattr(door_sockets, "TEND_S", 0.05)
    async with open_door(tmp_path) as door:
        admit = Gate.admit_token

        async def other(self: Gate, token: str, *, trace_id: str) -> Caller:
            return replace(await admit(self, token, trace_id=trace_id), name="token less")

        monkeypatch.setattr(Gate, "admit_token", other)
        socket = await door.socket()
        assert (await socket.call("sub_subscribe", topic="logs"))["result"]
        assert (await socket.call("rpc_login", token=door.cookie))["result"]
        assert (await socket.call("rpc_ping"))["result"]
        monkeypatch.setattr(Gate, "is_live", lambda _gate, caller: caller.name == "token less")
        assert await socket.wait_closed() == door_sockets.WHO_ARE_YOU


async def test_a_slow_hearer_of_the_log_is_dropped_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is dropped is a line of the log: one, and not told to it."""
    zero = {"ts": "", "level": "warning", "room": "web"}
    async with open_door(tmp_path, bounds=Bounds(write_s=30)) as door:
        lines: list[str] = []

        def warning(event: str, **_fields: object) -> None:
            lines.append(event)
            door.events.publish("logs", api.LogRow(**zero, event=event, fields={}))

        monkeypatch.setattr("prsm.node.web.sockets.log.warning", warning, raising=False)
        socket = await door.socket()
        await socket.call("sub_subscribe", topic="logs")
        row = api.LogRow(**zero, event="x" * 40_000, fields={})
        with trio.fail_after(5):
            while not door.events.dropped:
                door.events.publish("logs", row)
                await trio.lowlevel.checkpoint()
        assert lines == ["a subscriber does not keep up"]
        assert door.events.dropped == 1
