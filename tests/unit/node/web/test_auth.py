"""Who may come in: every combination of Host, Origin, method, type and token."""

from itertools import product
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.datastructures import Headers

from prsm.node.rpc.errors import Unauthorised
from prsm.node.rpc.spec import Scope
from prsm.node.web.auth import Gate, KeyPeer
from tests.tools.rpc_door import (
    PING,
    auth,
    exchange,
    open_door,
    request,
)


@pytest.mark.slow
async def test_only_our_host_origin_method_type_and_token_reach_a_method(tmp_path: Path) -> None:
    """Every combination; exactly the right ones run, all others change nothing."""
    async with open_door(tmp_path) as door:
        own, port = door.bound.http, door.bound.port
        hosts = [own, f"localhost:{port}", f"evil.test:{port}", None]
        origins = [None, f"http://{own}", "http://evil.test", "null"]
        verbs = ["POST", "GET", "PUT", "OPTIONS"]
        kinds = ["application/json", "text/plain", "application/x-www-form-urlencoded", None]
        tokens = [f"Bearer {door.cookie}", "Bearer " + "0" * 64, f"Basic {door.cookie}", None]
        good_hosts, good_origins = set(hosts[:2]), set(origins[:2])
        count = 0
        for host, origin, verb, kind, token in product(hosts, origins, verbs, kinds, tokens):
            bad = (
                (host not in good_hosts)
                + (origin not in good_origins)
                + (verb != "POST")
                + (kind != "application/json")
                + (token != tokens[0])
            )
            count += 1
            raw = request(
                verb,
                headers={
                    "Host": host,
                    "Origin": origin,
                    "Content-Type": kind,
                    "Authorization": token,
                },
            )
            before = len(door.node.calls)
            answer = await exchange(await door.tcp(), raw)
            assert "access-control-allow-origin" not in answer.headers
            assert (len(door.node.calls) > before) == (bad == 0), (host, origin, verb, kind, token)
            assert (answer.status == 200) == (bad == 0)
            if bad:
                assert answer.status in {400, 401, 403, 405, 415}
                assert answer.json["error"]["code"] < 0
        assert count == 4**5


async def test_unix_peer_has_no_right_to_sign_without_the_cookie(tmp_path: Path) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"wallet_unlock","params":["pw"]}'
    async with open_door(tmp_path) as door:
        answer = await exchange(await door.unix(), request(body=body))
        assert answer.json["error"]["code"] == -32002
        answer = await exchange(await door.unix(), request(body=body, headers=auth(door)))
        assert "result" in answer.json
        origin: dict[str, str | None] = {"Origin": f"http://{door.bound.http}"}
        assert (await exchange(await door.unix(), request(headers=origin))).status == 403


@pytest.mark.slow
async def test_bad_tokens_cost_a_second_after_ten_and_good_ones_nothing(
    tmp_path: Path,
) -> None:
    async with open_door(tmp_path) as door:
        bad: dict[str, str | None] = {**auth(door), "Authorization": "Bearer x"}
        start = trio.current_time()
        for _ in range(10):
            assert (await exchange(await door.tcp(), request(headers=bad))).status == 401
        assert trio.current_time() - start < 1
        start = trio.current_time()
        assert (await exchange(await door.tcp(), request(headers=bad))).status == 401
        assert trio.current_time() - start >= 1
        start = trio.current_time()
        assert (await exchange(await door.tcp(), request(headers=auth(door)))).status == 200
        assert trio.current_time() - start < 0.5


async def test_websocket_upgrades_of_foreign_pages_are_refused(tmp_path: Path) -> None:
    upgrade: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Content-Type": None,
        "Content-Length": None,
    }
    async with open_door(tmp_path) as door:
        for host, origin in (("evil.test", None), (door.bound.http, "http://evil.test")):
            headers = {**upgrade, "Host": host, "Origin": origin}
            raw = request("GET", "/ws", body=b"", headers=headers)
            assert (await exchange(await door.tcp(), raw)).status == 403


async def test_a_token_has_its_own_rights_and_no_more(tmp_path: Path) -> None:
    """Scopes, methods and tenant reach the handler; over the unix socket too."""
    sign = b'{"jsonrpc":"2.0","id":1,"method":"wallet_unlock","params":["pw"]}'
    async with open_door(tmp_path) as door:
        text = await door.token("read", tenant="lab", methods=("rpc_*", "wallet_*"))
        bearer: dict[str, str | None] = {**auth(door), "Authorization": f"Bearer {text}"}
        for stream in (await door.tcp(), await door.unix()):
            answer = await exchange(stream, request(headers=bearer))
            assert answer.status == 200
            caller = door.node.callers[-1]
            assert (caller.name, caller.tenant, caller.methods) == (
                *("token t", "lab", ("rpc_*", "wallet_*")),
            )
            assert caller.scopes == {Scope.READ}
            assert caller.token_id == door.tokens.listed()[0].id
        for body in (sign, PING.replace(b"rpc_ping", b"job_list")):
            answer = await exchange(await door.tcp(), request(body=body, headers=bearer))
            assert answer.json["error"]["code"] == -32002
        assert len(door.node.calls) == 2


async def test_an_ended_token_is_refused_and_says_why(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        ending = await door.token("read", expires_ms=door.clock.now_ms + 5)
        gone = await door.token("read")
        answers = []
        for text in (ending, gone, ending, gone):
            bearer: dict[str, str | None] = {**auth(door), "Authorization": f"Bearer {text}"}
            answer = await exchange(await door.tcp(), request(headers=bearer))
            answers.append((answer.status, answer.json.get("error", {}).get("message")))
            if len(answers) == 2:
                door.clock.now_ms += 5
                await door.tokens.revoke(door.tokens.verify(gone).id)
        assert answers == [
            *((200, None), (200, None)),
            *((401, "the token is expired"), (401, "the token is revoked")),
        ]


async def test_what_the_gate_says_of_a_caller_later(tmp_path: Path) -> None:
    """A WebSocket asks again: its token may have ended since."""
    async with open_door(tmp_path) as door:
        gate = Gate("c", tokens=door.tokens)
        text = await door.token("read", expires_ms=door.clock.now_ms + 50)
        caller = await gate.admit_token(text, trace_id="t")
        assert gate.is_live(caller)
        assert gate.expires_ms(caller) == door.clock.now_ms + 50
        door.clock.now_ms += 50
        assert not gate.is_live(caller)
        owner = await gate.admit_token("c", trace_id="t")
        assert gate.is_live(owner)
        assert gate.expires_ms(owner) is None
        with pytest.raises(Unauthorised, match="expired"):
            await gate.admit_token(text, trace_id="t")
        assert gate.bad_tokens == 1


async def test_a_key_comes_in_with_its_record_only(tmp_path: Path) -> None:
    key = KeyPeer("0x" + "ab" * 32)
    async with open_door(tmp_path) as door:
        gate = Gate("c", tokens=door.tokens)
        with pytest.raises(Unauthorised, match="no rights here"):
            await gate.admit(Headers(), key, trace_id="t")
        await door.token("read", public_key=key.public_key)
        assert (await gate.admit(Headers(), key, trace_id="t")).name == "key t"
        with pytest.raises(Unauthorised, match="takes no signed"):
            await Gate("c").admit(Headers(), key, trace_id="t")
