"""Calls that come again with a key: done once, told the same, also after a restart."""

import functools
import hashlib
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from prsm.node.callers.once import KEPT_MS, Once
from prsm.node.net.interface import Busy
from prsm.node.rpc.dispatch import Dispatcher, bind
from prsm.node.rpc.errors import CallTimeout
from prsm.node.rpc.methods.keys import ExportedKey
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.tokens import NewToken
from prsm.node.rpc.spec import Caller, NoParams, Params
from prsm.protocol.errors import LocalError
from prsm.storage import answers
from prsm.storage.answers import AnswerStore
from tests.tools.announced import SetClock
from tests.tools.rpc_node import ANYBODY, FakeNode, sample

SECRET = b"s" * 32
PAY = {"to": "0x" + "00" * 32, "amount": "5"}


class World:
    """A fake node behind the layer, over a folder that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.node = folder, SetClock(), FakeNode()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Dispatcher]:
        once = Once(
            functools.partial(AnswerStore.open, self.folder / "answers.db"), self.clock, SECRET
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(once.run)
            yield bind(self.node.handlers(), layers=[once.layer])
            nursery.cancel_scope.cancel()

    @property
    def paid(self) -> int:
        return len(self.node.calls)


async def pay(
    door: Dispatcher, key: object = "k1", caller: Caller = ANYBODY, **params: object
) -> Any:  # noqa: ANN401 - any JSON
    asked = {**PAY, **params} | ({} if key is None else {"idempotency_key": key})
    call = {"jsonrpc": "2.0", "id": 1, "method": "wallet_transfer", "params": asked}
    raw = await door.answer(json.dumps(call).encode(), caller)
    assert raw is not None
    document = json.loads(raw)
    return document["result"] if "result" in document else document["error"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_the_same_key_is_done_once_also_after_a_restart(world: World) -> None:
    async with world.run() as door:
        first = await pay(door)
        assert await pay(door) == first
        assert await pay(door, "k2") == first
        assert world.paid == 2
    async with world.run() as door:
        assert await pay(door) == first
        assert await pay(door, None) == first
        assert world.paid == 3


async def test_another_body_is_a_conflict(world: World) -> None:
    async with world.run() as door:
        await pay(door)
        error = await pay(door, amount="6")
        assert (error["code"], error["data"]["reason"]) == (-32004, "key_reused")
        assert error["data"]["field"] == "idempotency_key"
        assert world.paid == 1


async def test_keys_are_of_a_tenant_and_a_token(world: World) -> None:
    callers = [ANYBODY, replace(ANYBODY, tenant="a"), replace(ANYBODY, tenant="a", token_id="t")]
    async with world.run() as door:
        for caller in callers * 2:
            await pay(door, caller=caller)
        assert world.paid == 3


async def test_a_second_one_waits_for_the_first(world: World) -> None:
    release = trio.Event()
    world.node.before["wallet_transfer"] = release.wait
    told: list[Any] = []

    async with world.run() as door, trio.open_nursery() as nursery:

        async def one(amount: str) -> None:
            told.append(await pay(door, amount=amount))

        nursery.start_soon(one, "5")
        await world.node.wait_calls(1)
        nursery.start_soon(one, "5")
        nursery.start_soon(one, "7")
        await trio.testing.wait_all_tasks_blocked()
        assert [error["data"]["reason"] for error in told] == ["key_reused"]
        release.set()
    assert world.paid == 1
    assert told[1] == told[2]


async def test_a_refusal_is_told_again_and_one_to_try_again_is_not_kept(world: World) -> None:
    async with world.run() as door:
        world.node.answers["wallet_transfer"] = LocalError("too little", hint="earn some")
        first = await pay(door)
        world.node.answers["wallet_transfer"] = Busy("full")
        second = await pay(door)
        assert (second["message"], second["data"]["hint"]) == ("too little", "earn some")
        assert second["code"] == first["code"]
        assert (await pay(door, "k2"))["data"]["reason"] == "busy"
        del world.node.answers["wallet_transfer"]
        assert "code" not in await pay(door, "k2")
        assert world.paid == 3


@pytest.mark.parametrize("error", [CallTimeout("late"), RuntimeError("a bug")])
async def test_what_may_have_happened_is_never_done_again(world: World, error: Exception) -> None:
    async with world.run() as door:
        world.node.answers["wallet_transfer"] = error
        await pay(door)
    async with world.run() as door:
        del world.node.answers["wallet_transfer"]
        again = await pay(door)
        assert (again["code"], again["data"]["reason"]) == (-32004, "outcome_unknown")
        assert world.paid == 1


async def test_a_node_killed_inside_a_call_does_not_repeat_it(world: World) -> None:
    async with world.run() as door:
        world.node.before["wallet_transfer"] = trio.sleep_forever
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, door)
            await world.node.wait_calls(1)
            nursery.cancel_scope.cancel()
    async with world.run() as door:
        assert (await pay(door))["data"]["reason"] == "outcome_unknown"
        assert world.paid == 1


async def test_a_day_later_the_key_is_free(world: World) -> None:
    async with world.run() as door:
        await pay(door)
    world.clock.now_ms += KEPT_MS + 1
    async with world.run() as door:
        await pay(door, amount="6")
        assert world.paid == 2


async def test_bounds_of_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "CALLS_MAX", 2)
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 8)
    async with world.run() as door:
        await pay(door)
        again = await pay(door)
        assert again["data"]["reason"] == "outcome_unknown"
        assert "too large" in again["message"]
        await pay(door, "k2")
        assert (await pay(door, "k3"))["data"]["reason"] == "rate_limited"
        assert world.paid == 2


@pytest.mark.parametrize("key", ["", "x" * 65, 5, None, ["k"]])
async def test_a_key_has_a_form(world: World, key: object) -> None:
    async with world.run() as door:
        asked = {**PAY, "idempotency_key": key}
        call = {"jsonrpc": "2.0", "id": 1, "method": "wallet_transfer", "params": asked}
        raw = await door.answer(json.dumps(call).encode(), ANYBODY)
        assert raw is not None
        assert json.loads(raw)["error"]["data"]["field"] == "idempotency_key"
        assert world.paid == 0


async def test_a_read_takes_no_key(world: World) -> None:
    async with world.run() as door:
        params = {"idempotency_key": "k"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "rpc_ping", "params": params}
        raw = await door.answer(json.dumps(call).encode(), ANYBODY)
        assert raw is not None
        assert json.loads(raw)["error"]["code"] == -32602


async def call(door: Dispatcher, name: str, params: Params) -> Any:  # noqa: ANN401 - as `pay`
    asked = msgspec.to_builtins(params) | {"idempotency_key": "k-" + name}
    body = {"jsonrpc": "2.0", "id": 1, "method": name, "params": asked}
    raw = await door.answer(msgspec.json.encode(body), ANYBODY)
    assert raw is not None
    document = json.loads(raw)
    return document["result"] if "result" in document else document["error"]


async def test_no_secret_is_on_disk_and_what_tells_one_tells_it_once(world: World) -> None:
    """Texts, codes and key files that are told; of passwords not even a digest to guess by."""
    told = ["token_create", "wallet_exportKey"]
    asks = [*told, "wallet_unlock", "wallet_createKey", "wallet_importKey", "wallet_changePassword"]
    world.node.answers["token_create"] = NewToken("tk-1", "eyJ-the-text", "a", ("read",), "", None)
    exported: ExportedKey = sample(ExportedKey)
    world.node.answers["wallet_exportKey"] = msgspec.structs.replace(exported, key_file="the-file")
    async with world.run() as door:
        for name in asks:
            assert "code" not in await call(door, name, METHODS[name].example or NoParams())
        files = {path: path.read_bytes() for path in world.folder.glob("answers.db*")}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert len(files) >= 3  # its log too
    for raw in [*files.values(), (world.folder / "answers.db").read_bytes()]:
        for secret in (b"eyJ-the-text", b"the-file", b"correct horse", SECRET):
            assert secret not in raw
        for name in asks:
            asked = msgspec.json.encode((name, METHODS[name].example))
            assert hashlib.sha256(asked).digest() not in raw
    async with world.run() as door:
        before = world.paid
        for name in asks:
            again = await call(door, name, METHODS[name].example or NoParams())
            assert ("code" in again) == (name in told)
            if name in told:
                assert again["data"]["reason"] == "outcome_unknown"
                assert "told once" in again["message"]
        assert world.paid == before


def test_what_answers_a_secret_says_so() -> None:
    """By the names secrets have in results; a method of another kind is added here or there."""
    names = {"token", "code", "key_file", "secret", "seed", "password"}
    for method in METHODS.values():
        fields = set(getattr(method.result, "__struct_fields__", ()))
        has_secret = bool(fields & names)
        assert method.tells_secret == has_secret, method.name


async def test_keyed_calls_are_answered_after_the_part_began_again(world: World) -> None:
    """A crash closed the store, and every call with a key was refused until a restart."""
    once = Once(
        functools.partial(AnswerStore.open, world.folder / "answers.db"), world.clock, SECRET
    )
    door = bind(world.node.handlers(), layers=[once.layer])
    told = []
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(once.run)
            told.append(await pay(door))
            nursery.cancel_scope.cancel()
    assert told[0] == told[1]
    assert world.paid == 1


async def test_call_that_comes_after_the_end_leaves_the_file_to_the_next_run(world: World) -> None:
    """A node that mends its disk runs again in the same process: every keyed call was refused."""
    async with world.run() as late:
        first = await pay(late)
    error = await pay(late, "k2")
    async with world.run() as door:
        assert await pay(door) == first
    assert error["data"]["reason"] == "busy"
    assert world.paid == 1
