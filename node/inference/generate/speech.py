"""Tokens of a prompt, and text of tokens as they come: one sealed child for each generation.

Knows the calls of a speaking child. Must not know stages, jobs or peers.
"""

import os
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import trio

from prsm.node.inference.forkserver import Child
from prsm.node.inference.pool import Pool
from prsm.protocol.messages.pipe import (
    DeadlinePassed,
    InputMismatch,
    ModelRefused,
    Role,
    WorkerFailed,
)
from prsm.protocol.messages.steps import Said, Say, Spell, Spelt

PROMPT_BYTES_MAX: Final = 1024 * 1024


class Speech(Protocol):
    """Tokens of one prompt, and text of the tokens after it."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer; known after `spell`."""
        ...

    async def spell(self, prompt: str) -> tuple[int, ...]:
        """Tokens of a text, none added and none cut.

        Raises:
            InputMismatch: too much text.
            LocalError: the tokenizer does not load, or its worker died.
        """
        ...

    async def say(self, ids: Sequence[int], *, is_last: bool = False) -> str:
        """Text that these tokens add; whole characters only, what is left with the last.

        Raises:
            InputMismatch: a token the vocabulary does not have.
            LocalError: as `spell`.
        """
        ...


Speaking = Callable[[Path], AbstractAsyncContextManager[Speech]]


class ChildSpeech:
    """One conversation with a tokenizer; valid inside the block of `speaking`."""

    def __init__(self, child: Child, seconds: float) -> None:
        self._child, self._seconds = child, seconds
        self.ends: frozenset[int] = frozenset()  # tokens that end an answer; known after `spell`

    async def spell(self, prompt: str) -> tuple[int, ...]:
        """As `Speech.spell`; at most 1 MiB of text."""
        raw = prompt.encode("utf-8")
        if len(raw) > PROMPT_BYTES_MAX:
            raise InputMismatch(f"a prompt of {len(raw)} bytes, at most {PROMPT_BYTES_MAX}")
        with trio.move_on_after(self._seconds):
            spelt, tail = await self._child.exchange(Spell(), Spelt, tail=[raw])
            self.ends = frozenset(spelt.ends)
            if len(tail) % 8:
                raise WorkerFailed("the worker answered no tokens")
            return struct.unpack(f"<{len(tail) // 8}q", tail)
        raise DeadlinePassed(f"tokenising took longer than {self._seconds:g} s")

    async def say(self, ids: Sequence[int], *, is_last: bool = False) -> str:
        """As `Speech.say`."""
        raw = struct.pack(f"<{len(ids)}q", *ids)
        with trio.move_on_after(self._seconds):
            _, tail = await self._child.exchange(Say(is_last), Said, tail=[raw])
            try:
                return bytes(tail).decode("utf-8")
            except UnicodeDecodeError as error:
                raise WorkerFailed("the worker answered no UTF-8") from error
        raise DeadlinePassed(f"turning tokens into text took longer than {self._seconds:g} s")


@asynccontextmanager
async def speaking(pool: Pool, tokenizer: Path) -> AsyncIterator[ChildSpeech]:
    """Load a `tokenizer.json` in a sealed child for the time of the block.

    Raises:
        ModelRefused: the file cannot be read.
        WorkerFailed: no child could be had.
    """
    try:
        fd = os.open(tokenizer, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ModelRefused(f"{tokenizer} cannot be read: {error.strerror}") from error
    try:
        spawn = pool.spawn(Role.SPEECH, 16 * os.fstat(fd).st_size)
        async with pool.child(spawn, [fd]) as child:
            yield ChildSpeech(child, pool.bounds.text_seconds)
    finally:
        os.close(fd)
