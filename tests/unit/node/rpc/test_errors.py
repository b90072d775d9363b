"""The error registry covers every typed error of the package."""

import ast
import re
from pathlib import Path

import prsm
from prsm.node.rpc.errors import BadParams, TooMany, error_data
from prsm.node.rpc.reasons import BY_NUMBER, REGISTRY, Exit, entry_for
from prsm.protocol.errors import PrsmError


def declared_reasons() -> dict[str, str]:
    """Every `reason = "…"` in a class of the package, read from the sources: reason -> where."""
    found: dict[str, str] = {}
    for folder in Path(prsm.__path__[0]).iterdir():
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.ClassDef):
                    for reason in _reasons(node):
                        found[reason] = f"{folder.name}/{path.name}: {node.name}"
    return found


def _reasons(cls: ast.ClassDef) -> list[str]:
    values: list[str] = []
    for line in cls.body:
        targets = (
            line.targets
            if isinstance(line, ast.Assign)
            else [line.target]
            if isinstance(line, ast.AnnAssign)
            else []
        )
        named = any(isinstance(target, ast.Name) and target.id == "reason" for target in targets)
        value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
        if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
            values.append(value.value)
    return values


def test_every_reason_of_every_error_class_is_registered() -> None:
    """A new error class without a row would answer -32603 for a fault that is not ours."""
    declared = declared_reasons()
    assert len(declared) > 30
    assert {"internal", "invalid_params", "home_locked", "config_invalid"} <= set(declared)
    missing = {reason: place for reason, place in declared.items() if reason not in REGISTRY}
    assert not missing


def test_entries_are_complete_and_unique() -> None:
    assert len(BY_NUMBER) == len(REGISTRY)
    for entry in REGISTRY.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.reason)
        assert re.fullmatch(r"PRSM-[1-6]\d{3}", entry.prsm_code)
        assert -32768 <= entry.code <= -32000
        assert entry.title
        assert entry.why
        assert entry.fix
        assert entry.exit_code is not Exit.DONE


def test_exit_codes_follow_the_meaning() -> None:
    assert entry_for("node_unreachable").exit_code == 3
    assert entry_for("unauthorised").exit_code == 4
    assert entry_for("wrong_password").exit_code == 4
    assert entry_for("deadline_passed").exit_code == 5
    assert entry_for("verification_failed").exit_code == 6
    assert entry_for("invalid_params").exit_code == 2


def test_an_unknown_reason_is_internal_but_keeps_its_word() -> None:
    class Strange(PrsmError):
        reason = "never_heard"

    assert entry_for("never_heard").code == -32603
    assert error_data(Strange("x"), trace_id="t")["reason"] == "never_heard"


def test_error_data_carries_field_and_retry_only_where_they_are() -> None:
    data = error_data(BadParams("x", field="to"), trace_id="t")
    assert data["field"] == "to"
    assert "retry_after_ms" not in data
    data = error_data(TooMany("x", retry_after_ms=5), trace_id="t")
    assert data["retry_after_ms"] == 5
    assert data["retryable"] is True
    assert data["docs"] == "prsm explain PRSM-1008"
