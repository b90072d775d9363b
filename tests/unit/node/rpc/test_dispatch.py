"""JSON-RPC from bytes to bytes: every form of a call, and of a mistake."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from prsm.node.rpc.dispatch import (
    BATCH_CALLS_MAX,
    BODY_BYTES_MAX,
    Ask,
    Dispatcher,
    Go,
    Incomplete,
    Layer,
    bind,
)
from prsm.node.rpc.errors import CallTimeout, Forbidden
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.methods.wallet import TransferParams
from prsm.node.rpc.spec import Caller, Method, NoParams, Scope
from prsm.protocol.errors import LocalError
from tests.tools.rpc_node import ANYBODY, NOBODY, FakeNode, sample


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def door(node: FakeNode) -> Dispatcher:
    return bind(node.handlers())


async def ask(door: Dispatcher, document: object, caller: Caller = ANYBODY) -> Any:  # noqa: ANN401 - any JSON
    reply = await door.answer(json.dumps(document).encode(), caller)
    return None if reply is None else json.loads(reply)


def call(method: str, params: object = None, call_id: object = 1) -> dict[str, object]:
    document: dict[str, object] = {"jsonrpc": "2.0", "method": method, "id": call_id}
    return document if params is None else document | {"params": params}


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_every_method_is_answered_with_its_example(
    name: str, door: Dispatcher, node: FakeNode
) -> None:
    """The example of the table passes the method's own checks, and the result its type."""
    method = METHODS[name]
    params = msgspec.to_builtins(method.example) if method.example is not None else None
    reply = await ask(door, call(name, params))
    assert reply["id"] == 1
    msgspec.convert(reply["result"], method.result)
    assert node.calls[0][0] == name
    assert node.calls[0][1] == (method.example or method.params())


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_every_method_refuses_a_caller_without_its_scope(
    name: str, door: Dispatcher, node: FakeNode
) -> None:
    others = frozenset(set(Scope) - {METHODS[name].scope})
    reply = await ask(door, call(name), Caller("token", others))
    assert reply["error"]["code"] == -32002
    assert METHODS[name].scope in reply["error"]["message"]
    assert not node.calls


def test_bind_refuses_to_start_when_handlers_and_methods_differ(node: FakeNode) -> None:
    handlers = node.handlers()
    del handlers["chain_getBlock"]
    handlers["chain_mine"] = handlers["rpc_ping"]
    with pytest.raises(Incomplete, match=r"chain_getBlock.*chain_mine"):
        bind(handlers)


async def test_params_by_position_follow_the_declared_order(
    door: Dispatcher, node: FakeNode
) -> None:
    to = "0x" + "ab" * 32
    reply = await ask(door, call("wallet_transfer", [to, "5"]))
    assert "result" in reply
    assert node.calls == [("wallet_transfer", TransferParams(to, "5"))]
    reply = await ask(door, call("wallet_transfer", [to, "5", "default", 1]))
    assert reply["error"]["code"] == -32602
    assert "at most 3" in reply["error"]["message"]


@pytest.mark.parametrize(
    ("method", "params", "field", "hint"),
    [
        ("wallet_transfer", {"to": "0x" + "00" * 32, "amuont": "1"}, "amuont", "'amount'"),
        ("wallet_transfer", {"to": "0x" + "00" * 32}, "amount", "to, amount, name"),
        ("wallet_transfer", {"to": "0x00", "amount": "1"}, "to", "it takes"),
        ("wallet_transfer", {"to": "0x" + "00" * 32, "amount": 1}, "amount", "it takes"),
        ("wallet_transfer", {"to": "0x" + "00" * 32, "amount": "1.5"}, "amount", "it takes"),
        ("wallet_transfer", {"to": "0x" + "00" * 32, "amount": "-1"}, "amount", "it takes"),
        ("wallet_transfer", {"to": "0x" + "00" * 32, "amount": "1\n"}, "amount", "it takes"),
        ("wallet_transfer", {"to": "0x" + "AA" * 32, "amount": "1"}, "to", "it takes"),
        ("wallet_transfer", {"to": "0x" + "00" * 32 + "\n", "amount": "1"}, "to", "it takes"),
        ("chain_getBlock", {"height": 0}, "height", "it takes"),
        ("chain_getBlock", {"height": "1"}, "height", "it takes"),
        ("infer_run", {"model": "m", "replicas": 99}, "replicas", "it takes"),
        (
            "infer_run",
            {"model": "m", "inputs": [{"name": "x", "dtype": "f", "shape": [-1], "data": "0x"}]},
            "inputs[0].shape[0]",
            "it takes",
        ),
        ("rpc_ping", {"x": 1}, "x", "it takes"),
        ("rpc_ping", 5, None, ""),
    ],
)
async def test_a_wrong_parameter_is_named(
    door: Dispatcher, node: FakeNode, method: str, params: object, field: str | None, hint: str
) -> None:
    error = (await ask(door, call(method, params)))["error"]
    assert error["code"] == -32602
    assert error["data"]["reason"] == "invalid_params"
    assert error["data"].get("field") == field
    assert hint in error["data"]["hint"]
    assert error["data"]["prsm_code"] == "PRSM-1004"
    assert error["data"]["trace_id"] == "trace-1"
    assert not node.calls


