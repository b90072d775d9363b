"""Copies that are lost come back: real announcements and links, memory network, virtual clock."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import pytest
import trio
from trio.testing import MockClock

from prsm.node.replication import plan
from prsm.node.replication.driver import UnknownCopies
from prsm.node.replication.plan import GRACE_MS
from tests.tools.copying import Keeping, Site, cid

MODEL = cid(1)


@pytest.fixture
def site(nursery: trio.Nursery) -> Site:
    made = Site(nursery)
    made.vouched[MODEL] = 10
    return made


async def opened(site: Site, count: int, *, holders: int, copies: int) -> list[Keeping]:
    nodes = [
        await site.start(number, region=f"region{number % 3}", copies=copies)
        for number in range(1, count + 1)
    ]
    for node in nodes[:holders]:
        node.shelf.models.add(MODEL)
    await trio.sleep(GRACE_MS / 1000 - 1)
    return nodes


async def test_two_of_five_holders_killed_are_replaced_within_a_minute(
    nursery: trio.Nursery, site: Site, autojump_clock: MockClock
) -> None:
    nodes = await opened(site, 7, holders=5, copies=5)
    await trio.sleep(10)
    assert len(site.holders(MODEL)) == 5, "nobody copies what is not missing"
    for node in nodes[:2]:
        await site.kill(node.node.peer)
    start = trio.current_time()
    with trio.fail_after(60):
        while len(site.holders(MODEL)) < 5:
            assert len(site.holders(MODEL)) >= 3, "a read finds a holder at any time"
            await trio.sleep(0.1)
    assert trio.current_time() - start >= GRACE_MS / 1000
    await trio.sleep(20)
    assert len(site.holders(MODEL)) == 5, "no more than were missing"
    told = {node.repair.status() for node in site.nodes.values()}
    assert {status[0].holders for status in told} == {tuple(sorted(site.holders(MODEL)))}
    assert all(status[0].short_ms is None for status in told)
    nursery.cancel_scope.cancel()


async def test_node_that_cannot_fetch_is_replaced_by_the_next_in_turn(
    nursery: trio.Nursery, site: Site, autojump_clock: MockClock
) -> None:
    nodes = await opened(site, 5, holders=2, copies=2)
    await trio.sleep(5)
    await site.kill(nodes[0].node.peer)
    await trio.sleep(3)
    [status] = nodes[1].repair.status()
    assert status.short_ms is not None
    [first] = status.assigned
    site.nodes[first].shelf.is_broken = True
    with trio.fail_after(60):
        await site.wait_copies(MODEL, 2)
    [failed] = site.nodes[first].repair.status()
    assert "nobody has it" in failed.why
    assert site.nodes[first].shelf.tries <= 3, "it backs off"
    nursery.cancel_scope.cancel()


async def test_wish_of_a_holder_makes_more_copies_and_its_end_gives_them_back(
    nursery: trio.Nursery,
    site: Site,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EXCESS_MS", "GIVE_BACK_TURN_MS"):  # minutes of virtual time cost seconds
        monkeypatch.setattr(plan, name, 5_000)
    nodes = await opened(site, 5, holders=2, copies=2)
    await nodes[0].repair.wish(MODEL, 4)
    with trio.fail_after(60):
        await site.wait_copies(MODEL, 4)
    with pytest.raises(UnknownCopies):
        await nodes[0].repair.wish(cid(2), 4)
    for node in nodes[2:]:
        node.shelf.is_broken = True
    await nodes[0].repair.wish(MODEL, 2)
    await trio.sleep(40)
    assert len(site.holders(MODEL)) == 4, "a store that refuses keeps it"
    for node in nodes[2:]:
        node.shelf.is_broken = False
    with trio.fail_after(60):
        await site.wait_copies(MODEL, 2)
    assert site.holders(MODEL) == {node.node.peer for node in nodes[:2]}, "own copies stay"
    nursery.cancel_scope.cancel()


async def test_unvouched_and_unwilling_and_full_are_left_alone(
    nursery: trio.Nursery, site: Site, autojump_clock: MockClock
) -> None:
    first = await site.start(1)
    first.shelf.models.update({MODEL, cid(7)})
    unwilling = await site.start(2, is_willing=False)
    full = await site.start(3)
    full.shelf.room = 0
    await trio.sleep(40)
    assert site.holders(MODEL) == {first.node.peer}
    willing = await site.start(4)
    with trio.fail_after(60):
        await site.wait_copies(MODEL, 2)
    await trio.sleep(20)
    assert site.holders(MODEL) == {first.node.peer, willing.node.peer}
    assert site.holders(cid(7)) == {first.node.peer}, "the ledger does not name it"
    await unwilling.repair.repair(MODEL)
    await unwilling.repair.repair(MODEL)
    assert unwilling.shelf.tries == 1
    with pytest.raises(UnknownCopies):
        await unwilling.repair.repair(cid(9))
    nursery.cancel_scope.cancel()
