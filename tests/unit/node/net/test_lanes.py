"""Turns of slices: order of classes, one a turn of the loop, nothing lost when a waiter goes."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.clock import TrioClock
from prsm.node.net.budgets import BUDGETS, CALM_MS, NO_LIMITS, Limits, Patience, Standing, Traffic
from prsm.node.net.lanes import LOWER_EVERY, PROMPT_BYTES_MAX, Lanes, Line, Turns
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB, MIB

SLICE = 128 * KIB
ONE, TWO = PeerId("one"), PeerId("two")


def unlimited() -> Turns:
    return Turns(limit_bytes_per_s=0, patience=Patience(), now_ms=lambda: 0)


@given(st.lists(st.sampled_from([*Traffic, None]), max_size=80))
def test_line_serves_the_highest_class_and_the_lowest_each_eighth_time(
    steps: list[Traffic | None],
) -> None:
    """A traffic joins, None serves: against a list that is searched each time."""
    line: Line[int] = Line()
    waiting: list[tuple[Traffic, int]] = []
    passed = 0
    for number, step in enumerate(steps):
        if step is not None:
            line.join(step, number)
            waiting.append((step, number))
            continue
        if not waiting:
            assert line.next() is None
            continue
        classes = {traffic for traffic, _ in waiting}
        passed = passed + 1 if len(classes) > 1 else 0
        wanted = min(classes)
        if passed == LOWER_EVERY:
            passed, wanted = 0, max(classes)
        expected = next(each for each in waiting if each[0] is wanted)
        waiting.remove(expected)
        assert line.next() == expected[1]


async def test_one_slice_passes_in_each_turn_of_the_loop() -> None:
    """Ten writers; between two slices everybody else who can run has run."""
    turns, order = unlimited(), list[str]()

    async def write() -> None:
        for _ in range(5):
            await turns.wait(Traffic.STORAGE, SLICE)
            order.append("slice")

    async def vote() -> None:
        while order.count("slice") < 50:
            order.append("vote")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(write)
        nursery.start_soon(vote)
    text = "".join("s" if what == "slice" else "v" for what in order)
    # Within a turn of the loop its tasks run in any order: two slices may touch, never three.
    assert "sss" not in text
    assert text.count("s") == 50


async def test_small_slices_take_no_turn_where_nobody_waits() -> None:
    """Nobody else runs between them; behind a large one they stand in line like any other."""
    turns, order = unlimited(), list[str]()

    async def write(size: int, name: str) -> None:
        await turns.wait(Traffic.INFERENCE, size)
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        for _ in range(3):
            await write(PROMPT_BYTES_MAX, "small")
        order.append("others")
        nursery.start_soon(write, SLICE, "large")
        await trio.lowlevel.checkpoint()
        nursery.start_soon(write, 1, "behind")
    assert order == [*["small"] * 3, "others", "large", "behind"]


async def test_inference_goes_before_storage() -> None:
    turns, order = unlimited(), list[Traffic]()

    async def write(traffic: Traffic) -> None:
        for _ in range(4):
            await turns.wait(traffic, SLICE)
            order.append(traffic)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(write, Traffic.STORAGE)
        await trio.lowlevel.checkpoint()
        del order[:]
        for _ in range(3):
            nursery.start_soon(write, Traffic.INFERENCE)
    last = len(order) - 1 - order[::-1].index(Traffic.INFERENCE)
    early = order[: last + 1].count(Traffic.STORAGE)
    assert order.count(Traffic.INFERENCE) == 12
    assert early <= 3 + 12 // (LOWER_EVERY - 1)


async def test_cancelled_waiters_lose_no_turn() -> None:
    turns = unlimited()

    async def write(scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await turns.wait(Traffic.STORAGE, SLICE)

    scopes = [trio.CancelScope() for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(write, scope)
        for scope in scopes:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    with trio.fail_after(1):
        await turns.wait(Traffic.STORAGE, SLICE)


@pytest.mark.parametrize("writers", [1, 7])
async def test_operators_limit_holds_for_all_together(
    autojump_clock: MockClock, writers: int
) -> None:
    limit = 10 * MIB
    lanes = Lanes(Limits(upload_bytes_per_s=limit), now_ms=TrioClock().monotonic_ms)
    sent = 0

    async def write(number: int) -> None:
        nonlocal sent
        with lanes.lane(PeerId(f"peer{number}")) as lane:
            while True:
                await lane.before_write(Traffic(1 + number % 2), SLICE)
                sent += SLICE

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(writers):
                nursery.start_soon(write, number)
    assert 0.98 * 10 * limit <= sent <= 10.2 * limit


async def test_limit_does_not_hold_back_consensus(autojump_clock: MockClock) -> None:
    lanes = Lanes(Limits(upload_bytes_per_s=128 * KIB), now_ms=TrioClock().monotonic_ms)

    async def write() -> None:
        with lanes.lane(TWO) as lane:
            while True:
                await lane.before_write(Traffic.INFERENCE, SLICE)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(write)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        with lanes.lane(ONE) as lane:
            for _ in range(1000):
                await lane.before_write(Traffic.CONSENSUS, MIB)
        assert trio.current_time() == began
        nursery.cancel_scope.cancel()


async def test_reader_of_a_peer_over_its_budget_waits_and_others_do_not(
    autojump_clock: MockClock,
) -> None:
    lanes = Lanes(NO_LIMITS, now_ms=TrioClock().monotonic_ms)
    budget = BUDGETS[Standing.OTHER][Traffic.CONSENSUS].messages
    count = budget.burst + 10 * budget.per_s
    with lanes.lane(ONE) as flooding, lanes.lane(TWO) as quiet:
        began = trio.current_time()
        for _ in range(count):
            await flooding.after_frame(Traffic.CONSENSUS)
        assert 9.9 <= trio.current_time() - began <= 10.1
        began = trio.current_time()
        await quiet.after_frame(Traffic.CONSENSUS)
        await quiet.after_read(Traffic.CONSENSUS, MIB)
        assert trio.current_time() == began
        assert quiet.points() == 0


async def test_flooding_on_consensus_costs_points_and_on_storage_none(
    autojump_clock: MockClock,
) -> None:
    lanes = Lanes(NO_LIMITS, now_ms=TrioClock().monotonic_ms)
    for traffic, bans in ((Traffic.CONSENSUS, True), (Traffic.STORAGE, False)):
        with lanes.lane(ONE) as lane:
            points, began = 0, trio.current_time()
            while points < 100 and trio.current_time() < began + 60:
                await lane.after_read(traffic, MIB)
                points += lane.points()
            assert (points >= 100) is bans
            assert not bans or 20 <= trio.current_time() - began <= 40


async def test_slices_pause_after_a_word_of_consensus_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    """A vote comes each ms for 13 ms: no slice until 3 ms after the last; then without a wait."""
    lanes = Lanes(NO_LIMITS, now_ms=TrioClock().monotonic_ms)
    with lanes.lane(ONE) as votes, lanes.lane(TWO) as blocks:
        began = trio.current_time()

        async def vote() -> None:
            for _ in range(13):
                await votes.after_read(Traffic.CONSENSUS, 100)
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(vote)
            await trio.sleep(0.0005)
            moment = trio.current_time()
            await blocks.before_write(Traffic.INFERENCE, PROMPT_BYTES_MAX)
            assert trio.current_time() == moment
            await blocks.before_write(Traffic.STORAGE, SLICE)
            assert 0.013 <= trio.current_time() - began <= 0.018
        moment = trio.current_time()
        for _ in range(100):
            await blocks.before_write(Traffic.STORAGE, SLICE)
            await blocks.after_read(Traffic.STORAGE, SLICE)
        assert trio.current_time() - moment <= (CALM_MS + 1) / 1000
