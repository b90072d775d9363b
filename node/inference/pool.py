"""Models at work: prepares, loads and runs them in sealed children; parses none of them here.

Knows files, jobs and their bounds. Must not import numpy, onnx or onnxruntime. Files a child makes
arrive as bytes and are written and hashed here, under names this side has checked; files a child
reads are opened here and passed as read-only descriptors.

Callers set deadlines by cancelling (trio.fail_after): a cancelled run is asked to stop, then its
child is killed, and the next run of the session gets a fresh one. Beside that each kind of job has
a bound of its own (`Bounds`), which raises `DeadlinePassed`.
"""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.inference import memory, preparing
from prsm.node.inference.forkserver import Child, ForkServer
from prsm.node.inference.prepared import Prepared
from prsm.node.inference.runner import Batches, Limits
from prsm.node.inference.session import Session
from prsm.node.inference.texts import tokenise_in
from prsm.protocol.messages.pipe import (
    DeadlinePassed,
    DoesNotFit,
    ModelRefused,
    Role,
    Spawn,
    WorkerFailed,
)

# Restarting a program that never came up is pointless after this many tries.
_FAILED_STARTS_MAX: Final = 5
_RESTART_SECONDS_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of jobs, in seconds of wall time, and of their number.

    Attributes:
        wait_seconds: for the worker program to be there.
        load_seconds: reading, scanning and loading one shard (90 MB take 0.2 s).
        run_seconds: one micro-batch.
        prepare_seconds: scan, pin and all splits of one model.
        text_seconds: one tokenise call.
        cpu_seconds: processor time of one child over its whole life.
        children_max: sealed children at one time.
    """

    wait_seconds: float = 30.0
    load_seconds: float = 60.0
    run_seconds: float = 60.0
    prepare_seconds: float = 600.0
    text_seconds: float = 60.0
    cpu_seconds: int = 24 * 3600
    children_max: int = 64


class Pool:
    """Runs the worker program and gives jobs to its children."""

    def __init__(
        self,
        *,
        jobs_dir: Path,
        memory_bytes_max: int,
        command: Sequence[str] = (sys.executable, "-m", "prsm.node.worker"),
        bounds: Bounds | None = None,
    ) -> None:
        """Take the pool's settings; `run` starts it.

        Args:
            jobs_dir: scratch directory of this pool alone; emptied when the pool starts.
            memory_bytes_max: address space one child may have at most.
            command: the worker program; the control descriptor is added to it.
            bounds: limits of jobs.
        """
        self._jobs_dir = jobs_dir
        self._empty_dir = jobs_dir / "empty"
        self._memory_bytes_max = memory_bytes_max
        self._command = tuple(command)
        self.bounds = bounds or Bounds()
        self._server: ForkServer | None = None
        self._changed = trio.Event()
        self._children = 0
        self._folders = 0

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of the sandbox as the worker program found them; empty while it is away."""
        ready = self._server.ready if self._server is not None else None
        return ready.layers if ready is not None else ()

    @property
    def runtime(self) -> str:
        """Name and version of the runtime, as in `Compute.runtime`; empty while it is away."""
        ready = self._server.ready if self._server is not None else None
        return ready.runtime if ready is not None else ""

    @property
    def limits(self) -> Limits:
        """What there is room for."""
        bounds = self.bounds
        return Limits(bounds.children_max, self._memory_bytes_max, bounds.run_seconds)

    @property
    def pid(self) -> int:
        """Pid of the worker program, 0 while it is away."""
        return self._server.pid if self._server is not None else 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the worker program, and start it again whenever it ends.

        Raises:
            WorkerFailed: it ended several times before it was ready; its last words are included.
        """
        await trio.to_thread.run_sync(self._clear)
        failures, is_started = 0, False

        def ready(server: ForkServer) -> None:
            nonlocal is_started
            self._server = server
            self._notify()
            if not is_started:
                is_started = True
                task_status.started()

        while True:
            server = ForkServer(self._command)
            try:
                await server.run(ready)
            finally:
                self._server = None
            failures = 0 if server.ready is not None else failures + 1
            if failures >= _FAILED_STARTS_MAX:
                raise WorkerFailed(
                    f"{self._command[-1]} does not start: {server.last_words}",
                    hint="look into the log of the node",
                )
            await trio.sleep(min(_RESTART_SECONDS_MAX, 0.05 * 2**failures))

    async def prepare(
        self,
        source: Path,
        *,
        out_dir: Path,
        stages: Sequence[int],
        tokenizer: Path | None,
        sides: Sequence[str] = (),
    ) -> Prepared:
        """Scan, pin and cut a raw model in a sealed child, and check that splits equal the whole.

        A graph that cannot be cut at all is prepared whole, whatever was asked.

        Args:
            source: an ONNX file; its weights are inside, or in files beside it whose names begin
                as its own does.
            out_dir: made if absent; gets the pinned graph, the shards, golden rows, tokenizer.
            stages: counts of pipeline stages; 1 (the whole) is always added.
            tokenizer: a `tokenizer.json`, checked by loading it, or None.
            sides: patterns of other names beside it that its weights may lie in.

        Raises:
            ModelRefused: the gate, the runtime or the equality check; `NoCut` for a count of
                stages that does not exist, naming those that do.
            OutOfMemory: more memory than a child may have; `DoesNotFit` when that is plain
                before the work.
            DeadlinePassed: longer than `Bounds.prepare_seconds`.
            WorkerFailed: the child died.
        """
        paths = [source] if tokenizer is None else [source, tokenizer]
        wish = preparing.Wish(source, out_dir, stages, tokenizer, sides)
        with opened(paths) as fds, _deadline(self.bounds.prepare_seconds, "preparing the model"):
            return await preparing.prepare(self, wish, fds)

    @asynccontextmanager
    async def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AsyncIterator[Session]:
        """Load a shard in a sealed child of its own and keep it for runs.

        Args:
            shard: a pinned graph or a stage of one.
            golden: its golden rows; they prove the determinism class.
            weights: the files its weights lie in, of a large model.

        Raises:
            DoesNotFit: more memory than a child may have is needed to load it; nothing is tried.
            ModelRefused, OutOfMemory, DeadlinePassed, WorkerFailed: as `Session.run`.
        """
        session = Session(self, shard, golden, weights)
        try:
            await session.start()
            yield session
        finally:
            with trio.CancelScope(shield=True):  # bounded: a killed child is reaped in 5 s
                await session.end()

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """Turn texts into micro-batches, alike on every machine.

        Args:
            tokenizer: a `tokenizer.json`.
            texts: cut after 256 tokens each.
            rows_per_batch: rows of a full micro-batch.

        Returns:
            Batches of `input_ids` and `attention_mask`, int64 (batch, tokens), padded to the
            batch's length bucket.

        Raises:
            InputMismatch: no text, or more than 16 MiB of it.
            ModelRefused, OutOfMemory, DeadlinePassed, WorkerFailed: as `prepare`.
        """
        async with self.reader(tokenizer) as child:
            with _deadline(self.bounds.text_seconds, "tokenising"):
                return await tokenise_in(child, texts, rows_per_batch=rows_per_batch)

    @asynccontextmanager
    async def reader(self, tokenizer: Path) -> AsyncIterator[Child]:
        """A child that tokenises for the time of the block."""
        with opened([tokenizer]) as fds:
            spawn = self.spawn(Role.TEXT, 16 * os.fstat(fds[0]).st_size)
            async with self.child(spawn, fds) as child:
                yield child

    def spawn(self, role: Role, size: int, weights: Sequence[int] = ()) -> Spawn:
        """Return the bounds of a child that loads `size` bytes and files of weights beside them.

        Raises:
            DoesNotFit: loading takes more memory than a child may have.
        """
        most, needed = self._memory_bytes_max, memory.needed(size, weights)
        if weights and needed > most:
            raise DoesNotFit(
                f"{memory.in_words(size + sum(weights))} of weights need "
                f"{memory.in_words(needed)} of memory, a worker of this machine may have "
                f"{memory.in_words(most)}",
                hint="cut the model into more stages, or set executor.memory higher",
            )
        bound = memory.given(size, weights, most)
        return Spawn(0, role, bound, self.bounds.cpu_seconds, 0, str(self._empty_dir))

    def memory_for(self, size: int) -> int:
        """Return the address space for a job over a file: room for activations, and 8 x the file.

        MiniLM (90 MB) needs 1.15 GB at 32 rows of 256 tokens.
        """
        return memory.given(size, (), self._memory_bytes_max)

    @asynccontextmanager
    async def child(self, spawn: Spawn, fds: Sequence[int]) -> AsyncIterator[Child]:
        """Fork a child for the time of the block; it is gone and reaped afterwards."""
        child = await self.fork(spawn, fds)
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):  # bounded, see Child.end
                await self.release(child)

    async def fork(self, spawn: Spawn, fds: Sequence[int]) -> Child:
        """Fork a child; the caller releases it.

        Raises:
            WorkerFailed: too many children, or no worker program in time.
        """
        if self._children >= self.bounds.children_max:
            raise WorkerFailed(f"{self._children} workers are busy, at most that many run")
        self._children += 1
        try:
            return await (await self._wait_server()).spawn(spawn, fds)
        except BaseException:
            self._children -= 1
            raise

    async def release(self, child: Child) -> None:
        """End a child that `fork` made."""
        self._children -= 1
        await child.end()

    async def _wait_server(self) -> ForkServer:
        with trio.move_on_after(self.bounds.wait_seconds):
            while self._server is None:
                await self._changed.wait()
            return self._server
        raise WorkerFailed(
            "the worker program is not running", hint="look into the log of the node"
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _clear(self) -> None:
        """Remove what an earlier run left; this directory belongs to the pool alone."""
        self._jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._jobs_dir.iterdir():
            if left.name == "empty" or left.name.startswith("pin-"):
                shutil.rmtree(left)
        self._empty_dir.mkdir(mode=0o500)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A writable folder for one preparing child; removed with the block."""
        self._folders += 1
        folder = self._jobs_dir / f"pin-{self._folders}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[list[int]]:
    """Open files a child reads, for the time of the block.

    Raises:
        ModelRefused: one cannot be read.
    """
    fds: list[int] = []
    try:
        try:
            for path in paths:
                fds.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - closed below
        except OSError as error:
            raise ModelRefused(f"{error.filename} cannot be read: {error.strerror}") from error
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def _deadline(seconds: float, what: str) -> Iterator[None]:
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlinePassed(f"{what} took longer than {seconds:g} s")
