"""A mover between a course and whoever takes over: what they may do to one another."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import trio
import trio.testing

from prsm.node.inference.generate.course import NoSubstitute
from prsm.node.inference.generate.moving import Mover


@dataclass
class Nobody:
    """Finds no successor, once it is let."""

    gate: trio.Event = field(default_factory=trio.Event)

    async def next(self, index: int, lost: object, why: object) -> NoReturn:
        del lost, why
        await self.gate.wait()
        raise NoSubstitute(f"nobody takes stage {index}")


def world(relief: object) -> tuple[Mover, Any]:
    """A mover of one stage whose worker goes away in a minute, and its place."""
    place = SimpleNamespace(index=0, stage=SimpleNamespace(left_s=60.0, name="old"), sizes=[1])
    course = SimpleNamespace(places=[place], position=0, mover=None)
    departures = SimpleNamespace(wait=trio.sleep_forever)
    parts = (cast("Any", each) for each in (course, relief, departures))
    return Mover(*parts, positions=9), place


async def test_stage_that_is_lost_while_nobody_is_found_is_lost_as_any_other() -> None:
    relief = Nobody()
    mover, place = world(relief)
    rescued: list[bool] = []

    async def lose() -> None:
        rescued.append(await mover.rescued(place))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mover.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lose)
        await trio.testing.wait_all_tasks_blocked()
        assert not rescued
        relief.gate.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert rescued == [False]
        nursery.cancel_scope.cancel()
