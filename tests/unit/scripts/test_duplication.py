"""The share of repeated lines, as the public tool counts it."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
LINES = "\n".join(f"value_{at} = compute({at}) + offset" for at in range(40))


def test_what_stands_twice_is_counted_and_what_stands_once_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    duplication = importlib.import_module("duplication")
    first, again, other = tmp_path / "first.py", tmp_path / "again.py", tmp_path / "other.py"
    first.write_text(LINES)
    again.write_text(LINES)
    other.write_text(LINES.replace("compute", "guess"))
    assert duplication.count([first, other])[1] == 0.0
    report, percent = duplication.count([first, again])
    assert "again" in report
    assert percent > duplication.PERCENT_MAX


def test_file_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    duplication = importlib.import_module("duplication")
    with pytest.raises(RuntimeError, match="no total"):
        duplication.count([tmp_path / "absent.py"])
