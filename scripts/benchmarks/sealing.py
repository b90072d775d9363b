"""What the sandbox, receipts and splitting cost, for `scripts/bench.py inference`.

Knows children forked here, sealed or not, and the models that ship. Ratios are taken inside one
repeat, in turns, so that a busy machine tells less.

Run: python scripts/bench.py inference
"""

import os
import signal
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import trio

from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.verify import batch_root, input_root
from prsm.node.worker import session as local
from prsm.node.worker.golden import load as load_golden
from prsm.node.worker.pipe import Array, write_arrays
from prsm.node.worker.recipes import decoder, minilm
from prsm.node.worker.sandbox import Profile, seal
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.limits import MIB
from prsm.protocol.messages.pipe import NoCut
from prsm.protocol.tensors import Tensor

REPEATS: Final = 5
RUNS: Final = 8  # of each child in a repeat
SHAPE: Final = (8, 64)  # rows, tokens
LIMITS: Final[Mapping[str, str]] = {}  # its rows are ratios
COUNTS: Final = (2, 3, 6)
THREADS: Final = (1, 2)
Row = tuple[str, float, str]


class Forked:
    """A child of this process that runs one model on command, sealed or not."""

    def __init__(self, raw: bytes, feeds: dict[str, Array], *, is_sealed: bool) -> None:
        theirs, self._commands = os.pipe()
        self._answers, ours = os.pipe()
        parent = os.getpid()
        self._folder = tempfile.TemporaryDirectory()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                if is_sealed:
                    profile = Profile(Path(self._folder.name), 8 * 1024 * MIB, 600)
                    seal(profile, keep=[theirs, ours], parent=parent)
                _serve(raw, feeds, theirs, ours)
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(ours)

    def run(self) -> float:
        """Seconds of one run, as the child measured them."""
        os.write(self._commands, b"r")
        (seconds,) = struct.unpack("d", os.read(self._answers, 8))
        return float(seconds)

    def end(self) -> None:
        """End the child; its brother holds the other end of its pipe too, so EOF never comes."""
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._commands)
        os.waitpid(self._pid, 0)
        os.close(self._answers)
        self._folder.cleanup()


def _serve(raw: bytes, feeds: dict[str, Array], commands: int, answers: int) -> None:
    model = local.load(raw)
    while os.read(commands, 1):
        begin = time.perf_counter()
        local.compute(model, feeds, local.run_options())
        os.write(answers, struct.pack("d", time.perf_counter() - begin))


def sandbox_share(raw: bytes, feeds: dict[str, Array]) -> list[float]:
    """Of each repeat, how much longer a sealed child takes than one that is not; 0.01 is 1 %."""
    children = [Forked(raw, feeds, is_sealed=is_sealed) for is_sealed in (False, True)]
    shares = []
    try:
        for child in children:
            child.run()
        for _ in range(REPEATS):
            spent = [0.0, 0.0]
            for turn in range(RUNS):
                # In turns, and in both orders: what disturbs one disturbs the other.
                for place in (0, 1) if turn % 2 else (1, 0):
                    spent[place] += children[place].run()
            shares.append(spent[1] / spent[0] - 1)
    finally:
        for child in children:
            child.end()
    return shares


def hashing_share(raw: bytes, feeds: dict[str, Array]) -> list[float]:
    """Of each repeat, what roots of inputs and outputs and a signature take beside the run."""
    model = local.load(raw)
    signer = Ed25519Signer(bytes(32))
    shares = []
    for _ in range(REPEATS):
        begin = time.process_time()
        outputs = local.compute(model, feeds, local.run_options())
        middle = time.process_time()
        roots = input_root(_tensors(feeds), stage=0) + batch_root(_tensors(outputs))
        signer.sign(roots)
        shares.append((time.process_time() - middle) / (middle - begin))
    return shares


def _tensors(arrays: dict[str, Array]) -> list[Tensor]:
    heads, buffers = write_arrays(arrays)
    return [Tensor(head, bytes(data)) for head, data in zip(heads, buffers, strict=True)]


