"""Measure jobs between real daemons on loopback beside one core in this process, in one run.

Two stages, the first on the requester itself; then whole rows spread over 1, 2 and 4 workers of
one process each. Units of 1 of 1 at price 0: no redundancy. MiniLM where its wheel is installed,
else the own encoder. A figure is the median of three; each ratio is taken inside one repeat.

Run: python scripts/bench.py pipeline
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from prsm.node.rpc.client import Client
from prsm.node.rpc.methods.models import AddParams, ModelInfo, Opened, RefParams
from prsm.node.rpc.methods.work import Job, JobParams, RunParams, TensorText
from prsm.node.worker import session as local
from prsm.node.worker.pipe import Array
from prsm.node.worker.recipes import decoder, minilm
from prsm.testnet import launch
from prsm.testnet.launch import Member, Network

REPEATS: Final = 3
ROWS, TOKENS, BATCHES = 8, 64, 40
WINDOW: Final = 4
WORKERS: Final = (1, 2, 4)
WAIT_MS: Final = 60_000
CALL_SECONDS: Final = 120.0
LOCAL: Final = f"whole in this process, one core, {ROWS} x {TOKENS}"
PIPELINE: Final = f"2 stages over 2 daemons, window {WINDOW}, first stage at home"
SINGLE: Final = "the same with 1 in flight"
ONE_WORKER: Final = "replicas: 1 worker process"
HERE: Final = "one core here"
BOUND: Final = "what these leave at best on 2 free cores"
TICKS: Final = os.sysconf("SC_CLK_TCK")
LIMITS: Final = {
    PIPELINE: LOCAL,
    SINGLE: LOCAL,
    **{f"replicas: {count} worker processes": ONE_WORKER for count in WORKERS[1:]},
}
Row = tuple[str, float, str]


def micro_batches() -> dict[str, Array]:
    """All rows: made-up tokens, every third row half padded."""
    count = ROWS * BATCHES
    ids = np.random.default_rng(5).integers(1, 250, (count, TOKENS))
    mask = np.ones((count, TOKENS), np.int64)
    mask[::3, TOKENS // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def as_texts(feeds: dict[str, Array]) -> tuple[TensorText, ...]:
    """The rows as JSON carries them."""
    return tuple(
        TensorText(name, "i64", array.shape, "0x" + array.tobytes().hex())
        for name, array in feeds.items()
    )


class Scene:
    """A network, a model on its nodes, and the same model in this process."""

    def __init__(self, folder: Path, network: Network, model: ModelInfo, client: Client) -> None:
        self.folder, self.network, self.model, self.client = folder, network, model, client
        self.feeds = micro_batches()
        self.inputs = as_texts(self.feeds)
        opened = client.call("model_open", RefParams(model.cid), result=Opened)
        whole = next(item for item in opened.items if item.path == "pinned.onnx")
        self.whole = local.load(Path(whole.file).read_bytes())

    def run_local(self) -> float:
        """Seconds of all micro-batches on one core of this process."""
        begin = time.perf_counter()
        for place in range(0, ROWS * BATCHES, ROWS):
            feeds = {name: array[place : place + ROWS] for name, array in self.feeds.items()}
            local.compute(self.whole, feeds, local.run_options())
        return time.perf_counter() - begin

    def cpu_seconds(self) -> dict[str, float]:
        """Processor seconds so far: of each node, its daemon and its children."""
        found: dict[str, float] = {}
        parents = {pid: parent for pid, parent, _ in _processes()}
        for node in self.network.nodes:
            for pid, _, seconds in _processes():
                if pid == node.pid:
                    found[f"{node.name}, daemon"] = seconds
                elif _is_under(pid, node.pid, parents):
                    name = f"{node.name}, children"
                    found[name] = found.get(name, 0.0) + seconds
        return found

    def run_job(self, **changes: int) -> float:
        """Seconds of the same as a job, from its lock to the last output."""
        asked = RunParams(
            self.model.cid,
            inputs=self.inputs,
            redundancy="1-of-1",
            rows_per_batch=ROWS,
            wait_ms=WAIT_MS,
            **changes,  # type: ignore[arg-type]  # only the counts of it
        )
        job = self.client.call("infer_run", asked, result=Job)
        while not job.is_over:
            job = self.client.call("job_get", JobParams(job.job_id, wait_ms=WAIT_MS), result=Job)
        if job.state != "done" or job.leases:
            raise RuntimeError(f"the job ended as {job.state}: {job.error}, leases {job.leases}")
        return job.run_ms / 1000


def _processes() -> list[tuple[int, int, float]]:
    """Pid, parent and processor seconds of all processes."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                found.append((int(folder.name), int(fields[1]), ticks / TICKS))
    return found


