"""A token that ends inside a request: what comes behind is not done."""

import json
from pathlib import Path
from typing import Any

import pytest

from prsm.node.callers.living import while_live
from prsm.node.callers.tokens import Token, Tokens
from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.spec import ALL_SCOPES, Caller
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
    dispatcher = bind(node.handlers(), layers=(while_live(tokens),))
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
