"""Alert rules, the Grafana board and the runbooks: parsed, and compared with the node's tables."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import promql_parser
import pytest
import yaml

from prsm.node.cli.main import prsm
from prsm.node.telemetry.alertrules import RULES
from prsm.node.telemetry.metrictable import BY_NAME, METRICS, PROCESS

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "scripts" / "deploy"
RUNBOOKS = ROOT / "docs" / "runbooks"
SERIES = {name: row for row in METRICS for name in row.series} | dict.fromkeys(PROCESS)
OTHERS = {"instance", "le", "job"}  # labels of Prometheus itself


@pytest.fixture
def observability(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("observability")
    sys.modules.pop("observability", None)


class Selectors(list[promql_parser.VectorSelector]):
    """Every selector of a query."""

    def __init__(self, query: str) -> None:
        super().__init__()
        self._walk(promql_parser.parse(query.replace("$__rate_interval", "5m")))

    def _walk(self, node: Any) -> None:  # noqa: ANN401 - the parser's classes have no common base
        if isinstance(node, promql_parser.VectorSelector):
            self.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            self.append(node.vector_selector)
        elif isinstance(node, promql_parser.BinaryExpr):
            self._walk(node.lhs)
            self._walk(node.rhs)
        elif isinstance(node, promql_parser.Call):
            for argument in node.args:
                self._walk(argument)
        elif isinstance(node, promql_parser.AggregateExpr | promql_parser.ParenExpr):
            self._walk(node.expr)


def check_query(query: str) -> None:
    """Every series of a query is one of ours, and so are its labels."""
    found = Selectors(query)
    assert found, query
    for selector in found:
        name = selector.name
        assert name == "up" or name in SERIES, f"{name} is no metric of the table: {query}"
        row = SERIES.get(name)
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= OTHERS | set(row.labels if row else ()), f"{name}: labels {labels}"


def grouped(query: str) -> set[str]:
    return {
        label.strip() for by in re.findall(r" by \(([^)]*)\)", query) for label in by.split(",")
    }


def test_rules_of_prometheus_are_those_of_the_node(observability: ModuleType) -> None:
    text = (DEPLOY / "alerts.yaml").read_text()
    assert text == observability.alerts_yaml(), "write it anew: python3 scripts/reference.py"
    (group,) = yaml.safe_load(text)["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule.name for rule in RULES]
    for found, rule in zip(group["rules"], RULES, strict=True):
        assert found["expr"] == rule.expr
        assert found["for"] == f"{rule.for_s}s"
        assert found["labels"] == {"severity": rule.severity}
        check_query(found["expr"])
        known = {label for row in METRICS for label in row.labels} | OTHERS
        assert grouped(found["expr"]) <= known


def test_queries_of_the_board_parse_and_name_our_metrics(observability: ModuleType) -> None:
    text = (DEPLOY / "grafana.json").read_text()
    assert text == observability.grafana_json(), "write it anew: python3 scripts/reference.py"
    board = json.loads(text)
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 35
    for query in queries:
        check_query(query)
        for selector in Selectors(query):
            row = SERIES.get(selector.name or "")
            assert grouped(query) <= OTHERS | set(row.labels if row else ()), query


def test_every_metric_is_on_the_board(observability: ModuleType) -> None:
    shown = {
        selector.name
        for _, panels in observability.ROWS
        for panel in panels
        for query, _ in panel.queries
        for selector in Selectors(query)
    }
    absent = {row.name for row in METRICS if not set(row.series) & shown}
    assert absent == {"prsm_consensus_view", "prsm_mempool_bytes", "prsm_node_syncing"} | {
        "prsm_peers_expected"
    }


def test_panels_of_the_board_do_not_overlap() -> None:
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_a_wrong_query_is_seen() -> None:
    for query in ("rate(prsm_typo_total[5m])", 'prsm_peers{colour="red"}'):
        with pytest.raises(AssertionError):
            check_query(query)
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("rate(prsm_peers[5m]")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_has_a_page_that_says_what_to_do(rule: Any) -> None:  # noqa: ANN401 - parametrised
    assert rule.runbook == f"docs/runbooks/{rule.name}.md"
    text = (ROOT / rule.runbook).read_text()
    assert text.startswith(f"# {rule.name}\n")
    assert rule.expr in text
    assert f"Severity: {rule.severity}; after {rule.for_s} s." in text
    for part in ("## What it means", "## Look", "## Do"):
        assert part in text
    assert (
        f"[{rule.name}]({rule.name}.md) | {rule.severity}" in (RUNBOOKS / "README.md").read_text()
    )


def test_no_page_is_left_over() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {"README", *(r.name for r in RULES)}


def test_commands_and_names_of_the_pages_exist() -> None:
    """`prsm a b` in a page is a command of this program, `prsm_x` a metric."""
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        for line in re.findall(r"`prsm ([^`]+)`", text):
            assert resolves(line.split()), f"{path.name}: prsm {line}"
        for name in re.findall(r"`(prsm_[a-z_]+)`", text):
            assert name in BY_NAME, f"{path.name}: {name}"


def resolves(words: list[str]) -> bool:
    command: click.Command | None = prsm
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        command = command.get_command(click.Context(command), word)
    if command is None:
        return False
    known = {name for option in command.params for name in option.opts}
    asked = {word for word in words if word.startswith("--")}
    return asked <= known
