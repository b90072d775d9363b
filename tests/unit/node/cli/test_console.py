"""rpc console and rpc subscribe: calls line by line, rows one a line."""

import json

import msgspec
import pytest

from prsm.node.cli.console import completions
from prsm.node.rpc.methods.subscriptions import TOPICS, HeadRow
from tests.tools.rpc_node import sample
from tests.tools.served import Served


def test_each_line_is_a_call_and_an_error_does_not_end_it(served: Served) -> None:
    lines = (
        "rpc_ping\n\nchain_getBlock height=x\nno_such\n'\nhelp rpc_ping\nmethods ping\nexit\nx\n"
    )
    result = served.run("rpc", "console", "--json", input=lines)
    assert result.exit_code == 0, result.stderr
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [min(one) for one in documents] == [
        *("time", "error", "error", "error", "about", "items")
    ]
    assert result.stderr.count("why:   ") == 3
    assert served.node.calls[0][0] == "rpc_ping"


def test_texts_stay_texts_and_quotes_hold_words_together(served: Served) -> None:
    served.run("rpc", "console", input="infer_run model=m texts='[\"a b\"]' max_price=5\n")
    [(_, params)] = served.node.calls
    assert (params.texts, params.max_price) == (("a b",), "5")


@pytest.mark.parametrize(
    ("line", "text", "some"),
    [
        ("rpc_pi", "rpc_pi", ["rpc_ping"]),
        ("", "", ["rpc_ping", "exit"]),
        ("help chain_getBl", "chain_getBl", ["chain_getBlock"]),
        ("job_get ", "", ["job_id=", "wait_ms="]),
        ("job_get wai", "wai", ["wait_ms="]),
        ("unknown ", "", []),
    ],
)
def test_tab_completes_methods_and_parameters(line: str, text: str, some: list[str]) -> None:
    found = completions(line, text)
    assert set(some) <= set(found)
    assert some or not found


def test_rows_come_one_a_line_from_where_it_was_asked(served: Served) -> None:
    first = sample(HeadRow)
    for height in (1, 2, 3):
        row = msgspec.structs.replace(first, height=height)
        served.door.events.publish("heads", row)
    words = ("rpc", "subscribe", "heads", "--resume-from", "1", "--count", "2", "--json")
    result = served.run(*words)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["result"]["height"] for row in rows] == [2, 3]
    plain = served.run(*words[:-1])
    assert [line.partition("\t")[0] for line in plain.stdout.splitlines()] == ["2", "3"]


def test_a_filter_leaves_rows_out_and_timeout_ends_it(served: Served) -> None:
    first = sample(HeadRow)
    for height in (1, 2):
        served.door.events.publish("heads", msgspec.structs.replace(first, height=height))
    words = ("rpc", "subscribe", "heads", "height=2", "--resume-from", "0", "--timeout", "0.2")
    result = served.run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    assert [json.loads(one)["result"]["height"] for one in result.stdout.splitlines()] == [2]


def test_an_unknown_topic_gets_the_nearest(served: Served) -> None:
    result = served.run("rpc", "subscribe", "head")
    assert (result.exit_code, "did you mean `heads`?" in result.stderr) == (2, True)
    assert all(name in served.run("rpc", "subscribe", "--help").stdout for name in TOPICS)
