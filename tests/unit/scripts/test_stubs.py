"""The types of the client's namespaces say what the table says."""

import ast

import pytest

from prsm.node.rpc.methods.table import METHODS
from prsm.node.rpc.sdk.names import spoken
from scripts.stubs import FILE, Stub, written


def functions(text: str) -> dict[str, set[str]]:
    """Class name -> its functions."""
    return {
        node.name: {
            one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef)
    }


def test_every_method_has_its_types_for_both_clients() -> None:
    found = functions(Stub(METHODS).text())
    for name in METHODS:
        space, _, _ = name.partition("_")
        if space != "sub":  # begun by client.subscribe
            assert spoken(name) in found[f"_{space.capitalize()}"]
            assert spoken(name) in found[f"_Async{space.capitalize()}"]
            assert space in found["Surface"] & found["AsyncSurface"]


@pytest.mark.slow
def test_the_file_is_the_one_the_table_makes() -> None:
    assert FILE.read_text() == written(), "run .venv/bin/python scripts/stubs.py"
