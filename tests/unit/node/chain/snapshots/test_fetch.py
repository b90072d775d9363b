"""Chunks from several peers: liars are banned, the slow are left, good chunks are kept."""
# ruff: noqa: ARG001 - pytest-trio takes the clock from among the arguments of a test

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from prsm.node.chain.snapshots import fetch as fetch_module
from prsm.node.chain.snapshots.fetch import (
    LARGE_SECONDS,
    PATIENCE_SECONDS,
    STALL_SECONDS,
    STALLS_MAX,
    ChunkFetch,
    Order,
)
from prsm.node.clock import TrioClock
from prsm.node.net.interface import Answer, Busy, CallRefused, PeerUnreachable
from prsm.protocol.codec import Record
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.sync import (
    GetChunk,
    GetChunkPart,
    GotChunk,
    GotChunkPart,
    GotEpochHeaders,
)
from prsm.storage.snapshots import SnapshotFiles, Staging
from tests.tools.offers import Offer, chain_of, offer
from tests.tools.takers import inline
from tests.tools.wires import Wire

ONE, TWO, THREE = PeerId("one"), PeerId("two"), PeerId("three")
Lie = Callable[[GetChunk], Awaitable[Record | Answer]]
PartLie = Callable[[bytes, int, int], bytes]  # a part, where it begins, what a frame takes


@dataclass
class Stage:
    """Peers that answer as a test says, and one snapshot to fetch."""

    made: Offer
    staging: Staging
    wire: Wire = field(default_factory=Wire)
    asked: dict[PeerId, list[int]] = field(default_factory=dict)

    def answer(self, peer: PeerId, say: Lie) -> None:
        async def reply(message: Record) -> Record | Answer:
            assert isinstance(message, GetChunk)
            self.asked.setdefault(peer, []).append(message.index)
            return await say(message)

        self.wire.live.append(peer)
        self.wire.replies[peer] = reply

    async def honest(self, ask: GetChunk) -> Answer:
        await trio.sleep(0.1)
        return self.made.chunk(ask)

    def fetch(self) -> ChunkFetch:
        order = Order.of(self.made.found, self.made.bits, lambda: self.wire.live)
        return ChunkFetch(self.wire, TrioClock(), self.staging, order)

    async def run(self) -> ChunkFetch:
        fetch = self.fetch()
        assert await fetch.run()
        assert fetch.state == self.made.state
        return fetch

    @property
    def banned(self) -> list[PeerId]:
        return [peer for peer, error in self.wire.penalties if error.penalty >= 100]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(offer(), SnapshotFiles(tmp_path).staging("incoming"))


async def test_chunks_come_from_all_peers_at_once(stage: Stage) -> None:
    """Each peer is asked one at a time, all of them together; nothing is asked twice."""
    running: list[PeerId] = []
    most = 0

    def counted(peer: PeerId) -> Lie:
        async def say(ask: GetChunk) -> Answer:
            nonlocal most
            assert peer not in running
            running.append(peer)
            most = max(most, len(running))
            answer = await stage.honest(ask)
            running.remove(peer)
            return answer

        return say

    for peer in (ONE, TWO, THREE):
        stage.answer(peer, counted(peer))
    fetch = await stage.run()
    full = stage.made.full
    assert sorted(index for asked in stage.asked.values() for index in asked) == full
    assert most == min(3, len(full))
    assert fetch.fetched == len(full)
    assert stage.banned == []


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


async def of_another_snapshot(stage: Stage, ask: GetChunk) -> Answer:
    """A chunk that is right in the snapshot of another height."""
    await trio.lowlevel.checkpoint()
    ours = {chunk.root for chunk in stage.made.chunks}
    other = next(chunk for chunk in offer(4).chunks if chunk.root not in ours)
    return GotChunk(height=ask.height, index=ask.index), other.raw


async def wrong_bit(stage: Stage, ask: GetChunk) -> Answer:
    await trio.lowlevel.checkpoint()
    answer, raw = stage.made.chunk(ask)
    return answer, flipped(raw)


async def another_chunk(stage: Stage, ask: GetChunk) -> Answer:
    """A right chunk of this snapshot in another one's place."""
    await trio.lowlevel.checkpoint()
    other = next(index for index in stage.made.full if index != ask.index)
    return GotChunk(height=ask.height, index=ask.index), stage.made.chunks[other].raw


async def nothing(stage: Stage, ask: GetChunk) -> Answer:
    await trio.lowlevel.checkpoint()
    return GotChunk(height=ask.height, index=ask.index), b""


async def another_answer(stage: Stage, ask: GetChunk) -> Answer:
    await trio.lowlevel.checkpoint()
    return GotEpochHeaders(epochs=()), b""


async def another_height(stage: Stage, ask: GetChunk) -> Answer:
    await trio.lowlevel.checkpoint()
    return GotChunk(height=ask.height + 1, index=ask.index), stage.made.chunks[ask.index].raw


