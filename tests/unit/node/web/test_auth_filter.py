"""The form of requests: what has no honest use is refused before anything else is asked."""

import json
from pathlib import Path

import pytest
import trio
from starlette.types import Message, Receive, Scope, Send

from prsm.node.web.auth import Gate
from prsm.node.web.auth_filter import HEADERS_MAX, OnlyPlain, is_of_this_machine
from tests.tools.asgi_door import open_asgi
from tests.tools.rpc_door import PING, auth, exchange, open_door, request


@pytest.mark.parametrize(
    ("verb", "path", "headers", "status"),
    [
        ("TRACE", "/rpc", {}, 405),
        ("CONNECT", "/rpc", {}, 405),
        ("POST", "/rpc/../rpc", {}, 400),
        ("POST", "/./rpc", {}, 400),
        ("POST", "//rpc", {}, 400),
        ("POST", "/%2e%2e/rpc", {}, 400),
        ("POST", "/rpc%00", {}, 400),
        ("POST", "/rpc%2Fx", {}, 400),
        ("POST", "/rpc\\x", {}, 400),
        ("POST", "/rpc?token=abc", {}, 400),
        ("POST", "/rpc?a=1&access_token=abc", {}, 400),
        ("POST", "/rpc?" + "a" * 5_000, {}, 400),
        ("POST", "/rpc", {f"X-{i}": "1" for i in range(HEADERS_MAX)}, 400),
        ("POST", "/rpc", {"Authorization": "Bearer x\r\nAuthorization: Bearer y"}, 400),
        ("POST", "/rpc", {"Content-Type": "application/json\r\nContent-Type: text/x"}, 400),
    ],
)
async def test_odd_requests_are_refused_with_a_body(
    tmp_path: Path, verb: str, path: str, headers: dict[str, str | None], status: int
) -> None:
    async with open_door(tmp_path) as door:
        raw = request(verb, path, headers={**auth(door), **headers})
        answer = await exchange(await door.tcp(), raw)
        assert (answer.status, answer.json["error"]["code"] < 0) == (status, True)
        assert not door.node.calls


async def test_a_body_with_two_lengths_runs_nothing(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING)
        headers = {**auth(door), "Transfer-Encoding": "chunked", "Content-Length": "5"}
        answer = await exchange(await door.tcp(), request(body=chunked, headers=headers))
        assert answer.status == 400
        assert not door.node.calls


async def test_other_machines_learn_of_open_pages_that_a_node_is_there(tmp_path: Path) -> None:
    async with open_asgi(tmp_path) as door:
        for path, here, afar in (
            ("/livez", {"service", "version", "name", "pid"}, {"service"}),
            ("/readyz", {"ready"}, {"ready"}),
        ):
            for address, fields in (("127.0.0.1", here), ("192.0.2.1", afar)):
                _, _, body = await door.page(path, address)
                assert set(json.loads(body)) == fields


def scope_of(client: tuple[str, int] | None, token: str) -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/rpc",
        "raw_path": b"/rpc",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
        "client": client,
        "state": {"abort": lambda: None},
    }


@pytest.mark.parametrize(
    ("client", "is_here"),
    [
        (None, True),
        (("127.0.0.1", 1), True),
        (("::ffff:127.0.0.1", 1), True),
        (("::1", 1), True),
        (("192.0.2.1", 1), False),
        (("fe80::1%eth0", 1), False),
    ],
)
async def test_the_cookie_is_for_this_machine_a_token_for_all(
    client: tuple[str, int] | None,
    is_here: bool,
) -> None:
    seen: list[int] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(200)

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            seen.append(message["status"])

    door = OnlyPlain(app, gate=Gate("ab" * 32))
    assert is_of_this_machine(scope_of(client, "x")) == is_here
    await door(scope_of(client, "ab" * 32), receive, send)
    await door(scope_of(client, "a.b.c"), receive, send)
    assert seen == [200 if is_here else 403, 200]
