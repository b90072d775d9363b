"""A stage whose worker goes away is moved before it is lost: no token waits for a load.

The successor is opened beside the old stage and hears the history while tokens go on. Where a batch
ends it hears the few steps that are left and takes over; then the old one is asked for its receipt.
Between two steps of a batch that happens only where the worker would be gone before its end. What
would be done before the worker goes is not moved, a stage is moved at most `MOVES_MAX` times in one
generation, and never back. Must not know money or text.
Source: docs/spec/work.md, "Draining".
"""

import logging
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from prsm.node.inference.departures import Departures
from prsm.node.inference.generate.course import Course, Place, Sitting
from prsm.node.inference.generate.stage import Stage
from prsm.node.inference.links import WorkerLost
from prsm.node.inference.routing import BETTER_PERCENT
from prsm.protocol.errors import PrsmError

# Each move is paid with a replay: two workers who sent a text to and fro would earn by it.
MOVES_MAX: Final = 2
TRIES: Final = 3  # successors that are asked for one move
NEAR_STEPS: Final = 2  # so few are heard at the boundary, in one message
LOOK_S: Final = 0.5  # what was not worth it may become so: a reader stays behind
_AGED: Final = 0.8
LEAVES: Final = "draining"  # cause: the worker goes away, which is no fault of its

log = logging.getLogger(__name__)


class Relief(Protocol):
    """Who takes over, and who is told that a stage was left."""

    async def next(self, index: int, lost: Stage, why: WorkerLost) -> Stage:
        """As `Substitutes.next`.

        Raises:
            LocalError: nobody is left.
        """
        ...

    async def retire(self, stage: Stage) -> None:
        """Ask a stage that was left for its receipt, and keep that."""
        ...


@dataclass(slots=True, eq=False)
class Move:
    """A successor of a stage that is made ready beside it.

    Attributes:
        stage: the successor; None until it is ready, and where there is none.
        steps: it heard.
        over: it is ready, or there is none.
        stepped: the old stage did another step.
        is_lost: the old stage is.
    """

    sitting: Sitting | None = None
    stage: Stage | None = None
    steps: int = 0
    over: trio.Event = field(default_factory=trio.Event)
    stepped: trio.Event = field(default_factory=trio.Event)
    is_lost: bool = False

    def wake(self) -> None:
        """Look again how far the old stage is."""
        self.stepped.set()
        self.stepped = trio.Event()


