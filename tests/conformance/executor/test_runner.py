"""Every runner of shards passes one battery: the pool of sealed children, and one in memory."""

import os
import signal
import struct
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.inference.pool import Bounds, Pool
from prsm.node.inference.runner import Limits, NoRunner, Session
from prsm.node.inference.session import Session as PoolSession
from prsm.node.worker.recipes import decoder
from prsm.protocol.errors import Unsupported
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from tests.tools import graphs
from tests.tools.executor_battery import Bench, Tensors, check_runner
from tests.tools.work import NAN_BYTE, Adder, AdderRunner, given_rows, make_manifest, tensor


async def test_runner_in_memory_passes_the_battery(autojump_clock: MockClock) -> None:
    del autojump_clock  # asked for by name
    room = Limits(shards_max=2, memory_bytes_max=1, run_seconds=1)
    runner = AdderRunner(make_manifest(), limits=room)

    async def kill(session: Session) -> None:
        assert isinstance(session, Adder)
        session.is_dead = True
        await trio.lowlevel.checkpoint()

    values, mask = given_rows(2)
    await check_runner(
        Bench(
            runner=runner,
            shard=(Path("1-0"), Path("1-0")),
            other=(Path("2-0"), Path("2-0")),
            broken=(Path("none"), Path("none")),
            inputs=((values, mask), (mask, values)),
            misfits=[
                (values,),
                (tensor("x", [bytes([NAN_BYTE] * 5)]), tensor("mask", [bytes(5)])),
                (values, tensor("mask", [b"abc"])),
            ],
            tokenizer=Path("tokenizer.json"),
            kill=kill,
        )
    )


@pytest.mark.slow
async def test_pool_passes_the_battery(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "prsm.node.worker")
    bounds = Bounds(children_max=2)
    pool = Pool(jobs_dir=tmp_path / "jobs", memory_bytes_max=2**30, command=command, bounds=bounds)
    raw, broken = tmp_path / "raw.onnx", tmp_path / "broken.onnx"
    raw.write_bytes(graphs.encoder().SerializeToString())
    broken.write_bytes(b"no graph")
    _, tokenizer = decoder.write(tmp_path / "text", graphs.TINY)

    async def kill(session: Session) -> None:
        assert isinstance(session, PoolSession)
        os.kill(session.pid, signal.SIGKILL)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        out = tmp_path / "model"
        model = await pool.prepare(raw, out_dir=out, stages=[2], tokenizer=None)
        places = [(out / shard.file, out / shard.golden) for shard in model.shards]
        await check_runner(
            Bench(
                runner=pool,
                shard=places[0],
                other=places[1],
                broken=(broken, places[0][1]),
                inputs=(_rows(1), _rows(2)),
                misfits=[_rows(1)[:1], _rows(1)[::-1][:1] * 2, (_rows(1)[0], _rows(1)[0])],
                tokenizer=tokenizer,
                kill=kill,
            )
        )
        nursery.cancel_scope.cancel()


async def test_node_without_a_runner_says_how_it_gets_one() -> None:
    none = NoRunner()
    assert (none.runtime, none.limits.shards_max) == ("", 0)
    with pytest.raises(Unsupported, match="runs no models"):
        none.open(Path("x"), golden=Path("x"))
    with pytest.raises(Unsupported, match="runs no models"):
        await none.tokenise(Path("x"), ["a"], rows_per_batch=1)


def _rows(factor: int) -> Tensors:
    ids = [(7 * factor * place + factor) % 251 for place in range(10)]
    return _numbers("input_ids", ids), _numbers("attention_mask", [1] * 10)


def _numbers(name: str, values: list[int]) -> Tensor:
    return Tensor(TensorHead(name, Dtype.I64, (2, 5)), struct.pack("<10q", *values))
