"""What a command would cost: said in full, held against a bound, and nothing signed for it."""

import json
from pathlib import Path

import pytest

from prsm.node.cli.costs import OverCap, refuse_above
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.spec import Scope
from tests.tools.commands import HASH
from tests.tools.served import Served

CID = "b" + "a" * 58


def test_a_payment_is_its_amount_and_its_fee(served: Served) -> None:
    result = served.run("wallet", "send", HASH, "3.25", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["amount"], document["fee"], document["cost"]) == ("3250000", "0", "3250000")
    [(method, params)] = served.node.calls
    assert (method, params.kind) == ("chain_estimateFee", "Transfer")
    assert "3.25 FTNS" in served.run("wallet", "send", HASH, "3.25", "--dry-run").stdout


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        (("validator", "join", "1000"), "1000000000"),
        (("validator", "stake", "0.5"), "500000"),
        (("storage", "offer", CID, HASH, "--price", "0.00001", "--rounds", "3"), "30"),
    ],
)
def test_a_dry_run_signs_nothing(served: Served, words: tuple[str, ...], amount: str) -> None:
    result = served.run(*words, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["amount"] == amount
    assert not [name for name, _ in served.node.calls if METHODS[name].scope is Scope.SIGN]


def test_what_passes_the_bound_is_refused_before_it_is_sent(served: Served) -> None:
    words = ("storage", "offer", CID, HASH, "--price", "0.00001", "--rounds", "3", "--yes")
    refused = served.run(*words, "--max-price", "0.000029")
    assert (refused.exit_code, "PRSM-3029" in refused.stderr) == (1, True)
    assert not served.node.calls
    assert served.run(*words, "--max-price", "0.00003").exit_code == 0
    with pytest.raises(OverCap, match=r"at most 0\.000029"):
        refuse_above(30, "0.000029")


def test_a_plan_is_held_against_its_budget(served: Served, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    Path(file).write_text('{"budget": "5000", "steps": [{"id": "a"}]}', encoding="utf-8")
    shown = json.loads(served.run("plan", "run", file, "--dry-run", "--json").stdout)
    assert (shown["amount"], shown["what"]) == ("5000", "run 1 steps, within the budget")
    assert served.run("plan", "run", file, "--max-price", "0.004").exit_code == 1
    typed = served.run("plan", "run", file, "--budget", "0.5", "--dry-run", "--json").stdout
    assert json.loads(typed)["amount"] == "500000"
    Path(file).write_text('{"budget": "0.5", "steps": [{"id": "a"}]}', encoding="utf-8")
    refused = served.run("plan", "run", file, "--dry-run")
    assert (refused.exit_code, "no whole number of micro-FTNS" in refused.stderr) == (2, True)
    assert not served.node.calls


def test_amounts_of_made_commands_are_typed_in_ftns_too(served: Served) -> None:
    """One command took the price in millionths and its bound in whole ones."""
    words = ("storage", "offer", CID, HASH, "--rounds", "3", "--dry-run")
    told = served.run(*words, "--price", "0.25", "--json")
    assert json.loads(told.stdout)["amount"] == "750000"
    refused = served.run(*words, "--price", "1e3")
    assert refused.exit_code == 2
    assert "'1e3' is no amount of FTNS" in refused.stderr
