"""Adapters beside the weights: nothing without one, the merged network with one, in every split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import save

from prsm.node.worker import golden, lora, session
from prsm.node.worker.optimise import pin
from prsm.node.worker.pipe import Array
from prsm.node.worker.prepare import Preparation
from prsm.node.worker.scan import Policy, scan
from prsm.protocol.messages.pipe import InputMismatch, ModelRefused
from tests.tools import graphs


def _adapter(sites: list[lora.Site], rank: int = 4) -> dict[str, Array]:
    dice = np.random.default_rng(5)
    arrays: dict[str, Array] = {}
    for site in sites:
        arrays[site.name + lora.DOWN] = dice.standard_normal((site.rows, rank)).astype(np.float32)
        up = dice.standard_normal((rank, site.columns)) * 0.01
        arrays[site.name + lora.UP] = up.astype(np.float32)
    return arrays


def _run(model: session.Model, feeds: dict[str, Array]) -> dict[str, Array]:
    return session.compute(model, feeds, session.run_options())


def _pinned(model: onnx.ModelProto, folder: Path) -> session.Model:
    raw = model.SerializeToString()
    scan(raw, Policy())
    return session.load(pin(raw, folder))


def _rows(model: onnx.ModelProto) -> dict[str, Array]:
    return golden.make_inputs(model.graph, golden.free_axes(model.graph, golden.SIZES))


@pytest.mark.parametrize("make", [graphs.encoder, graphs.cached_decoder])
def test_adaptable_graph_without_adapter_gives_the_bits_of_the_base(
    make: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    base = make()
    wide, sites = lora.adaptable(base)
    assert len(sites) == 12  # q, k, v, o, up, down of two layers
    rows = _rows(base)
    expected = _run(_pinned(base, tmp_path), rows)
    found = _run(_pinned(wide, tmp_path), rows)
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes()


def test_adapter_does_what_merged_weights_do(tmp_path: Path) -> None:
    base = graphs.encoder()
    wide, sites = lora.adaptable(base)
    arrays = _adapter(sites)
    model = _pinned(wide, tmp_path)
    feeds = lora.feeds_for(model, lora.read(save(arrays)))
    assert len(feeds) == 2 * len(sites)
    rows = _rows(base)
    found = _run(model, rows | feeds)["sentence_embedding"]
    for tensor in base.graph.initializer:
        if tensor.name + lora.DOWN in arrays:
            more = arrays[tensor.name + lora.DOWN] @ arrays[tensor.name + lora.UP]
            merged = numpy_helper.to_array(tensor) + more
            tensor.CopyFrom(numpy_helper.from_array(merged, tensor.name))
    expected = _run(_pinned(base, tmp_path), rows)["sentence_embedding"]
    assert np.abs(found - expected).max() < 1e-6
    assert np.abs(found - _run(model, rows)["sentence_embedding"]).max() > 1e-3


def test_stages_take_their_own_part_of_an_adapter(tmp_path: Path) -> None:
    """Goal: a split with an adapter equals the whole with it. Method: two stages, by hand."""
    wide, sites = lora.adaptable(graphs.encoder())
    files: dict[str, bytes] = {}
    work = Preparation(Policy(), session.compute, files.__setitem__)
    work.run(wide.SerializeToString(), tmp_path, [2])
    adapter = lora.read(save(_adapter(sites)))
    whole = session.load(files["pinned.onnx"])
    values = _rows(wide)
    expected = _run(whole, values | lora.feeds_for(whole, adapter))["sentence_embedding"]
    taken = 0
    for place in range(2):
        stage = session.load(files[f"stage-2-{place}.onnx"])
        feeds = {spec.name: values[spec.name] for spec in stage.inputs}
        own = lora.feeds_for(stage, adapter)
        taken += len(own)
        values |= _run(stage, feeds | own)
    assert taken == 2 * len(sites)
    assert values["sentence_embedding"].tobytes() == expected.tobytes()


def test_caller_cannot_feed_an_adapter_input(tmp_path: Path) -> None:
    wide, sites = lora.adaptable(graphs.encoder())
    model = _pinned(wide, tmp_path)
    assert [spec.name for spec in model.inputs] == ["input_ids", "attention_mask"]
    with pytest.raises(InputMismatch, match="unknown input"):
        session.check_inputs(model, _rows(graphs.encoder()) | _adapter(sites[:1]))


def test_graph_without_such_products_or_with_inputs_already_is_refused() -> None:
    with pytest.raises(ModelRefused, match="no product over"):
        lora.adaptable(graphs.mlp())
    wide, _ = lora.adaptable(graphs.encoder())
    with pytest.raises(ModelRefused, match="takes an adapter already"):
        lora.adaptable(wide)


_GOOD = {"w.lora_a": np.ones((64, 2), np.float32), "w.lora_b": np.ones((2, 64), np.float32)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w.lora_b": None}, "the adapter has no 'w.lora_b'"),
        ({"w.lora_b": np.ones((3, 64), np.float32)}, "the rank is one number"),
        ({"other": np.ones((2, 2), np.float32)}, "'other' is float32"),
        ({"w.lora_a": np.ones((64, 2), np.int64)}, "'w.lora_a' is int64"),
        ({"w.lora_a": np.full((64, 2), np.nan, np.float32)}, "NaN or infinity"),
        (
            {"w.lora_a": np.ones((64, 0), np.float32), "w.lora_b": np.ones((0, 64), np.float32)},
            "1 to",
        ),
    ],
)
def test_malformed_adapter_is_refused(change: dict[str, Array | None], words: str) -> None:
    arrays = {name: array for name, array in (_GOOD | change).items() if array is not None}
    with pytest.raises(InputMismatch, match=words):
        lora.read(save(arrays))


def test_bytes_that_are_no_adapter_are_refused() -> None:
    for raw in (b"", b"junk", b"\xff" * 64, save(_GOOD)[:40]):
        with pytest.raises(InputMismatch, match="no safetensors file"):
            lora.read(raw)


def test_adapter_in_a_type_numpy_does_not_know_is_named() -> None:
    """Trainers write BF16 by default: the file is one, and is told so."""
    head = b'{"w.lora_a":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}'
    raw = len(head).to_bytes(8, "little") + head + bytes(2)
    with pytest.raises(InputMismatch, match="its arrays are BF16, an adapter has F32 or F16"):
        lora.read(raw)


def test_adapter_of_another_width_is_refused(tmp_path: Path) -> None:
    wide, sites = lora.adaptable(graphs.encoder())
    other = [lora.Site(sites[0].name, 32, 64)]
    with pytest.raises(InputMismatch, match="has shape"):
        lora.feeds_for(_pinned(wide, tmp_path), _adapter(other))


@pytest.mark.parametrize("shape", [(0,), (64, 0, 3)])
def test_graph_whose_input_is_no_matrix_takes_no_adapter(shape: tuple[int, ...]) -> None:
    """Its publisher may call any input like one of an adapter's."""
    model = graphs.mlp(layers=1)
    axes = [size or "rank" for size in shape]
    value = onnx.helper.make_tensor_value_info("w" + lora.DOWN, onnx.TensorProto.FLOAT, axes)
    model.graph.input.append(value)
    zero = np.zeros(shape, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(zero, "w" + lora.DOWN))
    with pytest.raises(InputMismatch, match=r"'w\.lora_a' has shape \[64, 2\], the graph takes"):
        lora.feeds_for(session.load(model.SerializeToString()), _GOOD)


def test_half_precision_adapter_is_widened() -> None:
    halves = {name: array.astype(np.float16) for name, array in _GOOD.items()}
    assert {array.dtype for array in lora.read(save(halves)).values()} == {np.dtype(np.float32)}
