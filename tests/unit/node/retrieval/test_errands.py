"""One task runs the calls; the tool is opened for them, closed when idle, replaced when broken."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from prsm.node.net.interface import Busy
from prsm.node.retrieval.errands import WAITING_MAX, Errands, Interrupted
from prsm.protocol.errors import LocalError


@dataclass
class Doubler:
    """Doubles numbers; 13 is refused, 666 breaks it, 0 never ends."""

    is_usable: bool = True

    async def do(self, ask: int) -> int:
        await trio.lowlevel.checkpoint()
        if ask == 0:
            await trio.sleep_forever()
        if ask == 13:
            raise LocalError("13 is refused")
        if ask == 666:
            self.is_usable = False
            raise LocalError("it broke")
        return 2 * ask


@dataclass
class Shop:
    refuse: bool = False
    log: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Doubler]:
        await trio.lowlevel.checkpoint()
        if self.refuse:
            raise LocalError("it does not open")
        self.log.append("open")
        try:
            yield Doubler()
        finally:
            self.log.append("close")


async def test_calls_share_a_tool_until_nobody_calls(autojump_clock: MockClock) -> None:
    shop = Shop()
    errands: Errands[int, int] = Errands(shop.open, idle_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(errands.run)
        assert not shop.log
        assert [await errands.do(number) for number in (1, 2)] == [2, 4]
        with pytest.raises(LocalError, match="13 is refused"):
            await errands.do(13)
        assert await errands.do(3) == 6
        assert shop.log == ["open"]
        await trio.sleep(61)
        assert shop.log == ["open", "close"]
        assert await errands.do(4) == 8
        nursery.cancel_scope.cancel()
    assert shop.log == ["open", "close"] * 2


async def test_broken_tool_is_replaced_for_the_next_call(autojump_clock: MockClock) -> None:
    shop = Shop()
    errands: Errands[int, int] = Errands(shop.open, idle_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(errands.run)
        with pytest.raises(LocalError, match="it broke"):
            await errands.do(666)
        assert await errands.do(5) == 10
        assert shop.log == ["open", "close", "open"]
        nursery.cancel_scope.cancel()


async def test_tool_that_does_not_open_is_the_callers_error(autojump_clock: MockClock) -> None:
    shop = Shop(refuse=True)
    errands: Errands[int, int] = Errands(shop.open, idle_s=60)
    async with trio.open_nursery() as nursery:
        await nursery.start(errands.run)
        with pytest.raises(LocalError, match="does not open"):
            await errands.do(1)
        shop.refuse = False
        assert await errands.do(1) == 2
        nursery.cancel_scope.cancel()


async def test_surplus_calls_hear_it_and_the_one_at_work_hears_the_end(
    autojump_clock: MockClock,
) -> None:
    errands: Errands[int, int] = Errands(Shop().open, idle_s=60)
    ended: list[str] = []

    async def call() -> None:
        try:
            await errands.do(0)
        except (Busy, Interrupted) as error:
            ended.append(type(error).__name__)

    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as nursery:
            await nursery.start(errands.run)
            callers.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(WAITING_MAX + 1):
                callers.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["Busy"]
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["Busy", "Interrupted"]
        callers.cancel_scope.cancel()
