"""Dials take turns: four young ones at most, silent ones hold up nobody for long."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import trio
from trio.testing import MockClock

from prsm.node.net.dials import DIALS_AT_ONCE, YOUNG_S, Dials


async def run_all(durations: list[float]) -> tuple[int, float]:
    """How many were under way at most, and when the last had begun."""
    dials, under_way, most, last = Dials(), 0, 0, 0.0
    began = trio.current_time()

    async def dial(seconds: float) -> None:
        nonlocal under_way, most, last
        async with dials.turn():
            under_way += 1
            most, last = max(most, under_way), trio.current_time() - began
            await trio.sleep(seconds)
            under_way -= 1

    async with trio.open_nursery() as nursery:
        for seconds in durations:
            nursery.start_soon(dial, seconds)
    return most, last


async def test_quick_dials_go_four_at_a_time(autojump_clock: MockClock) -> None:
    most, last = await run_all([0.1] * 31)
    assert most == DIALS_AT_ONCE
    assert abs(last - 0.1 * (31 // DIALS_AT_ONCE)) < 1e-6


async def test_silent_peers_hold_up_the_next_dial_for_a_second(autojump_clock: MockClock) -> None:
    most, last = await run_all([5.0] * 2 * DIALS_AT_ONCE + [0.1])
    assert most >= 2 * DIALS_AT_ONCE
    assert last <= 2 * YOUNG_S + 1e-6


async def test_cancelled_dial_makes_room(autojump_clock: MockClock) -> None:
    dials = Dials()

    async def dial() -> None:
        async with dials.turn():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(2 * DIALS_AT_ONCE):
            nursery.start_soon(dial)
        await trio.sleep(YOUNG_S / 2)
        nursery.cancel_scope.cancel()
    before = trio.current_time()
    async with dials.turn():
        assert trio.current_time() == before
