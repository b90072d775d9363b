"""What no linter holds: each rule sees its fault, and nothing where there is none."""

import ast
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from scripts import tidy

WORD = "TO" + "DO"


def complaints(path: str, text: str) -> list[str]:
    """All complaints about a file of that path and text."""
    return list(tidy.complaints_of(path, text))


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("protocol/x.py", "x = 1\n", "1: no module docstring"),
        ("protocol/x.py", '"""D."""\n' + "x = 1\n" * 400, "1: 401 lines, at most 400"),
        ("protocol/x.py", '"""D."""\ndef f():\n' + "    x = 1\n" * 60, "2: f has 61 lines"),
        ("protocol/x.py", '"""D."""\nasync def f():\n' + "    x = 1\n" * 60, "2: f has 61 lines"),
        ("node/__init__.py", '"""D."""\nx = 1\n', "2: code in __init__"),
        ("node/__init__.py", '"""D."""\nfor x in ():\n    pass\n', "2: code in __init__"),
        ("node/x.py", '"""D."""\nclass PeerManager: ...\n', "2: class PeerManager"),
        ("node/x.py", '"""D."""\nclass RealClock: ...\n', "2: class RealClock"),
        ("node/x.py", '"""D."""\nclass PeerUtils: ...\n', "2: class PeerUtils"),
        ("node/x.py", f'"""D."""\nx = 1  # {WORD}: later\n', f"2: {WORD} in the source"),
        ("node/x.py", '"""D."""\nx = 1  # noqa\n', "2: '# noqa' without"),
        ("node/x.py", '"""D."""\nx = 1  # noqa: E501\n', "2: '# noqa: E501' without"),
        ("node/x.py", '"""D."""\nx = 1  # type: ignore\n', "2: '# type: ignore' without"),
        ("node/x.py", '"""D."""\nx = 1  # type: ignore[misc]\n', "without code and reason"),
        ("node/x.py", '"""D."""\nx = 1  # pragma: no cover\n', "without code and reason"),
        ("node/x.py", '"""D."""\nx = ["python", "-m", "prsm.nothing"]\n', "2: -m prsm.nothing"),
        ("README.md", "python -m prsm.nothing\n", "1: -m prsm.nothing names nothing"),
        ("README.md", "[there](docs/nothing.md)\n", "1: link to docs/nothing.md"),
        ("docs/adr/0.md", "\n[there](NOWHERE.md#part)\n", "2: link to NOWHERE.md"),
    ],
)
def test_complaints_of_sees_the_fault(path: str, text: str, found: str) -> None:
    said = complaints(path, text)
    assert len(said) == 1, said
    assert found in said[0]
    assert said[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("protocol/x.py", '"""D."""\n' + "x = 1\n" * 399),
        ("protocol/x.py", '"""D."""\ndef f():\n' + "    x = 1\n" * 59),
        ("tests/unit/test_x.py", "x = 1\n"),
        ("node/__init__.py", '"""D."""\nfrom prsm.protocol import ids\n__all__ = ["ids"]\n'),
        ("node/x.py", '"""D."""\nclass Realm: ...\nclass Utilisation: ...\n'),
        ("node/x.py", '"""D."""\nx = 1  # noqa: E501, C901 - a table\n'),
        ("node/x.py", '"""D."""\nx = 1  # type: ignore[misc]  # the stub is wrong\n'),
        ("node/x.py", '"""D."""\nx = "# noqa"\n'),
        ("node/x.py", '"""D."""\nx = ["python", "-m", "venv"]\n'),
        ("README.md", "[page](docs/ARCHITECTURE.md) [web](https://example.org) [here](#part)\n"),
        ("picture.png", WORD),
    ],
)
def test_complaints_of_says_nothing_where_there_is_no_fault(path: str, text: str) -> None:
    assert complaints(path, text) == []


def test_check_packaging_sees_a_lost_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    (tmp_path / "src" / "prsm").mkdir(parents=True)
    for name in ("protocol", "consensus", "storage", "node"):
        (tmp_path / "src" / "prsm" / name).symlink_to(f"../../{name}")
    assert list(tidy.check_packaging([])) == ["src/prsm/testnet:1: no link to ../../testnet"]


def test_check_listed_sees_a_module_without_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    (tmp_path / "docs" / "reference" / "modules.md").write_text("- `node/clock.py`: the clock.\n")
    said = list(tidy.check_listed(["node/__init__.py", "node/clock.py", "node/new.py", "x.md"]))
    assert len(said) == 1
    assert said[0].startswith("node/new.py:1: no line in docs/reference/modules.md")


def test_every_check_is_in_a_table() -> None:
    """A check nobody calls would hold nothing."""
    tree = ast.parse(Path(tidy.__file__).read_text())
    written = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    }
    tables = chain(tidy.FILE_CHECKS, tidy.TEXT_CHECKS, tidy.TREE_CHECKS)
    assert {check.__name__ for check in tables} == written


def test_main_prints_complaints_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repository with one untracked and one tracked fault: the tracked one is said."""
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    monkeypatch.setattr(tidy, "TREE_CHECKS", ())
    (tmp_path / "tracked.md").write_text("[x](nothing.md)\n")
    (tmp_path / "untracked.md").write_text("[x](nothing.md)\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "tracked.md"], cwd=tmp_path, check=True)
    with pytest.raises(SystemExit) as caught:
        tidy.main()
    assert caught.value.code == 1
    assert capsys.readouterr().out == "tracked.md:1: link to nothing.md, which is not there\n"
