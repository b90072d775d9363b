"""`prsm demo --big`: a model that fits into no worker is refused by one and runs on three.

Knows: the steps and what each must show. Must not know: how a node does it; all is asked over
JSON-RPC. The requester prepares the model and has memory for it, which the workers have not.
"""

import hashlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from prsm.node.rpc.client import Client, RpcError
from prsm.node.rpc.methods.models import AddParams, ModelInfo, Opened, RefParams
from prsm.node.rpc.methods.offers import ShardList, ShardParams
from prsm.node.rpc.methods.work import (
    Job,
    JobIdParams,
    JobParams,
    JobResult,
    RunParams,
    TensorText,
)
from prsm.protocol.tensors import Dtype, Tensor, TensorHead
from prsm.testnet import reference
from prsm.testnet.demo import DemoFailed
from prsm.testnet.launch import Network, Node, create
from prsm.testnet.report import Screen

STAGES: Final = 3
NODES: Final = 4
ROWS: Final = 8
WIDTH: Final = 4096
BLOCK_MIB: Final = 64
_MIB: Final = 1024 * 1024
_SHARED: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_CALL_SECONDS: Final = 600.0
_JOB_SECONDS: Final = 300.0


class Seen(msgspec.Struct, frozen=True):
    """The most memory a worker of a node was seen with."""

    node: str
    rss_mib: int
    peak_mib: int  # of address space, which the limit bounds


@dataclass(slots=True)
class _Run:
    mib: int
    screen: Screen
    folder: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def source(self) -> Path:
        """Where the raw model is written: in memory where that is a folder, read once as it is."""
        return (_SHARED if _SHARED.is_dir() else self.folder) / f"{self.folder.name}-giant"

    @property
    def worker_mib(self) -> int:
        """What a worker may have: room for a third of the weights, and less than all of them."""
        return 576 + 2 * self.mib // STAGES + BLOCK_MIB

    @property
    def requester_mib(self) -> int:
        """What preparing takes, with a margin."""
        return 2048 + 5 * self.mib // 2


def run_big(screen: Screen, *, mib: int) -> tuple[dict[str, object], list[str]]:
    """Run all steps; everything started is ended again.

    Args:
        screen: for people.
        mib: weights of the model; from 1,984 on no worker could hold them.

    Returns:
        The document, and what should have held and did not.

    Raises:
        PrsmError, RpcError: a step failed; what was started is ended all the same.
    """
    folder = Path(tempfile.mkdtemp(prefix="prsm-demo-"))
    run = _Run(mib - mib % BLOCK_MIB, screen, folder)
    if run.worker_mib >= run.mib:
        raise DemoFailed(
            f"{run.mib} MiB of weights would fit into a worker of {run.worker_mib} MiB",
            hint="type --big 1984 or more",
        )
    network: Network | None = None
    try:
        screen.step(f"a model of {run.mib} MiB of weights, and four daemons")
        model = _build(run)
        network = create(folder / "net", NODES)
        for place, node in enumerate(network.nodes):
            _configure(node, run.worker_mib if place else run.requester_mib)
        network.start()
        document = _steps(run, network, model)
        return document, failures(document)
    finally:
        if network is not None:
            network.stop()
        for left in (folder, run.source):
            shutil.rmtree(left, ignore_errors=True)


