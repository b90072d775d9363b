"""Leaves a worker: for a better one late and rarely, for its going away in time.

Balancers that follow each change thrash. For units of one worker in long jobs. Must not know how
work is leased.
Source: docs/spec/work.md, "Survival" and "Draining".
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from prsm.node.inference.departures import Departures
from prsm.node.inference.means import Lessor
from prsm.node.inference.routing import BETTER_PERCENT, CHECK_MS, Habit
from prsm.node.inference.unitrun import UnitRun
from prsm.protocol.errors import PrsmError

LOOK_S: Final = 0.5  # what would be done in time may become late


async def watch_for_better(unit: UnitRun, lessor: Lessor, leave: Callable[[UnitRun], None]) -> None:
    """Look once a minute whether another worker would be quicker; leave when it stays so.

    Args:
        unit: of one worker.
        lessor: knows the others.
        leave: drains the unit and has the rest leased.
    """
    habit = Habit()
    while not unit.is_replaced:
        await trio.sleep(CHECK_MS / 1000)
        try:
            found = await lessor.compare(unit)
        except PrsmError:  # nobody can be asked now; the next look may
            continue
        if found is None or not unit.ballot.undecided() or unit.is_replaced:
            continue
        held_ms, best_ms = found
        if habit.leave(int(trio.current_time() * 1000), held_ms=held_ms, best_ms=best_ms):
            leave(unit)


async def leave_in_time(
    unit: UnitRun,
    departures: Departures,
    leave: Callable[[UnitRun], None],
    finish: Callable[[UnitRun, bytes], Awaitable[None]],
) -> None:
    """Leave a worker that goes away before it has done its unit, and get its receipt at once.

    Args:
        unit: of one worker.
        departures: what workers say of their going.
        leave: drains the unit and has the rest leased.
        finish: asks a worker for its receipt.
    """
    [worker] = unit.spec.workers
    while not unit.is_replaced:
        left_s = departures.left_s(unit.peers[worker])
        if left_s is not None and _is_late(unit, left_s):
            leave(unit)
            break
        with trio.move_on_after(float("inf") if left_s is None else LOOK_S):
            await departures.wait()
    else:
        return
    await unit.wait(lambda: not unit.ballot.wanted())
    if unit.ballot.payable():
        await finish(unit, worker)


def _is_late(unit: UnitRun, left_s: float) -> bool:
    """Would some batch be undecided when the worker is gone? As if it did one after the other."""
    open_ones, answer_s = unit.ballot.undecided(), unit.stage.answer_s
    if not open_ones or answer_s is None:
        return bool(open_ones)
    return answer_s * len(open_ones) * (100 + BETTER_PERCENT) > left_s * 100
