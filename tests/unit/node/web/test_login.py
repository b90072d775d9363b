"""POST /login: a code buys a token once; everything else is refused and costs."""

import json
from pathlib import Path

import pytest

from prsm.node.callers.tokens import Token
from tests.tools.rpc_door import OpenDoor, exchange, open_door, request

READER = Token(id="", name="dashboard", scopes=("read",), created_ms=0, is_kept=False)


def ask(door: OpenDoor, code: object, **headers: str | None) -> bytes:
    fields = {"Host": door.bound.http, **headers}
    return request(path="/login", body=json.dumps({"code": code}).encode(), headers=fields)


async def test_a_code_buys_a_token_that_reads_and_nothing_else(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        code, _ = door.logins.offer(READER)
        answer = await exchange(await door.tcp(), ask(door, code))
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert (answer.json["scopes"], answer.json["expires"]) == (["read"], None)
        bearer = {"Host": door.bound.http, "Authorization": f"Bearer {answer.json['token']}"}
        for method, wanted in (("rpc_ping", "result"), ("node_stop", "error")):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
            found = await exchange(await door.tcp(), request(body=body, headers={**bearer}))
            assert wanted in found.json
        assert [name for name, _ in door.node.calls] == ["rpc_ping"]
        again = await exchange(await door.tcp(), ask(door, code))
        assert (again.status, again.json["error"]["data"]["reason"]) == (401, "unauthorised")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"code": 1}', {}, 400),
        (b'{"code": "x", "more": 1}', {}, 400),
        (b"{", {}, 400),
        (b'{"code": "x"}', {"Content-Type": "text/plain"}, 415),
        (b'{"code": "x"}', {"Origin": "http://evil.test"}, 403),
        (b'{"code": "x"}', {"Host": "evil.test"}, 403),
        (b'{"code": "' + b"x" * 200 + b'"}', {}, 401),
    ],
)
async def test_other_logins_are_refused(
    tmp_path: Path, body: bytes, headers: dict[str, str | None], status: int
) -> None:
    async with open_door(tmp_path) as door:
        raw = request(path="/login", body=body, headers={"Host": door.bound.http, **headers})
        answer = await exchange(await door.tcp(), raw)
        assert (answer.status, "error" in answer.json) == (status, True)
    async with open_door(tmp_path / "other") as door:
        raw = request("GET", "/login", body=b"", headers={"Host": door.bound.http})
        assert (await exchange(await door.tcp(), raw)).status == 405


async def test_a_page_that_takes_the_last_place_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prsm.node.callers.tokens.TOKENS_MAX", 0)
    async with open_door(tmp_path) as door:
        code, _ = door.logins.offer(READER)
        answer = await exchange(await door.tcp(), ask(door, code))
        assert (answer.status, answer.json["error"]["code"]) == (429, -32005)
