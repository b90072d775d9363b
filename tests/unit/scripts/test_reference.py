"""What scripts/reference.py writes by itself: modules, their sentences and order; markers."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SECTIONS = ("picture", "rooms")
SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`scripts/reference.py` over a small tree."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("reference")
    texts = {
        "node/__init__.py": '"""The rooms."""',
        "node/zeal.py": '"""Last of its room: with\na second line. And more."""',
        "node/net/__init__.py": "",
        "node/net/host.py": '"""Dials."""',
        "protocol/__init__.py": '"""The words."""',
        "protocol/ids.py": '"""Nouns.\n\nDetails."""',
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    page = tmp_path / "PAGE.md"
    marks = "<!-- {0}: written by scripts/reference.py -->\nold\n<!-- end of {0} -->\n"
    page.write_text(f"before\n{''.join(map(marks.format, SECTIONS))}after\n")
    (tmp_path / "pyproject.toml").write_text((SCRIPTS.parent / "pyproject.toml").read_text())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "_PAGE", page)
    monkeypatch.setattr(module, "_MODULES", tmp_path / "reference" / "modules.md")
    monkeypatch.setattr(module, "tracked_files", lambda: sorted(texts))
    monkeypatch.setattr(sys, "argv", ["reference.py"])
    yield module
    for name in ("reference", "picture", "tidy"):
        sys.modules.pop(name, None)


def test_module_list_goes_by_floors_and_takes_first_sentences(reference: ModuleType) -> None:
    assert reference.module_list() == (
        "## protocol/\nThe words.\n\n- `protocol/ids.py`: Nouns.\n"
        "\n## node/\nThe rooms.\n\n- `node/zeal.py`: Last of its room: with a second line.\n"
        "\n## node/net/\n\n\n- `node/net/host.py`: Dials.\n"
    )


def test_main_writes_between_the_markers_and_nothing_else(
    reference: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    reference.main()
    text = reference._PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "`node/zeal.py`" in reference._MODULES.read_text()
    assert all(f"<!-- end of {name} -->" in text for name in SECTIONS)
    reference.main()
    assert "is current" in capsys.readouterr().out


def test_main_with_check_refuses_an_old_page(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["reference.py", "--check"])
    with pytest.raises(SystemExit, match="is not current"):
        reference.main()
    assert "old" in reference._PAGE.read_text()


def test_a_page_without_its_markers_is_refused(reference: ModuleType) -> None:
    reference._PAGE.write_text("no markers")
    with pytest.raises(SystemExit, match="no markers of 'picture'"):
        reference.main()
