"""What documents and messages name is there: each kind of name, seen wrong once."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("claims")
    for name in ("claims", "tidy"):
        sys.modules.pop(name, None)


def found(claims: ModuleType, text: str, path: str = "docs/x.md") -> list[str]:
    """What is complained about in a text, by a program with few names."""
    commands = {
        ("prsm",): frozenset({"--json"}),
        ("prsm", "model"): frozenset({"--json"}),
        ("prsm", "model", "add"): frozenset({"--json", "--name"}),
        ("prsm", "run"): frozenset({"--json", "--dry-run"}),
    }
    known = claims.Names(
        commands,
        groups={("prsm",), ("prsm", "model")},
        methods={"job_getResult", "node_stop"},
        metrics={"prsm_height"},
        keys={"net.listen", "rpc.bind"},
        numbers={1001},
        words={"mempool_full", "prsm_code", "prsm_height"},
    )
    return [what for _, what in claims.complaints(path, text, known)]


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ("`storage/wal.py` and storage/wal.", "`storage/wall.py`", "storage/wall.py is not there"),
        ("`protocol/ids.PeerId`", "`protocol/ids.PearId`", "protocol/ids.PearId is not there"),
        ("docs/adr/0004", "docs/adr/0999", "docs/adr/0999 is not there"),
        ('spec/wire.md, "Frames"', 'spec/wire.md, "Framed"', "wire.md has no section 'Framed'"),
        ("`job_getResult`", "`job_getResults`", "no method job_getResults"),
        ("`prsm_height`", "prsm_hight", "no metric prsm_hight"),
        ("`net.listen = 1`", "`net.listens`", "no key net.listens"),
        ("`mempool_full`", "`mempool_fool`", "mempool_fool stands in no program"),
        ("PRSM-1001", "PRSM-1002", "no error PRSM-1002"),
        ("`prsm model add M`", "`prsm model ad M`", "no command prsm model ad"),
        ("try: prsm run M", "try: prsm runs M", "no command prsm runs"),
        ("`prsm run M [--dry-run]`", "`prsm run M --dry`", "prsm run has no option --dry"),
        ("    prsm run \\\n  --json", "prsm run \\\n  --jason", "prsm run has no option --jason"),
        (
            "scripts/check.py --fast # --no",
            "scripts/check.py --fats",
            "scripts/check.py has no option --fats",
        ),
    ],
)
def test_a_name_that_is_not_there_is_said(
    claims: ModuleType, right: str, wrong: str, why: str
) -> None:
    assert found(claims, right) == []
    assert found(claims, wrong) == [why]


def test_prose_and_other_names_are_no_claims(claims: ModuleType) -> None:
    text = (
        "installing prsm itself; `net.log`, `prsm envelope 1`, `prsm_code`, storage/*, a/storage/x"
    )
    assert found(claims, text) == []
    assert found(claims, "`kad_dht` of another library", "docs/adr/0009.md") == []


def test_of_programs_only_paths_sections_and_commands_are_read(claims: ModuleType) -> None:
    text = '"""See docs/spec/wire.md, "Nix"."""\nhint = "try: prsm runs"\nx = "`net.bad`"\n'
    assert found(claims, text, "node/x.py") == [
        "wire.md has no section 'Nix'",
        "no command prsm runs",
    ]


@pytest.mark.slow
def test_all_that_the_tree_names_is_there(claims: ModuleType) -> None:
    """Plant it: rename a command in a document, or a key."""
    assert claims.all_complaints() == []
