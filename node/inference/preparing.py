"""Preparing a model: its file and those beside it go to a sealed child, finished files come back.

Knows descriptors, bounds and the order of calls. Must not know what is in a file: which files a
model wants beside it is the child's word, which of them it gets is decided by `sides`.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from prsm.node.inference import memory
from prsm.node.inference.channel import Received
from prsm.node.inference.forkserver import Child
from prsm.node.inference.prepared import FileWriter, Prepared
from prsm.node.inference.sides import opened_sides
from prsm.protocol.limits import MIB
from prsm.protocol.messages.pipe import (
    AskSideFiles,
    DoesNotFit,
    Prepare,
    PreparedModel,
    Role,
    SideFiles,
    Spawn,
)

if TYPE_CHECKING:
    from prsm.node.inference.pool import Pool

_FILE_TIMES: Final = 3  # a pinned graph may be so much larger than what was given
_OUTPUT_TIMES: Final = 2
_OUTPUT_ROOM: Final = 64 * MIB  # golden rows of each split


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be prepared.

    Attributes:
        source: the model file.
        out_dir: made if absent; gets the finished files.
        stages: counts of pipeline stages beside 1.
        tokenizer: a `tokenizer.json`, or None.
        sides: patterns of names beside the model that may be read though they do not begin as
            its file does.
    """

    source: Path
    out_dir: Path
    stages: Sequence[int]
    tokenizer: Path | None
    sides: Sequence[str] = ()


async def prepare(pool: "Pool", wish: Wish, fds: Sequence[int]) -> Prepared:
    """Scan, pin and cut a model in a sealed child; what it wrote is removed after a failure.

    Args:
        pool: gives children.
        wish: what is asked for.
        fds: model and tokenizer, open.

    Raises:
        ModelRefused, NoCut, OutOfMemory, DoesNotFit, WorkerFailed: see `Pool.prepare`.
    """
    await trio.to_thread.run_sync(lambda: wish.out_dir.mkdir(parents=True, exist_ok=True))
    size = os.fstat(fds[0]).st_size
    with ExitStack() as stack:
        folder = stack.enter_context(pool.scratch())
        async with pool.child(_spawn(pool, folder, size), fds) as child:
            names = (await child.call(AskSideFiles(), SideFiles)).names
            if not names:
                return await _exchange(child, wish, names, size)
        sides = stack.enter_context(opened_sides(wish.source, names, wish.sides))
        size += sum(os.fstat(fd).st_size for fd in sides)
        async with pool.child(_spawn(pool, folder, size), [*fds, *sides]) as child:
            return await _exchange(child, wish, names, size)


def _spawn(pool: "Pool", folder: Path, size: int) -> Spawn:
    most = pool.limits.memory_bytes_max
    needed = memory.needed_to_prepare(size)
    if needed > most:
        raise DoesNotFit(
            f"preparing {memory.in_words(size)} of model needs {memory.in_words(needed)} of "
            f"memory, a worker of this machine may have {memory.in_words(most)}",
            hint="set executor.memory in config.toml higher and start again",
        )
    return Spawn(
        0,
        Role.PREPARE,
        memory.given_to_prepare(size, most),
        pool.bounds.cpu_seconds,
        _FILE_TIMES * size + MIB,
        str(folder),
    )


async def _exchange(child: Child, wish: Wish, names: tuple[str, ...], size: int) -> Prepared:
    rounds = len(wish.stages) + 1
    files = FileWriter(wish.out_dir, rounds * (_OUTPUT_TIMES * size + _OUTPUT_ROOM))

    async def take(frame: Received) -> None:
        await trio.to_thread.run_sync(files.take, frame)

    try:
        call = Prepare(tuple(wish.stages), wish.tokenizer is not None, names)
        model, _ = await child.exchange(call, PreparedModel, on_part=take)
        return await trio.to_thread.run_sync(files.finish, model, wish.tokenizer)
    except BaseException:
        files.remove()
        raise
