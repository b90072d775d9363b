"""A model whose weights lie beside its graph goes through the real worker program.

Run: pytest -m long tests/integration/node/inference/test_giant.py (half a minute, 2 GB of disk)
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.worker.recipes import giant
from prsm.protocol.limits import MIB
from prsm.protocol.messages.pipe import DoesNotFit, PreparedShard
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

pytestmark = pytest.mark.long

ROWS = 4


@asynccontextmanager
async def running(folder: Path, memory_mib: int) -> AsyncIterator[Pool]:
    pool = Pool(jobs_dir=folder, memory_bytes_max=memory_mib * MIB)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


def rows() -> Tensor:
    dice = Random(1)
    values = [dice.gauss(0, 1) for _ in range(ROWS * giant.WIDTH)]
    data = struct.pack(f"<{len(values)}f", *values)
    return Tensor(TensorHead("x", Dtype.F32, (ROWS, giant.WIDTH)), data)


async def run(pool: Pool, model: Prepared, shard: PreparedShard, tensor: Tensor) -> Tensor:
    out = model.out_dir
    weights = [out / name for name in shard.weights]
    async with pool.open(out / shard.file, golden=out / shard.golden, weights=weights) as session:
        name = session.inputs[0].name
        fed = Tensor(TensorHead(name, tensor.head.dtype, tensor.head.shape), tensor.data)
        return (await session.run([fed]))[0]


async def test_giant_is_refused_whole_by_a_small_worker_and_runs_there_in_three(
    tmp_path: Path,
) -> None:
    source = giant.write(tmp_path / "raw", mib=320)
    async with (
        running(tmp_path / "large", 4096) as large,
        running(tmp_path / "small", 900) as small,
    ):
        model = await large.prepare(source, out_dir=tmp_path / "out", stages=[3], tokenizer=None)
        assert sum(file.path.startswith("weights-") for file in model.files) == 5
        expected = await run(large, model, model.shards[0], rows())
        with pytest.raises(DoesNotFit, match="321 MiB of weights need 1217 MiB"):
            await run(small, model, model.shards[0], rows())
        carried = rows()
        for shard in model.shards[1:]:
            carried = await run(small, model, shard, carried)
        assert carried.data == expected.data
