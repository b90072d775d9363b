"""Weights beside a model or a shard, through the real worker program."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import onnx
import pytest
import trio

from prsm.node.inference.pool import Pool
from prsm.protocol.messages.pipe import DoesNotFit, ModelRefused
from tests.tools import graphs

pytestmark = pytest.mark.slow


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Pool]:
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=1024**3)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


async def test_prepare_refuses_a_bad_tokenizer_and_a_missing_file(tmp_path: Path) -> None:
    raw, tokenizer = tmp_path / "raw.onnx", tmp_path / "tokenizer.json"
    raw.write_bytes(graphs.mlp().SerializeToString())
    tokenizer.write_text("{}")
    async with running(tmp_path) as pool:
        with pytest.raises(ModelRefused, match="tokenizer does not load"):
            await pool.prepare(raw, out_dir=tmp_path / "o", stages=[], tokenizer=tokenizer)
        with pytest.raises(ModelRefused, match="cannot be read"):
            await pool.prepare(tmp_path / "none", out_dir=tmp_path / "o", stages=[], tokenizer=None)


async def test_prepare_takes_weights_beside_the_model_inside(tmp_path: Path) -> None:
    """Goal: the bits of a model do not depend on where its exporter put the weights."""
    model = graphs.mlp()
    inside, outside = tmp_path / "inside.onnx", tmp_path / "model.onnx"
    onnx.save_model(model, str(inside))
    onnx.save_model(
        model, str(outside), save_as_external_data=True, location="model.data", size_threshold=0
    )
    async with running(tmp_path) as pool:
        one = await pool.prepare(inside, out_dir=tmp_path / "1", stages=[2], tokenizer=None)
        two = await pool.prepare(outside, out_dir=tmp_path / "2", stages=[2], tokenizer=None)
        (tmp_path / "model.data").rename(tmp_path / "else.data")
        with pytest.raises(ModelRefused, match=r"'model\.data', which cannot be read"):
            await pool.prepare(outside, out_dir=tmp_path / "3", stages=[2], tokenizer=None)
    assert one.pinned_sha256 == two.pinned_sha256
    assert [file.sha256 for file in one.files] == [file.sha256 for file in two.files]


async def test_a_shard_that_does_not_fit_is_refused_with_its_figures(tmp_path: Path) -> None:
    (tmp_path / "graph").write_bytes(bytes(1000))
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(3 * 1024**3)
    async with running(tmp_path) as pool:
        with pytest.raises(DoesNotFit, match=r"3073 MiB of weights need 9729 MiB .* have 1024 MiB"):
            async with pool.open(
                tmp_path / "graph", golden=tmp_path / "graph", weights=[tmp_path / "weights"]
            ):
                pytest.fail("it was tried")
