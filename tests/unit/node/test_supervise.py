"""Restarts with back-off: what is passed on, what is kept inside, what is counted."""

import pytest
import trio
from trio.testing import MockClock

from prsm.node.supervise import Supervisor


class Part:
    """Starts, lives for a scripted time, then does the next thing of its script."""

    def __init__(self, *script: tuple[float, BaseException | None]) -> None:
        self.script = list(script)
        self.starts: list[float] = []

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.starts.append(trio.current_time())
        task_status.started()
        lifetime, end = self.script.pop(0)
        await trio.sleep(lifetime)
        if end is not None:
            raise end


async def test_crashes_restart_with_growing_delay(autojump_clock: MockClock) -> None:
    crash = ValueError("x")
    part = Part(*[(0.0, crash)] * 8, (0.0, None))
    supervisor = Supervisor("part")
    began = autojump_clock.current_time()
    await supervisor.run(part)
    gaps = [b - a for a, b in zip(part.starts, part.starts[1:], strict=False)]
    assert [round(gap, 3) for gap in gaps] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert supervisor.restarts == 8
    assert supervisor.last_error == "ValueError: x"
    assert part.starts[0] == began


async def test_long_life_resets_the_delay(autojump_clock: MockClock) -> None:
    part = Part((0, ValueError()), (0, ValueError()), (61, ValueError()), (0, None))
    await Supervisor("part").run(part)
    assert round(part.starts[3] - part.starts[2], 3) == 61.2
    assert autojump_clock.current_time() >= part.starts[3]


async def test_first_start_that_fails_is_the_callers_problem(nursery: trio.Nursery) -> None:
    async def broken(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - never starts
        await trio.lowlevel.checkpoint()
        raise OSError("port taken")

    supervisor = Supervisor("part")
    with pytest.raises(OSError, match="port taken"):
        await nursery.start(supervisor.run, broken)
    assert supervisor.restarts == 0


async def test_started_is_said_once_and_crashes_are_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    told: list[BaseException] = []
    part = Part((1, ValueError("one")), (1, KeyError("two")), (100, None))
    supervisor = Supervisor("part", on_crash=told.append)
    await nursery.start(supervisor.run, part)
    assert (len(part.starts), told) == (1, [])
    await trio.sleep(5)
    assert [type(error) for error in told] == [ValueError, KeyError]
    assert supervisor.last_error == "KeyError: 'two'"
    assert autojump_clock.current_time() > 0


async def test_group_of_exceptions_is_a_crash_too(autojump_clock: MockClock) -> None:
    group = ExceptionGroup("many", [ValueError("inner")])
    supervisor = Supervisor("part")
    await supervisor.run(Part((0, group), (0, None)))
    assert supervisor.last_error == "ValueError: inner"
    assert autojump_clock.current_time() > 0


async def test_cancellation_passes_through_beside_a_crash(autojump_clock: MockClock) -> None:
    """A part whose clean-up raises while it is being cancelled is not restarted."""
    starts = 0

    async def part(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal starts
        starts += 1
        task_status.started()
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while being cancelled")

    with trio.move_on_after(1) as scope:
        await Supervisor("part").run(part)
    assert scope.cancelled_caught or starts == 1
    assert starts == 1
    assert autojump_clock.current_time() <= 2
