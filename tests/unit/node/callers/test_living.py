"""A token that ends inside a request: what comes behind is not done."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from prsm.node.callers.living import while_live
from prsm.node.callers.once import Once
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.net.interface import Busy
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.spec import ALL_SCOPES, Caller
from prsm.storage.answers import AnswerStore
from tests.tools.clocks import SetClock
from tests.tools.rpc_node import FakeNode


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_a_batch_goes_no_further_than_its_token(tmp_path: Path, is_revoked: bool) -> None:
    """Of three calls the first one waits: meanwhile the token is taken back, or ends."""
    clock, node = SetClock(), FakeNode()
    tokens = Tokens.open(tmp_path / "rpc.jwt", tmp_path / "tokens.json", clock)
    made, _ = await tokens.add(Token(id="", name="t", scopes=("read",), created_ms=0))
    if not is_revoked:
        ends = Token(
            id="", name="t", scopes=("read",), created_ms=0, expires_ms=clock.wall_ms() + 1_000
        )
        made, _ = await tokens.add(ends)

    async def wait() -> None:
        if is_revoked:
            await tokens.revoke(made.id)
        else:
            clock.now_ms += 1_000

    node.before["rpc_getInfo"] = wait
    dispatcher = bind(node.handlers(), layers=while_live(tokens))
    calls = [
        {"jsonrpc": "2.0", "id": number, "method": name}
        for number, name in enumerate(("rpc_ping", "rpc_getInfo", "rpc_ping"))
    ]
    caller = Caller("token t", ALL_SCOPES, token_id=made.id)
    told: list[Any] = json.loads(await dispatcher.answer(json.dumps(calls).encode(), caller) or b"")
    assert ["result" in one for one in told] == [True, True, False]
    assert told[2]["error"]["data"]["reason"] == "unauthorised"
    assert [name for name, _ in node.calls] == ["rpc_ping", "rpc_getInfo"]
    operator = Caller("cookie", ALL_SCOPES)
    again = json.loads(await dispatcher.answer(json.dumps(calls).encode(), operator) or b"")
    assert ["result" in one for one in again] == [True] * 3


async def test_a_call_that_waited_for_the_one_before_counts_no_further(tmp_path: Path) -> None:
    """Two with one key: the first may be tried again, and the token is taken back meanwhile."""
    clock, node, came, go = SetClock(), FakeNode(), trio.Event(), trio.Event()
    tokens = Tokens.open(tmp_path / "rpc.jwt", tmp_path / "tokens.json", clock)
    made, _ = await tokens.add(Token(id="", name="t", scopes=("sign",), created_ms=0))
    once = Once(functools.partial(AnswerStore.open, tmp_path / "answers.db"), clock, b"s" * 32)
    told: list[str] = []

    async def wait() -> None:
        came.set()
        await go.wait()
        raise Busy("try again", retry_after_ms=1)

    node.before["wallet_transfer"] = wait
    params = {"to": "0x" + "00" * 32, "amount": "5", "idempotency_key": "k"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "wallet_transfer", "params": params}
    caller = Caller("token t", ALL_SCOPES, token_id=made.id)

    async def ask() -> None:
        raw = await dispatcher.answer(json.dumps(call).encode(), caller)
        told.append(json.loads(raw or b"")["error"]["data"]["reason"])

    async with trio.open_nursery() as nursery:
        await nursery.start(once.run)
        dispatcher = bind(node.handlers(), layers=while_live(tokens, once.layer))
        async with trio.open_nursery() as both:
            both.start_soon(ask)
            both.start_soon(ask)
            await came.wait()
            await trio.testing.wait_all_tasks_blocked()
            await tokens.revoke(made.id)
            go.set()
        nursery.cancel_scope.cancel()
    assert told == ["busy", "unauthorised"]
    assert len(node.calls) == 1
