"""Measure sealed children beside the same runtime in this process, in one run.

MiniLM where its wheel is installed, else the own encoder, and the table says which. Every figure
is the median of three; ratios are taken inside one repeat, so that a busy machine tells less.

Run: python scripts/bench.py inference
"""

import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import trio

from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.session import Session
from prsm.node.worker import session as local
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder, minilm
from prsm.node.worker.recipes.graph import GraphBuilder
from prsm.node.worker.sandbox import Profile, seal
from prsm.protocol.limits import MIB
from prsm.protocol.tensors import Dtype, Tensor, TensorHead

REPEATS: Final = 3
BATCH: Final = (8, 64)  # rows, tokens
BATCHES: Final = 12
WINDOW: Final = 4
SHAPE: Final = f"{BATCH[0]} x {BATCH[1]}"
IN_PROCESS: Final = f"whole in this process, {SHAPE}"
IN_CHILD: Final = f"whole through a child, {SHAPE}"
TWO_STAGES: Final = f"2 stages, window {WINDOW}"
LIMITS: Final = {IN_CHILD: IN_PROCESS, TWO_STAGES: IN_PROCESS}
Row = tuple[str, float, str]


def micro_batch(rows: int, tokens: int) -> list[Tensor]:
    """One micro-batch of made-up tokens; every third row is half padded."""
    ids = np.random.default_rng(5).integers(1, 250, (rows, tokens))
    mask = np.ones((rows, tokens), np.int64)
    mask[::3, tokens // 2 :] = 0
    return [
        Tensor(TensorHead(name, Dtype.I64, (rows, tokens)), array.tobytes())
        for name, array in (("input_ids", ids), ("attention_mask", mask))
    ]


def arrays(tensors: Sequence[Tensor]) -> dict[str, Array]:
    """The same micro-batch as numpy arrays."""
    return {t.head.name: np.frombuffer(t.data, np.int64).reshape(t.head.shape) for t in tensors}


def measure_seal() -> float:
    """Milliseconds to seal a forked child."""
    reader, writer = os.pipe()
    parent = os.getpid()
    with tempfile.TemporaryDirectory() as empty:
        profile = Profile(Path(empty), 8 * 1024 * MIB, 60)
        pid = os.fork()
        if pid == 0:
            begin = time.perf_counter()
            seal(profile, keep=[writer], parent=parent)
            os.write(writer, struct.pack("d", time.perf_counter() - begin))
            os._exit(0)
        os.waitpid(pid, 0)
    (seconds,) = struct.unpack("d", os.read(reader, 8))
    os.close(reader)
    os.close(writer)
    return float(seconds) * 1000


def dense_model() -> onnx.ModelProto:
    """8.4 MB: dense layers 512, 1024, 1024, 512."""
    dice = np.random.default_rng(0)
    graph = GraphBuilder("dense")
    here = graph.input("x", onnx.TensorProto.FLOAT, ["batch", 512])
    for place, (inside, outside) in enumerate(((512, 1024), (1024, 1024), (1024, 512))):
        weight = dice.standard_normal((inside, outside)).astype(np.float32) / 32
        here = graph.linear(f"l{place}.", here, weight, np.zeros(outside, np.float32))
    graph.node("Tanh", [here], to_name="y")
    graph.output("y", onnx.TensorProto.FLOAT, ["batch", 512])
    return graph.model()


async def run_pipeline(
    stages: Sequence[Session], batches: Sequence[list[Tensor]], window: int
) -> float:
    """Seconds for all batches through stages in children of their own, `window` in flight."""
    credit = trio.Semaphore(window)
    channels = [trio.open_memory_channel[dict[str, Tensor]](window) for _ in range(len(stages) + 1)]

    async def work(place: int) -> None:
        async with channels[place + 1][0] as send, channels[place][1] as receive:
            async for values in receive:
                feeds = [values[spec.name] for spec in stages[place].inputs]
                outputs = await stages[place].run(feeds)
                await send.send(values | {tensor.head.name: tensor for tensor in outputs})

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for place in range(len(stages)):
            nursery.start_soon(work, place)

        async def feed() -> None:
            async with channels[0][0] as send:
                for batch in batches:
                    await credit.acquire()
                    await send.send({tensor.head.name: tensor for tensor in batch})

        nursery.start_soon(feed)
        async with channels[-1][1] as receive:
            async for _ in receive:
                credit.release()
    return time.perf_counter() - begin


async def first_result_ms(pool: Pool, model: Prepared, feeds: Callable[[], list[Tensor]]) -> float:
    """Milliseconds from asking for a child to its first answer."""
    shard = model.shards[0]
    begin = time.perf_counter()
    async with pool.open(
        model.out_dir / shard.file, golden=model.out_dir / shard.golden
    ) as session:
        await session.run(feeds())
        return (time.perf_counter() - begin) * 1000


async def measure(folder: Path) -> list[Row]:
    """Run everything and return the rows of the table."""
    rows: list[Row] = []

    def note(name: str, values: Sequence[float], unit: str) -> None:
        rows.append((name, statistics.median(values), unit))

    note("seal a child", [measure_seal() for _ in range(10)], "ms")
    recipe = minilm if minilm.find() is not None else decoder
    source, tokenizer = recipe.write(folder / "raw")
    dense = folder / "dense.onnx"
    dense.write_bytes(dense_model().SerializeToString())
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=8 * 1024 * MIB)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        small = await pool.prepare(dense, out_dir=folder / "d", stages=[], tokenizer=None)
        begin = time.perf_counter()
        model = await pool.prepare(source, out_dir=folder / "m", stages=[2], tokenizer=tokenizer)
        spent = time.perf_counter() - begin
        note(f"prepare {'MiniLM' if recipe is minilm else 'encoder'}, K = 1, 2", [spent], "s")
        row = Tensor(TensorHead("x", Dtype.F32, (1, 512)), bytes(2048))
        values = [await first_result_ms(pool, small, lambda: [row]) for _ in range(REPEATS)]
        note("fork to first result, 8.4 MB model", values, "ms")
        values = [
            await first_result_ms(pool, model, lambda: micro_batch(1, 8)) for _ in range(REPEATS)
        ]
        note("fork to first result, this model", values, "ms")
        await measure_runs(pool, model, note)
        nursery.cancel_scope.cancel()
    return rows