class Mover:
    """Moves the stages of one course.

    Args:
        course: has it at each boundary, and where a stage is lost.
        relief: says who takes over.
        departures: what workers say of their going.
        positions: of the whole generation, at most.
    """

    def __init__(
        self, course: Course, relief: Relief, departures: Departures, *, positions: int
    ) -> None:
        self._course, self._relief, self._departures = course, relief, departures
        self._positions = positions
        self._moves: dict[int, Move] = {}  # of stages, under way or ready
        self._tried: dict[int, int] = {}
        self._step_s: float | None = None  # moving average, from one token to the next
        self._stepped_s: float | None = None
        self._nursery: trio.Nursery | None = None
        course.mover = self

    async def run(self) -> None:
        """Watch who goes away, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                while True:
                    for place in self._course.places:
                        if self._is_due(place):
                            self._tried[place.index] = self._tried.get(place.index, 0) + 1
                            self._moves[place.index] = move = Move()
                            nursery.start_soon(self._prepare, place, move)
                    is_watched = any(p.stage.left_s is not None for p in self._course.places)
                    with trio.move_on_after(LOOK_S if is_watched else float("inf")):
                        await self._departures.wait()
            finally:
                self._nursery = None

    # -- what the course asks

    async def at_boundary(self, place: Place) -> None:
        """Between two steps of a stage: let its successor take over, if there is one."""
        if place.index == 0:
            self._note_pace()
        move = self._moves.get(place.index)
        if move is None:
            return
        move.wake()
        if move.over.is_set() and place.stage.left_s is None:  # it stays after all
            del self._moves[place.index]
            if move.stage is not None:
                move.stage.end()
        elif move.over.is_set() and self._may_leave(place, 0):
            old = place.stage
            if await self._take_over(place, move) and self._nursery is not None:
                self._nursery.start_soon(self._relief.retire, old)

    async def rescued(self, place: Place) -> bool:
        """The stage is lost: did a successor take over that was made ready anyway?"""
        move = self._moves.get(place.index)
        if move is None:
            return False
        move.is_lost = True
        move.wake()
        await move.over.wait()
        return await self._take_over(place, move)

    def end(self) -> None:
        """Tell successors that never took over that no more comes."""
        for move in self._moves.values():
            if move.stage is not None:
                move.stage.end()

    async def _take_over(self, place: Place, move: Move) -> bool:
        if self._moves.get(place.index) is move:  # one that found nobody is gone from there
            del self._moves[place.index]
        if move.stage is None or move.sitting is None:
            return False
        try:
            await self._tell(place, move, move.stage)
        except WorkerLost as error:
            log.info("stage %d stays: its successor is lost: %s", place.index, error.what)
            move.sitting.why = error.what
            move.stage.end()
            return False
        log.info("stage %d moves to %s", place.index, move.stage.name)
        self._course.seat(place, move.stage, move.sitting)
        return True

    # -- beside it

    def _is_due(self, place: Place) -> bool:
        left_s = place.stage.left_s
        if left_s is None or place.index in self._moves:
            return False
        if self._tried.get(place.index, 0) >= MOVES_MAX:
            return False
        if self._step_s is None:
            return True
        due_s = self._step_s * (self._positions - self._course.position)
        return due_s * (100 + BETTER_PERCENT) > left_s * 100

    def _may_leave(self, place: Place, steps: int) -> bool:
        """Does its batch end within so many steps, or too late?"""
        missing, left_s = place.stage.missing, place.stage.left_s
        if missing <= steps or left_s is None or self._step_s is None:
            return True
        return self._step_s * missing * (100 + BETTER_PERCENT) > left_s * 100

    async def _prepare(self, place: Place, move: Move) -> None:
        """Find a successor and bring it near."""
        lost, why = place.stage, WorkerLost("draining: the worker goes away", cause=LEAVES)
        try:
            for _ in range(TRIES):
                stage = await self._relief.next(place.index, lost, why)
                try:
                    await self._bring_near(place, move, stage)
                except WorkerLost as error:
                    log.info("stage %d is not moved to %s: %s", place.index, stage.name, error.what)
                    lost, why = stage, error
                    move.steps = 0
                else:
                    move.stage = stage
                    return
                finally:
                    if move.stage is None:
                        stage.end()
        except PrsmError as error:
            log.info("stage %d is not moved: %s", place.index, error.what)
        finally:
            if move.stage is None:
                self._moves.pop(place.index, None)
            move.over.set()

    async def _bring_near(self, place: Place, move: Move, stage: Stage) -> None:
        move.sitting = await self._course.opened(place, stage)
        self._course.check_class(place, stage)
        while True:
            while len(place.sizes) - move.steps > NEAR_STEPS:
                await self._tell(place, move, stage)
            if move.is_lost or self._may_leave(place, NEAR_STEPS):
                return
            await move.stepped.wait()

    async def _tell(self, place: Place, move: Move, stage: Stage) -> None:
        """Push what it has not heard of the history so far."""
        assert move.sitting is not None
        steps = len(place.sizes)
        await self._course.tell(place, stage, move.sitting, range(move.steps, steps))
        move.steps = steps

    def _note_pace(self) -> None:
        now_s = trio.current_time()
        if self._stepped_s is not None and self._course.position:
            took_s = now_s - self._stepped_s
            old = self._step_s
            self._step_s = took_s if old is None else _AGED * old + (1 - _AGED) * took_s
        self._stepped_s = now_s
