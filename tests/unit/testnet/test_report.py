"""What a person sees of the demo, and that a failed one does not look like a success."""

import copy
import io
import json
from typing import Any

import pytest
from typing_extensions import override

from prsm.testnet.demo import failures
from prsm.testnet.report import Screen, page, plain

DOCUMENT: dict[str, Any] = {
    "model": {"name": "minilm", "cid": "bafyx", "bytes": 90_400_000, "stages": 3},
    "job": {
        "rows": 240,
        "micro_batches": 60,
        "peers": ["a", "b", "c"],
        "bit_equal": True,
        "question": "Who pays?",
        "answer": "The requester pays.",
    },
    "liar": {
        "node": "node4",
        "caught": True,
        "outvoted": ["node4"],
        "paid": False,
        "blocks": [9, 11],
    },
    "payments": [
        {"node": "node2", "micro_ftns": "1500000"},
        {"node": "node3", "micro_ftns": "1500000"},
        {"node": "node4", "micro_ftns": "0"},
    ],
    "escrow": {"locked": "5000000", "paid": "3000000", "refunded": "2000000"},
    "ledger": {
        "height": 12,
        "state_root": "0x" + "ab" * 32,
        "same_state_root": True,
        "supply_conserved": True,
        "nodes": 4,
    },
    "receipt": {"path": "/r.json", "trust": "0:0xcd", "verified": True, "said": "ok"},
    "seconds": {"install": 0.0, "total": 40.5},
}


def changed(part: str, **values: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    document[part] |= values
    return document


def test_page_says_what_was_shown() -> None:
    """Model, answer, liar, payments in FTNS, one state, how to check the receipt again."""
    shown = page(DOCUMENT)
    for words in (
        "minilm, 90.4 MB in 3 stages",
        "240 rows in 60 micro-batches over 3 peers, bit-equal to",
        "The requester pays.",
        "node4 outvoted, not paid; evidence in block 9, 11",
        "node2 1.50, node3 1.50, node4 0.00 FTNS; 2.00 of 5.00 FTNS went back",
        "height 12, 4 nodes, one state",
        "--trust 0:0xcd /r.json",
    ):
        assert words in shown, words
    assert failures(DOCUMENT) == []


@pytest.mark.parametrize(
    ("document", "word", "failure"),
    [
        (changed("job", bit_equal=False), "NOT EQUAL", "bit-equal"),
        (changed("liar", caught=False, outvoted=[]), "NOT CAUGHT", "outvoted"),
        (changed("liar", paid=True), "BUT PAID", "liar was paid"),
        (changed("ledger", same_state_root=False), "DIFFERENT STATES", "different states"),
        (changed("ledger", supply_conserved=False), "NOT CONSERVED", "money"),
        (changed("ledger", nodes=3), "3 nodes", "missing"),
        (changed("receipt", verified=False), "NOT VERIFIED", "does not verify"),
        (changed("liar", node=None), "NOBODY LIED", "outvoted"),
    ],
)
def test_what_did_not_hold_is_loud_and_fails_the_demo(
    document: dict[str, Any], word: str, failure: str
) -> None:
    """Each broken promise stands in capitals on the page and in the list of failures."""
    assert word in page(document)
    assert any(failure in what for what in failures(document))


def test_unpaid_honest_worker_fails_the_demo() -> None:
    """The liar may get nothing; nobody else."""
    document = copy.deepcopy(DOCUMENT)
    document["payments"][0]["micro_ftns"] = "0"
    assert failures(document) == ["an honest worker was not paid"]


def test_honest_network_is_reported_as_such() -> None:
    """Without a liar nobody is outvoted."""
    assert "nobody lied" in page(changed("liar", node=None, outvoted=[]))


class Terminal(io.StringIO):
    """A stream that says it is one."""

    @override
    def isatty(self) -> bool:
        return True


def test_bar_is_drawn_on_a_terminal_only() -> None:
    """Half done is half a bar; a step after it begins a new line; a pipe gets steps only."""
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        screen = Screen(stream)
        screen.progress(120, 240, "running")
        screen.progress(0, 0, "planned")
        screen.step("next")
    assert "[==============              ] 120/240 rows, running" in terminal.getvalue()
    assert "running   \n" in terminal.getvalue()
    assert "rows" not in pipe.getvalue()
    assert pipe.getvalue().endswith("s  next\n")


def test_quiet_screen_says_nothing() -> None:
    """Neither steps nor bars."""
    terminal = Terminal()
    screen = Screen(terminal, quiet=True)
    screen.step("x")
    screen.progress(1, 2, "running")
    assert terminal.getvalue() == ""


def test_document_is_a_line_for_each_part_or_json() -> None:
    """Lists of rows, lists of words, tables, values."""
    document: dict[str, object] = {
        "name": "x",
        "check": {"holds": True, "height": 3, "balances": {"0xaa": "1", "0xbb": "2"}},
        "nodes": [{"node": "a", "pid": 1}],
        "broken": ["fork"],
    }
    assert plain(document, as_json=False).splitlines() == [
        "name: x",
        "holds: True",
        "height: 3",
        "balances 0xaa: 1",
        "balances 0xbb: 2",
        "node=a  pid=1",
        "broken=fork",
    ]
    assert json.loads(plain(document, as_json=True)) == document
