"""A loaded shard: one sealed child that answers runs, replaced when it dies or gets old.

Knows the calls of a session child. Must not know graphs: tensors are bytes with a head.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from prsm.node.inference.forkserver import Child
from prsm.protocol.errors import WireError
from prsm.protocol.messages.forms import ADAPTER_BYTES_MAX, Adapt, Adapted
from prsm.protocol.messages.models import TensorSpec
from prsm.protocol.messages.pipe import (
    Compare,
    Compared,
    DeadlinePassed,
    Load,
    Loaded,
    ModelRefused,
    Ran,
    Role,
    Run,
    WorkerFailed,
    class_id,
)
from prsm.protocol.messages.steps import Drop, Dropped, Step, Stepped
from prsm.protocol.tensors import Tensor, split_tail

if TYPE_CHECKING:
    from prsm.node.inference.pool import Pool

# The runtime's memory grows a little with every new shape; a fresh child costs 0.2 s.
_RUNS_MAX: Final = 10_000


class Session:
    """Runs of one shard; made by `Pool.open`, valid inside its block."""

    def __init__(
        self, pool: "Pool", shard: Path, golden: Path, weights: Sequence[Path] = ()
    ) -> None:
        self._pool = pool
        self._paths = (shard, golden, *weights)
        self._adapter: Path | None = None
        self._child: Child | None = None
        self._loaded: Loaded | None = None
        self._lock = trio.Lock()
        self._runs = 0
        self._keeping: set[int] = set()  # generating sessions; an old child with one stays
        self.class_id = b""
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        self.rss_bytes = 0
        self.cpu_us = 0  # of all runs so far

    @property
    def pid(self) -> int:
        """Pid of the child that holds the shard now, 0 between two."""
        return self._child.pid if self._child is not None else 0

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the shard on one micro-batch; one run at a time, others wait.

        Returns:
            The graph's outputs in its own order.

        Raises:
            InputMismatch: a name, dtype or shape the graph does not take, or NaN or infinity.
            OutOfMemory: the run needs more memory than the child may have.
            DeadlinePassed: longer than `Bounds.run_seconds`, or out of processor time.
            WorkerFailed: the child died; the next run gets a fresh one.
        """
        async with self._lock:
            await self._renew()
            assert self._child is not None
            self._runs += 1
            call = Run(tuple(tensor.head for tensor in tensors))
            parts = [tensor.data for tensor in tensors]
            with self._deadline(self._pool.bounds.run_seconds, "the run"):
                ran, tail = await self._child.exchange(call, Ran, tail=parts)
            self.rss_bytes = ran.rss_bytes
            self.cpu_us += ran.cpu_us
            try:
                return split_tail(ran.tensors, tail)
            except WireError as error:
                self._child.is_usable = False
                raise WorkerFailed(f"the worker answered no tensors: {error}") from error

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        """How far apart two sets of outputs are: largest relative L2 of a row, in 1e-9.

        Raises:
            InputMismatch: bytes that are no tensors of those heads.
            WorkerFailed, DeadlinePassed: as `run`.
        """
        async with self._lock:
            await self._renew()
            assert self._child is not None
            call = Compare(tuple(t.head for t in ours), tuple(t.head for t in theirs))
            parts = [tensor.data for tensor in (*ours, *theirs)]
            with self._deadline(self._pool.bounds.run_seconds, "the comparison"):
                found = await self._child.call(call, Compared, tail=parts)
            return found.gap_ppb

    async def step(self, call: Step, tensor: Tensor) -> Tensor:
        """Run steps of a generating session; its cache lives and dies with the child.

        Args:
            call: the session's number, where it starts, its steps.
            tensor: tokens or the cut tensor.

        Returns:
            The cut tensor of all positions, or of each step the token the last stage chose.

        Raises:
            PositionMismatch: the child holds another number of positions; none after it died.
            QuotaFull: the cache would pass its quota.
            InputMismatch, OutOfMemory, DeadlinePassed, WorkerFailed: as `run`.
        """
        try:
            self._lock.acquire_nowait()  # the other way costs a turn of the loop
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            await self._renew()
            assert self._child is not None
            with self._deadline(self._pool.bounds.run_seconds, "the steps"):
                done, tail = await self._child.exchange(call, Stepped, tail=[tensor.data])
            self.rss_bytes = done.rss_bytes
            self.cpu_us += done.cpu_us
            self._keeping.add(call.session)
            try:
                return split_tail((done.tensor,), tail)[0]
            except WireError as error:
                self._child.is_usable = False
                raise WorkerFailed(f"the worker answered no tensor: {error}") from error
        finally:
            self._lock.release()

    async def drop(self, number: int) -> None:
        """Forget a generating session; nothing happens if its child died."""
        async with self._lock:
            child = self._child
            self._keeping.discard(number)
            if child is not None and child.is_usable and not child.exited.is_set():
                with self._deadline(self._pool.bounds.run_seconds, "forgetting a session"):
                    await child.call(Drop(number), Dropped)

    async def start(self) -> None:
        """Fork a child and load the shard in it.

        Raises:
            ModelRefused: the gate or the runtime refuses the shard, or the golden rows do not run.
            DoesNotFit: loading takes more memory than a child may have.
            WorkerFailed: the child died, or a fresh child is of another determinism class.
        """
        with ExitStack() as stack:
            fds = [stack.enter_context(_opened(path)) for path in self._paths]
            size, _, *weights = (os.fstat(fd).st_size for fd in fds)
            child = await self._pool.fork(self._pool.spawn(Role.SESSION, size, weights), fds)
        try:
            loaded, adapted = await self._load(child)
        except BaseException:
            # Nobody is served by a child that has not all of it, whoever gave up waiting.
            with trio.CancelScope(shield=True):
                await self._pool.release(child)
            raise
        self._child, self._loaded, self._runs = child, loaded, 0
        self._keeping.clear()
        self.class_id = class_id(loaded, adapted)
        self.inputs, self.outputs = loaded.inputs, loaded.outputs
        self.rss_bytes = loaded.rss_bytes

    async def _load(self, child: Child) -> tuple[Loaded, Adapted | None]:
        with self._deadline(self._pool.bounds.load_seconds, "loading"):
            loaded = await child.call(Load(), Loaded)
        adapted = None if self._adapter is None else await self._feed(child, self._adapter)
        if self._loaded is not None and class_id(loaded, adapted) != self.class_id:
            raise WorkerFailed("a fresh worker computes other bits for this shard")
        return loaded, adapted

    async def adapt(self, adapter: Path) -> int:
        """Run with an adapter from now on, in this child and in those after it.

        Returns:
            Products of this shard that the adapter changes; the class changes with it.

        Raises:
            InputMismatch: no adapter, or one of another model.
            ModelRefused: it cannot be read.
            WorkerFailed: the child died, or has an adapter already.
        """
        async with self._lock:
            await self._renew()
            child = self._child
            assert child is not None
            assert self._loaded is not None
            try:
                adapted = await self._feed(child, adapter)
            except BaseException:
                child.is_usable = False  # it may have the adapter, under the class without one
                raise
            self._adapter, self.class_id = adapter, class_id(self._loaded, adapted)
            return adapted.sites

    async def _feed(self, child: Child, adapter: Path) -> Adapted:
        """Hand the adapter's bytes to a child, which alone reads them."""
        raw = await trio.to_thread.run_sync(_read_adapter, adapter)
        with self._deadline(self._pool.bounds.load_seconds, "reading the adapter"):
            adapted, _ = await child.exchange(Adapt(), Adapted, tail=[raw])
        return adapted

    async def end(self) -> None:
        """End the child; bounded."""
        child, self._child = self._child, None
        if child is not None:
            await self._pool.release(child)

    async def _renew(self) -> None:
        """Make sure a usable child is there."""
        child = self._child
        is_alive = child is not None and child.is_usable and not child.exited.is_set()
        if is_alive and (self._runs < _RUNS_MAX or self._keeping):
            return
        with trio.CancelScope(shield=True):
            await self.end()
        await self.start()

    @contextmanager
    def _deadline(self, seconds: float, what: str) -> Iterator[None]:
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise DeadlinePassed(f"{what} took longer than {seconds:g} s")


def _read_adapter(path: Path) -> bytes:
    with _opened(path) as fd:
        size = os.fstat(fd).st_size
        if size > ADAPTER_BYTES_MAX:
            raise ModelRefused(f"an adapter of {size} bytes, at most {ADAPTER_BYTES_MAX}")
        return os.pread(fd, size, 0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)