async def test_a_wrong_form_is_said_in_words(door: Dispatcher) -> None:
    error = (await ask(door, call("wallet_transfer", {"to": "0x12", "amount": "1"})))["error"]
    assert error["message"] == "wallet_transfer: to: not 0x and 64 hex digits"
    error = (await ask(door, call("wallet_transfer", ["0x" + "00" * 32, "1.5"])))["error"]
    assert error["message"] == "wallet_transfer: amount: not micro-FTNS as a decimal string"


async def test_an_unknown_method_gets_the_nearest_name(door: Dispatcher) -> None:
    error = (await ask(door, call("chain_getBlok")))["error"]
    assert error["code"] == -32601
    assert error["data"]["hint"] == "did you mean 'chain_getBlock'?"


async def test_rpc_dot_discover_is_an_alias(door: Dispatcher) -> None:
    assert "result" in await ask(door, call("rpc.discover"))


@pytest.mark.parametrize(
    ("raw", "code", "call_id"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b"[1", -32700, None),
        (b"[" * 100_000, -32700, None),
        (b'{"a":' * 100_000, -32700, None),
        (b"null", -32600, None),
        (b"1", -32600, None),
        (b'"x"', -32600, None),
        (b"{}", -32600, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"1.0","method":"rpc_ping","id":7}', -32600, 7),
        (b'{"method":"rpc_ping","id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","method":5,"id":"a"}', -32600, "a"),
        (b'{"jsonrpc":"2.0","method":"rpc_ping","id":1.5}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"rpc_ping","id":{}}', -32600, None),
        (b'{"jsonrpc":"2.0","method":"rpc_ping","id":"' + b"a" * 300 + b'"}', -32600, None),
    ],
)
async def test_what_is_no_call_gets_an_answer_of_the_specification(
    door: Dispatcher, raw: bytes, code: int, call_id: object
) -> None:
    reply = await door.answer(raw, ANYBODY)
    assert reply is not None
    document = json.loads(reply)
    assert (document["error"]["code"], document["id"]) == (code, call_id)
    assert document["jsonrpc"] == "2.0"


async def test_a_notification_runs_and_is_not_answered(door: Dispatcher, node: FakeNode) -> None:
    document = {"jsonrpc": "2.0", "method": "rpc_ping"}
    assert await ask(door, document) is None
    assert await ask(door, [document, document]) is None
    assert len(node.calls) == 3
    assert await ask(door, document | {"method": "no_such"}) is None


async def test_id_null_is_a_call(door: Dispatcher) -> None:
    assert (await ask(door, call("rpc_ping", call_id=None)))["id"] is None


async def test_a_batch_answers_in_order_and_mixes_errors(door: Dispatcher) -> None:
    reply = await ask(
        door,
        [call("rpc_ping", call_id="a"), 5, call("nope", call_id=2), call("rpc_ping", call_id=3)],
    )
    assert [one["id"] for one in reply] == ["a", None, 2, 3]
    assert [one.get("error", {}).get("code") for one in reply] == [None, -32600, -32601, None]


async def test_a_batch_has_bounds(door: Dispatcher, node: FakeNode) -> None:
    reply = await ask(door, [call("rpc_ping")] * (BATCH_CALLS_MAX + 1))
    assert reply["error"]["code"] == -32008
    assert not node.calls
    node.answers["rpc_discover"] = {"big": "x" * 600_000}
    reply = await ask(door, [call("rpc_discover", call_id=i) for i in range(4)])
    assert ["result" in one for one in reply] == [True, True, False, False]
    assert reply[3]["error"]["code"] == -32008
    assert reply[3]["id"] == 3
    assert len(node.calls) == 2


async def test_a_body_above_the_limit_is_refused(door: Dispatcher) -> None:
    reply = await door.answer(b" " * (BODY_BYTES_MAX + 1), ANYBODY)
    assert reply is not None
    assert json.loads(reply)["error"]["code"] == -32008


