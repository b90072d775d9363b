"""Generations of this node as a requester, side by side; each is one task, read as it goes.

A generation that nobody reads is ended. Finished ones are kept for a while. Must not know RPC, nor
how tokens are chosen.
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from prsm.node.inference.generate import bill
from prsm.node.inference.generate.course import Patience
from prsm.node.inference.generate.generation import (
    GenerateRequest,
    Generation,
    GenerationState,
    Part,
    ReaderTooSlow,
    UnknownGeneration,
)
from prsm.node.inference.generate.run import GenerationRun
from prsm.node.inference.generate.speech import Speaking
from prsm.node.inference.interface import MemoryReceipts, ReceiptStore
from prsm.node.inference.jobrun import Requester
from prsm.node.inference.jobs import Internal, NotFinished
from prsm.node.net.interface import Busy
from prsm.node.telemetry import traces
from prsm.protocol.errors import PrsmError

RUNNING_MAX: Final = 16
KEPT: Final = 64
HANGUP_MS: Final = 30_000  # a reader asks again within a second
_LOOK_S: Final = 1.0

log = logging.getLogger(__name__)


class Generations:
    """Runs our generations.

    Args:
        requester: what they work with.
        speaking: opens a tokenizer; None: this node runs none.
        notes: where ids of jobs survive this process until nothing is locked in them.
        patience: bounds of each.
        hangup_ms: unread for so long, a generation is ended.
        new_id: makes 32-byte ids; random outside tests.
    """

    def __init__(
        self,
        requester: Requester,
        speaking: Speaking | None,
        *,
        notes: ReceiptStore | None = None,
        patience: Patience | None = None,
        hangup_ms: int = HANGUP_MS,
        new_id: Callable[[], bytes] = lambda: secrets.token_bytes(32),
    ) -> None:
        self._requester, self._patience = requester, patience or Patience()
        self._speaking, self._notes = speaking, notes or MemoryReceipts()
        self._hangup_ms, self._new_id = hangup_ms, new_id
        self._known: dict[bytes, Generation] = {}
        self._nursery: trio.Nursery | None = None
        self.on_text: list[Callable[[Generation, str], None]] = []  # each piece, and the end

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what is started, and end what nobody reads, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for job in await self._left():
                nursery.start_soon(bill.reclaim, self._requester.chain, job, self._notes)
            try:
                task_status.started()
                while True:
                    self._hang_up()
                    await trio.sleep(_LOOK_S)
            finally:
                self._nursery = None

    async def _left(self) -> Sequence[bytes]:
        """Jobs of an earlier process; a disk that does not give them keeps nobody from working."""
        try:
            return await self._notes.load()
        except PrsmError as error:
            log.warning("earlier generations are not read: %s", error.what)
            return ()

    @property
    def running(self) -> int:
        """Generations at work now."""
        return sum(not one.is_over for one in self._known.values())

    def start(self, request: GenerateRequest) -> bytes:
        """Start a generation; its id.

        Raises:
            Busy: too many run, or the service does not.
        """
        if self._nursery is None or self.running >= RUNNING_MAX:
            raise Busy(f"{self.running} generations run, at most {RUNNING_MAX}", retry_after_ms=500)
        clock = self._requester.clock
        one = Generation(self._new_id(), request, made_ms=clock.wall_ms())
        one.read_ms, one.made_s = clock.monotonic_ms(), trio.current_time()
        one.tell = partial(self._tell, one)
        self._forget_old()
        self._known[one.id] = one
        self._nursery.start_soon(self._run, one)
        return one.id

    def get(self, generation: bytes) -> Generation:
        """What is known of a generation now.

        Raises:
            UnknownGeneration: never started here, or forgotten.
        """
        one = self._known.get(generation)
        if one is None:
            raise UnknownGeneration(
                f"no generation {generation.hex()[:16]} on this node",
                hint="prsm generate MODEL PROMPT",
            )
        return one

    async def read(self, generation: bytes, *, wait_ms: int) -> Part:
        """Text since the last reading; waits for some as long as it is told.

        Raises:
            UnknownGeneration: as `get`.
            PrsmError: why the generation failed, once what it had given is read.
        """
        one = self.get(generation)
        with trio.move_on_after(wait_ms / 1000):
            part = await one.read()
            return self._read(one, part)
        return self._read(one, one.read_nowait())

    def cancel(self, generation: bytes) -> None:
        """End a generation; stages stop at once, what was done is paid.

        Raises:
            UnknownGeneration: as `get`.
        """
        one = self.get(generation)
        if not one.is_over:
            one.fail(NotFinished("the generation was cancelled"))
            one.scope.cancel()

    def _tell(self, one: Generation, text: str) -> None:
        for listener in self.on_text:
            listener(one, text)

    def _read(self, one: Generation, part: Part) -> Part:
        one.read_ms = self._requester.clock.monotonic_ms()
        if one.error is not None and not part.text:
            raise one.error
        return part

    async def _run(self, one: Generation) -> None:
        work = GenerationRun(one, self._requester, self._speaking, self._notes, self._patience)
        try:
            with one.scope, traces.span("generation", prsm__generation=one.id.hex()) as mark:
                await work.run()
                mark.set(
                    gen_ai__usage__input_tokens=one.prompt_tokens,
                    gen_ai__usage__output_tokens=len(one.tokens),
                )
        except PrsmError as error:
            one.fail(error)
        except Exception as error:  # one generation must not take the others down
            log.exception("generation %s", one.id.hex()[:16])
            one.fail(Internal(f"{type(error).__name__} inside the node"))
        await work.settle()

    def _hang_up(self) -> None:
        now = self._requester.clock.monotonic_ms()
        for one in self._known.values():
            is_running = one.state is GenerationState.RUNNING and not one.is_over
            if is_running and not one.readers and now - one.read_ms >= self._hangup_ms:
                one.fail(ReaderTooSlow(f"nobody read for {(now - one.read_ms) / 1000:.0f} s"))
                one.scope.cancel()

    def _forget_old(self) -> None:
        over = [key for key, one in self._known.items() if one.is_over]
        for key in over[: max(0, len(over) + 1 - KEPT)]:
            del self._known[key]
