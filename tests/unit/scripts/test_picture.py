"""The picture of docs/ARCHITECTURE.md: rooms and weights from imports, arrows without detours."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = """
[tool.importlinter]
contracts = [
  { containers = ["prsm"], layers = ["node", "protocol"] },
  { containers = ["prsm.node"], layers = [
    "(cli) | (worker)", "(daemon)", "web", "(rpc)", "(clock)"
  ] },
  { source_modules = ["prsm.protocol"], forbidden_modules = ["trio"] },
  { source_modules = ["prsm"], forbidden_modules = ["click", "libp2p"] },
]
"""
TREE = {
    "protocol/ids.py": "import os\n",
    "protocol/messages/net.py": "from prsm.protocol import ids\n",
    "node/clock.py": "from prsm.protocol.ids import (\n    A,  # a, word\n    B,\n)\n",
    "node/daemon.py": "from prsm.node import clock\nfrom prsm.node.web.app import App\n",
    "node/web/app.py": "import trio\nfrom prsm.node.rpc import wire\nfrom prsm.node import clock\n",
    "node/rpc/wire.py": "from prsm.node.clock import now\n\ndef f():\n    import libp2p.host\n",
}


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("picture")
    for name in ("picture", "reference", "tidy"):
        sys.modules.pop(name, None)


def write(folder: Path) -> None:
    for path, text in TREE.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def test_rooms_have_what_their_imports_say(picture: ModuleType, tmp_path: Path) -> None:
    write(tmp_path)
    found = picture.rooms(tmp_path, TREE, PROJECT)
    assert list(found) == [
        "node (top)", "node/web", "node/rpc", "node (ground)", "protocol", "protocol/messages",
    ]  # fmt: skip
    assert found["node (top)"].uses == {"node (ground)": 1, "node/web": 1}
    assert found["node (ground)"].uses == {"protocol": 1}
    assert found["node/web"].foreign == {"trio"}
    assert found["node/rpc"].foreign == {"libp2p"}, "an import inside of a function counts"
    assert (found["protocol"].modules, found["protocol"].lines) == (1, 1)


def test_an_arrow_that_others_imply_is_left_out(picture: ModuleType, tmp_path: Path) -> None:
    write(tmp_path)
    drawn = picture.picture(picture.rooms(tmp_path, TREE, PROJECT))
    assert "node_top -- 1 --> web" in drawn
    assert "rpc -- 1 --> node_ground" in drawn
    assert "web -- 1 --> node_ground" not in drawn
    assert "node -- 1 --> protocol" in drawn


def test_the_shape_of_a_picture_has_no_figures(picture: ModuleType) -> None:
    before = "    a -- 3 --> b\n| `a` | 4 | 1,000 | b 3 | trio |\n"
    after = "    a -- 12 --> b\n| `a` | 5 | 1,100 | c 1 | trio |\n"
    assert picture.shape(before) == picture.shape(after)
    assert picture.shape(before) != picture.shape(before.replace("trio", "trio, libp2p"))
    assert picture.shape(before) != picture.shape(before.replace("--> b", "--> c"))


@pytest.mark.slow
def test_the_architecture_shows_the_rooms_and_arrows_of_now(picture: ModuleType) -> None:
    reference = importlib.import_module("reference")
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    current = reference.sections()
    for name in ("picture", "rooms"):
        _, inside, _ = reference.between(page, name)
        stale = (set(picture.shape(current[name])) ^ set(picture.shape(inside))) - {""}
        assert not stale, f"{stale}: run python3 scripts/reference.py"
