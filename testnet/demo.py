"""`prsm demo`: four real daemons run a sharded model on real text, outvote a liar, and are paid.

Knows: the steps, in order, and what each must have shown. Must not know: how a node does it; all
is asked over JSON-RPC, judged by `invariants`, `reference` and `verify_receipt`.
"""

import json
import math
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from prsm.node.rpc.client import Client
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.node import NodeStatus
from prsm.node.rpc.methods.work import Job, JobIdParams, JobParams, JobResult, RunParams
from prsm.protocol.errors import LocalError
from prsm.protocol.genesis import Genesis, from_json
from prsm.testnet import invariants, reference
from prsm.testnet.launch import Network, Node, create
from prsm.testnet.report import Screen
from prsm.testnet.texts import file_sentences, project_sentences

QUESTION: Final = "What happens when two workers give different results?"
STAGES: Final = 3
NODES: Final = 4
JOB_SECONDS: Final = 120.0
CALL_SECONDS: Final = 300.0
VERIFIER: Final = Path(__file__).with_name("verify_receipt.py")


class DemoFailed(LocalError):
    """A step of the demo did not show what it must."""

    reason = "demo_failed"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    text: Path | None = None
    question: str = QUESTION
    rows: int = 240
    byzantine: int = 1
    byzantine_node: int = 4  # from 2: node 1 is the requester
    keep: bool = False
    receipt: Path = Path("receipt.json")
    install_seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """What the demo has so far."""

    options: Options
    screen: Screen
    folder: Path
    sentences: list[str]
    began: float = field(default_factory=time.monotonic)

    @property
    def liar(self) -> str | None:
        """Name of the lying node."""
        return f"node{self.options.byzantine_node}" if self.options.byzantine else None


@dataclass(frozen=True, slots=True)
class Answered:
    """The job's outcome: its rows, how they compare with one machine, and the best sentences."""

    job: Job
    differing: list[int]
    same_plan: bool
    best: list[tuple[float, str]]


def run_demo(options: Options, screen: Screen) -> dict[str, object]:
    """Run all steps and return the document; everything started is ended again.

    Raises:
        PrsmError, RpcError: a step failed; what was started is ended all the same.
    """
    check_options(options)
    sentences = (
        file_sentences(options.text, options.rows)
        if options.text
        else project_sentences(options.rows)
    )
    folder = Path(tempfile.mkdtemp(prefix="prsm-demo-"))
    run = Run(options, screen, folder, sentences)
    network: Network | None = None
    try:
        liars = [options.byzantine_node - 1] if options.byzantine else []
        screen.step("four daemons: keys, genesis, processes")
        network = create(folder / "net", NODES, liars=liars)
        network.start()
        document = _steps(run, network)
    finally:
        if network is not None and not options.keep:
            network.stop()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if options.keep:
        screen.note(f"kept running in {folder / 'net'}; end it with: prsm testnet down --dir …")
    return document


def check_options(options: Options) -> None:
    """Refuse what no demo can be run with.

    Raises:
        LocalError: which option, and what it may be.
    """
    if options.byzantine not in {0, 1}:
        raise LocalError(
            f"--byzantine {options.byzantine}: of three workers one may lie, two would agree",
            hint="type --byzantine 0 or --byzantine 1",
        )
    if not 2 <= options.byzantine_node <= NODES:
        raise LocalError(
            f"--byzantine-node {options.byzantine_node}: node 1 asks, nodes 2 to {NODES} work",
            hint=f"type a number from 2 to {NODES}",
        )
    if not 1 <= options.rows <= 1000:
        raise LocalError(f"--rows {options.rows}", hint="type a number from 1 to 1000")


def _steps(run: Run, network: Network) -> dict[str, object]:
    screen = run.screen
    genesis = from_json(network.genesis.read_bytes())
    first = network.nodes[0]
    with first.client(timeout_s=CALL_SECONDS) as client:
        model_file, tokenizer = _build(run)
        screen.step("the model: pinned in a sandbox, stored, named on the ledger")
        model = client.call(
            "model_add",
            AddParams(
                path=str(model_file),
                name=model_file.parent.name,
                stages=(STAGES,),
                tokenizer=str(tokenizer),
            ),
            result=ModelInfo,
        )
        _pull(run, network, model)
        before = invariants.check(network, genesis)
        answered = _ask(
            run, client, model, [*run.sentences, run.options.question], (model_file, tokenizer)
        )
        receipt = _receipt(run, network, client, answered.job)
        screen.step("every node: balances, roots, supply")
        after = invariants.check(network, genesis)
    return _document(run, network, _Shown(genesis, model, answered, before, after, receipt))


