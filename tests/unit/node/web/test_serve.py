"""The HTTP door on real loopback sockets: what it answers, refuses, survives, and how it stops."""

import json
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypercorn.events import Event, RawData
from structlog.testing import capture_logs

from prsm.node.rpc.dispatch import BODY_BYTES_MAX, bind
from prsm.node.rpc.errors import PublicBind
from prsm.node.web import serve as serve_module
from prsm.node.web.app import Health
from prsm.node.web.connection import Connection
from prsm.node.web.serve import Bounds, Door, serve
from prsm.node.web.tls import Tls
from tests.tools.certificates import write_certificate
from tests.tools.rpc_door import (
    PING,
    auth,
    exchange,
    open_door,
    read_answer,
    request,
)
from tests.tools.rpc_node import FakeNode

JUNK = [
    b"\x00" * 200,
    b"\xff\xfe\xfd" * 100,
    b"GET\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /rpc HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    b"POST " + b"/" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /rpc HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
]


async def test_who_is_gone_before_it_is_accepted_leaves_no_line(tmp_path: Path) -> None:
    """A reset while it waits in the backlog: nobody to serve, and nothing to warn of."""
    async with open_door(tmp_path) as door:
        with capture_logs() as lines:
            for _ in range(3):
                plain = socket.create_connection((door.bound.host, door.bound.port))
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                plain.close()
            await trio.testing.wait_all_tasks_blocked()
            answer = await exchange(await door.tcp(), request(headers=auth(door)))
        assert answer.status == 200
        assert lines == []


