"""Texts into micro-batches: one call to a tokenising child, and children that stay for the next.

A tokenizer takes longer to load than a sentence to read, so whoever answers small requests keeps
the child. Must not know what tokens mean: texts and tensors are bytes here.
"""

import struct
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from prsm.node.inference.channel import Received
from prsm.node.inference.forkserver import Child
from prsm.node.inference.runner import Batch, Batches
from prsm.protocol.errors import PrsmError, WireError
from prsm.protocol.limits import MIB
from prsm.protocol.messages.pipe import (
    DeadlinePassed,
    InputMismatch,
    TextBatch,
    Tokenise,
    Tokenised,
    WorkerFailed,
)
from prsm.protocol.tensors import split_tail

if TYPE_CHECKING:
    from prsm.node.inference.pool import Pool

_TEXT_LENGTH: Final = struct.Struct(">I")
_TEXTS_BYTES_MAX: Final = 16 * MIB
_TOKENS_MAX: Final = 256
READERS_MAX: Final = 4  # a child with a vocabulary of 30,000 takes about 20 MB beyond the program


async def tokenise_in(child: Child, texts: Sequence[str], *, rows_per_batch: int) -> Batches:
    """Have a tokenising child lay texts into micro-batches; the caller sets the deadline.

    Raises:
        InputMismatch: no text, or more than 16 MiB of it.
        ModelRefused, OutOfMemory, WorkerFailed: the tokenizer, or the child.
    """
    encoded = [text.encode("utf-8") for text in texts]
    size = sum(len(raw) + _TEXT_LENGTH.size for raw in encoded)
    if not encoded or size > _TEXTS_BYTES_MAX:
        raise InputMismatch(
            f"{len(encoded)} texts of {size} bytes; 1 text to {_TEXTS_BYTES_MAX} bytes go"
        )
    tail = b"".join(_TEXT_LENGTH.pack(len(raw)) + raw for raw in encoded)
    found: list[Batch] = []

    async def take(frame: Received) -> None:
        if not isinstance(frame.body, TextBatch):
            raise WireError(f"{type(frame.body).__name__} is no batch")
        await trio.lowlevel.checkpoint()
        found.append(Batch(frame.body.rows, split_tail(frame.body.tensors, frame.tail)))

    call = Tokenise(len(encoded), rows_per_batch, _TOKENS_MAX)
    await child.exchange(call, Tokenised, tail=[tail], on_part=take)
    rows = sorted(row for batch in found for row in batch.rows)
    if rows != list(range(len(encoded))):
        raise WorkerFailed("the worker lost rows while tokenising")
    return Batches(tuple(found))


@dataclass(slots=True, eq=False)
class _Reader:
    """A child that holds one tokenizer, or is on its way."""

    closing: trio.Event = field(default_factory=trio.Event)
    ready: trio.Event = field(default_factory=trio.Event)
    lock: trio.Lock = field(default_factory=trio.Lock)  # one call at a time
    child: Child | None = None


class WarmTexts:
    """Tokenises with children that stay; the least used one goes.

    Args:
        pool: forks them.
        readers_max: tokenizers held at one time.
    """

    def __init__(self, pool: "Pool", *, readers_max: int = READERS_MAX) -> None:
        self._pool, self._readers_max = pool, readers_max
        self._readers: OrderedDict[Path, _Reader] = OrderedDict()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold children until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def tokenise(
        self, tokenizer: Path, texts: Sequence[str], *, rows_per_batch: int
    ) -> Batches:
        """As `Pool.tokenise`, in a child that may be there already."""
        if self._nursery is None:
            return await self._pool.tokenise(tokenizer, texts, rows_per_batch=rows_per_batch)
        reader = self._readers.get(tokenizer) or self._add(tokenizer, self._nursery)
        self._readers.move_to_end(tokenizer)
        await reader.ready.wait()
        async with reader.lock:
            child = reader.child
            if child is None or not child.is_usable or child.exited.is_set():
                self._drop(tokenizer, reader)
                return await self._pool.tokenise(tokenizer, texts, rows_per_batch=rows_per_batch)
            seconds = self._pool.bounds.text_seconds
            with trio.move_on_after(seconds):
                return await tokenise_in(child, texts, rows_per_batch=rows_per_batch)
            raise DeadlinePassed(f"tokenising took longer than {seconds:g} s")

    def _add(self, tokenizer: Path, nursery: trio.Nursery) -> _Reader:
        if len(self._readers) >= self._readers_max:
            oldest = next(iter(self._readers))
            self._drop(oldest, self._readers[oldest])
        reader = self._readers[tokenizer] = _Reader()
        nursery.start_soon(self._hold, tokenizer, reader)
        return reader

    def _drop(self, tokenizer: Path, reader: _Reader) -> None:
        reader.closing.set()
        if self._readers.get(tokenizer) is reader:
            del self._readers[tokenizer]

    async def _hold(self, tokenizer: Path, reader: _Reader) -> None:
        """Keep a child until it is dropped; one that cannot be had is asked for again next time."""
        async with AsyncExitStack() as stack:
            try:
                reader.child = await stack.enter_async_context(self._pool.reader(tokenizer))
            except PrsmError:
                self._drop(tokenizer, reader)
                return
            finally:
                reader.ready.set()
            await reader.closing.wait()
            async with reader.lock:  # whoever is in a call finishes it
                reader.child = None
