import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from prsm.node.cli import building
from prsm.node.cli.main import prsm

_ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_PROGRAM", "tests.tools.fake_recipe")
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))


def test_build_answers_with_what_the_program_made_and_needs_no_node(tmp_path: Path) -> None:
    out = tmp_path / "gpt"
    words = ["--json", "--home", str(tmp_path), "model", "build", "tiny-gpt", "--out", str(out)]
    done = CliRunner().invoke(prsm, [*words, "--steps", "7"])
    assert done.exit_code == 0
    made = json.loads(done.stdout)
    assert made["words"] == ["tiny-gpt", "--out", str(out), "--steps", "7"]


@pytest.mark.parametrize(
    ("recipe", "hint"), [("minilm", "install them"), ("digits", "run it again")]
)
def test_build_fails_with_the_programs_own_words(recipe: str, hint: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(prsm, ["--home", str(tmp_path), "model", "build", recipe])
    assert done.exit_code != 0
    assert f"try:   {hint}" in done.stderr


def test_what_is_added_names_the_tokenizer_only_when_there_is_one() -> None:
    made = {"model": "/m.onnx", "licence": "MIT"}
    assert "tokenizer" not in building._adding("digits", made)
    assert building._adding("minilm", {**made, "tokenizer": "/t"})["tokenizer"] == "/t"
    assert building._adding("tiny-gpt", made)["stages"] == (1, 2, 3)
