import numpy as np
import onnx
import pytest

from prsm.node.worker import golden
from prsm.node.worker.pipe import Array
from prsm.protocol.messages.pipe import ModelRefused
from tests.tools import graphs


def test_golden_file_keeps_its_rows() -> None:
    rows: dict[str, Array] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones((2, 1), np.int64),
    }
    found = golden.load(golden.save(rows))
    assert {n: a.tolist() for n, a in found.items()} == {n: a.tolist() for n, a in rows.items()}


@pytest.mark.parametrize("raw", [b"", b"\0\0", b"\0\0\0\x08junkjunk", b"\xff\xff\xff\xff1"])
def test_golden_load_refuses_other_bytes(raw: bytes) -> None:
    with pytest.raises(ModelRefused, match="golden rows"):
        golden.load(raw)


def test_golden_load_refuses_a_cut_file() -> None:
    raw = golden.save({"a": np.ones(4, np.float32)})
    with pytest.raises(ModelRefused):
        golden.load(raw[:-1])


def test_make_inputs_is_repeatable_and_in_range() -> None:
    graph = graphs.encoder().graph
    axes = golden.free_axes(graph, golden.SIZES)
    assert axes == {"batch": 8, "tokens": 16}
    first, second = golden.make_inputs(graph, axes), golden.make_inputs(graph, axes)
    assert first["input_ids"].tobytes() == second["input_ids"].tobytes()
    assert first["input_ids"].min() >= 0
    assert first["input_ids"].max() < 257
    assert len(set(first["attention_mask"].sum(axis=1).tolist())) > 1


def test_make_inputs_refuses_a_giant() -> None:
    model = graphs.mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**30
    with pytest.raises(ModelRefused, match="too large"):
        golden.make_inputs(model.graph, {})


@pytest.mark.parametrize("shape", [(5,), (3, 8), (8, 3), (9, 2, 4), (4, 1), (4, 0), (0, 4), (1, 1)])
def test_mask_equals_its_slow_twin(shape: tuple[int, ...]) -> None:
    """Goal: the rows kept with models stay what they are. Method: one row after another."""
    due = np.ones(shape, np.int64)
    for row in range(shape[0] if len(shape) > 1 else 0):
        due[row, ..., shape[-1] - min(row, shape[-1] - 1) :] = 0
    assert np.array_equal(_mask(*shape), due)


def test_mask_of_endless_rows_without_places_takes_no_time() -> None:
    assert _mask(2**31 - 1, 0).shape == (2**31 - 1, 0)


def _mask(*shape: int) -> Array:
    graph = onnx.GraphProto()
    value = onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.INT64, list(shape))
    graph.input.append(value)
    return golden.make_inputs(graph, {})["mask"]
