"""Models of every family are pinned, cut and run with the bits of the whole."""

from pathlib import Path

import numpy as np
import pytest

from prsm.node.worker import beside, session
from prsm.node.worker.pipe import Array
from prsm.node.worker.prepare import WHOLE, Preparation
from prsm.node.worker.scan import Policy
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import PreparedModel
from prsm.protocol.tensors import Dtype
from tests.tools.zoo import ZOO

COUNTS = (2, 3, 6)


def prepare(
    name: str, folder: Path, *, inside_bytes_max: int = 2**30
) -> tuple[PreparedModel, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    work = Preparation(
        Policy(), session.compute, files.__setitem__, inside_bytes_max=inside_bytes_max
    )
    kept = ZOO[name]
    stages = [count for count in COUNTS if count <= kept.stages]
    return work.run(kept.make().SerializeToString(), folder, stages), files


def fresh_rows(specs: tuple[TensorSpec, ...], rows: int) -> dict[str, Array]:
    """Rows that preparation has not seen; every free axis that is no batch has 12 places."""
    dice = np.random.default_rng(rows)
    feeds: dict[str, Array] = {}
    for spec in specs:
        shape = []
        for place, axis in enumerate(spec.shape):
            is_batch = place == 0 if "batch" not in spec.shape else axis == "batch"
            free = rows if is_batch else 24 if axis == "past + tokens" else 12
            shape.append(axis if isinstance(axis, int) else free)
        if spec.dtype in (Dtype.F32, Dtype.F16):
            feeds[spec.name] = dice.standard_normal(shape).astype(
                np.float32 if spec.dtype == Dtype.F32 else np.float16
            )
        else:
            feeds[spec.name] = dice.integers(0, 2, shape).astype(
                {Dtype.I64: np.int64, Dtype.I32: np.int32, Dtype.U8: np.uint8}.get(spec.dtype, bool)
            )
    return feeds


@pytest.mark.parametrize("name", ZOO)
def test_split_equals_whole(name: str, tmp_path: Path) -> None:
    """Goal: bits of a split, for K = 2, 3, 6 where there are cuts. Method: new rows, each model."""
    prepared, files = prepare(name, tmp_path)
    assert prepared.stages_max >= ZOO[name].stages
    whole = session.load(files[WHOLE])
    rows = fresh_rows(whole.inputs, 1 if name == "fixed" else 5)
    expected = session.compute(whole, rows, session.run_options())
    for count in {shard.stages for shard in prepared.shards} - {1}:
        values = dict(rows)
        for shard in (shard for shard in prepared.shards if shard.stages == count):
            stage = session.load(files[shard.file])
            feeds = {spec.name: values[spec.name] for spec in stage.inputs}
            session.check_inputs(stage, feeds)
            values.update(session.compute(stage, feeds, session.run_options()))
        assert [n for n, a in expected.items() if values[n].tobytes() != a.tobytes()] == []


@pytest.mark.parametrize("name", ["encoder", "half mlp", "blocks", "tied"])
def test_weights_beside_the_graph_change_no_bit(name: str, tmp_path: Path) -> None:
    """Goal: what a large model goes through. Method: a small one, told that it is large."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    inside, inside_files = prepare(name, tmp_path / "in")
    apart, apart_files = prepare(name, tmp_path / "out", inside_bytes_max=0)
    assert [s.weights for s in inside.shards] == [()] * len(inside.shards)
    assert apart.shards[0].weights
    assert len(apart_files[WHOLE]) < len(inside_files[WHOLE])
    whole = session.load(inside_files[WHOLE])
    rows = fresh_rows(whole.inputs, 5)
    expected = session.compute(whole, rows, session.run_options())
    for count in {shard.stages for shard in apart.shards}:
        values = dict(rows)
        for shard in (shard for shard in apart.shards if shard.stages == count):
            stage = load_beside(shard.file, shard.weights, apart_files)
            feeds = {spec.name: values[spec.name] for spec in stage.inputs}
            values.update(session.compute(stage, feeds, session.run_options()))
        assert [n for n, a in expected.items() if values[n].tobytes() != a.tobytes()] == []


def load_beside(file: str, weights: tuple[str, ...], files: dict[str, bytes]) -> session.Model:
    given = beside.by_digest([memoryview(files[name]) for name in weights])
    return session.load(files[file], beside=given)
