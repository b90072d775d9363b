"""What people are told of a fetch: verified bytes only, the latest word, and always the end."""

import pytest
import trio
from trio.testing import MockClock

from prsm.storage.cid import hash_block
from prsm.storage.fetch.transfers import (
    ENDED_MAX,
    NAMED_MAX,
    OTHERS,
    STALLED_MS,
    Meter,
    State,
    Transfers,
)

MIB = 1 << 20
ROOT = hash_block(b"root")


def meter(number: int = 0, *, resumed: int = 0) -> Meter:
    root = hash_block(b"%d" % number)
    return Meter(root, 100 * MIB, resumed_bytes=resumed, now_ms=0)


def test_meter_counts_what_was_verified_and_says_how_long_it_takes() -> None:
    one = meter(resumed=20 * MIB)
    assert one.snapshot(0).eta_ms is None
    for step in range(1, 41):
        one.add("a" if step % 4 else "b", MIB, now_ms=100 * step)
    seen = one.snapshot(4_000)
    assert (seen.verified_bytes, seen.resumed_bytes) == (60 * MIB, 20 * MIB)
    assert seen.bytes_by_source == (("a", 30 * MIB), ("b", 10 * MIB))
    assert seen.rate_bytes_per_s == pytest.approx(10 * MIB, rel=0.01)
    assert seen.eta_ms == pytest.approx(4_000, rel=0.01)


def test_meter_that_gets_nothing_fades_and_says_that_it_is_stalled() -> None:
    one = meter()
    one.add("a", MIB, now_ms=100)
    assert one.snapshot(100 + STALLED_MS - 1).stalled_ms == 0
    stalled = one.snapshot(100 + STALLED_MS)
    assert stalled.stalled_ms == STALLED_MS
    assert stalled.rate_bytes_per_s < MIB // 100
    one.end(State.FAILED, reason="timeout", what="nobody sent the rest")
    ended = one.snapshot(200_000)
    assert (ended.stalled_ms, ended.eta_ms, ended.reason) == (0, None, "timeout")


def test_meter_tells_a_bounded_number_of_sources_apart() -> None:
    one = meter()
    for number in range(NAMED_MAX + 9):
        one.add(str(number), 2 if number < NAMED_MAX else 1, now_ms=number)
    rows = dict(one.snapshot(1_000).bytes_by_source)
    assert len(rows) == NAMED_MAX + 1
    assert rows[OTHERS] == 9


async def test_watcher_gets_the_latest_word_of_each_and_every_end(
    autojump_clock: MockClock,
) -> None:
    transfers = Transfers()
    one, two = meter(1), meter(2)
    with transfers.watch() as watch:
        transfers.begin(one)
        transfers.begin(two)
        for _ in range(40):
            await trio.sleep(0.1)
            one.add("a", MIB, now_ms=int(autojump_clock.current_time() * 1000))
            transfers.moved(one)
        one.end(State.DONE)
        transfers.end(one)
        first, second = await watch.next(), await watch.next()
        assert {first.root, second.root} == {one.root, two.root}
        assert {first.state, second.state} == {State.DONE, State.FETCHING}
        with trio.move_on_after(5) as scope:
            await watch.next()
        assert scope.cancelled_caught


async def test_watcher_who_reads_is_told_four_times_a_second(autojump_clock: MockClock) -> None:
    transfers, one = Transfers(), meter(1)
    transfers.begin(one)
    told = 0

    async def read() -> None:
        nonlocal told
        with transfers.watch() as watch:
            while True:
                await watch.next()
                told += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for _ in range(200):
            await trio.sleep(0.01)
            one.add("a", 1, now_ms=int(autojump_clock.current_time() * 1000))
            transfers.moved(one)
        nursery.cancel_scope.cancel()
    assert 7 <= told <= 10


async def test_ended_ones_are_kept_the_last_first_and_bounded() -> None:
    transfers = Transfers()
    for number in range(ENDED_MAX + 5):
        one = meter(number)
        transfers.begin(one)
        one.end(State.DONE)
        transfers.end(one)
    await trio.lowlevel.checkpoint()
    current = transfers.current()
    assert len(current) == ENDED_MAX
    assert current[0].root == hash_block(b"%d" % (ENDED_MAX + 4))
    assert transfers.find(hash_block(b"0")) is None
    assert transfers.find(current[3].root) == current[3]
