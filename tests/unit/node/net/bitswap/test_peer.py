"""Ours against a scripted peer: what is answered, what is dropped, what is asked again."""

import tracemalloc
from contextlib import suppress
from hashlib import sha256
from random import Random

import pytest
import trio
import trio.testing

from prsm.node.net.bitswap import wire
from prsm.node.net.bitswap.asked import REASK_MS, REASKS_MAX, WINDOW_WIDE
from prsm.node.net.bitswap.lines import WRITE_DEADLINE_S
from prsm.node.net.bitswap.peer import Bitswap
from prsm.node.net.bitswap.wanted import WANTS_MAX
from prsm.node.net.streams import StreamLost
from prsm.protocol.errors import WireError
from prsm.protocol.ids import PeerId
from prsm.storage.cid import Cid, Codec, hash_block
from prsm.storage.errors import NotFound, SourceDown, SourceSlow
from tests.tools.bitswap_peers import (
    PEER,
    DictShelf,
    PipeLine,
    block_message,
    counts,
    lanes,
    line_pair,
    pair,
    raw_cid,
    scripted,
    until,
    wantlist,
)

A, B = b"block a", b"block b" * 1000


async def read_to_end(line: PipeLine) -> None:
    with suppress(StreamLost):
        while await line.read_some(1):
            pass


async def test_wants_are_answered_on_a_stream_of_ours_one_block_a_message(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Stock code answers on the asker's stream, and Kubo and Helia wait for ever."""
    assert autojump_clock.rate == 0
    async with scripted(DictShelf(A, B)) as (peer, far):
        await far.write_all(wantlist(wire.Entry(raw_cid(A)), wire.Entry(raw_cid(B))))
        for block in (A, B):
            [(prefix, data)] = (await peer.read()).blocks
            assert (bytes(prefix), bytes(data)) == (b"\x01\x55\x12\x20", block)
        assert peer.opened == 1
        with trio.move_on_after(60) as scope:
            await far.read_some(1)
        assert scope.cancelled_caught


async def test_want_of_version_0_is_answered_with_its_prefix() -> None:
    async with scripted(DictShelf(A)) as (peer, far):
        await far.write_all(wantlist(wire.Entry(b"\x12\x20" + sha256(A).digest())))
        [(prefix, data)] = (await peer.read()).blocks
        assert (bytes(prefix), bytes(data)) == (b"\x00\x70\x12\x20", A)


async def test_want_have_gets_a_word_and_no_block() -> None:
    """Stock code sends the block."""
    async with scripted(DictShelf(A)) as (peer, far):
        missing = raw_cid(b"missing")
        await far.write_all(
            wantlist(
                wire.Entry(raw_cid(A), is_have=True),
                wire.Entry(missing, is_have=True, send_dont_have=True),
                wire.Entry(raw_cid(b"nor this"), is_have=True),
                wire.Entry(raw_cid(b"nor that"), send_dont_have=True),
            )
        )
        message = await peer.read()
        assert message.blocks == []
        assert message.presences == [
            (raw_cid(A), wire.Presence.HAVE),
            (missing, wire.Presence.DONT_HAVE),
            (raw_cid(b"nor that"), wire.Presence.DONT_HAVE),
        ]


async def test_cancelled_want_is_not_read_from_the_store() -> None:
    shelf = DictShelf(A, B)
    async with scripted(shelf) as (peer, far):
        await far.write_all(
            wantlist(
                wire.Entry(raw_cid(A)),
                wire.Entry(raw_cid(B)),
                wire.Entry(raw_cid(A), is_cancel=True),
            )
        )
        [(_, data)] = (await peer.read()).blocks
        assert bytes(data) == B
        assert shelf.reads == 1


async def test_wantlist_over_the_bound_ends_the_stream_as_a_fault() -> None:
    async with scripted(DictShelf()) as (peer, far):
        entry = wire.Entry(raw_cid(A))
        await far.write_all(wantlist(*[entry] * (wire.ITEMS_MAX + 1)))
        await read_to_end(far)
        assert isinstance(peer.ended, WireError)


async def test_wants_beyond_the_queue_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock.rate == 0
    async with scripted(DictShelf()) as (peer, far):
        peer.is_gone = True
        digests = [number.to_bytes(32, "big") for number in range(WANTS_MAX + 10)]
        await far.write_all(wantlist(*(wire.Entry(Cid(Codec.RAW, each).raw) for each in digests)))
        await trio.sleep(1)
        assert peer.bitswap.counts()["wants_surplus"] == 10


@pytest.mark.slow
async def test_unsolicited_blocks_are_dropped_and_counted() -> None:
    """Stock code stored 20 of 20; here 5,000 leave nothing, whether something is asked or not."""
    dice = Random(5)
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:
        for number in range(2_500):
            await far.write_all(block_message(dice.randbytes(number % 99)))
        nursery.start_soon(peer.bitswap.ask, PEER, [hash_block(A)])
        assert len((await peer.read()).entries) == 1
        for number in range(2_500):
            await far.write_all(block_message(dice.randbytes(number % 99)))
        await far.write_all(block_message(A))
        nursery.cancel_scope.deadline = trio.current_time() + 20
        await until(lambda: bool(peer.bitswap.counts().get("blocks_taken")))
        assert counts(peer.bitswap, "blocks_dropped", "blocks_taken", "bytes_taken") == {
            "blocks_dropped": 5_000,
            "blocks_taken": 1,
            "bytes_taken": len(A),
        }


async def test_block_asked_of_one_peer_is_not_taken_from_another() -> None:
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:
        near, other = line_pair()
        nursery.start_soon(peer.bitswap.handle, PeerId("other"), near)
        nursery.start_soon(peer.bitswap.ask, PEER, [hash_block(A)])
        await peer.read()
        await other.write_all(block_message(A))
        await until(lambda: bool(peer.bitswap.counts().get("blocks_dropped")))
        assert not peer.bitswap.counts().get("blocks_taken")
        await far.write_all(block_message(A))
        await until(lambda: bool(peer.bitswap.counts().get("blocks_taken")))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "prefix", [b"\x01\x55\x00\x20", b"\x01\x55\x12\x14", b"", b"\x01\x55\xa0\xe4\x02\x20"]
)
async def test_block_of_another_hash_is_dropped(prefix: bytes) -> None:
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:
        nursery.start_soon(peer.bitswap.ask, PEER, [hash_block(A)])
        await peer.read()
        raw = b"\x0a" + wire._sized(prefix) + b"\x12" + wire._sized(A)
        await far.write_all(wire.framed(b"\x1a" + wire._sized(raw)))
        await far.write_all(wire.framed(b"\x12" + wire._sized(A)))  # of version 1.0.0
        await until(lambda: peer.bitswap.counts().get("blocks_dropped", 0) == 2)
        assert not peer.bitswap.counts().get("blocks_taken")
        nursery.cancel_scope.cancel()


