"""Catch cheats: 1,000 checked jobs of workers that cheat, 1,000 checks of honest ones.

Real sealed children compute the shards of the small encoder and decoder. A checked job is run by a
chain of children of which one cheats, then again by a checker of its own children; boundary roots
name the stage. Honest ones differ in process, threads and in how rows are grouped. The judgement
is the one the node makes (`prsm.node.inference.judging`).

Run: python scripts/bench.py cheats
"""

import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import trio
from onnx import numpy_helper

from prsm.node.inference.divergence import Boundary, Fault, first_divergence
from prsm.node.inference.judging import judge
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.session import Session
from prsm.node.inference.verify import batch_root, input_root, side_root
from prsm.node.worker import session as local
from prsm.node.worker.pipe import Array, read_arrays, write_arrays
from prsm.node.worker.recipes import decoder
from prsm.node.worker.tolerance import gap_ppb
from prsm.protocol.limits import MIB, TOLERANCE_PPB
from prsm.protocol.messages.pipe import PreparedShard
from prsm.protocol.tensors import Tensor
from prsm.protocol.transactions.audits import Finding

Row = tuple[str, float, str]
JOBS: Final = 1000
STAGES: Final = 3
CONFIG: Final = decoder.Config(layers=3, width=64, heads=2, positions=64)
BAR: Final = "bar: all of them"
COMPUTED: Final = ("skip", "random", "stale")  # by `prsm.testnet.liar_worker`
WEIGHTS: Final = ("fp16", "int8", "one weight")  # by an altered shard
LIMITS: Final[Mapping[str, str]] = {
    f"{cheat}: {what}": BAR
    for cheat in (*WEIGHTS, *COMPUTED)
    for what in ("flagged", "right shard named")
}


@dataclass(slots=True)
class Tally:
    """What checks of one cheat found."""

    checked: int = 0
    flagged: int = 0
    named: int = 0
    by_tolerance: int = 0
    gaps: list[int] = field(default_factory=list)

    def rows(self, name: str) -> list[Row]:
        """As rows of the table."""
        share = 100 / max(1, self.checked)
        return [
            (f"{name}: checked jobs", self.checked, "jobs"),
            (f"{name}: flagged", self.flagged * share, "%"),
            (f"{name}: right shard named", self.named * share, "%"),
            (f"{name}: flagged by tolerance alone", self.by_tolerance * share, "%"),
            (f"{name}: smallest gap / tolerance", min(self.gaps) / TOLERANCE_PPB, "x"),
        ]


@dataclass(frozen=True, slots=True)
class Model:
    """A prepared model, its stages, and how rows of it are made."""

    prepared: Prepared
    shards: tuple[PreparedShard, ...]
    rows: Callable[[np.random.Generator, int, int], list[Tensor]]

    def path(self, stage: int) -> Path:
        """File of a stage."""
        return self.prepared.out_dir / self.shards[stage].file

    def golden(self, stage: int) -> Path:
        """Golden rows of a stage."""
        return self.prepared.out_dir / self.shards[stage].golden


def tensors_of(arrays: Mapping[str, Array]) -> list[Tensor]:
    """Arrays as they travel."""
    heads, buffers = write_arrays(arrays)
    return [Tensor(h, bytes(b)) for h, b in zip(heads, buffers, strict=True)]


def arrays_of(tensors: Sequence[Tensor]) -> dict[str, Array]:
    """Tensors as the runtime takes them."""
    raw = memoryview(b"".join(tensor.data for tensor in tensors))
    return read_arrays([tensor.head for tensor in tensors], raw)


