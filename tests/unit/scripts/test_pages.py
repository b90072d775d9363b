"""docs/reference is what the program says of itself now."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from prsm.node.config.load import KEYS
from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.reasons import REGISTRY
from prsm.node.telemetry.metrictable import METRICS

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("pages")
    for name in ("observability", "pages"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_page_is_current(pages: ModuleType) -> None:
    stale = [str(path) for path, text in pages.pages().items() if (ROOT / path).read_text() != text]
    assert not stale, f"{', '.join(stale)}: write them anew with python3 scripts/reference.py"


def test_pages_leave_nothing_out() -> None:
    rpc = (REFERENCE / "rpc.md").read_text()
    assert [name for name in METHODS if f"### {name}\n" not in rpc] == []
    errors = (REFERENCE / "errors.md").read_text()
    assert [e.reason for e in REGISTRY.values() if f"`{e.reason}`" not in errors] == []
    config = (REFERENCE / "config.md").read_text()
    assert [key for key in KEYS if f"| `{key}` |" not in config] == []
    metrics = (REFERENCE / "metrics.md").read_text()
    assert [row.name for row in METRICS if f"| `{row.name}` |" not in metrics] == []


def test_every_command_stands_with_its_options(pages: ModuleType) -> None:
    text = (REFERENCE / "cli.md").read_text()
    for words, command in pages._commands(pages.prsm, ()):
        _, _, part = text.partition(f"## prsm {' '.join(words)}\n")
        part = part.partition("\n## ")[0]
        assert part, words
        for option in command.params:
            if option.param_type_name == "option" and not getattr(option, "hidden", False):
                assert f"`{option.opts[0]}`" in part, (words, option.opts)
