"""Tokens through all stages, and the way on when a stage is lost: a substitute hears the history.

The requester keeps what went into each stage, and nothing of what is cached there. A substitute
is opened, hears the history with explicit positions, and the step that failed is asked again. Two
ways: the same steps in their order give the same bits; one pass over all positions is quicker,
differs in the last bits, and is for free work. Must not know money or text.
Source: docs/spec/work.md, "Generation".
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Protocol

import trio

from prsm.node.clock import Clock
from prsm.node.inference.generate.stage import Stage
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.refusals import ClassMissing
from prsm.node.inference.unitrun import Lapse
from prsm.protocol.errors import LocalError
from prsm.protocol.generating import STEPS_MAX, KvShape
from prsm.protocol.tensors import ITEM_BYTES, Dtype, Tensor, TensorHead

LOSSES_MAX: Final = 8  # of one stage in one generation; a ninth worker would fail as well

log = logging.getLogger(__name__)


class NoSubstitute(LocalError):
    """A stage was lost and nobody is left to take it over."""

    reason = "too_few_peers"


class Replay(Enum):
    """How a substitute hears the history."""

    STEPS = "steps"  # the same steps: the same bits
    PREFILL = "prefill"  # all positions at once


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of one generation.

    Attributes:
        open_s: for a worker to load its shard.
        step_s: for one call.
        finish_s: for a worker to commit and show its receipt.
    """

    open_s: float = 120.0
    step_s: float = 60.0
    finish_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """A stage that was lost and taken over."""

    stage: int
    lost: str
    taken_by: str
    why: str
    positions: int  # replayed
    load_ms: int
    replay_ms: int
    lost_ms: int  # from the failure to the answer of the step that had failed


class Substitutes(Protocol):
    """Who may take over a stage."""

    async def next(self, index: int, lost: Stage, why: WorkerLost) -> Stage:
        """Another worker, or the same one once more; not open yet.

        Raises:
            NoSubstitute: nobody is left.
        """
        ...


class Moving(Protocol):
    """Who moves stages before they are lost."""

    async def at_boundary(self, place: "Place") -> None:
        """No step of this stage is under way: another one may take over."""
        ...

    async def rescued(self, place: "Place") -> bool:
        """The stage is lost; true if a successor that was near took over."""
        ...

    def end(self) -> None:
        """No more comes."""
        ...


@dataclass(slots=True, eq=False)
class Sitting:
    """One stage at one worker, or at home: when it was made ready, and when it was asked.

    Attributes:
        why: it was lost; empty while it is not.
    """

    stage: int
    name: str
    opening: Lapse = field(default_factory=Lapse)
    work: Lapse = field(default_factory=Lapse)
    why: str = ""


@dataclass(slots=True, eq=False)
class Place:
    """One stage of a course: who does it now, and what it was given."""

    index: int
    shape: KvShape
    stage: Stage
    sizes: list[int] = field(default_factory=list)  # of all steps so far
    position: int = 0  # positions given so far
    given: bytearray = field(default_factory=bytearray)  # all positions, one after the other
    losses: int = 0
    class_id: bytes = b""

    @property
    def row_bytes(self) -> int:
        """Bytes of one position."""
        count = ITEM_BYTES[self.shape.carried.dtype]
        for size in self.shape.carried.shape[2:]:
            count *= size if isinstance(size, int) else 1
        return count

    def tensor(self, first: int, end: int) -> Tensor:
        """What the stage was given for some positions."""
        spec = self.shape.carried
        rest = tuple(size for size in spec.shape[2:] if isinstance(size, int))
        head = TensorHead(spec.name, spec.dtype, (1, end - first, *rest))
        return Tensor(head, bytes(self.given[first * self.row_bytes : end * self.row_bytes]))


