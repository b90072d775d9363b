"""So many at a time, in fair turns; who is cancelled leaves no place behind."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections import Counter

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.inference.fairness import QueueBounds
from prsm.node.inference.serving.turnstile import Turnstile
from prsm.node.net.interface import Busy


def now_ms() -> int:
    return int(trio.current_time() * 1000)


@pytest.mark.parametrize(("tenants", "places"), [(200, 4), (40, 32), (10, 16), (100, 80)])
async def test_tenants_get_even_shares_whatever_some_of_them_ask(
    autojump_clock: MockClock, tenants: int, places: int
) -> None:
    """A tenth of them ask ten at a time; also where most requests are at work at once."""
    turnstile, done = Turnstile(places, now_ms), Counter[int]()

    async def ask(tenant: int) -> None:
        while True:
            async with turnstile.turn(tenant.to_bytes(2, "big"), cost=64, size=100):
                await trio.sleep(0.01)
                done[tenant] += 1

    async with trio.open_nursery() as nursery:
        for tenant in range(tenants):
            for _ in range(10 if tenant < tenants // 10 else 1):
                nursery.start_soon(ask, tenant)
        await trio.sleep(0.05 * tenants / places)
        done.clear()
        await trio.sleep(0.1 * tenants / places)
        assert places // 2 <= turnstile.inside <= places
        nursery.cancel_scope.cancel()
    shares = [done[tenant] for tenant in range(tenants)]
    assert max(shares) <= 2 * min(shares)
    assert (turnstile.inside, turnstile.waiting) == (0, 0)


async def test_who_is_cancelled_gives_its_turn_back(autojump_clock: MockClock) -> None:
    turnstile = Turnstile(1, now_ms)

    async def hold() -> None:
        async with turnstile.turn(b"a", cost=1, size=0):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        nursery.start_soon(hold)
        await wait_all_tasks_blocked()
        assert (turnstile.inside, turnstile.waiting) == (1, 1)
        nursery.cancel_scope.cancel()
    with trio.fail_after(1):
        async with turnstile.turn(b"b", cost=1, size=0):
            assert turnstile.inside == 1


async def test_full_turnstile_says_when_to_come_again(autojump_clock: MockClock) -> None:
    turnstile = Turnstile(1, now_ms, bounds=QueueBounds(items=2))

    async def hold() -> None:
        async with turnstile.turn(b"a", cost=1, size=0):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(hold)
            await wait_all_tasks_blocked()
        with pytest.raises(Busy, match="at most 2") as caught:
            async with turnstile.turn(b"b", cost=1, size=0):
                pass
        assert caught.value.retry_after_ms >= 50
        nursery.cancel_scope.cancel()
