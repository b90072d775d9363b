"""The lag of the loop: nothing while nobody holds it, what somebody holds it for otherwise."""

import trio
import trio.testing

from prsm.node.telemetry.lag import PERIOD_S, REMEMBERED, LoopLag


async def test_an_idle_loop_has_no_lag(
    autojump_clock: trio.testing.MockClock,  # noqa: ARG001 - it moves the time
) -> None:
    told: list[float] = []
    lag = LoopLag(told.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(lag.run)
        await trio.sleep(10.5 * PERIOD_S)
        nursery.cancel_scope.cancel()
    assert told == [0.0] * 10
    assert (lag.worst_s, lag.beats) == (0.0, 10)


async def test_a_held_loop_shows_by_how_much(mock_clock: trio.testing.MockClock) -> None:
    """Time that passes in one jump is what a long computation does to the loop."""
    lag = LoopLag(period_s=0.1)
    async with trio.open_nursery() as nursery:
        await nursery.start(lag.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.75)
        await trio.testing.wait_all_tasks_blocked()
        assert round(lag.worst_s, 6) == 0.65
        for _ in range(REMEMBERED):
            mock_clock.jump(0.1)
            await trio.testing.wait_all_tasks_blocked()
        assert lag.worst_s < 0.01
        nursery.cancel_scope.cancel()
