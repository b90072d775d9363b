"""Turns by peer: who asks much waits behind itself; who leaves the line loses nobody a turn."""

import trio
import trio.testing

from prsm.node.net.rota import Rota
from prsm.protocol.ids import PeerId

GREEDY, MODEST = PeerId("greedy"), PeerId("modest")


async def test_peers_take_turns_however_much_one_asks(nursery: trio.Nursery) -> None:
    rota, order, go = Rota(1), list[str](), trio.Event()

    async def ask(who: PeerId) -> None:
        async with rota.turn(who):
            await go.wait()
            order.append(who)

    for who in (GREEDY, GREEDY, GREEDY, GREEDY, MODEST, MODEST):
        nursery.start_soon(ask, who)
        await trio.testing.wait_all_tasks_blocked()
    assert (rota.waiting(GREEDY), rota.waiting(MODEST)) == (3, 2)
    go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert order == [GREEDY, GREEDY, MODEST, GREEDY, MODEST, GREEDY]
    assert rota.waiting(GREEDY) == rota.waiting(MODEST) == 0


async def test_so_many_at_once_and_cancelled_ones_give_their_turn_back() -> None:
    rota, inside, most = Rota(2), 0, 0

    async def ask(scope: trio.CancelScope) -> None:
        nonlocal inside, most
        with scope:
            async with rota.turn(MODEST):
                inside += 1
                most = max(most, inside)
                try:
                    await trio.sleep_forever()
                finally:
                    inside -= 1

    scopes = [trio.CancelScope() for _ in range(6)]
    async with trio.open_nursery() as nursery:
        for scope in scopes:
            nursery.start_soon(ask, scope)
        await trio.testing.wait_all_tasks_blocked()
        assert rota.waiting(MODEST) == 4
        for at in (3, 0, 4, 5, 1, 2):  # waiting ones and those inside
            scopes[at].cancel()
            await trio.testing.wait_all_tasks_blocked()
    assert (inside, most) == (0, 2)
    async with rota.turn(GREEDY), rota.turn(GREEDY):
        assert rota.waiting(GREEDY) == 0


async def test_turn_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    rota = Rota(1)
    scope = trio.CancelScope()

    async def leave() -> None:
        with scope:
            async with rota.turn(MODEST):
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with rota.turn(GREEDY):
            nursery.start_soon(leave)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()  # it has been given the turn, and has not run since
    with trio.fail_after(1):
        async with rota.turn(GREEDY):
            pass