def encoder_rows(dice: np.random.Generator, rows: int, tokens: int) -> list[Tensor]:
    """Made-up texts; every third is half padded."""
    mask = np.ones((rows, tokens), np.int64)
    mask[::3, tokens // 2 :] = 0
    return tensors_of({"input_ids": dice.integers(1, 250, (rows, tokens)), "attention_mask": mask})


def decoder_rows(dice: np.random.Generator, rows: int, tokens: int) -> list[Tensor]:
    """A prompt without a past."""
    places = np.tile(np.arange(tokens), (rows, 1))
    past = np.zeros((rows, CONFIG.heads, 0, CONFIG.width // CONFIG.heads), np.float32)
    caches = {f"past_{part}{layer}": past for layer in range(CONFIG.layers) for part in "kv"}
    return tensors_of(
        {"ids": dice.integers(1, 250, (rows, tokens)), "position_ids": places, **caches}
    )


# -- cheats that change the weights


def altered(raw: bytes, cheat: str, dice: np.random.Generator) -> bytes:
    """The shard with other weights."""
    model = onnx.load_model_from_string(raw)
    tensors = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    products = {
        name for node in model.graph.node if "MatMul" in node.op_type for name in node.input
    }
    wide = [t for t in tensors if len(t.dims) == 2 and t.name in products]
    for tensor in [wide[dice.integers(len(wide))]] if cheat == "one weight" else tensors:
        values = numpy_helper.to_array(tensor).copy()
        if cheat == "one weight":
            values.reshape(-1)[dice.integers(values.size)] += np.float32(0.05)
        elif cheat == "fp16":
            values = values.astype(np.float16).astype(np.float32)
        elif values.ndim == 2:
            step = np.abs(values).max() / 127
            values = (np.round(values / step) * step).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model.SerializeToString()


# -- runs


@asynccontextmanager
async def started(folder: Path, *words: str) -> AsyncIterator[Pool]:
    """A pool with the node's worker program, or with a liar's."""
    module = "prsm.testnet.liar_worker" if words else "prsm.node.worker"
    command = (sys.executable, "-m", module, *words)
    pool = Pool(jobs_dir=folder, memory_bytes_max=2048 * MIB, command=command)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield pool
        nursery.cancel_scope.cancel()


async def run_chain(
    model: Model, stages: Sequence[Session], inputs: Sequence[Tensor]
) -> tuple[list[Boundary], list[tuple[Tensor, ...]]]:
    """All stages, one after the other: roots at each boundary, and the outputs of each."""
    values = {tensor.head.name: tensor for tensor in inputs}
    found, outputs = [], []
    for stage, session in enumerate(stages):
        feeds = [values[spec.name] for spec in model.shards[stage].inputs]
        made = await session.run(feeds)
        found.append(
            Boundary(
                input_root(feeds, stage=stage), side_root(feeds, stage=stage), batch_root(made)
            )
        )
        outputs.append(made)
        values |= {tensor.head.name: tensor for tensor in made}
    return found, outputs


async def open_all(stack: AsyncExitStack, pool: Pool, model: Model) -> list[Session]:
    """A child for each stage."""
    return [
        await stack.enter_async_context(pool.open(model.path(k), golden=model.golden(k)))
        for k in range(len(model.shards))
    ]


@dataclass(slots=True)
class Bench:
    """Honest workers and checkers of one model, and the dice."""

    model: Model
    workers: list[Session]
    checkers: list[Session]
    dice: np.random.Generator

    def inputs(self) -> list[Tensor]:
        """A batch of some size; few sizes, so that a stale answer has the shape asked for."""
        rows, tokens = (1, 4, 8)[self.dice.integers(3)], (8, 16)[self.dice.integers(2)]
        return self.model.rows(self.dice, rows, tokens)

    async def check(self, stage: int, liar: Session, tally: Tally) -> None:
        """One job in which one stage cheats, checked from its first boundary on."""
        chain = [*self.workers]
        chain[stage] = liar
        inputs = self.inputs()
        claimed, answered = await run_chain(self.model, chain, inputs)
        ours, computed = await run_chain(self.model, self.checkers, inputs)
        parted = first_divergence(ours, claimed)
        tally.checked += 1
        if parted is not None and parted.fault is Fault.COMPUTED:
            tally.flagged += 1
            tally.named += parted.stage == stage
        gap = await self.checkers[stage].compare(computed[stage], answered[stage])
        finding = judge(ours[stage], claimed[stage], is_same_class=False, gap_ppb=gap)
        tally.by_tolerance += finding is Finding.DIFFERENT
        tally.gaps.append(gap)


async def weights_cheat(bench: Bench, pool: Pool, cheat: str, count: int, folder: Path) -> Tally:
    """Jobs in which one stage has other weights; three different edits of one weight a stage."""
    tally = Tally()
    edits = 3 if cheat == "one weight" else 1
    places = [(stage, edit) for stage in range(len(bench.model.shards)) for edit in range(edits)]
    for number, (stage, edit) in enumerate(places):
        path = folder / f"{cheat}-{stage}-{edit}.onnx"
        path.write_bytes(altered(bench.model.path(stage).read_bytes(), cheat, bench.dice))
        async with pool.open(path, golden=bench.model.golden(stage)) as liar:
            for _ in range(number, count, len(places)):
                await bench.check(stage, liar, tally)
    return tally


async def program_cheat(bench: Bench, cheat: str, count: int, folder: Path) -> Tally:
    """Jobs in which one stage runs a program that does not compute."""
    tally = Tally()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(started(folder / cheat, "--cheat", cheat))
        liars = await open_all(stack, pool, bench.model)
        if cheat == "stale":  # the answers it will give for ever
            seen: set[tuple[int, ...]] = set()
            while len(seen) < 6:
                inputs = bench.inputs()
                seen.add(inputs[0].head.shape)
                await run_chain(bench.model, liars, inputs)
        for number in range(count):
            stage = number % len(liars)
            await bench.check(stage, liars[stage], tally)
    return tally


async def honest_checks(bench: Bench, count: int) -> tuple[int, list[int]]:
    """Checks of honest work: false flags, and the gaps where bits could not decide."""
    stages = len(bench.model.shards)
    twins = [threaded(bench.model.path(stage)) for stage in range(stages)]
    flags, gaps = 0, []
    for number in range(count):
        inputs = bench.inputs()
        claimed, answered = await run_chain(bench.model, bench.workers, inputs)
        if number % 3 == 0:  # the same class in another process
            ours, _ = await run_chain(bench.model, bench.checkers, inputs)
            flags += first_divergence(ours, claimed) is not None
            continue
        stage = number % stages
        values = {t.head.name: t for made in ([*inputs], *answered[:stage]) for t in made}
        feeds = arrays_of([values[spec.name] for spec in bench.model.shards[stage].inputs])
        if number % 3 == 1:  # two threads
            made = local.compute(twins[stage], feeds, local.run_options())
        else:  # each row alone
            made = by_rows(twins[stage], feeds)
        gap = gap_ppb(made, arrays_of(answered[stage]))
        ours_out = batch_root(tensors_of(made))
        ours_here = Boundary(claimed[stage].input_root, claimed[stage].side_root, ours_out)
        found = judge(ours_here, claimed[stage], is_same_class=False, gap_ppb=gap)
        flags += found is Finding.DIFFERENT
        gaps.append(gap)
    return flags, gaps


def threaded(path: Path) -> local.Model:
    """The shard with two threads and the runtime's own fusions: another determinism class."""
    options = local.session_options(is_pinning=True)
    options.intra_op_num_threads = 2
    return local.load(path.read_bytes(), options=options)


def by_rows(model: local.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Every row in a batch of its own."""
    rows = next(iter(feeds.values())).shape[0]
    parts = [
        local.compute(
            model,
            {name: np.ascontiguousarray(array[row : row + 1]) for name, array in feeds.items()},
            local.run_options(),
        )
        for row in range(rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


async def measure(folder: Path, jobs: int) -> list[Row]:
    """Run everything and return the rows of the table."""
    tallies = {name: Tally() for name in (*WEIGHTS, *COMPUTED)}
    flags, gaps = 0, list[int]()
    async with started(folder / "jobs") as pool:
        models = [
            await prepared(pool, folder / "e", decoder.build_encoder(CONFIG), encoder_rows),
            await prepared(pool, folder / "d", decoder.build_decoder(CONFIG), decoder_rows),
        ]
        each = -(-jobs // (len(tallies) * len(models)))
        for seed, model in enumerate(models):
            async with AsyncExitStack() as stack:
                workers = await open_all(stack, pool, model)
                checkers = await open_all(stack, pool, model)
                bench = Bench(model, workers, checkers, np.random.default_rng(seed))
                scratch = model.prepared.out_dir
                for cheat in WEIGHTS:
                    add(tallies[cheat], await weights_cheat(bench, pool, cheat, each, scratch))
                for cheat in COMPUTED:
                    add(tallies[cheat], await program_cheat(bench, cheat, each, scratch))
                found, wide = await honest_checks(bench, jobs // len(models))
                flags, gaps = flags + found, gaps + wide
    rows = [row for name, tally in tallies.items() for row in tally.rows(name)]
    return [
        *rows,
        (BAR, 100, "%"),
        ("checked jobs in all", sum(tally.checked for tally in tallies.values()), "jobs"),
        ("honest checks: other process, threads, grouping", jobs, "checks"),
        ("honest checks: false flags", flags, "checks"),
        ("honest checks: largest gap / tolerance", max(gaps) / TOLERANCE_PPB, "x"),
    ]


def add(into: Tally, found: Tally) -> None:
    """Sum up."""
    into.checked += found.checked
    into.flagged += found.flagged
    into.named += found.named
    into.by_tolerance += found.by_tolerance
    into.gaps += found.gaps


async def prepared(
    pool: Pool,
    folder: Path,
    graph: onnx.ModelProto,
    rows: Callable[[np.random.Generator, int, int], list[Tensor]],
) -> Model:
    """Pin and cut a graph."""
    source = written(folder, graph)
    made = await pool.prepare(source, out_dir=folder / "m", stages=[STAGES], tokenizer=None)
    return Model(made, tuple(s for s in made.shards if s.stages == STAGES), rows)


def written(folder: Path, graph: onnx.ModelProto) -> Path:
    """The graph as a file in a new folder."""
    folder.mkdir()
    source = folder / "raw.onnx"
    source.write_bytes(graph.SerializeToString())
    return source


def measure_all(jobs: int = JOBS) -> list[Row]:
    """Run everything, for a caller without a loop or a folder."""
    with tempfile.TemporaryDirectory(prefix="prsm-cheats-") as folder:
        return trio.run(measure, Path(folder), jobs)