async def test_presences_nobody_asked_about_leave_nothing() -> None:
    """Stock code keeps each for a minute, without bound."""
    async with scripted(DictShelf()) as (peer, far):
        told = [(number.to_bytes(36, "big"), wire.Presence.HAVE) for number in range(4_000)]
        await far.write_all(wire.encode_presences(told) * 2)
        await far.write_all(wantlist(wire.Entry(raw_cid(A), send_dont_have=True)))
        assert (await peer.read()).presences == [(raw_cid(A), wire.Presence.DONT_HAVE)]
        assert not peer.bitswap.is_busy(PEER)


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x01", b"\x80\x80\x80\x80\x01", b"\xff" * 9])
async def test_length_over_the_cap_ends_the_stream_only(length: bytes) -> None:
    async with scripted(DictShelf(A)) as (peer, far):
        await far.write_all(length)
        await read_to_end(far)
        assert isinstance(peer.ended, WireError)


async def test_large_message_nobody_waits_for_is_read_past() -> None:
    """4 MiB of each of many peers would be kept while it arrives."""
    async with scripted(DictShelf(A)) as (peer, far):
        tracemalloc.start()
        await far.write_all(wire._varint(wire.MESSAGE_BYTES_MAX))
        for _ in range(64):
            await far.write_all(bytes(wire.MESSAGE_BYTES_MAX // 64))
            await trio.testing.wait_all_tasks_blocked()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2**20
        await far.write_all(wantlist(wire.Entry(raw_cid(A))))
        assert len((await peer.read()).blocks) == 1
        assert peer.bitswap.counts()["messages_skipped"] == 1


async def test_wants_survive_a_broken_stream_as_a_typed_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Stock code cleared wants before it wrote them, and nobody was told."""
    assert autojump_clock.rate == 0
    async with scripted(DictShelf()) as (peer, _far):
        peer.is_gone = True
        with pytest.raises(SourceDown):
            await peer.bitswap.ask(PEER, [hash_block(A)])
        peer.is_gone = False
        with trio.move_on_after(1):
            await peer.bitswap.ask(PEER, [hash_block(A)])
        assert [entry.cid for entry in (await peer.read()).entries] == [raw_cid(A)]


async def test_broken_stream_is_opened_again_and_nothing_waiting_is_lost() -> None:
    async with scripted(DictShelf(A, B)) as (peer, far):
        await far.write_all(wantlist(wire.Entry(raw_cid(A))))
        assert len((await peer.read()).blocks) == 1
        await peer.drop_line()
        await far.write_all(wantlist(wire.Entry(raw_cid(B)), wire.Entry(raw_cid(A))))
        assert [bytes((await peer.read()).blocks[0][1]) for _ in range(2)] == [B, A]
        assert peer.opened == 2


async def test_missing_block_is_not_found_and_silence_is_slow(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock.rate == 0
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:

        async def refuse() -> None:
            await peer.read()
            await far.write_all(wire.encode_presences([(raw_cid(A), wire.Presence.DONT_HAVE)]))

        nursery.start_soon(refuse)
        with pytest.raises(NotFound):
            await peer.bitswap.ask(PEER, [hash_block(A)])
        began = trio.current_time()
        with pytest.raises(SourceSlow):
            await peer.bitswap.ask(PEER, [hash_block(A)])
        assert trio.current_time() - began == (1 + REASKS_MAX) * REASK_MS / 1000
        for _ in range(1 + REASKS_MAX):
            assert [entry.cid for entry in (await peer.read()).entries] == [raw_cid(A)]


async def test_cancelled_ask_is_cancelled_at_the_peer_and_late_blocks_are_dropped() -> None:
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:
        nursery.start_soon(peer.bitswap.ask, PEER, [hash_block(A), hash_block(B)])
        assert len((await peer.read()).entries) == 2
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            [one, two] = (await peer.read()).entries
            assert (one.is_cancel, two.is_cancel) == (True, True)
            await far.write_all(block_message(A))
            await until(lambda: bool(peer.bitswap.counts().get("blocks_dropped")))


async def test_peer_that_reads_nothing_is_left_after_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A write has a deadline, and its queue goes with it."""
    assert autojump_clock.rate == 0
    big = bytes(2 * 2**20)

    class Deaf:
        async def read_some(self, _bytes_max: int) -> bytes:
            await trio.sleep_forever()

        async def write_all(self, _data: bytes) -> None:
            await trio.sleep_forever()

        async def close(self) -> None:
            await trio.lowlevel.checkpoint()

    async def open_deaf(_peer: PeerId) -> Deaf:
        await trio.lowlevel.checkpoint()
        return Deaf()

    bitswap = Bitswap(DictShelf(big), open_deaf, lanes())
    async with trio.open_nursery() as nursery:
        await nursery.start(bitswap.run)
        near, far = line_pair()
        nursery.start_soon(bitswap.handle, PEER, near)
        await far.write_all(wantlist(wire.Entry(raw_cid(big)), wire.Entry(raw_cid(A))))
        await trio.sleep(WRITE_DEADLINE_S - 1)
        assert bitswap.is_busy(PEER)
        await trio.sleep(2)
        assert not bitswap.is_busy(PEER)
        nursery.cancel_scope.cancel()


async def test_probe_hears_have_dont_have_and_silence(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock.rate == 0
    async with scripted(DictShelf()) as (peer, far), trio.open_nursery() as nursery:

        async def answer() -> None:
            for presence in wire.Presence:
                [entry] = (await peer.read()).entries
                assert entry.is_have
                await far.write_all(wire.encode_presences([(entry.cid, presence)]))
            await peer.read()
            await far.write_all(block_message(A))  # Kubo sends small blocks in place of the word
            await peer.read()

        nursery.start_soon(answer)
        found = [await peer.bitswap.probe(PEER, hash_block(A)) for _ in range(4)]
        assert found == [True, False, True, None]


async def test_lost_connection_is_told_to_all_who_wait() -> None:
    async with scripted(DictShelf()) as (peer, _far), trio.open_nursery() as nursery:

        async def lose() -> None:
            await peer.read()
            peer.bitswap.lost(PEER)

        nursery.start_soon(lose)
        with pytest.raises(SourceDown):
            await peer.bitswap.ask(PEER, [hash_block(A)])


async def test_many_blocks_come_in_order_over_several_windows() -> None:
    blocks = [Random(number).randbytes(500) for number in range(3 * WINDOW_WIDE + 5)]
    async with pair(DictShelf(*blocks)) as (serving, asking):
        got = await asking.ask(PeerId("a"), [hash_block(block) for block in blocks])
        assert list(got) == blocks
        assert counts(asking, "blocks_taken", "blocks_dropped") == {
            "blocks_taken": len(blocks),
            "blocks_dropped": 0,
        }
        assert serving.counts()["blocks_served"] == len(blocks)
