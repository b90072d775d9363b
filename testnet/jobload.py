"""Paid jobs on a network under test: a small model, asked again and again, by whoever is there.

Knows: the methods of models and jobs, which nodes run models and which of them lie. Must not know:
faults. A job that loses its requester is written down as such: its escrow is the ledger's to
return.
"""

import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final, TypeVar

import msgspec
import trio

from prsm.node.rpc.client import RpcError
from prsm.node.rpc.errors import NodeUnreachable
from prsm.node.rpc.methods.models import AddParams, ModelInfo, RefParams
from prsm.node.rpc.methods.work import Job, JobIdParams, JobParams, RunParams
from prsm.node.rpc.spec import Params
from prsm.protocol.errors import LocalError
from prsm.testnet import books
from prsm.testnet.asking import Asker
from prsm.testnet.scene import Scene
from prsm.testnet.verify_receipt import Check, Refused, trust_genesis

BOOK: Final = "jobs.jsonl"
MODEL: Final = "model"  # folder of the model's files
RECIPE: Final = "prsm.node.worker.recipes.decoder"
ASK_SECONDS: Final = 100.0
JOB_SECONDS: Final = 60.0
RECEIPT_SECONDS: Final = 20.0
WAIT_MS: Final = 1_000
FORGOTTEN: Final = frozenset(("not_found", "unknown_job"))  # started anew, it remembers no job
AGAIN_SECONDS: Final = 0.5
T = TypeVar("T")
DEADLINE_MS: Final = 60_000  # then the ledger returns what is left of the escrow


class JobRow(msgspec.Struct, frozen=True):
    """One job as its requester told it last; amounts in micro-FTNS."""

    job_id: str
    node: str
    state: str  # of the job; `refused` before any money moved; `lost` with its requester
    seconds: float
    locked: int = 0
    paid: int = 0
    refunded: int = 0
    paid_liars: int = 0
    outvoted: tuple[str, ...] = ()
    why: str = ""
    receipt: str = ""  # of a paid job: `verified`, or why it is not; empty: its node was gone


def rows(folder: Path) -> list[JobRow]:
    """Every job of a folder's load."""
    return books.read(folder / BOOK, JobRow)


async def build_model(folder: Path) -> Path:
    """The own small encoder as ONNX, made once in a network's folder.

    Raises:
        LocalError: the recipe failed.
    """
    out = folder / MODEL
    if not (out / "model.onnx").exists():
        command = [sys.executable, "-m", RECIPE, str(out)]
        done = await trio.run_process(
            command, check=False, stdout=subprocess.DEVNULL, capture_stderr=True
        )
        if done.returncode:
            raise LocalError(f"no model: {done.stderr.decode(errors='replace')[-200:]}")
    return out


@dataclass(slots=True)
class JobLoad:
    """Jobs one after the other, some at a time, at nodes that run models."""

    scene: Scene
    dice: random.Random
    done: list[JobRow] = field(default_factory=list)
    is_closed: bool = False
    _model: str = ""
    _liars: set[str] = field(default_factory=set)  # accounts

    async def prepare(self) -> None:
        """Make, add and pull the model, before anything is broken.

        Raises:
            RpcError, NodeUnreachable, LocalError: a step failed.
        """
        specs = list(self.scene.manifest.nodes.values())
        out = await build_model(self.scene.folder)
        first, *others = (i for i, spec in enumerate(specs) if spec.runs_models)
        params = AddParams(
            path=str(out / "model.onnx"), name="load", tokenizer=str(out / "tokenizer.json")
        )
        with trio.fail_after(ASK_SECONDS):
            self._model = (await self._ask(first, "model_add", params, ModelInfo)).cid
            for place in others:
                await self._ask(place, "model_pull", RefParams(self._model), ModelInfo)
        for place, spec in enumerate(specs):
            if spec.role == "liar":
                self._liars.add(self.scene.accounts[place])

    async def run(self) -> None:
        """Ask for jobs until closed; each slot ends its job first."""
        async with trio.open_nursery() as nursery:
            for slot in range(self.scene.manifest.load.jobs):
                nursery.start_soon(self._slot, slot)

    async def _slot(self, slot: int) -> None:
        number = 0
        while not self.is_closed:
            number += 1
            row = await self._job(f"{slot}.{number}")
            if row is None:
                await trio.sleep(AGAIN_SECONDS)
                continue
            self.done.append(row)
            books.add(self.scene.folder / BOOK, row)

    async def _job(self, name: str) -> JobRow | None:
        """One job at a drawn node; None if nobody took it."""
        specs = list(self.scene.manifest.nodes.values())
        able = [i for i, s in enumerate(specs) if s.runs_models and s.role != "liar"]
        place = self.dice.choice(able)
        texts = tuple(f"row {i} of job {name}" for i in range(self.scene.manifest.load.rows))
        began = time.monotonic()
        params = RunParams(self._model, texts=texts, deadline_ms=DEADLINE_MS)
        try:
            with trio.fail_after(ASK_SECONDS):
                job = await self._ask(place, "infer_run", params, Job)
        except (RpcError, NodeUnreachable, trio.TooSlowError):
            return None
        lost = False
        with trio.move_on_after(JOB_SECONDS):
            while not job.is_over:
                try:
                    job = await self._ask(place, "job_get", JobParams(job.job_id, WAIT_MS), Job)
                    lost = False
                except RpcError as error:
                    lost = True
                    if error.reason in FORGOTTEN:
                        break
                    await trio.sleep(AGAIN_SECONDS)
                except NodeUnreachable:
                    lost = True
                    await trio.sleep(AGAIN_SECONDS)
        row = self._row(job, place, time.monotonic() - began, lost=lost)
        if row.state == "done" and row.paid:
            row = msgspec.structs.replace(row, receipt=await self._receipt(job.job_id, place))
        return row

    async def _receipt(self, job_id: str, place: int) -> str:
        """What the standalone verifier says of a job's receipt document."""
        with trio.move_on_after(RECEIPT_SECONDS):
            while True:
                try:
                    document = await self._ask(
                        place, "job_getProof", JobIdParams(job_id), msgspec.Raw
                    )
                except NodeUnreachable:
                    await trio.sleep(AGAIN_SECONDS)
                except RpcError as error:
                    return "" if error.reason in FORGOTTEN else error.what
                else:
                    return await trio.to_thread.run_sync(self._verified, bytes(document))
        return ""

    def _verified(self, document: bytes) -> str:
        with NamedTemporaryFile(suffix=".json") as file:
            Path(file.name).write_bytes(document)
            try:
                Check(file.name).run(*trust_genesis(str(self.scene.network.genesis)))
            except Refused as error:
                return str(error)
        return "verified"

    def _row(self, job: Job, place: int, seconds: float, *, lost: bool) -> JobRow:
        return JobRow(
            job_id=job.job_id,
            node=self.scene.manifest.names[place],
            state=_state_of(job, lost=lost),
            seconds=round(seconds, 2),
            locked=int(job.locked),
            paid=int(job.paid),
            refunded=int(job.refunded),
            paid_liars=sum(int(w.paid) for w in job.workers if w.account in self._liars),
            outvoted=tuple(w.peer_id for w in job.workers if w.verdict == "outvoted"),
            why=job.error.what if job.error else "",
        )

    async def _ask(self, place: int, method: str, params: Params, result: type[T]) -> T:
        asker = Asker(self.scene.doors[place])
        try:
            return await asker.call(method, params, result=result)
        finally:
            asker.close()


def _state_of(job: Job, *, lost: bool) -> str:
    if lost:
        return "lost"
    return "refused" if job.state == "failed" and not int(job.locked) else job.state