LIES = [of_another_snapshot, wrong_bit, another_chunk, nothing, another_answer, another_height]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_liar_is_banned_at_its_first_chunk_and_named(
    stage: Stage, lie: Callable[[Stage, GetChunk], Awaitable[Answer]]
) -> None:
    """Two liars and one honest peer: each liar is asked once, its chunk is asked of another."""
    stage.answer(ONE, lambda ask: lie(stage, ask))
    stage.answer(TWO, stage.honest)
    stage.answer(THREE, lambda ask: lie(stage, ask))
    await stage.run()
    assert sorted(stage.banned) == [ONE, THREE]
    assert (len(stage.asked[ONE]), len(stage.asked[THREE])) == (1, 1)
    assert set(stage.asked[ONE]) <= set(stage.asked[TWO])


async def test_slow_drip_holds_up_one_chunk_for_the_stall_timer(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """A peer that never finishes is left after the timer, without blame; another brings it all.

    The clock jumps while threads check chunks, so how long it took says nothing here.
    """

    async def drip(_ask: GetChunk) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    stage.answer(ONE, drip)
    stage.answer(TWO, stage.honest)
    await stage.run()
    assert sorted(stage.asked[TWO]) == stage.made.full
    assert stage.asked[ONE][0] == stage.made.full[0]
    assert len(stage.asked[ONE]) <= STALLS_MAX
    assert trio.current_time() >= STALL_SECONDS
    assert stage.wire.penalties == []


async def test_busy_peer_is_asked_again_and_one_without_the_snapshot_is_not(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """`busy` is a pause; `not_found` is the end for this snapshot; neither is a fault."""

    async def busy_once(ask: GetChunk) -> Answer:
        if len(stage.asked[ONE]) == 1:
            raise CallRefused(Busy.reason, "one at a time", peer=ONE)
        return await stage.honest(ask)

    async def dropped(_ask: GetChunk) -> Answer:
        await trio.lowlevel.checkpoint()
        raise CallRefused("not_found", "no such snapshot", peer=TWO)

    async def away(_ask: GetChunk) -> Answer:
        await trio.lowlevel.checkpoint()
        raise PeerUnreachable("gone")

    stage.answer(ONE, busy_once)
    stage.answer(TWO, dropped)
    stage.answer(THREE, away)
    await stage.run()
    assert len(stage.asked[TWO]) == 1
    assert stage.wire.penalties == []


async def test_nobody_to_ask_ends_it_and_a_restart_keeps_good_chunks(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """Killed after two chunks, one of them damaged on disk since: only what is missing is asked."""

    async def two_only(ask: GetChunk) -> Answer:
        if ask.index > stage.made.full[1]:
            raise CallRefused("not_found", "no more", peer=ONE)
        return await stage.honest(ask)

    stage.answer(ONE, two_only)
    began = trio.current_time()
    assert not await stage.fetch().run()
    assert trio.current_time() - began > PATIENCE_SECONDS
    damaged = stage.staging.folder / stage.made.chunks[stage.made.full[1]].root.hex()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    stage.wire.live.clear()
    stage.answer(TWO, stage.honest)
    fetch = await stage.run()
    assert sorted(stage.asked[TWO]) == stage.made.full[1:]
    assert fetch.fetched == len(stage.made.full) - 1


async def test_chunk_put_by_another_program_is_checked_like_a_peers(stage: Stage) -> None:
    """A file with a right name and checksum but wrong entries: fetched anew."""
    first, second = stage.made.full[:2]
    stage.staging.put(stage.made.chunks[first].root, stage.made.chunks[second].raw)
    stage.answer(ONE, stage.honest)
    fetch = await stage.run()
    assert fetch.fetched == len(stage.made.full)


class Bucket:
    """A snapshot whose chunks are single buckets, the first of which just fills two frames."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = Offer.of(chain_of(5), size_max=1)
        self.first = self.made.full[0]
        size = self.frame = len(self.made.chunks[self.first].raw) // 2
        assert len(self.made.chunks[self.first].raw) == 2 * size
        monkeypatch.setattr(fetch_module, "SYNC_BYTES_MAX", size)
        monkeypatch.setattr(trio.to_thread, "run_sync", inline)
        self.stage = Stage(self.made, SnapshotFiles(tmp_path).staging("incoming"))
        self.parts: list[tuple[PeerId, GetChunkPart]] = []

    def answer(self, peer: PeerId, lie: PartLie | None = None, *, delay_s: float = 0) -> None:
        """A peer that gives chunks in parts, each so late; a lie changes them."""

        async def reply(ask: Record) -> Answer:
            await trio.sleep(delay_s)
            assert isinstance(ask, GetChunk | GetChunkPart)
            height, index, at = ask.height, ask.index, 0
            answer: Record = GotChunk(height=height, index=index)
            if isinstance(ask, GetChunkPart):
                self.parts.append((peer, ask))
                at = ask.offset
                answer = GotChunkPart(height=height, index=index, offset=at)
            raw = self.made.chunks[index].raw[at : at + self.frame]
            return answer, raw if lie is None else lie(raw, at, self.frame)

        self.stage.wire.live.append(peer)
        self.stage.wire.replies[peer] = reply


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return Bucket(tmp_path, monkeypatch)


async def test_bucket_over_a_frame_comes_in_parts(bucket: Bucket) -> None:
    """Until a part is not full, and be it empty; one at a time, also of several peers."""
    for peer in (ONE, TWO):
        bucket.answer(peer)
    await bucket.stage.run()
    offsets = [ask.offset for _, ask in bucket.parts if ask.index == bucket.first]
    assert offsets == [bucket.frame, 2 * bucket.frame]
    indexes = [ask.index for _, ask in bucket.parts]
    assert [index for index, _ in groupby(indexes)] == sorted(set(indexes), key=indexes.index)
    assert bucket.stage.wire.penalties == []


def wrong_part(raw: bytes, at: int, _frame: int) -> bytes:
    return flipped(raw) if at and raw else raw


def over_the_frame(raw: bytes, at: int, _frame: int) -> bytes:
    return raw + bytes(1) if not at else raw


def without_end(raw: bytes, _at: int, frame: int) -> bytes:
    return raw.ljust(frame, b"x")


@pytest.mark.parametrize("lie", [wrong_part, over_the_frame, without_end])
async def test_liar_about_a_part_is_banned(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, lie: PartLie
) -> None:
    """A wrong bit in a later part, more than a frame, parts for ever: nothing of it is kept."""
    longest = max(len(chunk.raw) for chunk in bucket.made.chunks)
    monkeypatch.setattr(fetch_module, "BUCKET_BYTES_MAX", longest)
    bucket.answer(ONE, lie)
    bucket.answer(TWO)
    await bucket.stage.run()
    assert bucket.stage.banned == [ONE]
    asked = [ask.offset for peer, ask in bucket.parts if peer == ONE]
    assert max(asked, default=0) < longest


async def test_chunk_of_several_buckets_has_no_second_part(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those are cut so that they fit: more of one is a lie, and is not asked for."""
    size = max(len(chunk.raw) for chunk in stage.made.chunks) + 1
    monkeypatch.setattr(fetch_module, "SYNC_BYTES_MAX", size)

    async def fill(ask: GetChunk) -> Answer:
        await trio.lowlevel.checkpoint()
        assert stage.made.chunks[ask.index].level
        return GotChunk(height=ask.height, index=ask.index), bytes(size)

    stage.answer(ONE, fill)
    stage.answer(TWO, stage.honest)
    await stage.run()
    assert (stage.banned, len(stage.asked[ONE])) == ([ONE], 1)


async def test_liars_that_drip_large_chunks_do_not_stand_in_line(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Parts for ever, each just in time: a liar costs ten seconds, not those of all its parts."""
    parts, liars = 17, 8
    longest = max(len(chunk.raw) for chunk in bucket.made.chunks)
    monkeypatch.setattr(fetch_module, "BUCKET_BYTES_MAX", max(parts * bucket.frame, longest + 1))
    for number in range(liars):
        bucket.answer(PeerId(f"liar{number}"), without_end, delay_s=STALL_SECONDS - 0.1)
    bucket.answer(ONE)
    began = trio.current_time()
    await bucket.stage.run()
    assert trio.current_time() - began <= 10 * liars + LARGE_SECONDS
    assert bucket.stage.wire.penalties == []


async def test_large_chunk_that_is_late_is_asked_of_another_too(
    bucket: Bucket, autojump_clock: MockClock
) -> None:
    """Whoever brings it first; the other one is let go and asked for more, without blame."""
    bucket.answer(ONE, delay_s=STALL_SECONDS - 1)
    fetch = bucket.stage.fetch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch.run)
        await trio.sleep(STALL_SECONDS)
        bucket.answer(TWO)
        await trio.sleep(STALL_SECONDS)
    assert fetch.state == bucket.made.state
    assert {peer for peer, ask in bucket.parts if ask.index == bucket.first} == {ONE, TWO}
    assert not any(source.late or source.stalls for source in fetch._known.values())
    assert bucket.stage.wire.penalties == []


async def test_busy_peer_loses_no_part_of_a_large_chunk(
    bucket: Bucket, autojump_clock: MockClock
) -> None:
    """The same part is asked for again, the ones before are kept."""
    bucket.answer(ONE)
    told, answer = [], bucket.stage.wire.replies[ONE]

    async def busy_once(ask: Record) -> Record | Answer:
        if isinstance(ask, GetChunkPart) and ask.index == bucket.first:
            told.append(ask.offset)
            if told == [bucket.frame, 2 * bucket.frame]:
                raise CallRefused(Busy.reason, "four at a time", peer=ONE)
        return await answer(ask)

    bucket.stage.wire.replies[ONE] = busy_once
    await bucket.stage.run()
    assert told == [bucket.frame, 2 * bucket.frame, 2 * bucket.frame]


async def test_chunk_of_several_buckets_is_refused_before_there_is_a_place_for_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "LARGE_MAX", 0)
    await test_chunk_of_several_buckets_has_no_second_part(stage, monkeypatch)