async def measure_runs(
    pool: Pool, model: Prepared, note: Callable[[str, Sequence[float], str], None]
) -> None:
    """Throughput of whole and split, and the memory of a child."""
    batches = [micro_batch(*BATCH)] * BATCHES
    count = BATCH[0] * BATCHES
    whole = local.load((model.out_dir / model.shards[0].file).read_bytes())
    feeds = arrays(batches[0])
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(
                pool.open(model.out_dir / s.file, golden=model.out_dir / s.golden)
            )
            for s in model.shards
        ]
        child, stages = opened[0], opened[1:]
        alone, through, piped, single = [], [], [], []
        fresh = child.rss_bytes
        await child.run(batches[0])
        for _ in range(REPEATS):
            spent = [0.0, 0.0]
            for batch in batches:  # in turns: neighbours disturb both alike
                begin = time.perf_counter()
                local.compute(whole, feeds, local.run_options())
                middle = time.perf_counter()
                await child.run(batch)
                spent[0] += middle - begin
                spent[1] += time.perf_counter() - middle
            alone.append(spent[0])
            through.append(spent[1])
            piped.append(await run_pipeline(stages, batches, WINDOW))
            single.append(await run_pipeline(stages, batches, 1))
        note(IN_PROCESS, [count / s for s in alone], "rows/s")
        note(IN_CHILD, [count / s for s in through], "rows/s")
        ratios = [a / t for a, t in zip(alone, through, strict=True)]
        note("child against this process (bar 0.95)", ratios, "x")
        note(TWO_STAGES, [count / s for s in piped], "rows/s")
        ratios = [t / p for t, p in zip(through, piped, strict=True)]
        note(f"{TWO_STAGES}, against one child (bar 1.6)", ratios, "x")
        ratios = [t / s for t, s in zip(through, single, strict=True)]
        note("2 stages, window 1, against one child (bar 0.9)", ratios, "x")
        note("RSS after load", [fresh / MIB], "MiB")
        await child.run(micro_batch(32, 256))
        note("RSS after 32 x 256", [child.rss_bytes / MIB], "MiB")
        await child.run(micro_batch(1, 8))
        note("RSS after the next run", [child.rss_bytes / MIB], "MiB")


def measure_all() -> list[Row]:
    """Run everything, for a caller without a loop or a folder."""
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(measure, Path(folder))
