"""Real shards in sealed children: the sharded answer has the bits of the whole model."""

import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from prsm.node.inference.job import JobRequest, JobState, JobView
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.protocol.messages.models import Compute, ManifestFile, ModelManifest, Shard
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from tests.tools import graphs
from tests.tools.work import MODEL, MemoryModels, make_cluster

pytestmark = pytest.mark.slow

ROWS, TOKENS, STAGES = 22, 8, 3


def given_rows() -> tuple[Tensor, Tensor]:
    ids = [(7 * place + 3) % 251 for place in range(ROWS * TOKENS)]
    mask = [int(place % TOKENS < 5 or place % 3 != 0) for place in range(ROWS * TOKENS)]
    return whole_numbers("input_ids", ids), whole_numbers("attention_mask", mask)


def whole_numbers(name: str, values: list[int]) -> Tensor:
    head = TensorHead(name, Dtype.I64, (len(values) // TOKENS, TOKENS))
    return Tensor(head, struct.pack(f"<{len(values)}q", *values))


@asynccontextmanager
async def running(folder: Path, program: str = "prsm.node.worker") -> AsyncIterator[Pool]:
    command = (sys.executable, "-m", program)
    pool = Pool(jobs_dir=folder, memory_bytes_max=2**30, command=command)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


def manifest_of(model: Prepared) -> ModelManifest:
    shards = tuple(
        Shard(
            stages=shard.stages,
            index=shard.index,
            file=model.file_index(shard.file),
            golden=model.file_index(shard.golden),
            inputs=shard.inputs,
            outputs=shard.outputs,
            weight_flops=shard.weight_flops,
            weight_bytes=shard.weight_bytes,
            weights=tuple(map(model.file_index, shard.weights)),
        )
        for shard in model.shards
    )
    return ModelManifest(
        version=3,
        name="encoder",
        semver="1.0.0",
        kind="onnx",
        profile="unixfs-v1-2025",
        files=tuple(ManifestFile(f.path, MODEL, f.size, f.sha256) for f in model.files),
        shards=shards,
        tokenizer=None,
        compute=Compute(model.runtime, model.options, MODEL, model.pinned_sha256),
        licence="MIT",
        publisher=bytes(32),
        parents=(),
        created_ms=0,
        sealing=(),
        card=None,
        chain_id=bytes(8),
        signature=None,
    )


async def run_job(pools: list[Pool], model: Prepared) -> tuple[JobView, tuple[Tensor, ...]]:
    """One job over three stages; `pools[i]` is the pool of node i."""
    models = MemoryModels(manifest_of(model), model.out_dir)
    cluster = make_cluster(runner=lambda index: pools[index], models=models)
    cluster.world.block_s = 0.02
    async with trio.open_nursery() as nursery:
        await cluster.start(nursery)
        jobs = cluster.requester.jobs
        job_id = jobs.submit(JobRequest(MODEL, inputs=given_rows(), stages=STAGES))
        with trio.fail_after(60):
            view = await jobs.wait(job_id)
        assert view.error is None
        outputs = jobs.result(job_id)
        nursery.cancel_scope.cancel()
    return view, outputs


async def whole_run(pool: Pool, model: Prepared, plan: tuple[tuple[int, ...], ...]) -> bytes:
    """The whole pinned graph on the same micro-batches, without network or requester."""
    [shard] = [shard for shard in model.shards if shard.stages == 1]
    found: dict[int, bytes] = {}
    out = model.out_dir
    async with pool.open(out / shard.file, golden=out / shard.golden) as session:
        for rows in plan:
            feeds = [
                Tensor(
                    TensorHead(t.head.name, t.head.dtype, (len(rows), TOKENS)),
                    b"".join(t.data[row * 8 * TOKENS : (row + 1) * 8 * TOKENS] for row in rows),
                )
                for t in given_rows()
            ]
            [answer] = await session.run(feeds)
            size = len(answer.data) // len(rows)
            for place, row in enumerate(rows):
                found[row] = answer.data[place * size : (place + 1) * size]
    return b"".join(found[row] for row in range(ROWS))


async def test_sharded_job_has_the_bits_of_the_whole_with_and_without_a_liar(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw.onnx"
    raw.write_bytes(graphs.encoder().SerializeToString())
    async with (
        running(tmp_path / "honest") as honest,
        running(tmp_path / "liar", "prsm.testnet.liar_worker") as liar,
    ):
        model = await honest.prepare(
            raw, out_dir=tmp_path / "model", stages=[STAGES], tokenizer=None
        )
        view, outputs = await run_job([honest] * 4, model)
        expected = await whole_run(honest, model, view.batches)
        assert outputs[0].data == expected
        assert view.state is JobState.DONE
        assert not any(worker.outvoted for worker in view.workers)

        view, outputs = await run_job([honest, honest, liar, honest], model)
        assert outputs[0].data == expected
        outvoted = {worker.worker for worker in view.workers if worker.outvoted}
        assert len(outvoted) == 1
        assert len(view.verdicts) == STAGES
        paid = {w.worker: 0 for w in view.workers}
        for worker in view.workers:
            paid[worker.worker] += worker.paid or 0
        assert [amount for worker, amount in paid.items() if worker in outvoted] == [0]
        assert all(amount > 0 for worker, amount in paid.items() if worker not in outvoted)
