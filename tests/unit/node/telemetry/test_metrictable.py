"""The table of metrics: names by the rules of Prometheus, and a source for each of them."""

import ast
import re
from pathlib import Path

from prsm.node.telemetry.metrictable import BY_NAME, METRICS, PROCESS, Kind

ROOT = Path(__file__).parents[4]


def test_names_say_their_kind_and_unit() -> None:
    for row in METRICS:
        assert re.fullmatch(r"prsm(_[a-z]+)+", row.name), row.name
        assert row.name.endswith("_total") == (row.kind is Kind.COUNTER), row.name
        assert bool(row.buckets) == (row.kind is Kind.HISTOGRAM), row.name
        assert list(row.buckets) == sorted(row.buckets)
        assert row.help.endswith(".")
        assert not re.search(r"_(ms|kb|mb)(_|$)", row.name), f"{row.name}: base units only"


def test_no_label_can_be_made_up_by_a_peer() -> None:
    closed = {
        *("version", "commit", "severity", "part", "level", "direction", "topic", "protocol"),
        *("phase", "reason", "type", "result", "state", "stage", "provider", "kind", "source"),
        *("method", "code"),
    }
    assert {label for row in METRICS for label in row.labels} <= closed


def test_every_name_has_a_source_and_every_source_a_name() -> None:
    """Names in the code of the node, outside the table, are those of the table: all of them."""
    told: set[str] = set()
    for path in (ROOT / "node").rglob("*.py"):
        if path.name == "metrictable.py":
            continue
        text = path.read_text()
        if '"prsm_' not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            is_told = node.func.attr in {"inc", "put", "observe", "partial"}
            words = [str(word.value) for word in node.args if isinstance(word, ast.Constant)]
            if is_told:
                told |= {word for word in words if word.startswith("prsm_")}
    assert told - BY_NAME.keys() == set(), "told, and not in the table"
    assert BY_NAME.keys() - told == set(), "in the table, and nobody tells it"
    assert not set(PROCESS) & set(BY_NAME)