class Course:
    """A generation's way through its stages."""

    def __init__(
        self,
        places: Sequence[Place],
        substitutes: Substitutes,
        clock: Clock,
        *,
        replay: Replay = Replay.STEPS,
        patience: Patience | None = None,
    ) -> None:
        self.places = tuple(places)
        self._substitutes, self._clock = substitutes, clock
        self._replay, self._patience = replay, patience or Patience()
        self.recoveries: list[Recovery] = []
        self.sittings: list[Sitting] = []  # in the order they were opened
        self._sitting: dict[int, Sitting] = {}  # the one of each stage now
        self.mover: Moving | None = None
        self.names = [place.stage.name for place in places]  # who does each stage now
        self.pieces = min(place.shape.positions_per_step for place in places)
        self._position = 0

    @property
    def position(self) -> int:
        """Tokens that went through."""
        return self._position

    async def open(self) -> None:
        """Open all stages at once.

        Raises:
            NoSubstitute: a stage cannot be opened anywhere.
        """
        failed: list[LocalError] = []

        async def opened(place: Place) -> None:
            try:
                await self._open(place)
            except LocalError as error:  # out of the nursery it would be a group
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for place in self.places:
                nursery.start_soon(opened, place)
        if failed:
            raise failed[0]

    async def feed(self, tokens: Sequence[int]) -> int:
        """Send tokens through, in pieces that fit one message; the token chosen after them.

        Raises:
            NoSubstitute: a stage was lost for good.
            InputMismatch: the model refuses a value, such as a position beyond its table.
        """
        chosen = -1
        for first in range(0, len(tokens), self.pieces):
            piece = tokens[first : first + self.pieces]
            spec = self.places[0].shape.carried
            data = struct.pack(f"<{len(piece)}q", *piece)
            carried = Tensor(TensorHead(spec.name, Dtype.I64, (1, len(piece))), data)
            for place in self.places:
                carried = await self._through(place, len(piece), carried)
            [chosen] = struct.unpack("<q", carried.data)
            self._position += len(piece)
        return int(chosen)

    def end(self) -> None:
        """Tell all stages that no more comes."""
        for place in self.places:
            place.stage.end()
        if self.mover is not None:
            self.mover.end()

    # -- a stage and its successor

    async def opened(self, place: Place, stage: Stage) -> Sitting:
        """Open a stage for a place; it does not sit there yet.

        Raises:
            WorkerLost: it is not there, refuses, or takes too long.
        """
        sitting = Sitting(place.index, stage.name)
        self.sittings.append(sitting)
        with sitting.opening, trio.move_on_after(self._patience.open_s):
            try:
                await stage.open()
            except WorkerLost as error:
                sitting.why = error.what
                raise
            return sitting
        sitting.why = f"not open after {self._patience.open_s:g} s"
        raise WorkerLost(sitting.why)

    def check_class(self, place: Place, stage: Stage) -> None:
        """Does it compute the bits of the one before?

        Raises:
            WorkerLost: no, and the replay needs them.
        """
        if not place.class_id:
            place.class_id = stage.class_id
        if self._replay is Replay.STEPS and stage.class_id != place.class_id:
            what = f"{ClassMissing.reason}: it computes other bits than the one before"
            raise WorkerLost(what, cause=ClassMissing.reason)

    async def tell(self, place: Place, stage: Stage, sitting: Sitting, steps: range) -> None:
        """Push some steps of the history, in as few messages as it fits.

        Raises:
            WorkerLost: it does no more.
        """
        start = sum(place.sizes[: steps.start])
        is_history = self._replay is Replay.PREFILL
        for sizes in self._messages(place.sizes[steps.start : steps.stop]):
            end = start + sum(sizes)
            carried = place.tensor(start, end)
            with sitting.work:
                await self._step(stage, start, sizes, carried, is_history=is_history)
            start = end

    def seat(self, place: Place, stage: Stage, sitting: Sitting) -> None:
        """Let it do the steps of a place from now on."""
        place.stage = stage
        self._sitting[place.index] = sitting
        self.names[place.index] = stage.name

    async def _open(self, place: Place) -> None:
        try:
            self.seat(place, place.stage, await self.opened(place, place.stage))
        except WorkerLost as error:
            await self._replace(place, error)
        place.class_id = place.stage.class_id

    async def _through(self, place: Place, size: int, carried: Tensor) -> Tensor:
        if self.mover is not None:
            await self.mover.at_boundary(place)
        try:
            made = await self._asked(place, size, carried)
        except WorkerLost as error:
            began = self._clock.monotonic_ms()
            made = await self._recovered(place, size, carried, error)
            spent = self._clock.monotonic_ms() - began
            self.recoveries[-1] = replace(self.recoveries[-1], lost_ms=spent)
        place.sizes.append(size)
        place.position += size
        place.given += carried.data
        return made

    async def _recovered(
        self, place: Place, size: int, carried: Tensor, error: WorkerLost
    ) -> Tensor:
        while True:
            await self._replace(place, error)
            try:
                return await self._asked(place, size, carried)
            except WorkerLost as again:
                error = again

    async def _replace(self, place: Place, error: WorkerLost) -> None:
        """Put another stage in place, with the history in its cache."""
        while True:
            place.losses += 1
            sitting = self._sitting.get(place.index)
            if sitting is not None and not sitting.why:  # what was never open says so itself
                sitting.why = error.what
            if place.losses > LOSSES_MAX:
                raise NoSubstitute(f"stage {place.index} was lost {place.losses} times") from error
            log.warning("stage %d is lost at %s: %s", place.index, place.stage.name, error.what)
            lost = place.stage
            lost.end()
            began = loaded = self._clock.monotonic_ms()
            if self.mover is None or not await self.mover.rescued(place):
                place.stage = await self._substitutes.next(place.index, lost, error)
                try:
                    sitting = await self.opened(place, place.stage)
                    self.seat(place, place.stage, sitting)
                    self.check_class(place, place.stage)
                    loaded = self._clock.monotonic_ms()
                    await self.tell(place, place.stage, sitting, range(len(place.sizes)))
                except WorkerLost as again:
                    error = again
                    continue
            told = self._clock.monotonic_ms()
            self.recoveries.append(
                Recovery(
                    stage=place.index,
                    lost=lost.name,
                    taken_by=place.stage.name,
                    why=error.what,
                    positions=place.position,
                    load_ms=loaded - began,
                    replay_ms=told - loaded,
                    lost_ms=told - began,
                )
            )
            return

    def _messages(self, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Sizes of the steps of each message of a replay of steps."""
        if self._replay is Replay.PREFILL:
            total = sum(sizes)
            for first in range(0, total, self.pieces):
                yield (min(self.pieces, total - first),)
            return
        message: list[int] = []
        for size in sizes:
            if sum(message) + size > self.pieces or len(message) == STEPS_MAX:
                yield tuple(message)
                message = []
            message.append(size)
        if message:
            yield tuple(message)

    async def _asked(self, place: Place, size: int, carried: Tensor) -> Tensor:
        with self._sitting[place.index].work:
            return await self._step(place.stage, place.position, (size,), carried)

    async def _step(
        self,
        stage: Stage,
        start: int,
        sizes: Sequence[int],
        carried: Tensor,
        *,
        is_history: bool = False,
    ) -> Tensor:
        with trio.move_on_after(self._patience.step_s):
            return await stage.step(start, sizes, carried, is_history=is_history)
        raise WorkerLost(f"no answer within {self._patience.step_s:g} s")