def differing(model: Prepared) -> tuple[int, int]:
    """Outputs of splits that differ from the whole's by a bit, and how many were compared.

    Every count of stages, each with one and two threads inside an operator, on the golden rows.
    """
    folder = model.out_dir
    whole = next(shard for shard in model.shards if shard.stages == 1)
    rows = load_golden((folder / whole.golden).read_bytes())
    expected = _run((folder / whole.file).read_bytes(), rows, threads=1)
    wrong = compared = 0
    for count in sorted({shard.stages for shard in model.shards}):
        for threads in THREADS:
            values = dict(rows)
            for shard in sorted(
                (s for s in model.shards if s.stages == count), key=lambda s: s.index
            ):
                feeds = {spec.name: values[spec.name] for spec in shard.inputs}
                values.update(_run((folder / shard.file).read_bytes(), feeds, threads=threads))
            for name, array in expected.items():
                compared += 1
                wrong += array.tobytes() != values[name].tobytes()
    return wrong, compared


def _run(raw: bytes, feeds: dict[str, Array], *, threads: int) -> dict[str, Array]:
    options = local.session_options()
    options.intra_op_num_threads = threads
    model = local.load(raw, options=options)
    return local.compute(model, feeds, ort.RunOptions())


def shipped(folder: Path) -> dict[str, Path]:
    """The models that ship and can be built on this machine now."""
    makers: dict[str, Callable[[], bytes]] = {
        "encoder": lambda: decoder.build_encoder(decoder.Config()).SerializeToString(),
        "decoder": lambda: decoder.build_decoder(decoder.Config(layers=8)).SerializeToString(),
    }
    if minilm.find() is not None:
        makers["MiniLM"] = partial(_minilm, folder)
    paths = {}
    for name, make in makers.items():
        paths[name] = folder / f"{name}.onnx"
        paths[name].write_bytes(make())
    for name in ("digits", "tiny-gpt"):  # trained once: `prsm model build`
        built = Path(name) / "model.onnx"
        if built.is_file():
            paths[name] = built.absolute()
    return paths


def _minilm(folder: Path) -> bytes:
    source, _ = minilm.write(folder / "minilm")
    return source.read_bytes()


async def _prepare_all(folder: Path) -> dict[str, tuple[Prepared, list[int]]]:
    pool = Pool(jobs_dir=folder / "jobs", memory_bytes_max=8 * 1024 * MIB)
    found = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        for name, path in shipped(folder).items():
            found[name] = await _prepared(pool, path, folder / name)
        nursery.cancel_scope.cancel()
    return found


def _measure(folder: Path) -> list[Row]:
    models = trio.run(_prepare_all, folder)
    raw, feeds = _weighed(folder)
    # Before this process makes a session: a fork after one does not come to its end.
    shares = sandbox_share(raw, feeds), hashing_share(raw, feeds)
    rows: list[Row] = []
    wrong = compared = 0
    for name, (model, counts) in models.items():
        found = differing(model)
        wrong, compared = wrong + found[0], compared + found[1]
        rows.append((f"{name}: outputs of K = 1, {counts} that differ", found[0], "outputs"))
    rows.append((f"all {compared} outputs equal, threads {THREADS}", 1 - wrong / compared, ""))
    names = "sealed child beside an unsealed one (bar 0.05)", "roots, signature (bar 0.03)"
    rows += [(name, statistics.median(each), "") for name, each in zip(names, shares, strict=True)]
    return rows


async def _prepared(pool: Pool, path: Path, out: Path) -> tuple[Prepared, list[int]]:
    """A model cut into every count there is a cut for."""
    counts = list(COUNTS)
    while True:
        try:
            return await pool.prepare(path, out_dir=out, stages=counts, tokenizer=None), counts
        except NoCut:
            counts.pop()


def _weighed(folder: Path) -> tuple[bytes, dict[str, Array]]:
    """The pinned MiniLM, or the encoder, and one micro-batch."""
    name = "MiniLM" if (folder / "MiniLM").is_dir() else "encoder"
    raw = (folder / name / "pinned.onnx").read_bytes()
    inputs = [value.name for value in onnx.ModelProto.FromString(raw).graph.input]
    ids = np.random.default_rng(5).integers(1, 250, SHAPE)
    return raw, {name: ids if "ids" in name else np.ones(SHAPE, np.int64) for name in inputs}


def measure_all() -> list[Row]:
    """Run everything."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))
