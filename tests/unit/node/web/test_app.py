"""What the pages of the HTTP door answer, and the form of every refusal."""

import json
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from prsm.node.rpc.dispatch import BODY_BYTES_MAX, bind
from prsm.node.rpc.methods.table import METHODS
from prsm.node.web.app import fence
from tests.tools.rpc_door import (
    PING,
    auth,
    exchange,
    open_door,
    request,
)
from tests.tools.rpc_node import ANYBODY, FakeNode


async def test_calls_over_tcp_and_unix(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        for path in ("/rpc", "/"):
            answer = await exchange(await door.tcp(), request(path=path, headers=auth(door)))
            assert (answer.status, answer.json["id"]) == (200, 1)
        answer = await exchange(await door.unix(), request())
        assert answer.status == 200
        answer = await exchange(await door.unix(), request(body=PING.replace(b'"id":1,', b"")))
        assert (answer.status, answer.body) == (204, b"")


async def test_open_pages_need_no_token_and_tell_no_secret(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        live = await exchange(
            await door.tcp(), request("GET", "/livez", body=b"", headers={"Host": door.bound.http})
        )
        assert live.json == {
            "service": "prsm",
            "version": "0.1.0",
            "name": "tester",
            "pid": os.getpid(),
        }
        ready = request("GET", "/readyz", body=b"", headers={"Host": door.bound.http})
        assert (await exchange(await door.tcp(), ready)).status == 200
        door.why.append("3 blocks behind")
        answer = await exchange(await door.tcp(), ready)
        assert (answer.status, answer.json["why"]) == (503, "3 blocks behind")
        posted = request("POST", "/livez", headers={"Host": door.bound.http})
        refused = await exchange(await door.tcp(), posted)
        assert (refused.status, refused.headers["allow"]) == (405, "get, head")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Host": "evil.test"}, 403, -32002),
        ({"Origin": "http://evil.test"}, 403, -32002),
        ({"Sec-Fetch-Site": "cross-site"}, 403, -32002),
        ({"Content-Type": "text/plain"}, 415, -32600),
        ({"Authorization": None}, 401, -32001),
        ({"Content-Length": str(BODY_BYTES_MAX + 1)}, 413, -32008),
    ],
)
async def test_refusals_keep_a_json_rpc_body(
    tmp_path: Path, headers: dict[str, str | None], status: int, code: int
) -> None:
    async with open_door(tmp_path) as door:
        raw = request(headers={**auth(door), **headers, "X-Request-Id": "abc-1"})
        answer = await exchange(await door.tcp(), raw)
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert answer.headers["x-request-id"] == "abc-1"
        assert answer.json["error"]["data"]["trace_id"] == "abc-1"
        assert answer.headers["connection"] == "close"


async def test_wrong_method_names_the_right_one_and_unknown_paths_are_404(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        answer = await exchange(await door.tcp(), request("GET", headers=auth(door), body=b""))
        assert (answer.status, answer.headers["allow"]) == (405, "post")
        answer = await exchange(await door.tcp(), request(path="/nope", headers=auth(door)))
        assert (answer.status, answer.json["error"]["code"]) == (404, -32003)


async def test_a_hostile_request_id_and_traceparent_are_not_echoed(tmp_path: Path) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with open_door(tmp_path) as door:
        headers = {**auth(door), "X-Request-Id": "<script>", "traceparent": trace}
        answer = await exchange(await door.tcp(), request(headers=headers))
        assert answer.headers["traceparent"] == trace
        assert answer.headers["x-request-id"] != "<script>"
        headers["traceparent"] = "evil"
        answer = await exchange(await door.tcp(), request(headers=headers))
        assert "traceparent" not in answer.headers


async def test_a_call_past_its_deadline_gets_a_typed_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = FakeNode()
    node.before["rpc_ping"] = trio.sleep_forever
    reply = await bind(node.handlers(), fence=fence).answer(PING, ANYBODY)
    assert reply is not None
    assert json.loads(reply)["error"]["code"] == -32006
    assert autojump_clock.current_time() == pytest.approx(METHODS["rpc_ping"].deadline_ms / 1000)
