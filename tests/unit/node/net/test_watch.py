"""Memory watched: who is dropped and when; a peer that makes a node keep bytes is let go."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from prsm.node.memory import rss_bytes
from prsm.node.net.handshake import greet
from prsm.node.net.interface import Answer, Channel, Incoming
from prsm.node.net.memory import MemoryHub
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.node.net.transport import Hooks
from prsm.node.net.watch import (
    DROPPED_AT_ONCE,
    HELD_BYTES_MIN,
    HELD_SHARE,
    REMIND_S,
    Watch,
    choose,
)
from prsm.protocol.codec import encode
from prsm.protocol.errors import PrsmError
from prsm.protocol.framing import Flow, Head, encode_frame
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import KIB, MIB
from prsm.protocol.messages.models import AskHave, Have
from prsm.protocol.messages.table import MESSAGES
from tests.tools.networks import CHAIN

LIMIT = 100 * MIB


def held(**sizes: int) -> dict[PeerId, int]:
    return {PeerId(name): size for name, size in sizes.items()}


def test_nobody_goes_while_there_is_room() -> None:
    assert choose(LIMIT, LIMIT, held(a=LIMIT // HELD_SHARE)) == ()


def test_largest_go_until_the_excess_is_covered() -> None:
    sizes = held(a=3 * MIB, b=9 * MIB, c=5 * MIB, d=1 * MIB)
    assert choose(LIMIT + 1, LIMIT, sizes) == ("b",)
    assert choose(LIMIT + 10 * MIB, LIMIT, sizes) == ("b", "c")
    assert choose(2 * LIMIT, LIMIT, sizes) == ("b", "c", "a", "d")


def test_peers_together_hold_a_share_of_the_bound_at_most() -> None:
    sizes = held(a=20 * MIB, b=8 * MIB)
    assert choose(0, LIMIT, sizes) == ("a",)


def test_small_holders_stay_whatever_the_process_has() -> None:
    assert choose(9 * LIMIT, LIMIT, held(a=HELD_BYTES_MIN - 1)) == ()


@given(
    st.integers(0, 2**40),
    st.dictionaries(st.text(min_size=1, max_size=3).map(PeerId), st.integers(0, 2**30)),
)
def test_choice_is_bounded_and_takes_the_largest(rss: int, sizes: dict[PeerId, int]) -> None:
    chosen = choose(rss, LIMIT, sizes)
    assert len(set(chosen)) == len(chosen) <= DROPPED_AT_ONCE
    if chosen:
        least = min(sizes[peer] for peer in chosen)
        assert all(size <= least for peer, size in sizes.items() if peer not in chosen)


def test_rss_of_this_process_is_read() -> None:
    assert 10 * MIB < rss_bytes() < 64 * 1024 * MIB


async def test_watch_drops_counts_and_reminds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Too large for an hour: the holder goes once; that nobody holds it is said once a minute."""
    assert autojump_clock.rate == 0
    sizes, gone = held(a=2 * MIB), list[PeerId]()

    def drop(peer: PeerId, why: PrsmError) -> None:
        assert "2097152 bytes are kept for it" in why.what
        gone.append(peer)
        del sizes[peer]

    watch = Watch(LIMIT, lambda: sizes, drop, rss=lambda: LIMIT + 1)
    with trio.move_on_after(600):
        await watch.run()
    assert (gone, watch.dropped) == (["a"], 1)
    said = [line for line in caplog.messages if "no peer holds them" in line]
    assert 600 / REMIND_S - 2 <= len(said) <= 600 / REMIND_S


async def start_victim(hub: MemoryHub, nursery: trio.Nursery) -> PeerNetwork:
    """A node of little memory whose calls are never answered."""
    victim = PeerNetwork(hub.transport(b"\1" * 32), CHAIN, memory_bytes=8 * MIB)

    async def think(_incoming: Incoming) -> Answer:
        await trio.sleep_forever()

    victim.on_call(AskHave, think)
    await nursery.start(victim.run)
    return victim


async def greet_as_rogue(
    hub: MemoryHub, nursery: trio.Nursery, victim: PeerNetwork
) -> tuple[PeerId, Connection]:
    rogue = hub.transport(b"\2" * 32)

    async def refuse(connection: Connection) -> None:
        await connection.close()

    hooks = Hooks(refuse, lambda *_: False, lambda _: False, lambda *_: None)
    await nursery.start(rogue.run, (), hooks)
    connection = await rogue.dial(victim.peer_id, victim.addresses[0])
    ctl = await connection.stream(Channel.CTL)
    await greet(ctl, CHAIN.hello(()), dialler=True)
    while not victim.peers():  # noqa: ASYNC110 - a peer that came is no event here
        await trio.sleep(0.01)
    return rogue.peer_id, connection


async def expect_drop(victim: PeerNetwork) -> None:
    assert victim.watch.held_bytes() > 2 * MIB
    await trio.sleep(2)
    assert victim.watch.dropped == 1
    assert victim.peers() == ()
    assert not victim.bans()


async def test_peer_that_does_not_read_is_dropped_when_memory_is_short(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """A peer that greets and then reads nothing: what waits for it makes it the one to go."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    victim = await start_victim(hub, nursery)
    rogue, _ = await greet_as_rogue(hub, nursery, victim)
    message = Have(size=5, leaves=1, bitset=b"\1")
    for _ in range(4):
        assert victim.send_nowait(rogue, message, channel=Channel.BULK, tail=bytes(MIB))
    await expect_drop(victim)
    nursery.cancel_scope.cancel()


def call(number: int, tail_bytes: int) -> bytes:
    head = Head(
        version=1,
        flow=Flow.CALL,
        kind=MESSAGES.number(AskHave),
        request_id=number,
        trace=b"",
        body=encode(AskHave(root=b"r" * 36)),
    )
    return encode_frame(head, tail_bytes) + bytes(tail_bytes)


async def test_half_of_a_frame_counts_for_who_sent_it(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """All but the last byte of one frame."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    victim = await start_victim(hub, nursery)
    _, connection = await greet_as_rogue(hub, nursery, victim)
    bulk = await connection.stream(Channel.BULK)
    await bulk.write_all(call(1, 3 * MIB)[:-1])
    await trio.sleep(0.5)
    await expect_drop(victim)
    nursery.cancel_scope.cancel()


async def test_calls_that_wait_count_for_who_made_them(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Each with a tail that its record takes no notice of; none is answered."""
    assert autojump_clock.rate == 0
    hub = MemoryHub()
    victim = await start_victim(hub, nursery)
    _, connection = await greet_as_rogue(hub, nursery, victim)
    bulk = await connection.stream(Channel.BULK)
    for number in range(1, 13):  # eight are at work
        await bulk.write_all(call(number, MIB // 4))
    await trio.sleep(0.5)
    assert 3 * MIB < victim.watch.held_bytes() < 3 * MIB + 64 * KIB
    await expect_drop(victim)
    nursery.cancel_scope.cancel()