def _is_under(pid: int, root: int, parents: Mapping[int, int]) -> bool:
    while pid in parents and pid != root:
        pid = parents[pid]
    return pid == root


def open_scene(folder: Path, workers: int, stages: tuple[int, ...]) -> Scene:
    """Start a requester and workers, and give all of them the model."""
    members = [Member("requester"), *(Member(f"worker{i}", votes=False) for i in range(workers))]
    network = launch.build(folder / "network", members)
    for node in network.nodes:  # free work is checked by nobody and needs no pledge
        config = node.home.config
        lines = config.read_text(encoding="utf-8").splitlines()
        kept = ['price = "0"' if line.startswith("price") else line for line in lines]
        config.write_text("\n".join(kept) + "\n", encoding="utf-8")
    network.start()
    try:
        return give_model(folder, network, stages)
    except BaseException:
        network.stop()
        raise


def give_model(folder: Path, network: Network, stages: tuple[int, ...]) -> Scene:
    """Add the model at the requester, and have the workers fetch it."""
    recipe = minilm if minilm.find() is not None else decoder
    source, tokenizer = recipe.write(folder / "raw")
    client = network.nodes[0].client(timeout_s=CALL_SECONDS)
    added = AddParams(str(source), "bench", stages=stages, tokenizer=str(tokenizer))
    model = client.call("model_add", added, result=ModelInfo)
    for node in network.nodes[1:]:
        with node.client(timeout_s=CALL_SECONDS) as worker:
            worker.call("model_pull", RefParams(model.cid), result=ModelInfo)
    return Scene(folder, network, model, client)


def measure_pipeline(folder: Path, rows: list[Row]) -> None:
    """Two stages: the first here, the second at a peer."""
    scene = open_scene(folder, 1, (2,))
    count = ROWS * BATCHES
    try:
        scene.run_job(stages=2, stages_here=1)  # shards are loaded
        alone, piped, single = [], [], []
        spent: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            before = time.process_time()
            alone.append(scene.run_local())
            spent.setdefault(HERE, []).append(time.process_time() - before)
            start = scene.cpu_seconds()
            piped.append(scene.run_job(stages=2, stages_here=1, window=WINDOW))
            for name, total in scene.cpu_seconds().items():
                spent.setdefault(name, []).append(total - start.get(name, 0.0))
            single.append(scene.run_job(stages=2, stages_here=1, window=1))
    finally:
        scene.network.stop()
    note(rows, LOCAL, [count / s for s in alone], "rows/s")
    note(rows, PIPELINE, [count / s for s in piped], "rows/s")
    note(rows, "  against one core (bar 1.4)", ratios(alone, piped), "x")
    note(rows, SINGLE, [count / s for s in single], "rows/s")
    note(rows, "  against one core (bar 0.85)", ratios(alone, single), "x")
    for name, used in spent.items():
        each_ms = [1000 * seconds / BATCHES for seconds in used]
        note(rows, f"processor of a micro-batch: {name}", each_ms, "ms")
    here = spent.pop(HERE)
    both = [sum(each) / 2 for each in zip(*spent.values(), strict=True)]
    note(rows, BOUND, ratios(here, both), "x")


def measure_replicas(folder: Path, rows: list[Row]) -> None:
    """Whole rows, spread over workers."""
    scene = open_scene(folder, max(WORKERS), (1,))
    count = ROWS * BATCHES
    spent: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    alone = []
    try:
        scene.run_job(stages=1, spread=max(WORKERS))
        for _ in range(REPEATS):
            alone.append(scene.run_local())
            for workers in WORKERS:
                spent[workers].append(scene.run_job(stages=1, spread=workers))
    finally:
        scene.network.stop()
    first = spent[WORKERS[0]]
    for workers, seconds in spent.items():
        name = ONE_WORKER if workers == 1 else f"replicas: {workers} worker processes"
        note(rows, name, [count / s for s in seconds], "rows/s")
        if workers == 1:
            note(rows, "  against one core", ratios(alone, seconds), "x")
        else:
            bar = " (bar 1.8)" if workers == 2 else ""
            note(rows, f"  {workers} against 1{bar}", ratios(first, seconds), "x")


def note(rows: list[Row], name: str, values: Sequence[float], unit: str) -> None:
    """Keep the median."""
    rows.append((name, statistics.median(values), unit))


def ratios(slow: Sequence[float], quick: Sequence[float]) -> list[float]:
    """How many times quicker, repeat by repeat."""
    return [a / b for a, b in zip(slow, quick, strict=True)]


def measure_all() -> list[Row]:
    """Run everything."""
    rows: list[Row] = []
    for measure in (measure_pipeline, measure_replicas):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), rows)
    return rows
