"""What is compiled and what is not, and when a compiled copy is not of these sources."""

from pathlib import Path
from typing import Any

import compiled
import pytest


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("replica.py", "def step() -> None: ...\n", None),
        ("effects.py", "class Send(Struct, frozen=True):\n    peer: str\n", "keywords"),
        ("chunks.py", "class Fake(Record, frozen=True):\n    height: int\n", "keywords"),
        ("sync.py", "if TYPE_CHECKING:\n    from prsm import node\n", None),
        ("errors.py", "class Late(Exception): ...\n", "errors"),
        ("plan.py", "class Plan: ...\n", "between processes"),
        ("progress.py", "class Progress: ...\n", "a file is read"),
        ("__main__.py", "main()\n", "program"),
    ],
)
def test_modules_that_mypyc_would_change_are_left(
    tmp_path: Path, name: str, text: str, why: str | None
) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = compiled.reasons(path)
    assert found is None if why is None else why in str(found)


def test_names_known_only_for_their_types_are_any_in_the_copy() -> None:
    text = (
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from prsm.a import Node\n    from prsm.b import World\n\n"
        'def look(node: "Node | None") -> "World": ...\n'
    )
    found = compiled.loosened(text)
    assert "from prsm" not in found
    names: dict[str, object] = {}
    exec(found, names)
    assert names["Node"] is names["World"] is Any
    assert compiled.loosened("import a\n") == "import a\n"


def test_copy_of_other_sources_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was compiled to its end while the sources changed."""
    source, folder = tmp_path / "source", tmp_path / "copy"
    for root in (source, folder / "prsm"):
        (root / "consensus").mkdir(parents=True)
        (root / "consensus" / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(compiled, "ROOT", source)
    assert not compiled._is_whole(folder)
    (folder / compiled.DONE).write_text(compiled._digest(folder / "prsm"))
    assert compiled._is_whole(folder)
    (source / "consensus" / "a.py").write_text("A = 2\n")
    assert not compiled._is_whole(folder)
    (folder / compiled.DONE).write_text(compiled._digest(source))
    assert not compiled._is_whole(folder)
