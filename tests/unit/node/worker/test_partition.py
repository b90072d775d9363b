import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from prsm.node.worker import golden, session
from prsm.node.worker.optimise import pin
from prsm.node.worker.partition import Cut, choose, find_cuts, stages_of
from prsm.node.worker.pipe import Array
from prsm.node.worker.prepare import WHOLE, Preparation
from prsm.node.worker.scan import Policy
from prsm.protocol.messages.pipe import ModelRefused, NoCut, PreparedModel
from tests.tools import graphs

Make = Callable[[], onnx.ModelProto]
_MAKES = [graphs.mlp, graphs.encoder, graphs.cached_decoder]


def _prepare(
    make: Make, folder: Path, stages: list[int], compute: session.Compute = session.compute
) -> tuple[PreparedModel, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    work = Preparation(Policy(), compute, files.__setitem__)
    return work.run(make().SerializeToString(), folder, stages), files


def _axes(model: session.Model, rows: int) -> dict[str, int]:
    names = [axis for spec in model.inputs for axis in spec.shape if isinstance(axis, str)]
    return {name: rows if name == "batch" else 5 + names.index(name) for name in names}


def _feeds(model: session.Model, axes: dict[str, int], known: dict[str, Array]) -> dict[str, Array]:
    dice = np.random.default_rng(3)
    for spec in model.inputs:
        shape = [axes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        if spec.name not in known:
            floats = dice.standard_normal(shape).astype(np.float32)
            whole = dice.integers(0, 2, shape)
            known[spec.name] = floats if spec.dtype == 1 else whole
    return {spec.name: known[spec.name] for spec in model.inputs}


@pytest.mark.parametrize("make", _MAKES)
def test_split_equals_whole_for_every_count_that_exists(make: Make, tmp_path: Path) -> None:
    """Goal: bit-equality of a split. Method: new rows through whole and chain, every K."""
    found, _ = _prepare(make, tmp_path, [])
    counts = list(range(2, found.stages_max + 1))
    prepared, files = _prepare(make, tmp_path, counts)
    whole = session.load(files[WHOLE])
    axes = _axes(whole, 3)
    rows: dict[str, Array] = {}
    expected = session.compute(whole, _feeds(whole, axes, rows), session.run_options())
    for count in counts:
        values = dict(rows)
        for shard in (s for s in prepared.shards if s.stages == count):
            stage = session.load(files[shard.file])
            feeds = {spec.name: values[spec.name] for spec in stage.inputs}
            values.update(session.compute(stage, feeds, session.run_options()))
        for name, array in expected.items():
            assert values[name].tobytes() == array.tobytes(), (count, name)


@pytest.mark.parametrize("what", ["rank", "type"])
@pytest.mark.parametrize("make", _MAKES)
def test_outputs_without_a_declared_rank_or_type_get_theirs_by_the_pin(
    what: str, make: Make, tmp_path: Path
) -> None:
    """Exporters leave them out; the io table is that of the graph that declares all."""
    whole, _ = _prepare(make, tmp_path, [2])

    def bare() -> onnx.ModelProto:
        model = make()
        for value in model.graph.output:
            if what == "rank":
                value.type.tensor_type.ClearField("shape")
            else:
                value.ClearField("type")
        return model

    found, _ = _prepare(bare, tmp_path, [2])

    def table(model: PreparedModel) -> list[list[tuple[str, int, int]]]:
        return [[(o.name, o.dtype, len(o.shape)) for o in shard.outputs] for shard in model.shards]

    assert table(found) == table(whole)


def test_a_rank_that_nobody_can_work_out_is_refused(tmp_path: Path) -> None:
    """What is reshaped to a shape that comes with the rows may have any number of axes."""
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "free",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, ["axes"]),
        ],
        [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(ModelRefused, match="'y' does not declare its rank"):
        _prepare(lambda: model, tmp_path, [])


@pytest.mark.parametrize("make", _MAKES)
def test_pin_gives_the_same_bytes_twice(make: Make, tmp_path: Path) -> None:
    raw = make().SerializeToString()
    assert pin(raw, tmp_path) == pin(raw, tmp_path)


def test_prepare_refuses_a_split_that_gives_other_bits(tmp_path: Path) -> None:
    """Goal: the equality check is real. Method: a runtime that is off by one bit in stages."""

    def off_by_one_bit(
        model: session.Model, feeds: Mapping[str, Array], options: session.RunOptions
    ) -> dict[str, Array]:
        outputs = session.compute(model, feeds, options)
        if "x" not in feeds:
            name, array = next(iter(outputs.items()))
            bits = array.copy()
            bits.view(np.uint32).reshape(-1)[0] ^= 1
            outputs[name] = bits
        return outputs

    with pytest.raises(ModelRefused, match="other bits"):
        _prepare(graphs.mlp, tmp_path, [2], off_by_one_bit)


def test_prepare_names_the_counts_that_exist(tmp_path: Path) -> None:
    prepared, _ = _prepare(graphs.mlp, tmp_path, [])
    with pytest.raises(NoCut, match=f"into 31 stages.*1 to {prepared.stages_max}") as caught:
        _prepare(graphs.mlp, tmp_path, [31])
    assert caught.value.reason == "no_cut_for_k"


def test_prepare_always_includes_the_whole(tmp_path: Path) -> None:
    prepared, files = _prepare(graphs.encoder, tmp_path, [2])
    assert [(s.stages, s.index) for s in prepared.shards] == [(1, 0), (2, 0), (2, 1)]
    assert prepared.shards[0].file == WHOLE
    assert set(files) == {n for s in prepared.shards for n in (s.file, s.golden)}


def test_stage_takes_the_cut_tensor_first_and_only_used_inputs(tmp_path: Path) -> None:
    prepared, _ = _prepare(graphs.encoder, tmp_path, [2])
    names = [[spec.name for spec in shard.inputs] for shard in prepared.shards]
    assert names[0] == ["input_ids", "attention_mask"]
    assert names[2][0] == prepared.shards[1].outputs[0].name
    assert names[2][1:] == ["attention_mask"]


def test_cache_outputs_leave_at_the_stage_that_makes_them(tmp_path: Path) -> None:
    prepared, _ = _prepare(graphs.cached_decoder, tmp_path, [2])
    first, second = (shard for shard in prepared.shards if shard.stages == 2)
    cache = {f"present_{kind}{layer}" for kind in "kv" for layer in range(2)}
    assert {spec.name for spec in first.outputs} >= {"present_k0", "present_v0"}
    leaving = [spec.name for stage in (first, second) for spec in stage.outputs]
    assert sorted(leaving) == sorted([first.outputs[0].name, "logits", *cache])


def test_flops_of_stages_sum_to_the_whole(tmp_path: Path) -> None:
    prepared, _ = _prepare(graphs.encoder, tmp_path, [2, 3])
    sums = {
        count: sum(s.weight_flops for s in prepared.shards if s.stages == count)
        for count in (1, 2, 3)
    }
    assert len(set(sums.values())) == 1


def test_golden_rows_of_a_shard_are_its_inputs(tmp_path: Path) -> None:
    prepared, files = _prepare(graphs.encoder, tmp_path, [2])
    for shard in prepared.shards:
        rows = golden.load(files[shard.golden])
        session.check_inputs(session.load(files[shard.file]), rows)
        assert all(array.shape[0] == 8 for array in rows.values())


def test_find_cuts_ignores_light_tensors() -> None:
    """Goal: the mask, live through the whole graph, does not hide the cuts."""
    cuts, _ = find_cuts(graphs.encoder().graph)
    assert len(cuts) >= 6


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.integers(1, 31),
)
def test_choose_never_takes_a_cut_twice(steps: list[int], stages: int) -> None:
    total = 0
    cuts = []
    for place, step in enumerate(steps):
        total += step
        cuts.append(Cut(place, f"t{place}", total, 0))
    end = Cut(len(steps), "", total + 1, 0)
    if stages > len(cuts) + 1:
        with pytest.raises(NoCut):
            choose(cuts, end, stages)
        return
    places = [cut.position for cut in choose(cuts, end, stages)]
    assert len(places) == stages - 1
    assert places == sorted(set(places))


def test_stages_cover_every_output_once() -> None:
    graph = graphs.cached_decoder().graph
    cuts, end = find_cuts(graph)
    stages = stages_of(graph, choose(cuts, end, 3), end)
    leaving = [name for stage in stages for name in stage.outputs if name != stage.cut_out]
    assert sorted(leaving) == sorted(value.name for value in graph.output)


def test_weights_made_of_all_weights_before_take_no_square_of_memory() -> None:
    """Goal: a small file of many weights is laid out. Method: a chain that adds up 1,000."""
    count = 1000
    graph = onnx.GraphProto(name="chain")
    made = "w0"
    for i in range(count):
        graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), f"w{i}"))
        if i:
            graph.node.append(onnx.helper.make_node("Add", [made, f"w{i}"], [f"c{i}"]))
            made = f"c{i}"
    graph.node.append(onnx.helper.make_node("Add", ["x", made], ["y"]))
    graph.node.append(onnx.helper.make_node("Add", ["y", made], ["z"]))  # behind it is nothing new
    graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2]))
    graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2]))
    tracemalloc.start()
    try:
        _, end = find_cuts(graph)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert end.weight_bytes == count * 8
    assert most < 4 * 2**20
