"""The same computation without any network: the whole model, in one sandboxed child.

Pins the raw model again (anybody can check a pin), runs the job's micro-batch plan, and compares
bytes with what the peers answered. Knows: the worker pool. Must not know: nodes or jobs.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.protocol.limits import MIB
from prsm.protocol.tensors import Tensor, TensorHead

MEMORY_BYTES: Final = 4096 * MIB
ROWS_PER_BATCH: Final = 4  # as the jobs of a node


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole-model run: the pin, the plan, and each row's bytes of the first output."""

    pinned_sha256: bytes
    batches: tuple[tuple[int, ...], ...]
    rows: tuple[bytes, ...]


def run_whole(model: Path, tokenizer: Path, texts: Sequence[str]) -> Whole:
    """Run a raw model over texts in one piece on this machine.

    Raises:
        PrsmError: the model is refused, or the worker fails.
    """
    return trio.run(functools.partial(_run, model, tokenizer, texts))


def run_files(files: Mapping[str, Path], rows: Tensor, *, memory_mib: int) -> bytes:
    """Run the uncut graph of an added model over rows, as a job's micro-batches have them.

    Args:
        files: of the model, by their names in its manifest.
        rows: its one input.
        memory_mib: what the child may have.

    Returns:
        The first output of all rows.

    Raises:
        PrsmError: the worker fails.
    """
    return trio.run(functools.partial(_run_files, files, rows, memory_mib))


async def _run_files(files: Mapping[str, Path], rows: Tensor, memory_mib: int) -> bytes:
    weights = [path for name, path in sorted(files.items()) if name.startswith("weights-")]
    graph, golden = files["pinned.onnx"], files["golden-1-0.bin"]
    count = rows.head.shape[0]
    size = len(rows.data) // count
    parts = []
    with TemporaryDirectory() as folder:
        pool = Pool(jobs_dir=Path(folder) / "jobs", memory_bytes_max=memory_mib * MIB)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            async with pool.open(graph, golden=golden, weights=weights) as session:
                for start in range(0, count, ROWS_PER_BATCH):
                    data = rows.data[start * size : (start + ROWS_PER_BATCH) * size]
                    shape = (len(data) // size, *rows.head.shape[1:])
                    batch = Tensor(TensorHead(rows.head.name, rows.head.dtype, shape), data)
                    parts.append(bytes((await session.run([batch]))[0].data))
            nursery.cancel_scope.cancel()
    return b"".join(parts)


def differing_rows(whole: Whole, data: bytes) -> list[int]:
    """Rows whose bytes differ from an answer of all rows in their order."""
    size = len(data) // len(whole.rows) if whole.rows else 0
    if size * len(whole.rows) != len(data):
        return list(range(len(whole.rows)))
    return [
        index
        for index, row in enumerate(whole.rows)
        if data[index * size : (index + 1) * size] != row
    ]


async def _run(model: Path, tokenizer: Path, texts: Sequence[str]) -> Whole:
    with TemporaryDirectory() as folder:
        pool = Pool(jobs_dir=Path(folder) / "jobs", memory_bytes_max=MEMORY_BYTES)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            prepared = await pool.prepare(
                model, out_dir=Path(folder) / "whole", stages=(1,), tokenizer=tokenizer
            )
            whole = await _compute(pool, prepared, tokenizer, texts)
            nursery.cancel_scope.cancel()
    return whole


async def _compute(pool: Pool, prepared: Prepared, tokenizer: Path, texts: Sequence[str]) -> Whole:
    shard = next(item for item in prepared.shards if item.stages == 1)
    plan = await pool.tokenise(tokenizer, texts, rows_per_batch=ROWS_PER_BATCH)
    rows: dict[int, bytes] = {}
    golden = prepared.out_dir / shard.golden
    async with pool.open(prepared.out_dir / shard.file, golden=golden) as session:
        for batch in plan.batches:
            output = (await session.run(batch.tensors))[0]
            size = len(output.data) // len(batch.rows)
            for place, row in enumerate(batch.rows):
                rows[row] = output.data[place * size : (place + 1) * size]
    return Whole(
        pinned_sha256=prepared.pinned_sha256,
        batches=tuple(batch.rows for batch in plan.batches),
        rows=tuple(rows[index] for index in range(len(texts))),
    )
