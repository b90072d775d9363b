"""`prsm plan run`: the file, TOML or JSON, and what is no plan."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from prsm.node.cli.failures import Usage
from prsm.node.cli.main import prsm
from prsm.node.cli.plans import read_plan
from prsm.node.rpc.methods.plans import SubmitParams

TOML = """
budget = "100000"
[[steps]]
id = "read"
kind = "embed"
model = "minilm"
texts = ["a sentence"]
[[steps]]
id = "find"
kind = "search"
takes = "read"
limit = 5
"""


def test_toml_and_json_are_the_same_plan(tmp_path: Path) -> None:
    toml, json = tmp_path / "plan.toml", tmp_path / "plan.json"
    toml.write_text(TOML)
    document = read_plan(toml)
    json.write_bytes(msgspec.json.encode(document))
    assert read_plan(json) == document
    params = msgspec.convert(document, SubmitParams)
    assert [(step.id, step.kind, step.takes) for step in params.steps] == [
        ("read", "embed", None),
        ("find", "search", "read"),
    ]


@pytest.mark.parametrize(("name", "raw"), [("p.toml", b"[["), ("p.json", b"[]"), ("p", b"\xff")])
def test_what_is_no_plan_is_said_to_be_none(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(Usage, match="is no plan"):
        read_plan(tmp_path / name)
    with pytest.raises(Usage, match="cannot be read"):
        read_plan(tmp_path / "none")


def test_without_a_node_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TOML)
    words = ["--home", str(tmp_path / "none"), "plan", "run", str(tmp_path / "plan.toml")]
    assert CliRunner().invoke(prsm, [*words, "--node", "http://127.0.0.1:9"]).exit_code == 3