def _build(run: Run) -> tuple[Path, Path]:
    """MiniLM from its wheel, or the own encoder where the wheel cannot be had."""
    for recipe, name in (("minilm", "minilm"), ("decoder", "prsm-encoder")):
        out = run.folder / name
        run.screen.step(f"the model: {name} as ONNX")
        command = [sys.executable, "-m", f"prsm.node.worker.recipes.{recipe}", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
        if done.returncode == 0:
            return out / "model.onnx", out / "tokenizer.json"
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        run.screen.note(f"{name} cannot be built: {why}")
    raise DemoFailed("no model could be built")


def _pull(run: Run, network: Network, model: ModelInfo) -> None:
    for node in network.nodes[1:]:
        run.screen.step(f"{node.name} fetches {model.size_bytes / 1e6:.0f} MB from its peers")
        with node.client(timeout_s=CALL_SECONDS) as client:
            held = client.call("model_pull", RefParams(model.cid), result=ModelInfo)
        if held.held_bytes != model.size_bytes:
            raise DemoFailed(f"{node.name} holds {held.held_bytes} of {model.size_bytes} bytes")


def _ask(
    run: Run, client: Client, model: ModelInfo, texts: list[str], files: tuple[Path, Path]
) -> Answered:
    screen = run.screen
    screen.step(f"{len(texts)} rows through {STAGES} stages, each on two peers")
    asked = RunParams(model=model.cid, texts=tuple(texts), stages=STAGES)
    job = client.call("infer_run", asked, result=Job)
    deadline = time.monotonic() + JOB_SECONDS
    while not job.is_over:
        if time.monotonic() > deadline:
            raise DemoFailed(f"the job is {job.state} after {JOB_SECONDS:.0f} s")
        job = client.call("job_get", JobParams(job.job_id, wait_ms=200), result=Job)
        screen.progress(job.rows_done, job.rows, job.state)
    if job.error is not None:
        raise DemoFailed(f"the job failed: {job.error.what}")
    result = client.call("job_getResult", JobIdParams(job.job_id), result=JobResult)
    data = bytes.fromhex(result.outputs[0].data[2:])
    screen.step("the same rows in one piece on this machine, compared byte by byte")
    whole = reference.run_whole(*files, texts)
    return Answered(
        job=job,
        differing=reference.differing_rows(whole, data),
        same_plan=whole.batches == job.batches,
        best=nearest(data, texts),
    )


def nearest(data: bytes, texts: Sequence[str], count: int = 3) -> list[tuple[float, str]]:
    """The sentences nearest to the last text by cosine; `data` is float32 (texts, width)."""
    width = len(data) // 4 // len(texts)
    rows = [struct.unpack_from(f"<{width}f", data, i * width * 4) for i in range(len(texts))]
    question = rows[-1]

    def cosine(row: Sequence[float]) -> float:
        norms = math.sqrt(sum(x * x for x in row) * sum(x * x for x in question))
        return sum(x * y for x, y in zip(row, question, strict=True)) / norms if norms else 0.0

    scored = [(cosine(row), text) for row, text in zip(rows[:-1], texts[:-1], strict=True)]
    return sorted(scored, reverse=True)[:count]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The written receipt, and what the standalone verifier said of it."""

    path: Path
    genesis: str
    trust: str
    verified: bool
    said: str


def _receipt(run: Run, network: Network, client: Client, job: Job) -> Receipt:
    run.screen.step("the receipt, checked by code that knows nothing of prsm")
    document = client.call_raw("job_getProof", JobIdParams(job.job_id))
    path = run.options.receipt.absolute()
    path.write_bytes(msgspec.json.format(document, indent=1) + b"\n")
    command = [sys.executable, str(VERIFIER), "--genesis", str(network.genesis), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    epoch, digest = invariants.validators_hash(network.nodes[0])
    return Receipt(
        path=path,
        genesis="0x" + from_json(network.genesis.read_bytes()).digest.hex(),
        trust=f"{epoch}:{digest}",
        verified=done.returncode == 0,
        said=(done.stdout or done.stderr).strip(),
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    genesis: Genesis
    model: ModelInfo
    answered: Answered
    before: invariants.Agreement
    after: invariants.Agreement
    receipt: Receipt


def _document(run: Run, network: Network, shown: _Shown) -> dict[str, object]:
    job, after = shown.answered.job, shown.after
    wallets = {node.name: _wallet(node) for node in network.nodes}
    paid, outvoted = _verdicts(job, wallets)
    liar = run.liar
    return {
        "model": {
            "name": shown.model.name,
            "cid": shown.model.cid,
            "bytes": shown.model.size_bytes,
            "stages": STAGES,
        },
        "job": _job(run, shown.answered),
        "liar": {
            "node": liar,
            "caught": liar in outvoted,
            "outvoted": sorted(outvoted),
            "paid": bool(liar and paid[liar]),
            "blocks": list(job.settled_heights),
        },
        "payments": [
            {
                "node": name,
                "micro_ftns": str(amount),
                # The balance also paid the fees of the worker's commitments.
                "balance_change": str(
                    after.balances[wallets[name]] - shown.before.balances[wallets[name]]
                ),
            }
            for name, amount in paid.items()
            if name != network.nodes[0].name
        ],
        "escrow": {"locked": job.locked, "paid": job.paid, "refunded": job.refunded},
        "ledger": {
            "height": after.height,
            "state_root": after.state_root,
            "same_state_root": after.same_state_root and shown.before.same_state_root,
            "supply_conserved": after.supply_conserved,
            "nodes": after.nodes,
        },
        "receipt": {
            "path": str(shown.receipt.path),
            "genesis": shown.receipt.genesis,
            "trust": shown.receipt.trust,
            "verified": shown.receipt.verified,
            "said": shown.receipt.said,
        },
        "seconds": {
            "install": run.options.install_seconds,
            "total": round(time.monotonic() - run.began, 1),
        },
    }


def _job(run: Run, answered: Answered) -> dict[str, object]:
    job = answered.job
    return {
        "id": job.job_id,
        "rows": job.rows,
        "peers": sorted({worker.peer_id for worker in job.workers if worker.rows}),
        "micro_batches": len(job.batches),
        "bit_equal": not answered.differing and answered.same_plan,
        "question": run.options.question,
        "answer": answered.best[0][1],
        "nearest": [{"cosine": f"{score:.4f}", "sentence": text} for score, text in answered.best],
    }


def _wallet(node: Node) -> str:
    with node.client() as client:
        return client.call("node_getStatus", result=NodeStatus).wallet or ""


def _verdicts(job: Job, wallets: dict[str, str]) -> tuple[dict[str, int], set[str]]:
    """What the ledger's verdicts paid each node, and who was outvoted."""
    names = {account: name for name, account in wallets.items()}
    paid = dict.fromkeys(wallets, 0)
    outvoted = set()
    for worker in job.workers:
        paid[names[worker.account]] += int(worker.paid)
        if worker.verdict == "outvoted":
            outvoted.add(names[worker.account])
    return paid, outvoted


def failures(document: dict[str, object]) -> list[str]:
    """Everything in a document that should have held and did not."""
    checks = json.loads(json.dumps(document))
    honest = [row for row in checks["payments"] if row["node"] != checks["liar"]["node"]]
    held = {
        "the answer is not bit-equal to a local run": checks["job"]["bit_equal"],
        "who lied is not who was outvoted": checks["liar"]["outvoted"]
        == [name for name in [checks["liar"]["node"]] if name],
        "the liar was paid": not checks["liar"]["paid"],
        "an honest worker was not paid": all(int(row["micro_ftns"]) > 0 for row in honest),
        "the nodes have different states": checks["ledger"]["same_state_root"],
        "money appeared or vanished": checks["ledger"]["supply_conserved"],
        "a node is missing": checks["ledger"]["nodes"] == NODES,
        f"the receipt does not verify: {checks['receipt']['said']}": checks["receipt"]["verified"],
    }
    return [what for what, good in held.items() if not good]