async def test_files_are_private_and_go_with_the_door(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for path in (door.home.cookie, door.home.socket, door.home.endpoint):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        cookie = door.cookie
        assert len(bytes.fromhex(cookie)) == 32
        endpoint = json.loads(door.home.endpoint.read_bytes())
        assert endpoint["pid"] == os.getpid()
        assert endpoint["http"] == door.bound.http
    for path in (door.home.cookie, door.home.socket, door.home.endpoint):
        assert not path.exists()


@pytest.mark.parametrize("junk", JUNK)
async def test_junk_ends_its_connection_and_nothing_else(tmp_path: Path, junk: bytes) -> None:
    bounds = Bounds(idle_s=0.1, body_s=0.1)
    async with open_door(tmp_path, bounds=bounds) as door:
        async with await door.tcp() as stream:
            await stream.send_all(junk)
            with trio.fail_after(3):
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        assert not door.node.calls
        assert (await exchange(await door.tcp(), request(headers=auth(door)))).status == 200


async def test_answer_is_one_write_and_one_without_body_leaves_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head by itself is a second system call, and a second packet to the client."""
    writes: list[bytes] = []
    stock = Connection.protocol_send

    async def note(connection: Connection, event: Event) -> None:
        if isinstance(event, RawData) and event.data:
            writes.append(event.data)
        await stock(connection, event)

    monkeypatch.setattr(Connection, "protocol_send", note)
    async with open_door(tmp_path) as door:
        async with await door.tcp() as stream:
            for count in (1, 2, 3):  # kept alive: nothing of an answer is left for the next one
                await stream.send_all(request(headers=auth(door)))
                assert (await read_answer(stream)).status == 200
                assert len(writes) == count
        refused = request(headers={**auth(door), "Authorization": None})
        assert (await exchange(await door.tcp(), refused)).status == 401
        assert len(writes) == 4
        note_only = json.dumps({"jsonrpc": "2.0", "method": "chain_getStatus"}).encode()
        raw = request(headers=auth(door), body=note_only)
        assert (await exchange(await door.tcp(), raw)).status == 204
    assert [part.count(b"HTTP/1.1 ") for part in writes] == [1] * 5
    assert [part.endswith(b"\r\n\r\n") for part in writes] == [False] * 4 + [True]


async def test_http2_is_refused_and_its_upgrade_ignored(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await exchange(await door.tcp(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (505, -32600)
        upgrade: dict[str, str | None] = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings"}
        upgrade |= {"HTTP2-Settings": "AAMAAABkAAQAAP__"}
        answer = await exchange(await door.tcp(), request(headers={**auth(door), **upgrade}))
        assert answer.status == 200


@pytest.mark.slow
async def test_a_slow_body_and_a_dripped_head_are_cut_off(tmp_path: Path) -> None:
    bounds = Bounds(body_s=0.3, idle_s=0.3)
    async with open_door(tmp_path, bounds=bounds) as door:
        async with await door.tcp() as stream:
            raw = request(headers={**auth(door), "Content-Length": "100"}, body=b"{")
            await stream.send_all(raw)
            answer = await read_answer(stream)
            assert (answer.status, answer.json["error"]["code"]) == (408, -32006)
        async with await door.tcp() as stream:
            start = trio.current_time()
            with trio.move_on_after(3):
                for byte in request(headers=auth(door)):
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        break
                    await trio.sleep(0.02)
            assert trio.current_time() - start < 2
        assert not door.node.calls


@pytest.mark.slow
async def test_an_oversized_chunked_body_is_refused_while_it_is_sent(tmp_path: Path) -> None:
    """A client that never stops sending gets its answer and is then cut off; nothing hangs."""
    async with open_door(tmp_path) as door:
        headers = {**auth(door), "Content-Length": None, "Transfer-Encoding": "chunked"}
        async with await door.tcp() as stream:
            await stream.send_all(request(headers=headers, body=b""))
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            sent = 0
            with trio.fail_after(10):
                try:
                    while True:
                        await stream.send_all(chunk)
                        sent += len(chunk)
                except trio.BrokenResourceError:
                    pass
        assert BODY_BYTES_MAX < sent < 40_000_000
        assert not door.node.calls
        assert (await exchange(await door.tcp(), request(headers=auth(door)))).status == 200


@pytest.mark.slow
async def test_refusing_a_large_body_early_does_not_block_the_connection_for_ever(
    tmp_path: Path,
) -> None:
    """Ten pieces of a body are queued; an application that stops reading must not hang."""
    async with open_door(tmp_path) as door:
        headers = {**auth(door), "Authorization": None}
        async with await door.tcp() as stream:
            raw = request(headers=headers, body=b" " * 3_000_000)
            with trio.fail_after(5):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_all, raw)
                    answer = await read_answer(stream)
            assert answer.status == 401
            with trio.fail_after(3):
                assert await stream.receive_some() == b""


@pytest.mark.parametrize("has_tls", [False, True])
async def test_of_those_above_the_cap_a_few_are_told_so_and_the_others_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_tls: bool
) -> None:
    """Each that is told holds a descriptor meanwhile; clear text is no answer to who speaks TLS."""
    monkeypatch.setattr(serve_module, "_TURN_AWAY_S", 60.0)
    monkeypatch.setattr(serve_module, "_TURN_AWAY_MAX", 2, raising=False)
    tls = Tls(*write_certificate(tmp_path)) if has_tls else None
    bounds = Bounds(connections=1, idle_s=60.0)
    async with open_door(tmp_path, bounds=bounds, change=lambda d: replace(d, tls=tls)) as door:
        held = await door.tcp()
        await trio.testing.wait_all_tasks_blocked(0.01)
        others = [await door.tcp() for _ in range(5)]
        told = 0
        for one in others:
            with trio.fail_after(5), suppress(trio.BrokenResourceError):
                told += b" 503 " in await one.receive_some(4096)
        for one in others:
            await trio.aclose_forcefully(one)
        await trio.testing.wait_all_tasks_blocked(0.01)
        last = await door.tcp()
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            told += b" 503 " in await last.receive_some(4096)  # a place was given back
        for one in (held, last):
            await trio.aclose_forcefully(one)
    assert told == (0 if has_tls else 3)


async def test_connections_above_the_cap_get_503_and_free_ones_work_again(tmp_path: Path) -> None:
    async with open_door(tmp_path, bounds=Bounds(connections=2)) as door:
        first, second = await door.tcp(), await door.tcp()
        await first.send_all(request(headers=auth(door)))
        await second.send_all(request(headers=auth(door)))
        await read_answer(first)
        await read_answer(second)
        async with await door.tcp() as third:
            answer = await read_answer(third)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json["error"]["data"]["retry_after_ms"] == 1000
        await first.aclose()
        await second.aclose()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (await exchange(await door.tcp(), request(headers=auth(door)))).status == 200


@pytest.mark.slow
async def test_fifty_clients_at_once_get_their_own_answers(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        done: list[int] = []

        async def client(number: int) -> None:
            stream = await door.tcp() if number % 2 else await door.unix()
            buffer = bytearray()
            async with stream:
                for turn in range(10):
                    call_id = number * 100 + turn
                    body = PING.replace(b'"id":1', b'"id":%d' % call_id)
                    await stream.send_all(request(headers=auth(door), body=body))
                    answer = await read_answer(stream, buffer)
                    assert answer.json["id"] == call_id
                    done.append(call_id)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(client, number)
        assert len(set(done)) == 500


@pytest.mark.slow
@pytest.mark.parametrize("is_unix", [False, True])
async def test_a_client_that_hangs_up_is_noticed_while_its_call_runs(
    tmp_path: Path, *, is_unix: bool
) -> None:
    """And one that stays is answered, also the next time on the same connection."""
    async with open_door(tmp_path) as door:
        gone = 0

        async def watch() -> None:
            nonlocal gone
            wait_gone = door.node.callers[-1].wait_gone
            assert wait_gone is not None
            with trio.move_on_after(0.02 if len(door.node.calls) < 3 else 5):
                await wait_gone()
                gone += 1

        door.node.before["rpc_ping"] = watch
        stream = await (door.unix() if is_unix else door.tcp())
        for _ in range(2):
            await stream.send_all(request(headers=auth(door)))
            assert (await read_answer(stream)).status == 200
        assert gone == 0
        await stream.send_all(request(headers=auth(door)))
        await door.node.wait_calls(3)
        await stream.aclose()
        with trio.fail_after(4):
            while not gone:  # noqa: ASYNC110 - another end of a socket sets no event
                await trio.sleep(0.005)


async def test_it_stops_within_two_seconds_with_slow_readers_and_running_calls(
    tmp_path: Path,
) -> None:
    """Readers that never read and handlers that never end must not hold the node."""
    async with open_door(tmp_path, bounds=Bounds(drain_s=0.5)) as door:
        door.node.answers["rpc_discover"] = {"big": "x" * 30_000_000}
        big = PING.replace(b"rpc_ping", b"rpc_discover")
        door.node.before["node_getStatus"] = trio.sleep_forever
        hang = PING.replace(b"rpc_ping", b"node_getStatus")
        streams = [await door.tcp() for _ in range(10)]
        for number, stream in enumerate(streams):
            await stream.send_all(request(headers=auth(door), body=hang if number % 2 else big))
        idle = await door.tcp()
        await door.node.wait_calls(10)
        start = trio.current_time()
        door.nursery.cancel_scope.cancel()
    assert trio.current_time() - start < 2
    for stream in [*streams, idle]:
        await trio.aclose_forcefully(stream)


async def test_calls_that_run_when_it_stops_still_get_their_answer(tmp_path: Path) -> None:
    release = trio.Event()
    async with open_door(tmp_path) as door:
        door.node.before["rpc_ping"] = release.wait
        stream = await door.tcp()
        await stream.send_all(request(headers=auth(door)))
        await door.node.wait_calls(1)
        door.nursery.cancel_scope.cancel()
        release.set()
    assert (await read_answer(stream)).status == 200
    await trio.aclose_forcefully(stream)


@pytest.mark.slow
async def test_it_stops_when_cancelled_before_it_accepted_anything(tmp_path: Path) -> None:
    """A shielded child inside `nursery.start` once made this wait for ever."""
    with trio.fail_after(30):
        for turn in range(20):
            async with open_door(tmp_path / str(turn)):
                pass


@pytest.mark.slow
async def test_a_reader_that_stops_reading_is_cut_off_by_the_write_deadline(
    tmp_path: Path,
) -> None:
    async with open_door(tmp_path, bounds=Bounds(write_s=0.2, connections=1)) as door:
        door.node.answers["rpc_discover"] = {"big": "x" * 30_000_000}
        async with await door.tcp() as stream:
            body = PING.replace(b"rpc_ping", b"rpc_discover")
            await stream.send_all(request(headers=auth(door), body=body))
            await trio.sleep(1)
            answer = await exchange(await door.tcp(), request(headers=auth(door)))
            assert answer.status == 200


async def test_a_public_address_refuses_to_start(tmp_path: Path) -> None:
    health = Health("x", "0", str)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.test"):
        with pytest.raises(PublicBind):
            await serve(
                bind(FakeNode().handlers()),
                door=Door(host, 0, tmp_path / "cookie"),
                health=health,
            )
