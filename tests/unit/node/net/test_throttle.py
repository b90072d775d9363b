"""Limits of storage: kept over any second, by peer and by direction; nothing else is held back."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from prsm.node.clock import TrioClock
from prsm.node.net.budgets import Limits, StorageLimits, Traffic
from prsm.node.net.lanes import Lanes
from prsm.node.net.throttle import PEERS_MAX, Throttle, Way
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB

SLICE = 128 * KIB
CAP = 10_000_000
ONE, TWO = PeerId("one"), PeerId("two")
Passed = list[tuple[float, int]]


def throttle(limits: StorageLimits) -> Throttle:
    return Throttle(limits, now_ms=TrioClock().monotonic_ms)


async def pump(held: Throttle, way: Way, peer: PeerId, passed: Passed, seconds: float) -> None:
    with trio.move_on_after(seconds):
        while True:
            await held.wait(way, peer, SLICE)
            passed.append((trio.current_time(), SLICE))


def rates(passed: Sequence[tuple[float, int]], seconds: int) -> list[int]:
    """Bytes in each second that begins at a multiple of 50 ms, without the last one."""
    begun = [at / 20 for at in range((seconds - 1) * 20)]
    return [sum(size for at, size in passed if begin < at <= begin + 1) for begin in begun]


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("peers", [1, 3])
async def test_cap_holds_within_five_percent_over_any_second(
    autojump_clock: MockClock, way: Way, peers: int
) -> None:
    held = throttle(StorageLimits(upload=CAP, download=CAP))
    passed: Passed = []
    async with trio.open_nursery() as nursery:
        for number in range(peers):
            nursery.start_soon(pump, held, way, PeerId(str(number)), passed, 6)
    seen = rates(passed, 6)
    assert 0.95 * CAP <= min(seen) <= max(seen) <= 1.05 * CAP
    assert autojump_clock.current_time() == pytest.approx(6)


async def test_each_peer_has_its_own_cap_and_directions_are_apart(
    autojump_clock: MockClock,
) -> None:
    held = throttle(StorageLimits(peer_upload=CAP))
    passed: dict[PeerId, Passed] = {ONE: [], TWO: []}
    async with trio.open_nursery() as nursery:
        for peer, mine in passed.items():
            nursery.start_soon(pump, held, Way.OUT, peer, mine, 4)
    for mine in passed.values():
        assert 0.95 * CAP <= min(rates(mine, 4)) <= max(rates(mine, 4)) <= 1.05 * CAP
    before = autojump_clock.current_time()
    for _ in range(1000):
        await held.wait(Way.IN, ONE, SLICE)
    assert autojump_clock.current_time() == before


async def test_lanes_hold_blocks_back_and_nothing_else(autojump_clock: MockClock) -> None:
    limits = Limits(storage=StorageLimits(upload=CAP, download=CAP))
    lanes = Lanes(limits, now_ms=TrioClock().monotonic_ms)
    with lanes.lane(ONE) as lane:
        for traffic in (Traffic.CONSENSUS, Traffic.INFERENCE):
            for _ in range(400):  # 50 MB
                await lane.before_write(traffic, SLICE)
        assert autojump_clock.current_time() < 0.1
        began = autojump_clock.current_time()
        for _ in range(153):  # 20 MB
            await lane.before_write(Traffic.STORAGE, SLICE)
        assert autojump_clock.current_time() - began == pytest.approx(2, rel=0.05)
        began = autojump_clock.current_time()
        for _ in range(153):
            await lane.after_read(Traffic.STORAGE, SLICE)
        assert autojump_clock.current_time() - began == pytest.approx(2, rel=0.05)


async def test_buckets_of_peers_are_bounded(autojump_clock: MockClock) -> None:
    held = throttle(StorageLimits(peer_download=CAP))
    for number in range(PEERS_MAX + 50):
        await held.wait(Way.IN, PeerId(str(number)), 1)
    assert len(held._peers) == PEERS_MAX
    assert autojump_clock.current_time() < 1
