"""Calls that one task runs, one after the other, with a tool it opens for them.

The tool (a process, a loaded model) is opened by the first call and closed when nobody has called
for a while, so that a node that is never asked pays nothing. Must not know what the tool does.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

import trio

from prsm.node.net.interface import Busy
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, PrsmError

log = logs.get("retrieval")

Ask_contra = TypeVar("Ask_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")

WAITING_MAX: Final = 16


class Interrupted(LocalError):
    """A call that was under way when its tool went away."""

    reason = "store_unavailable"


class Tool(Protocol[Ask_contra, Answer_co]):
    """What is opened for the calls."""

    @property
    def is_usable(self) -> bool:
        """False after a failure that only opening it anew mends."""
        ...

    async def do(self, ask: Ask_contra) -> Answer_co:
        """Run one call.

        Raises:
            PrsmError: goes to the caller.
        """
        ...


@dataclass(slots=True)
class _Errand(Generic[A, B]):
    ask: A
    done: trio.Event = field(default_factory=trio.Event)
    answers: list[B] = field(default_factory=list)
    error: PrsmError | None = None

    def fail(self, error: PrsmError) -> None:
        self.error = error
        self.done.set()


class Errands(Generic[A, B]):
    """Runs calls in one task."""

    def __init__(
        self, open_tool: Callable[[], AbstractAsyncContextManager[Tool[A, B]]], *, idle_s: float
    ) -> None:
        """Take what opens the tool, and the seconds without a call after which it is closed."""
        self._open, self._idle_s = open_tool, idle_s
        self._send, self._receive = trio.open_memory_channel[_Errand[A, B]](WAITING_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve calls until cancelled."""
        task_status.started()
        while True:
            await self._serve(await self._receive.receive())

    async def do(self, ask: A) -> B:
        """Run one call; the caller sets the deadline.

        Raises:
            Busy: 16 calls wait already.
            PrsmError: the call's own failure, or the tool does not open.
        """
        errand: _Errand[A, B] = _Errand(ask)
        try:
            self._send.send_nowait(errand)
        except trio.WouldBlock:
            raise Busy(f"{WAITING_MAX} calls wait already", retry_after_ms=1000) from None
        await errand.done.wait()
        if errand.error is not None:
            raise errand.error
        return errand.answers[0]

    async def _serve(self, errand: _Errand[A, B]) -> None:
        """Open the tool and run calls until none comes, or the tool breaks."""
        try:
            async with self._open() as tool:
                while True:
                    try:
                        errand.answers.append(await tool.do(errand.ask))
                    except PrsmError as error:
                        errand.error = error
                    errand.done.set()
                    following = await self._next() if tool.is_usable else None
                    if following is None:
                        break
                    errand = following
        except PrsmError as error:
            if errand.done.is_set():
                log.warning("a tool did not close", why=error.what)
            else:
                errand.fail(error)
        finally:
            if not errand.done.is_set():
                errand.fail(Interrupted("the call was ended before it was answered"))

    async def _next(self) -> _Errand[A, B] | None:
        with trio.move_on_after(self._idle_s):
            return await self._receive.receive()
        return None
