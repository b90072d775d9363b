from collections.abc import Callable

import onnx
import pytest
from onnx import TensorProto

from prsm.node.worker.scan import Policy, scan
from prsm.protocol.messages.pipe import ModelRefused
from tests.tools import graphs

_SLOW = {"too many nodes", "too many weights"}


@pytest.mark.parametrize("make", [graphs.mlp, graphs.encoder, graphs.cached_decoder])
def test_scan_passes_an_honest_graph(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    assert scan(model.SerializeToString(), Policy()) == model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _SLOW else [])
        for name in graphs.REFUSED
    ],
)
def test_scan_refuses_a_hostile_graph(name: str) -> None:
    raw = graphs.REFUSED[name]()
    with pytest.raises(ModelRefused) as caught:
        scan(raw, Policy())
    assert caught.value.what


def test_corpus_has_twenty_classes() -> None:
    assert len(graphs.REFUSED) + len(graphs.REFUSED_LATER) >= 40


def test_scan_names_the_operator_it_refuses() -> None:
    with pytest.raises(ModelRefused, match="Loop"):
        scan(graphs.loop().SerializeToString(), Policy())


def test_scan_passes_control_flow_when_the_operator_allows_it() -> None:
    raw = graphs.loop().SerializeToString()
    assert scan(raw, Policy(allows_control_flow=True)).graph.node


def test_scan_looks_into_subgraphs_that_are_allowed() -> None:
    raw = graphs.REFUSED["external in a subgraph"]()
    with pytest.raises(ModelRefused, match="another file"):
        scan(raw, Policy(allows_control_flow=True))


def test_scan_bounds_nesting_that_is_allowed() -> None:
    raw = graphs.REFUSED["nested ifs"]()
    with pytest.raises(ModelRefused, match="deeper than 4"):
        scan(raw, Policy(allows_control_flow=True))


def test_scan_counts_elements_of_typed_fields() -> None:
    model = graphs.mlp(layers=1)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 10)
    with pytest.raises(ModelRefused, match="5184 elements and has 10"):
        scan(model.SerializeToString(), Policy())


def test_scan_accepts_a_weight_in_a_typed_field() -> None:
    model = graphs.mlp(layers=1)
    model.graph.initializer.append(
        TensorProto(name="typed", data_type=TensorProto.INT64, dims=[2], int64_data=[1, 2])
    )
    assert scan(model.SerializeToString(), Policy()) == model
