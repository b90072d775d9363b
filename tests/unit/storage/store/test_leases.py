"""Leases: granted, renewed, expired, and never beside a removal."""

import pytest
import trio

from prsm.storage.cid import hash_block
from prsm.storage.errors import Conflict, NotFound
from prsm.storage.store.leases import GRANTED_MAX, LEASE_MS, Leases
from tests.tools.stores import Wall

ROOT, OTHER = hash_block(b"1"), hash_block(b"2")


def test_lease_ends_when_nobody_renews_it() -> None:
    wall = Wall()
    leases = Leases(wall)
    lease = leases.grant(ROOT, holder="job 1", purpose="run")
    assert lease.expires_ms == wall.ms + LEASE_MS
    wall.ms += LEASE_MS - 1
    assert leases.renew(lease.number).expires_ms == wall.ms + LEASE_MS
    wall.ms += LEASE_MS - 1
    assert [one.number for one in leases.granted(ROOT)] == [lease.number]
    assert not leases.granted(OTHER)
    wall.ms += 1
    assert not leases.granted()
    with pytest.raises(NotFound, match="ran out"):
        leases.renew(lease.number)
    leases.release(lease.number)
    with leases.claim(ROOT):
        pass


def test_lease_of_another_boot_is_void() -> None:
    wall = Wall()
    lease = Leases(wall).grant(ROOT, holder="job 1", purpose="run")
    again = Leases(wall)
    assert again.grant(ROOT, holder="job 1", purpose="run").boot != lease.boot
    assert len(again.granted()) == 1


async def test_lease_of_a_task_lasts_as_long_as_the_task() -> None:
    wall = Wall()
    leases = Leases(wall)
    async with leases.hold(ROOT, holder="job 1", purpose="run") as lease:
        wall.ms += 100 * LEASE_MS
        assert leases.renew(lease.number) == lease
        with pytest.raises(Conflict, match="in use: job 1, run"), leases.claim(ROOT):
            pytest.fail("removed while in use")
    with leases.claim(ROOT):
        pass


async def test_lease_waits_for_a_removal() -> None:
    leases = Leases(Wall())
    order = []

    async def hold() -> None:
        async with leases.hold(ROOT, holder="", purpose="run"):
            order.append("held")

    async with trio.open_nursery() as nursery:
        with leases.claim(ROOT):
            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Conflict, match="being removed"):
                leases.grant(ROOT, holder="", purpose="run")
            with pytest.raises(Conflict, match="being removed"), leases.claim(ROOT):
                pytest.fail("removed twice")
            order.append("removed")
    assert order == ["removed", "held"]
    assert not leases.granted()


def test_leases_are_bounded() -> None:
    wall = Wall()
    leases = Leases(wall)
    for _ in range(GRANTED_MAX):
        leases.grant(ROOT, holder="", purpose="run")
    with pytest.raises(Conflict, match=f"{GRANTED_MAX} leases"):
        leases.grant(ROOT, holder="", purpose="run")
    wall.ms += LEASE_MS
    leases.grant(ROOT, holder="", purpose="run")
