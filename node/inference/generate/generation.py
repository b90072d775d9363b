"""One generation of ours: what was asked, where it stands, and the text that waits to be read.

What waits is bounded: a reader that stays behind stops the generation, it does not fill memory.
Owned by its task, read by anybody. Must not know stages or money.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

import trio

from prsm.node.inference.generate.course import Recovery, Replay, Sitting
from prsm.node.inference.unitrun import Lapse
from prsm.node.telemetry import metrics
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.generating import GREEDY, Sampling
from prsm.protocol.receipts import WorkReceipt

TOKENS_WAITING_MAX: Final = 64  # that nobody has read; a second of a quick model
Finish = Literal["stop", "length", "context"]
StepName = Literal["plan", "lock", "run", "receipt", "settle"]


class UnknownGeneration(LocalError):
    """No such generation on this node."""

    reason = "unknown_generation"


class ReaderTooSlow(LocalError):
    """Nobody read for so long that the generation was ended."""

    reason = "reader_too_slow"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to generate.

    Attributes:
        model: CID of the manifest.
        prompt: text to go on from.
        tokens_max: tokens to choose at most.
        sampling: how they are chosen.
        stages: pipeline stages.
        home: so many of the first stages are done here; all of them: no worker, no lock.
        price_cap: micro-FTNS all locks together may hold, None for no bound.
        deadline_ms: block time from the lock on.
        replay: how a substitute hears the history.
        has_spare: lock a second route beforehand, for a stage that is lost.
        tenant: for whom, at most 32 bytes; part of the lock.
    """

    model: bytes
    prompt: str
    tokens_max: int = 128
    sampling: Sampling = GREEDY
    stages: int = 1
    home: int = 0
    price_cap: int | None = None
    deadline_ms: int = 600_000
    replay: Replay = Replay.STEPS
    has_spare: bool = True
    tenant: bytes = b""


class GenerationState(Enum):
    """Where a generation stands; only forward, and `FAILED` from anywhere."""

    OPENING = "opening"  # plan, lock, sessions
    RUNNING = "running"
    SETTLING = "settling"  # the text is complete
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Part:
    """What one reading gave.

    Attributes:
        text: whole characters.
        tokens: chosen so far, also those whose characters are not whole yet.
        is_over: nothing more comes.
    """

    text: str
    tokens: int
    is_over: bool


@dataclass(slots=True, eq=False)
class Generation:
    """A generation while this node knows it."""

    id: bytes
    request: GenerateRequest
    made_ms: int
    state: GenerationState = GenerationState.OPENING
    finish: Finish | None = None
    error: PrsmError | None = None
    prompt_tokens: int = 0
    tokens: list[int] = field(default_factory=list)
    opened_ms: int = 0  # from the request to open sessions
    first_token_ms: int = 0  # from open sessions to the first token
    tokens_ms: int = 0  # from the first token to the last
    jobs: tuple[bytes, ...] = ()
    locked: int = 0  # micro-FTNS
    stages: list[str] = field(default_factory=list)  # who does each now
    recoveries: list[Recovery] = field(default_factory=list)
    receipts: tuple[WorkReceipt, ...] = ()
    made_s: float = 0.0  # on the clock of the loop, of which lapses are
    lapses: dict[StepName, Lapse] = field(default_factory=dict)
    sittings: Sequence[Sitting] = ()
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    read_ms: int = 0  # of the last reading
    readers: int = 0
    tell: Callable[[str], None] = lambda _text: None  # of each piece, and of the end
    _waiting: list[str] = field(default_factory=list)
    _waiting_tokens: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    @property
    def is_over(self) -> bool:
        """Is the text complete, or will it never be?"""
        return self.finish is not None or self.state is GenerationState.FAILED

    def lapse(self, name: StepName) -> Lapse:
        """When a part of it lasts, to be marked by a `with` block."""
        return self.lapses.setdefault(name, Lapse())

    def enter(self, state: GenerationState) -> None:
        """Go on to the next state."""
        if self.state is not GenerationState.FAILED:
            self.state = state
            self._wake()

    def fail(self, error: PrsmError) -> None:
        """End here; a text that was complete stays complete."""
        if self.state not in (GenerationState.DONE, GenerationState.FAILED):
            self.error, self.state = error, GenerationState.FAILED
            self._wake()
            self.tell("")

    def end(self, finish: Finish) -> None:
        """The text is complete."""
        self.finish = finish
        self._wake()
        self.tell("")

    async def put(self, text: str, tokens: int) -> None:
        """Give text to the reader; waits while too much of it was not read."""
        metrics.inc("prsm_inference_tokens_total", by=tokens)
        while self._waiting_tokens >= TOKENS_WAITING_MAX:
            await self._changed.wait()
        self.tell(text)
        self._waiting.append(text)
        self._waiting_tokens += tokens
        self._wake()
        await trio.lowlevel.checkpoint()

    async def read(self) -> Part:
        """Everything that waits, or what comes next. The caller sets the deadline."""
        self.readers += 1
        try:
            await trio.lowlevel.checkpoint()
            while not self._waiting_tokens and not self.is_over:
                await self._changed.wait()
        finally:
            self.readers -= 1
        return self.read_nowait()

    def read_nowait(self) -> Part:
        """Everything that waits."""
        text = "".join(self._waiting)
        self._waiting.clear()
        self._waiting_tokens = 0
        self._wake()
        return Part(text, len(self.tokens), self.is_over)

    async def wait(self, until: GenerationState) -> None:
        """Return once that state, or the end, is reached."""
        await trio.lowlevel.checkpoint()
        order = list(GenerationState)
        while order.index(self.state) < order.index(until):
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
