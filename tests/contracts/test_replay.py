"""Requests and answers of released versions, replayed against this one: additive in a major.

A client of then must be understood (its parameters are taken, its answers have all their fields
with the same values), and a node of then must be understood by the client of now.
"""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from prsm.node.rpc.dispatch import bind
from prsm.node.rpc.methods.subscriptions import TOPICS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.rpc.spec import Scope
from tests.tools.rpc_node import ANYBODY, FakeNode

HERE: Final = Path(__file__).parent
VERSIONS: Final = sorted(path.name for path in HERE.glob("v*"))
_OTHERS: Final = {"errors", "topics"}


def read(version: str, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / version / f"{name}.json").read_bytes())
    return document


def methods() -> list[tuple[str, str]]:
    """(version, method) of every recording."""
    return [
        (version, name)
        for version in VERSIONS
        for file in sorted((HERE / version).glob("*.json"))
        if file.stem not in _OTHERS
        for name in read(version, file.stem)
    ]


def missing(now: object, then: object, at: str = "") -> list[str]:
    """What of an old document a new one lacks or says otherwise; more fields are no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        gone = [f"{at}.{name} is gone" for name in then if name not in now]
        kept = [name for name in then if name in now]
        return gone + [
            one for name in kept for one in missing(now[name], then[name], f"{at}.{name}")
        ]
    if isinstance(then, list) and isinstance(now, list):
        if len(now) != len(then):
            return [f"{at} has {len(now)} items, not {len(then)}"]
        pairs = enumerate(zip(now, then, strict=True))
        return [one for i, (new, old) in pairs for one in missing(new, old, f"{at}[{i}]")]
    same = type(now) is type(then) and now == then
    return [] if same else [f"{at} is {now!r}, was {then!r}"]


@pytest.mark.parametrize(("version", "name"), methods())
async def test_a_client_of_then_is_understood_and_answered_alike(version: str, name: str) -> None:
    then = read(version, name.partition("_")[0])[name]
    assert name in METHODS, f"{name} is gone"
    method = METHODS[name]
    order = list(Scope)
    assert order.index(method.scope) <= order.index(Scope(then["scope"])), "asks for more than then"
    node = FakeNode()
    node.answers[name] = msgspec.convert(then["answer"], type=method.result)
    dispatcher = bind(node.handlers())
    for number, params in enumerate(then["requests"]):
        call = {"jsonrpc": "2.0", "id": number, "method": name, "params": params}
        reply = await dispatcher.answer(json.dumps(call).encode(), ANYBODY)
        assert reply is not None
        answer = json.loads(reply)
        assert missing(answer.get("result"), then["answer"]) == [], answer
        assert missing(json.loads(msgspec.json.encode(node.calls[-1][1])), params) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reason_keeps_its_numbers(version: str) -> None:
    for reason, then in read(version, "errors").items():
        entry = REGISTRY[reason]
        assert (entry.code, entry.prsm_code) == (then["code"], then["prsm_code"]), reason
        assert (int(entry.exit_code), entry.retryable) == (then["exit"], then["retryable"]), reason


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_of_topics_keep_their_fields(version: str) -> None:
    for name, then in read(version, "topics").items():
        row = msgspec.convert(then, type=TOPICS[name].row)
        assert missing(json.loads(msgspec.json.encode(row)), then) == []


def test_a_difference_is_found() -> None:
    then = {"a": [{"b": "1"}], "c": 2}
    assert missing({"a": [{"b": "1", "new": 0}], "c": 2, "d": 3}, then) == []
    assert missing({"a": [{"b": 1}], "c": 2}, then) == [".a[0].b is 1, was '1'"]
    assert missing({"a": []}, then) == [".c is gone", ".a has 0 items, not 1"]
    assert missing({"a": [{"b": "1"}], "c": True}, {"c": 1}) == [".c is True, was 1"]