async def test_a_typed_error_keeps_its_reason_even_out_of_a_group(
    door: Dispatcher, node: FakeNode
) -> None:
    class Broke(LocalError):
        reason = "insufficient_funds"

    node.answers["rpc_ping"] = Broke("3 micro-FTNS, 5 needed", hint="prsm wallet balance")
    plain = (await ask(door, call("rpc_ping")))["error"]
    assert (plain["code"], plain["message"]) == (-32010, "3 micro-FTNS, 5 needed")
    assert plain["data"]["hint"] == "prsm wallet balance"
    node.answers["rpc_ping"] = ExceptionGroup("nursery", [ExceptionGroup("", [Broke("3")])])
    assert (await ask(door, call("rpc_ping")))["error"]["code"] == -32010


async def test_a_fault_of_ours_shows_a_trace_id_and_nothing_else(node: FakeNode) -> None:
    faults: list[tuple[str, str, Exception]] = []
    door = bind(node.handlers(), on_fault=lambda *fault: faults.append(fault))
    node.answers["rpc_ping"] = ValueError("/secret/path")
    reply = await door.answer(json.dumps(call("rpc_ping")).encode(), ANYBODY)
    assert reply is not None
    assert b"secret" not in reply
    assert json.loads(reply)["error"]["code"] == -32603
    assert json.loads(reply)["error"]["data"]["trace_id"] == "trace-1"
    assert [(fault[0], fault[1]) for fault in faults] == [("rpc_ping", "trace-1")]
    node.answers["rpc_ping"] = {1, 2}.__iter__()  # nothing msgspec can write
    assert (await ask(door, call("rpc_ping")))["error"]["code"] == -32603


async def test_cancellation_is_not_swallowed(door: Dispatcher, node: FakeNode) -> None:
    node.answers["rpc_ping"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        await ask(door, call("rpc_ping"))


async def test_the_fence_surrounds_each_handler(node: FakeNode) -> None:
    seen: list[str] = []

    @contextmanager
    def fence(method: Method) -> Iterator[None]:
        seen.append(method.name)
        yield
        raise CallTimeout("too slow")

    door = bind(node.handlers(), fence=fence)
    reply = await ask(door, call("rpc_ping"))
    assert reply["error"]["code"] == -32006
    assert seen == ["rpc_ping"]


async def test_nobody_gets_nothing(door: Dispatcher) -> None:
    assert (await ask(door, call("rpc_ping"), NOBODY))["error"]["code"] == -32002


def test_samples_fit_every_type() -> None:
    for method in METHODS.values():
        sample(method.result)
        sample(method.params)


async def test_a_caller_with_patterns_is_held_to_them(door: Dispatcher, node: FakeNode) -> None:
    reader = Caller("token lab", frozenset({Scope.READ}), methods=("job_*", "rpc_ping"))
    assert "result" in await ask(door, call("rpc_ping"), reader)
    reply = await ask(door, call("node_getStatus"), reader)
    assert reply["error"]["code"] == -32002
    assert "job_*, rpc_ping" in reply["error"]["message"]
    assert [name for name, _ in node.calls] == ["rpc_ping"]


async def test_layers_are_passed_from_the_outside_in_and_may_answer(node: FakeNode) -> None:
    seen: list[str] = []

    def layer(name: str) -> Layer:
        async def pass_through(ask: Ask, go: Go) -> object:
            seen.append(f"{name} {ask.method.name} {ask.caller.name}")
            if name == "inner" and ask.method.name == "node_stop":
                raise CallTimeout("not today")
            return await go(ask)

        return pass_through

    door = bind(node.handlers(), layers=(layer("outer"), layer("inner")))
    assert "result" in await ask(door, call("rpc_ping"))
    assert (await ask(door, call("node_stop")))["error"]["code"] == -32006
    assert seen == [
        *("outer rpc_ping test", "inner rpc_ping test"),
        *("outer node_stop test", "inner node_stop test"),
    ]
    assert [name for name, _ in node.calls] == ["rpc_ping"]


async def test_a_call_from_inside_keeps_scope_layers_and_fence(node: FakeNode) -> None:
    fenced: list[str] = []

    @contextmanager
    def fence(method: Method) -> Iterator[None]:
        fenced.append(method.name)
        yield

    door = bind(node.handlers(), fence=fence)
    assert await door.call("rpc_ping", NoParams(), ANYBODY) is not None
    with pytest.raises(Forbidden, match="'read'"):
        await door.call("rpc_ping", NoParams(), NOBODY)
    assert fenced == ["rpc_ping"]
