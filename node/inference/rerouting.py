"""Leaves a worker for a better one, late and rarely: balancers that follow each change thrash.

For units of one worker in long jobs. Must not know how work is leased.
Source: docs/spec/work.md, "Survival".
"""

from collections.abc import Callable

import trio

from prsm.node.inference.means import Lessor
from prsm.node.inference.routing import CHECK_MS, Habit
from prsm.node.inference.unitrun import UnitRun
from prsm.protocol.errors import PrsmError


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
