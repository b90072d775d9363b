"""Whatever bytes arrive, the answer is JSON-RPC and the handlers see only valid parameters."""

import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import trio
from hypothesis import given, settings

from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import REGISTRY
from tests.tools.rpc_node import ANYBODY, FakeNode

_CODES = {entry.code for entry in REGISTRY.values()}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jsonrpc", "id", "method", "params", "height", "to", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
_CALL = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "method": st.sampled_from(sorted(METHODS)) | st.text(max_size=10),
        "id": st.integers(0, 9) | st.text(max_size=3) | st.none(),
        "params": _JSON,
    }
)


def answer(raw: bytes) -> Any:  # noqa: ANN401 - any JSON
    node = FakeNode()
    reply = trio.run(bind(node.handlers()).answer, raw, ANYBODY)
    for name, params in node.calls:
        msgspec.convert(msgspec.to_builtins(params), METHODS[name].params)
    return None if reply is None else json.loads(reply)


def check(document: Any) -> None:  # noqa: ANN401 - any JSON
    for one in document if isinstance(document, list) else [document]:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
        if "error" in one:
            assert one["error"]["code"] in _CODES
            assert one["error"]["data"]["reason"] != "internal", one


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_get_a_json_rpc_answer(raw: bytes) -> None:
    document = answer(raw)
    if document is not None:
        check(document)


@given(_JSON | _CALL | st.lists(_CALL | _JSON, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_json_gets_a_json_rpc_answer(document: object) -> None:
    reply = answer(json.dumps(document).encode())
    if reply is not None:
        check(reply)
