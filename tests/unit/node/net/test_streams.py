"""Kept streams over scripted duplexes: order, coalescing, bounds, lengths, deadlines."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

from prsm.node.clock import TrioClock
from prsm.node.net.budgets import NO_LIMITS
from prsm.node.net.interface import Channel
from prsm.node.net.lanes import Lane, Lanes
from prsm.node.net.streams import (
    FRAME_DEADLINE_S,
    QUEUE_BYTES_MAX,
    QUEUE_FRAMES_MAX,
    WRITE_SLICE_BYTES,
    FrameReader,
    KeptStream,
    Outbox,
    StreamLost,
)
from prsm.protocol.errors import LocalError, WireError
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CTL_FRAME_BYTES_MAX, MIB

CAP = 1 << 16


def head(number: int = 1, body: bytes = b"b") -> Head:
    return Head(version=1, flow=Flow.ONE_WAY, kind=50, request_id=number, trace=b"", body=body)


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    with Lanes(NO_LIMITS, now_ms=lambda: 0).lane(PeerId("peer")) as one:
        yield one


class Script:
    """A duplex that reads what it was given, in those pieces, and keeps what is written."""

    def __init__(self, *pieces: bytes, stuck: bool = False) -> None:
        self.pieces = list(pieces)
        self.written: list[bytes] = []
        self.asked: list[int] = []
        self.stuck = stuck

    async def read_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(bytes_max)
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece == b"...":
            await trio.sleep_forever()
        assert len(piece) <= bytes_max
        return piece

    async def write_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.stuck:
            await trio.sleep_forever()
        self.written.append(data)


def frames(count: int, tail: bytes = b"tail") -> bytes:
    return b"".join(encode_frame(head(n), len(tail)) + tail for n in range(1, count + 1))


async def test_reader_returns_the_same_frames_however_the_bytes_are_cut() -> None:
    raw = frames(5)
    for size in (1, 2, 7, 64, len(raw)):
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        reader = FrameReader(Script(*pieces), frame_bytes_max=CAP)
        assert [await reader.read() for _ in range(5)] == [(head(n), b"tail") for n in range(1, 6)]
        with pytest.raises(StreamLost, match="ended"):
            await reader.read()


async def test_reader_without_read_ahead_takes_nothing_behind_its_frame() -> None:
    raw = encode_frame(head())
    script = Script(raw[:8], raw[8:])
    reader = FrameReader(script, frame_bytes_max=CAP, read_ahead=0)
    assert await reader.read() == (head(), b"")
    assert script.asked == [8, len(raw) - 8]


@pytest.mark.parametrize(
    "prefix",
    [
        (CAP - 3).to_bytes(4, "big") + (5).to_bytes(4, "big"),
        b"\xff\xff\xff\xff" + (5).to_bytes(4, "big"),
        (10).to_bytes(4, "big") + (0).to_bytes(4, "big"),
        (10).to_bytes(4, "big") + (7).to_bytes(4, "big"),
        (0).to_bytes(4, "big") + (1).to_bytes(4, "big"),
    ],
)
async def test_reader_refuses_lengths_before_it_reads_what_they_announce(prefix: bytes) -> None:
    script = Script(prefix, b"...")
    with pytest.raises(WireError) as caught:
        await FrameReader(script, frame_bytes_max=CAP).read()
    assert caught.value.penalty == 100
    assert len(script.asked) == 1


async def test_reader_takes_a_frame_of_exactly_the_cap() -> None:
    room = CAP - len(encode_frame(head(body=b"")))
    tail = b"x" * (room - 0)
    raw = encode_frame(head(body=b""), len(tail)) + tail
    assert len(raw) == CAP
    assert await FrameReader(Script(raw), frame_bytes_max=CAP).read() == (head(body=b""), tail)


async def test_frame_over_the_cap_of_its_channel_is_refused_when_queued() -> None:
    for channel, cap in ((Channel.CTL, CTL_FRAME_BYTES_MAX), (Channel.BULK, BULK_FRAME_BYTES_MAX)):
        stream = KeptStream(channel)
        overhead = len(encode_frame(head()))
        assert stream.put_nowait(head(), bytes(cap - overhead))
        with pytest.raises(LocalError, match=f"at most {cap}"):
            stream.put_nowait(head(), bytes(cap - overhead + 1))


async def test_waiting_frames_leave_in_order_and_in_one_write(lane: Lane) -> None:
    stream, script = KeptStream(Channel.CTL), Script(b"...")
    for number in range(1, 21):
        assert stream.put_nowait(head(number), b"tail")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, script, lambda _head, _tail: None, lane)
        await wait_all_tasks_blocked()
        assert script.written == [frames(20)]
        assert stream.idle
        nursery.cancel_scope.cancel()


async def test_large_frames_are_written_in_slices(lane: Lane) -> None:
    stream, script = KeptStream(Channel.BULK), Script(b"...")
    assert stream.put_nowait(head(), bytes(3 * MIB))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, script, lambda _head, _tail: None, lane)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    sizes = [len(data) for data in script.written]
    assert sizes[:3] == [WRITE_SLICE_BYTES] * 3
    assert b"".join(script.written) == encode_frame(head(), 3 * MIB) + bytes(3 * MIB)


async def test_queue_is_bounded_by_count_and_by_bytes() -> None:
    small, large = KeptStream(Channel.CTL), KeptStream(Channel.BULK)
    assert sum(small.put_nowait(head()) for _ in range(1000)) == QUEUE_FRAMES_MAX
    size = MIB + len(encode_frame(head()))
    queued = sum(large.put_nowait(head(), bytes(MIB)) for _ in range(1000))
    assert (queued + 1) * size > QUEUE_BYTES_MAX >= queued * size


async def test_put_waits_for_room_and_fails_when_the_queue_closes() -> None:
    outbox = Outbox(frames_max=1, bytes_max=100)
    await outbox.put(b"a", b"")
    failed = trio.Event()

    async def second() -> None:
        await outbox.put(b"b", b"c")
        with pytest.raises(StreamLost):
            await outbox.put(b"d", b"")
        failed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        assert await outbox.take() == [b"a"]
        await wait_all_tasks_blocked()
        assert not outbox.idle
        outbox.close()
        await failed.wait()
    assert not outbox.put_nowait(b"e", b"")


async def test_write_that_stalls_loses_the_stream_after_ten_seconds(
    autojump_clock: MockClock, lane: Lane
) -> None:
    stream = KeptStream(Channel.CTL)
    stream.put_nowait(head())
    began = trio.current_time()
    with pytest.raises(StreamLost, match="10 s"):
        await stream.run(Script(b"...", stuck=True), lambda _head, _tail: None, lane)
    assert trio.current_time() - began == 10


async def test_run_hands_out_frames_and_raises_what_ended_it(lane: Lane) -> None:
    stream = KeptStream(Channel.CTL)
    got: list[tuple[Head, bytes]] = []
    with pytest.raises(StreamLost, match="ended"):
        await stream.run(Script(frames(3)), lambda one, tail: got.append((one, tail)), lane)
    assert got == [(head(n), b"tail") for n in (1, 2, 3)]
    assert stream.frames_read == 3
    assert not stream.put_nowait(head())


async def test_frame_that_is_left_half_sent_ends_the_stream(autojump_clock: MockClock) -> None:
    """Waiting for its first byte may take for ever, for the rest of it not."""
    raw = frames(1)
    reader = FrameReader(Script(frames(2) + raw[:-1], b"..."), frame_bytes_max=CAP)
    for _ in range(2):
        await reader.read()
    assert reader.held_bytes == len(raw) - 1
    began = trio.current_time()
    with pytest.raises(StreamLost, match="the rest of a frame took over 320 s"):
        await reader.read()
    assert trio.current_time() - began == FRAME_DEADLINE_S
    idle = FrameReader(Script(b"..."), frame_bytes_max=CAP)
    with trio.move_on_after(10 * FRAME_DEADLINE_S) as scope:
        await idle.read()
    assert scope.cancelled_caught


async def test_large_frame_of_a_sender_with_many_peers_has_time_for_each_slice(
    autojump_clock: MockClock,
) -> None:
    """A limit of 128 KiB a second, and a slice to each of 128 peers in turn."""
    tail = bytes(2 * MIB)
    raw = encode_frame(head(), len(tail)) + tail
    at_once = WRITE_SLICE_BYTES
    slices = [raw[at : at + at_once] for at in range(0, len(raw), at_once)]

    class Slow(Script):
        @override
        async def read_some(self, bytes_max: int) -> bytes:
            await trio.sleep(128)
            return await super().read_some(bytes_max)

    got = await FrameReader(Slow(*slices), frame_bytes_max=BULK_FRAME_BYTES_MAX).read()
    assert got == (head(), tail)
    assert trio.current_time() > 6 * FRAME_DEADLINE_S
    short = [raw[at : at + 1024] for at in range(0, at_once, 1024)]
    began = trio.current_time()
    with pytest.raises(StreamLost, match="the rest of a frame took over 320 s"):
        await FrameReader(Slow(*short), frame_bytes_max=BULK_FRAME_BYTES_MAX).read()
    assert trio.current_time() - began == 128 + FRAME_DEADLINE_S


async def test_frame_that_drips_has_no_more_time_and_our_limits_cost_it_none(
    autojump_clock: MockClock,
) -> None:
    async def hold_back(_size: int) -> None:
        await trio.sleep(100)

    pieces = [frames(1)[at : at + 1] for at in range(len(frames(1)))]
    reader = FrameReader(Script(*pieces), frame_bytes_max=CAP, after_read=hold_back)
    assert await reader.read() == (head(), b"tail")

    class Drip(Script):
        @override
        async def read_some(self, bytes_max: int) -> bytes:
            await trio.sleep(100)
            return await super().read_some(bytes_max)

    began = trio.current_time()
    with pytest.raises(StreamLost, match="the rest of a frame"):
        await FrameReader(Drip(*pieces), frame_bytes_max=CAP).read()
    assert trio.current_time() - began == 100 + FRAME_DEADLINE_S


async def test_frame_of_another_version_is_refused() -> None:
    newer = Head(version=2, flow=Flow.CALL, kind=50, request_id=1, trace=b"", body=b"")
    with pytest.raises(WireError, match="version 2"):
        await FrameReader(Script(encode_frame(newer)), frame_bytes_max=CAP).read()


class Instant:
    """A duplex whose kernel always has room: a write is no checkpoint."""

    def __init__(self, name: str, order: list[str], woken: Callable[[], None]) -> None:
        self.name, self.order, self.woken = name, order, woken

    async def read_some(self, bytes_max: int) -> bytes:
        assert bytes_max
        await trio.sleep_forever()

    async def write_all(self, data: bytes) -> None:
        assert data
        self.order.append(self.name)
        self.woken()


async def test_vote_leaves_after_two_more_slices_whatever_waits_on_other_streams(
    autojump_clock: MockClock,
) -> None:
    """Six full queues of blocks and tensors; a vote is queued while their first slice leaves."""
    lanes, order = Lanes(NO_LIMITS, now_ms=TrioClock().monotonic_ms), list[str]()
    vote = KeptStream(Channel.CTL)

    def cast() -> None:
        if len(order) == 10:
            vote.put_nowait(head())

    with lanes.lane(PeerId("one")) as lane:
        async with trio.open_nursery() as nursery:

            def keep(stream: KeptStream, name: str) -> None:
                duplex = Instant(name, order, cast)
                nursery.start_soon(stream.run, duplex, lambda _head, _tail: None, lane)

            keep(vote, "vote")
            for number in range(6):
                heavy = KeptStream(Channel.BULK if number % 2 else Channel.RANGE)
                assert heavy.put_nowait(head(), bytes(4 * MIB - 1024))
                keep(heavy, "slice")
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert len(order) > 6 * 31
    assert order.index("vote") <= 12
