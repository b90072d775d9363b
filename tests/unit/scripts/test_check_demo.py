"""The check of the demo's document: a good one passes, each broken one is named."""

import copy
from pathlib import Path
from typing import Any

import pytest

from scripts.check_demo import complaints


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    receipt = tmp_path / "receipt.json"
    receipt.write_text("{}")
    return {
        "model": {"cid": "bafy", "bytes": 90_000_000, "stages": 2},
        "job": {"rows": 200, "peers": ["2", "3"], "bit_equal": True, "answer": "a sentence"},
        "liar": {"node": 4, "caught": True, "paid": False},
        "payments": [{"node": 2, "micro_ftns": "950000"}, {"node": 4, "micro_ftns": "0"}],
        "ledger": {"height": 9, "same_state_root": True, "supply_conserved": True, "nodes": 4},
        "receipt": {"path": str(receipt), "genesis": "genesis.json", "verified": True},
        "seconds": {"install": 0.0, "total": 60.5},
    }


def test_complaints_says_nothing_about_a_good_document(document: dict[str, Any]) -> None:
    assert list(complaints(document)) == []


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("job", "bit_equal", False, "job.bit_equal is False"),
        ("job", "bit_equal", "true", "job.bit_equal is 'true'"),
        ("job", "rows", 199, "job.rows is 199, at least 200"),
        ("job", "answer", "", "without an answer"),
        ("liar", "caught", None, "liar.caught is None"),
        ("liar", "paid", True, "liar.paid is True"),
        ("ledger", "same_state_root", False, "ledger.same_state_root is False"),
        ("ledger", "supply_conserved", False, "ledger.supply_conserved is False"),
        ("ledger", "height", 0, "ledger.height is 0"),
        ("ledger", "nodes", None, "ledger.nodes is None"),
        ("receipt", "verified", False, "receipt.verified is False"),
        ("receipt", "path", "/nowhere/receipt.json", "no file"),
    ],
)
def test_complaints_names_what_did_not_hold(
    document: dict[str, Any], part: str, key: str, value: object, said: str
) -> None:
    broken = copy.deepcopy(document)
    broken[part][key] = value
    (found,) = complaints(broken)
    assert said in found


@pytest.mark.parametrize(
    "part", ["model", "job", "liar", "payments", "ledger", "receipt", "seconds"]
)
def test_complaints_names_a_missing_part(document: dict[str, Any], part: str) -> None:
    del document[part]
    (found,) = complaints(document)
    assert part in found


def test_complaints_names_a_missing_key(document: dict[str, Any]) -> None:
    del document["model"]["cid"]
    assert list(complaints(document)) == ["no model.cid"]


@pytest.mark.parametrize(
    ("payments", "said"),
    [
        ([], "no list of payments"),
        ([{"node": 2}], "a payment without"),
        ([{"node": 2, "micro_ftns": "1.5"}], "not an integer"),
        ([{"node": 2, "micro_ftns": "0"}], "nobody was paid"),
    ],
)
def test_complaints_looks_at_each_payment(
    document: dict[str, Any], payments: list[dict[str, object]], said: str
) -> None:
    document["payments"] = payments
    (found,) = complaints(document)
    assert said in found


def test_complaints_refuses_what_is_no_object() -> None:
    assert list(complaints([])) == ["no JSON object"]
