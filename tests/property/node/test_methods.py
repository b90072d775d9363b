"""Every method of a running node, called as its own OpenRPC document allows, and a little beyond.

The long form, every method over HTTP against a daemon, is `tests/e2e/test_every_method.py`.
"""

import functools
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.openrpc import document
from prsm.node.rpc.spec import NoParams, Scope
from tests.tools.openrpc_calls import Calls, texts_in
from tests.tools.rpc_node import ANYBODY
from tests.tools.site import Site, open_site

EXAMPLES = 60
CALL_S = 2.0


async def say(site: Site, name: str, params: object) -> Any:  # noqa: ANN401 - any JSON
    call = {"jsonrpc": "2.0", "id": 1, "method": name, "params": params}
    with trio.move_on_after(CALL_S):  # some wait for a block, or for a peer
        raw = await site.dispatcher.answer(json.dumps(call).encode(), ANYBODY)
        assert raw is not None
        return json.loads(raw)
    return {"result": None}


def check(name: str, answer: Any) -> None:  # noqa: ANN401 - any JSON
    if "error" in answer:
        data = answer["error"]["data"]
        assert data["reason"] != "internal", (name, answer)
        assert "Traceback" not in json.dumps(answer)
    elif answer["result"] is not None:
        msgspec.convert(answer["result"], METHODS[name].result)


@pytest.mark.slow
async def test_no_method_fails_inside_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = msgspec.json.decode(msgspec.json.encode(document(METHODS, version="0.1.0")))
    async with open_site(tmp_path) as site:
        names = sorted(site.dispatcher._methods.keys() - {"node_stop"})
        known: set[str] = set()
        for name in names:
            method = METHODS[name]
            if method.params is NoParams and method.scope is Scope.READ and name != "rpc_discover":
                answer = await say(site, name, {})
                check(name, answer)
                known |= set(texts_in(answer.get("result")))
        calls = Calls(shown, {text for text in known if len(text) <= 200}, str(tmp_path))

        def run() -> None:
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(st.sampled_from(names).flatmap(lambda n: st.tuples(st.just(n), calls.params(n))))
            def one(drawn: tuple[str, object]) -> None:
                name, params = drawn
                check(name, trio.from_thread.run(functools.partial(say, site, name, params)))

            one()

        with trio.fail_after(60):
            await trio.to_thread.run_sync(run)
        assert site.faults == []
