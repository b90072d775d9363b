"""Reads by GET: the result itself under the rules of a call."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Scope
from prsm.node.web.auth import Gate
from prsm.protocol.errors import LocalError
from prsm.storage.errors import NotFound
from tests.tools.rpc_door import Answer, OpenDoor, auth, exchange, open_door, request

PATHS = sorted(method.path for method in METHODS.values() if method.path)
JOB = "0x" + "00" * 32


async def get(door: OpenDoor, path: str, verb: str = "GET", token: str | None = "") -> Answer:
    headers = {**auth(door), "Content-Type": None, "Content-Length": None}
    if token != "":
        headers["Authorization"] = token
    return await exchange(await door.tcp(), request(verb, path, headers=headers, body=b""))


def test_paths_are_those_of_reads_and_named_once() -> None:
    assert len(PATHS) == len(set(PATHS)) >= 10
    assert all(method.scope is Scope.READ for method in METHODS.values() if method.path)


@pytest.mark.parametrize("path", ["/status", "/openrpc.json", "/models", f"/job?id={JOB}"])
async def test_the_answer_is_the_result_and_needs_the_token(tmp_path: Path, path: str) -> None:
    async with open_door(tmp_path) as door:
        answer = await get(door, path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert isinstance(answer.json, dict)
        refused = await get(door, path, token=None)
        assert (refused.status, refused.json["error"]["code"]) == (401, -32001)
        posted = await get(door, path, "POST")
        assert (posted.status, posted.headers["allow"]) == (405, "get, head")
        assert len(door.node.calls) == 1


async def test_parameters_come_from_the_query(tmp_path: Path) -> None:
    async with open_door(tmp_path) as door:
        await get(door, "/block?height=7")
        await get(door, f"/job?id={JOB}&wait_ms=1")
        await get(door, f"/job?job_id={JOB}")
        await get(door, "/models?limit=3")
        params = [params for _name, params in door.node.calls]
        assert params[0].height == 7
        assert (params[1].job_id, params[1].wait_ms, params[2].job_id) == (JOB, 1, JOB)
        assert params[3].limit == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/block?height=x", "height"),
        ("/block?hieght=1", "hieght"),
        ("/block?height=1&height=2", "height"),
        ("/job", "job_id"),
        ("/block?%ff", None),
        ("/block?height", None),
        ("/block?" + "a=1&" * 100, None),
        ("/block?height=0", "height"),
    ],
)
async def test_wrong_queries_name_what_is_wrong(
    tmp_path: Path, query: str, field: str | None
) -> None:
    async with open_door(tmp_path) as door:
        answer = await get(door, query)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32602)
        assert answer.json["error"]["data"].get("field") == field
        assert not door.node.calls


@pytest.mark.parametrize(
    ("error", "status"),
    [(NotFound("no such block"), 404), (LocalError("bad"), 400), (RuntimeError("a bug"), 500)],
)
async def test_refusals_have_the_status_of_their_code(
    tmp_path: Path, error: Exception, status: int
) -> None:
    async with open_door(tmp_path) as door:
        door.node.answers["chain_getBlock"] = error
        answer = await get(door, "/block?height=7")
        assert answer.status == status
        assert "a bug" not in json.dumps(answer.json)


async def test_scopes_hold_for_paths_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_door(tmp_path) as door:
        admit = Gate.admit

        async def nobody(gate: Gate, *args: object, **kwargs: object) -> object:
            return replace(await admit(gate, *args, **kwargs), scopes=frozenset())  # type: ignore[arg-type]  # as it was called

        monkeypatch.setattr(Gate, "admit", nobody)
        answer = await get(door, "/status")
        assert (answer.status, answer.json["error"]["code"]) == (403, -32002)
