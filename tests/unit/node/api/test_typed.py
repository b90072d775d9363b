"""Calls as people type them: what is typed makes the same call."""

import msgspec
import pytest

from prsm.node.api.typed import typed
from prsm.node.rpc.methods.models import METHODS, AddParams

(ADD,) = (method for method in METHODS if method.name == "model_add")


@pytest.mark.parametrize(
    ("params", "line"),
    [
        (AddParams("/m.onnx", "m"), "prsm model add /m.onnx --name m"),
        (
            AddParams("/a b.onnx", "m", stages=(1, 2), register=False, weights=("*",)),
            "prsm model add '/a b.onnx' --name m --stages 1,2 --weights '*' --no-register",
        ),
        (
            AddParams("/m.onnx", "m", semver="2.0.0", tokenizer="/t.json", task="add-00000000"),
            "prsm model add /m.onnx --name m --semver 2.0.0 --tokenizer /t.json",
        ),
    ],
)
def test_a_call_is_typed_with_what_differs(params: AddParams, line: str) -> None:
    assert typed(ADD, msgspec.structs.replace(params, task=None)) == line
