"""A coroutine that says when it waits for the first time."""

from collections.abc import Callable

import pytest
import trio
import trio.testing

from prsm.node.web.waiting import until_it_waits


def counting() -> tuple[list[str], Callable[[], None]]:
    """What is called when it waits, and where that is noted."""
    waits: list[str] = []
    return waits, lambda: waits.append("waits")


async def test_what_does_not_wait_is_over_without_a_turn() -> None:
    waits, note = counting()

    async def quick() -> int:  # noqa: ASYNC124 - what is tested
        return 7

    with trio.testing.assert_no_checkpoints():
        assert await until_it_waits(quick(), note) == 7
    assert waits == []


async def test_it_is_told_once_before_the_loop_takes_over() -> None:
    waits, note = counting()

    async def slow() -> int:
        assert waits == []
        await trio.lowlevel.checkpoint()
        assert waits == ["waits"]
        await trio.lowlevel.checkpoint()
        return 7

    assert await until_it_waits(slow(), note) == 7
    assert waits == ["waits"]


async def test_scopes_timeouts_and_errors_inside_work_as_awaited() -> None:
    _, note = counting()

    async def slow() -> str:
        with trio.move_on_after(0.001):
            await trio.sleep_forever()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.001):
            await trio.sleep_forever()
        return "late"

    async def faulty() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    async def faulty_at_once() -> None:  # noqa: ASYNC124 - what is tested
        raise KeyError("y")

    assert await until_it_waits(slow(), note) == "late"
    with pytest.raises(KeyError, match="x"):
        await until_it_waits(faulty(), note)
    with pytest.raises(KeyError, match="y"):
        await until_it_waits(faulty_at_once(), note)


async def test_it_is_cancelled_with_its_caller() -> None:
    waits, note = counting()
    ended: list[str] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("ended")

    with trio.move_on_after(0.001) as scope:
        await until_it_waits(slow(), note)
    assert scope.cancelled_caught
    assert (waits, ended) == (["waits"], ["ended"])
