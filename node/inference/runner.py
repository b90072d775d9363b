"""The port of whoever runs shards: opened with their class, run by micro-batches, ended, counted.

The pool of sealed children on this machine is the one implementation in the package. What another
(a cluster) must do is this text and `tests/tools/executor_battery.py`, which every implementation
passes. Must not know: jobs, peers, money, where the files of a shard come from.

What holds of every runner:

- A session is of one determinism class from its opening to its end: a worker that computes other
  bits is never put in place of one that died.
- Runs of one session wait for one another; sessions do not.
- A cancelled run computes no further; the session is as good as before.
- A worker that dies fails the run it had (`WorkerFailed`), and only that: the next run of the
  session has another worker. Input that is refused costs nothing.
- Beyond `Limits.shards_max` opening fails at once, with a typed error; an ended session is room.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from prsm.protocol.errors import Unsupported
from prsm.protocol.messages.steps import Step
from prsm.protocol.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: its tensors, and for each row the place of its text in the call."""

    rows: tuple[int, ...]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Batches:
    """The micro-batch plan of a job: batches in order; all rows of all batches are the texts."""

    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a runner has room for.

    Attributes:
        shards_max: shards open at one time.
        memory_bytes_max: one shard with its activations.
        run_seconds: one micro-batch.
    """

    shards_max: int
    memory_bytes_max: int
    run_seconds: float


class Session(Protocol):
    """A loaded shard; one run at a time, others wait."""

    @property
    def class_id(self) -> bytes:
        """Determinism class proved on the golden rows, 32 bytes."""
        ...

    @property
    def cpu_us(self) -> int:
        """Processor time of all runs so far."""
        ...

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs in the graph's order.

        Raises:
            InputMismatch: names, dtypes, shapes, NaN or infinity.
            WorkerFailed: the worker died; the next run has another.
            LocalError: out of memory, cancelled, too slow.
        """
        ...

    async def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> int:
        """How far apart two sets of outputs are: largest relative L2 of a row, in 1e-9.

        Raises:
            LocalError: as `run`.
        """
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A session that can run with an adapter beside its weights."""

    async def adapt(self, adapter: Path) -> int:
        """Take the adapter; the products of this shard that it changes.

        Raises:
            InputMismatch: no adapter, or one of another model.
        """
        ...


@runtime_checkable
class Stepping(Protocol):
    """A loaded shard that keeps caches of generating sessions; those of the pool do."""

    @property
    def class_id(self) -> bytes:
        """As `Session.class_id`."""
        ...

    async def step(self, call: Step, tensor: Tensor) -> Tensor:
        """Run steps of a session, between two runs; the cache stays with the shard.

        Raises:
            PositionMismatch: it holds another number of positions, none after its worker died.
            QuotaFull: the cache would pass `call.quota_bytes`.
            LocalError: as `Session.run`.
        """
        ...

    async def drop(self, number: int) -> None:
        """Forget a session.

        Raises:
            LocalError: the worker died, or is too slow.
        """
        ...


class Runner(Protocol):
    """Where models and tokenizers run."""

    @property
    def runtime(self) -> str:
        """Name and version of the runtime, as in `Compute.runtime`; empty while it is away."""
        ...

    @property
    def limits(self) -> Limits:
        """What there is room for; it does not change while the runner runs."""
        ...

    def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AbstractAsyncContextManager[Session]:
        """A worker with the shard loaded and its class proved; ended with the block.

        `weights` are the files its weights lie in, of a large model.

        Raises:
            DoesNotFit: a worker may not have the memory that loading takes.
            ModelRefused: the gate or the runtime refuses it, or the golden rows do not run.
            WorkerFailed: no room, no worker, or it died.
        """
        ...

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """Tokenise and lay out micro-batches, alike on every machine.

        Raises:
            InputMismatch: no text, or too much of it.
            LocalError: as `open`.
        """
        ...


class NoRunner:
    """The runner of a node that runs no models: it can ask others with ready tensors only."""

    runtime = ""
    limits = Limits(shards_max=0, memory_bytes_max=0, run_seconds=0)

    def open(
        self, shard: Path, *, golden: Path, weights: Sequence[Path] = ()
    ) -> AbstractAsyncContextManager[Session]:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        del shard, golden, weights
        raise _no_runner()

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """Refuse.

        Raises:
            Unsupported: always.
        """
        del tokenizer, texts, rows_per_batch
        raise _no_runner()


def _no_runner() -> Unsupported:
    return Unsupported(
        "this node runs no models and no tokenizers",
        hint="set executor.enabled = true in config.toml and start again, or give tensors",
    )
