"""Smaller weights and adaptable graphs, made in a sealed child; files arrive as bytes.

Knows the two calls of a compressing child and its bounds. Must not know graphs: what comes back is
written under one name, counted and hashed here.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import trio

from prsm.node.inference.channel import Received
from prsm.node.inference.pool import Pool
from prsm.node.inference.prepared import FileWriter
from prsm.protocol.codec import Record
from prsm.protocol.limits import MIB
from prsm.protocol.messages.forms import (
    Compress,
    Compressed,
    Form,
    MadeAdaptable,
    MakeAdaptable,
    Samples,
)
from prsm.protocol.messages.pipe import DeadlinePassed, ModelRefused, Role, Spawn, WorkerFailed

FILE: Final = "model.onnx"  # the one file a compressing child may send
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be made smaller, and what the two forms are compared on.

    Attributes:
        source: an ONNX file with all its weights inside.
        form: of the smaller one.
        tokenizer: of texts, or None.
        samples: texts or slices, or None for made-up rows.
        kind: of the samples.
        is_measured: run both and compare them.
    """

    source: Path
    form: Form
    tokenizer: Path | None
    samples: Path | None
    kind: Samples
    is_measured: bool


async def compress(pool: Pool, wish: Wish, *, folder: Path, is_wanted: bool) -> Compressed:
    """Make a model smaller and measure it; with `is_wanted`, `folder` holds the file afterwards.

    Raises:
        ModelRefused: the gate, the runtime or the form refuses it.
        InputMismatch: the samples do not fit the model.
        OutOfMemory, DeadlinePassed, WorkerFailed: as `Pool.prepare`.
    """
    call = Compress(wish.form, wish.kind, wish.tokenizer is not None, is_wanted, wish.is_measured)
    paths = [one for one in (wish.source, wish.tokenizer, wish.samples) if one is not None]
    done = await _exchange(pool, call, Compressed, paths=paths, folder=folder)
    if is_wanted and await _size(folder) != done.found_bytes:
        raise WorkerFailed("the worker did not send the file it announced")
    return done


async def make_adaptable(pool: Pool, source: Path, *, folder: Path) -> MadeAdaptable:
    """Give a model inputs for an adapter; `folder` holds the file afterwards.

    Raises:
        ModelRefused: the gate refuses it, or it has no product an adapter stands beside.
        OutOfMemory, DeadlinePassed, WorkerFailed: as `Pool.prepare`.
    """
    done = await _exchange(pool, MakeAdaptable(), MadeAdaptable, paths=[source], folder=folder)
    if not await _size(folder):
        raise WorkerFailed("the worker did not send the file it announced")
    return done


async def _exchange(
    pool: Pool, call: Record, want: type[R], *, paths: Sequence[Path], folder: Path
) -> R:
    size = await trio.to_thread.run_sync(_total_size, paths)
    files = FileWriter(folder, 2 * size + 64 * MIB)

    async def take(frame: Received) -> None:
        await trio.to_thread.run_sync(files.take, frame)

    with ExitStack() as stack, trio.move_on_after(pool.bounds.prepare_seconds) as scope:
        scratch = Path(stack.enter_context(TemporaryDirectory(dir=folder)))
        fds = [stack.enter_context(path.open("rb")).fileno() for path in paths]
        spawn = Spawn(
            0,
            Role.COMPRESS,
            pool.memory_for(3 * size),
            pool.bounds.cpu_seconds,
            3 * size + MIB,
            str(scratch),
        )
        async with pool.child(spawn, fds) as child:
            done, _ = await child.exchange(call, want, on_part=take)
        return done
    assert scope.cancelled_caught
    raise DeadlinePassed(f"this took longer than {pool.bounds.prepare_seconds:g} s")


def _total_size(paths: Sequence[Path]) -> int:
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError as error:
        raise ModelRefused(f"{error.filename} cannot be read: {error.strerror}") from error


async def _size(folder: Path) -> int:
    """Bytes of the file the child sent; 0 without one."""

    def look() -> int:
        path = folder / FILE
        return path.stat().st_size if path.is_file() else 0

    return await trio.to_thread.run_sync(look)