def _build(run: _Run) -> Path:
    command = [sys.executable, "-m", "prsm.node.worker.recipes.giant", str(run.source)]
    done = subprocess.run(  # noqa: S603 - our own program
        [*command, str(run.mib)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoFailed(f"the model cannot be built: {done.stderr.strip()[-200:]}")
    return Path(done.stdout.strip())


def _configure(node: Node, memory_mib: int) -> None:
    """Bound the memory of a node's workers; they work for nothing, so no pledge is asked for."""
    text = node.home.config.read_text(encoding="utf-8")
    text = text.replace("[executor]\n", f'[executor]\nmemory = "{memory_mib}MiB"\n')
    text = text.replace('price = "1000"', 'price = "0"')
    node.home.config.write_text(text, encoding="utf-8")


def _steps(run: _Run, network: Network, source: Path) -> dict[str, object]:
    screen = run.screen
    with network.nodes[0].client(timeout_s=_CALL_SECONDS) as client:
        screen.step("pinned and cut into three in a sandbox; weights stored under their own CIDs")
        model = client.call(
            "model_add",
            AddParams(path=str(source), name="giant", stages=(STAGES,)),
            result=ModelInfo,
        )
        cut = client.call("model_shard", ShardParams(model.cid), result=ShardList)
        screen.step(f"in one piece, by workers of {run.worker_mib} MiB: what do they say?")
        refusal = _refused(client, model)
        screen.note(f"          refused: {refusal}")
        screen.step("in three pieces, one on each")
        job, output, memory = _ask(run, network, client, model)
        screen.step("the same rows in one piece on this machine, where there is memory")
        whole = _whole(run, client, model)
    return {
        "model": {"cid": model.cid, "weights_mib": run.mib, "bytes": model.size_bytes},
        "worker_memory_mib": run.worker_mib,
        "whole_needs_mib": max(s.needs_bytes for s in cut.items if s.stages == 1) // _MIB,
        "stage_needs_mib": max(s.needs_bytes for s in cut.items if s.stages == STAGES) // _MIB,
        "refusal": refusal,
        "job": {"id": job.job_id, "rows": job.rows, "stages": job.stages},
        "workers": msgspec.to_builtins(memory),
        "bit_equal": output == whole,
        "seconds": round(time.monotonic() - run.began, 1),
    }


def _rows() -> TensorText:
    dice = random.Random(0)
    values = [dice.gauss(0, 1) for _ in range(ROWS * WIDTH)]
    data = struct.pack(f"<{len(values)}f", *values)
    return TensorText("x", "f32", (ROWS, WIDTH), "0x" + data.hex())


def _refused(client: Client, model: ModelInfo) -> str:
    asked = RunParams(model=model.cid, inputs=(_rows(),), stages=1, redundancy="1-of-1")
    try:
        job = client.call("infer_run", asked, result=Job)
    except RpcError as error:
        if error.reason != "does_not_fit":
            raise
        return error.what
    job = client.call("job_get", JobParams(job.job_id, wait_ms=60_000), result=Job)
    if job.error is None or job.error.reason != "does_not_fit":
        raise DemoFailed(f"one worker took it whole: the job is {job.state}")
    return job.error.what


def _ask(
    run: _Run, network: Network, client: Client, model: ModelInfo
) -> tuple[Job, str, list[Seen]]:
    asked = RunParams(model=model.cid, inputs=(_rows(),), stages=STAGES, redundancy="1-of-1")
    job = client.call("infer_run", asked, result=Job)
    deadline = time.monotonic() + _JOB_SECONDS
    memory: dict[str, Seen] = {}
    while not job.is_over:
        if time.monotonic() > deadline:
            raise DemoFailed(f"the job is {job.state} after {_JOB_SECONDS:.0f} s")
        job = client.call("job_get", JobParams(job.job_id, wait_ms=500), result=Job)
        _look(network, memory)
        run.screen.progress(job.rows_done, job.rows, job.state)
    if job.error is not None:
        raise DemoFailed(f"the job failed: {job.error.what}")
    result = client.call("job_getResult", JobIdParams(job.job_id), result=JobResult)
    return job, _digest(bytes.fromhex(result.outputs[0].data[2:])), list(memory.values())


def _look(network: Network, memory: dict[str, Seen]) -> None:
    """Note the most memory a worker of each node was seen with: resident and address space."""
    for node in network.nodes[1:]:
        for child in _offspring(node.pid):
            status = _status(child)
            known = memory.get(node.name)
            if status is not None and (known is None or status[0] > known.rss_mib):
                memory[node.name] = Seen(node.name, *status)


def _offspring(pid: int) -> list[int]:
    """Children of the children of a daemon: those of its fork server."""
    return [grandchild for child in _children(pid) for grandchild in _children(child)]


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _status(pid: int) -> tuple[int, int] | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in fields:
        return None
    return int(fields["VmRSS"].split()[0]) // 1024, int(fields["VmPeak"].split()[0]) // 1024


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _whole(run: _Run, client: Client, model: ModelInfo) -> str:
    """The same rows through the uncut graph in one worker with memory for it."""
    opened = client.call("model_open", RefParams(model.cid), result=Opened)
    files = {item.path: Path(item.file) for item in opened.items}
    rows = _rows()
    head = TensorHead(rows.name, Dtype.F32, rows.shape)
    tensor = Tensor(head, bytes.fromhex(rows.data[2:]))
    return _digest(reference.run_files(files, tensor, memory_mib=run.requester_mib))


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that should have held and did not."""
    workers = document["workers"]
    assert isinstance(workers, list)
    held = {
        "the answer is not bit-equal to the whole model": bool(document["bit_equal"]),
        f"{len(workers)} nodes worked, not {STAGES}": len(workers) == STAGES,
    }
    return [what for what, good in held.items() if not good]
