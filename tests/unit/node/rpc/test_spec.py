"""The method table and the document made of it."""

import re

import msgspec
import pytest

from prsm.node.rpc.methods.table import ALIASES, METHODS
from prsm.node.rpc.openrpc import document
from prsm.node.rpc.spec import AmountText, HexBytes, Method, NoParams, Scope, table


def test_names_follow_the_convention_and_commands_are_unique() -> None:
    words = [method.words for method in METHODS.values() if method.words]
    assert len(words) == len(set(words))
    for name, method in METHODS.items():
        assert name == method.name
        assert re.fullmatch(
            r"(rpc|node|net|consensus|chain|account|wallet|model|job|infer|storage|task|validator|governance"
            r"|dataset|plan|serve|worker|token|audit|tenant|spending|sub)"
            r"_[a-z][A-Za-z]+",
            name,
        )
        assert method.summary.endswith(".")
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", f) for f in method.params.__struct_fields__)
    assert set(ALIASES.values()) <= set(METHODS)


def test_methods_with_required_parameters_have_an_example() -> None:
    for method in METHODS.values():
        required = [f for f in msgspec.structs.fields(method.params) if f.required]
        assert not required or method.example is not None, method.name


def test_what_spends_or_opens_keys_asks_for_more_than_reading() -> None:
    for method in METHODS.values():
        verb = method.name.partition("_")[2]
        if not re.match(
            r"(get|list|ping|discover|verify|estimate|search)", verb
        ) and method.name not in {
            "model_list",
            "job_list",
            "model_get",
            "job_get",
            "node_runDoctor",  # its checks write nothing
            "token_whoami",
            "token_createLogin",  # buys no more than the caller has, and no more than reading
            "rpc_login",
            "sub_subscribe",
            "sub_unsubscribe",
        }:
            assert method.scope is not Scope.READ, method.name


def test_table_refuses_duplicates_and_bad_names() -> None:
    method = Method("rpc_ping", NoParams, dict, Scope.READ, "x")
    with pytest.raises(AssertionError, match="twice"):
        table([method], [method])
    with pytest.raises(AssertionError):
        table([Method("Ping", NoParams, dict, Scope.READ, "x")])
    with pytest.raises(AssertionError):
        table([Method("rpc_ping", NoParams, dict, Scope.READ, "x", positional=("y",))])


@pytest.mark.parametrize(
    ("shape", "text", "ok"),
    [
        (AmountText, "0", True),
        (AmountText, "1" * 19, True),
        (AmountText, "01", False),
        (AmountText, "1\n", False),
        (AmountText, "+1", False),
        (AmountText, "\u0661", False),
        (HexBytes, "0x", True),
        (HexBytes, "0xab", True),
        (HexBytes, "0xa", False),
        (HexBytes, "ab", False),
        (HexBytes, "0xab\n", False),
    ],
)
def test_text_types_are_exact(shape: object, text: str, *, ok: bool) -> None:
    raw = msgspec.json.encode(text)
    if ok:
        assert msgspec.json.decode(raw, type=shape) == text
        return
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(raw, type=shape)


def test_the_openrpc_document_describes_every_method() -> None:
    found = document(METHODS, version="0.1.0")
    raw = msgspec.json.encode(found)
    again = msgspec.json.decode(raw)
    assert [m["name"] for m in again["methods"]] == sorted(METHODS)
    by_name = {m["name"]: m for m in again["methods"]}
    transfer = by_name["wallet_transfer"]
    assert [(p["name"], p["required"]) for p in transfer["params"]] == [
        ("to", True),
        ("amount", True),
        ("name", False),
        ("idempotency_key", False),
    ]
    assert transfer["x-scope"] == "sign"
    assert by_name["chain_getBlock"]["x-command"] == "prsm chain block"
    assert by_name["rpc_ping"]["params"] == []
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', raw.decode()))
    assert refs <= set(again["components"]["schemas"])
    assert again["components"]["errors"]["bad_nonce"]["code"] == -32011
