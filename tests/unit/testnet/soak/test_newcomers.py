"""Models of a soak: each is its own file, and still the same model."""

import onnx
import pytest
from onnx import TensorProto, helper

from prsm.testnet.soak.newcomers import with_comment


@pytest.mark.parametrize("size", [0, 1, 60, 70_000])
def test_model_with_a_comment_is_another_file_and_the_same_graph(size: int) -> None:
    """The bytes behind the end are metadata to onnx's own reader."""
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    two = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [one], [two])
    raw = helper.make_model(graph).SerializeToString()
    found = onnx.load_from_string(with_comment(raw, bytes(size)))
    assert found.graph == onnx.load_from_string(raw).graph
    assert [(entry.key, entry.value) for entry in found.metadata_props] == [
        ("soak", bytes(size).hex())
    ]
