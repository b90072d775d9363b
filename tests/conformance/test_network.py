"""One battery for every implementation of the port `Network`: in memory, and libp2p on loopback.

Method: each test starts nodes in its own nursery and waits for events, never for a time.
"""

from collections.abc import AsyncIterator

import pytest
import trio

from prsm.node.net.handshake import SCHEMAS_APART_MAX, ChainIdentity, ProtocolMismatch
from prsm.node.net.interface import (
    Answer,
    Busy,
    CallRefused,
    Channel,
    Incoming,
    PeerEvent,
    PeerUnreachable,
)
from prsm.node.net.network import PeerNetwork
from prsm.protocol.errors import LocalError, RemoteError, Unsupported, WrongChain
from prsm.protocol.limits import BULK_FRAME_BYTES_MAX, CALLS_OPEN_MAX, KIB, MIB
from prsm.protocol.messages.models import AskHave, AskNode, Blocks, Have
from prsm.protocol.messages.net import SCHEMA_VERSION
from prsm.protocol.messages.table import BROUGHT_BY
from tests.tools.networks import ASK, CHAIN, HAVE, OTHER, TOPIC, World, answering
from tests.tools.relays import open_world


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def wires(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    """Nodes that dial one another directly: strangers have no place at a relay."""
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("libp2p", marks=pytest.mark.slow),
        pytest.param("memory relayed", marks=pytest.mark.slow),
        pytest.param("libp2p relayed", marks=pytest.mark.long),  # 12 s; in the gate: test_relay.py
    ]
)
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield await open_world(nursery, request.param)
        nursery.cancel_scope.cancel()


async def test_connect_links_both_sides(world: World) -> None:
    one, two = await world.pair()
    assert [info.peer for info in one.network.peers()] == [two.peer]
    [info] = two.network.peers()
    assert (info.peer, info.outbound, info.agent) == (one.peer, False, "prsm/test")
    assert one.network.peers()[0].outbound
    assert one.events == [PeerEvent(two.peer, up=True)]


async def test_connect_twice_keeps_one_link(world: World) -> None:
    one, two = await world.pair()
    assert await one.network.connect(two.address) == two.peer
    assert await two.network.connect(one.address) == one.peer
    assert len(one.network.peers()) == len(two.network.peers()) == 1


async def test_simultaneous_dials_leave_the_lower_ones_connection(world: World) -> None:
    """Both dial at once; both sides settle on the connection the lower PeerId dialled."""
    one, two = await world.start(1), await world.start(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.network.connect, two.address)
        nursery.start_soon(two.network.connect, one.address)
    low, high = (one, two) if one.peer < two.peer else (two, one)
    with trio.fail_after(20):
        while [i.outbound for i in low.network.peers() + high.network.peers()] != [True, False]:  # noqa: ASYNC110 - replacing a link is no event
            await trio.sleep(0.05)
    assert not [event for event in one.events + two.events if not event.up]


async def test_connect_to_wrong_chain_is_refused_by_name(wires: World) -> None:
    one, two = await wires.start(1), await wires.start(2, chain=OTHER)
    with pytest.raises(WrongChain, match=CHAIN.chain.hex()):
        await one.network.connect(two.address)
    assert one.network.peers() == two.network.peers() == ()
    assert one.events == two.events == []


async def test_connect_to_another_genesis_is_refused_by_name(wires: World) -> None:
    other = ChainIdentity(chain=CHAIN.chain, genesis=b"x" * 32)
    one, two = await wires.start(1), await wires.start(2, chain=other)
    with pytest.raises(WrongChain, match="genesis"):
        await one.network.connect(two.address)


async def test_connect_to_another_version_is_refused_by_name(wires: World) -> None:
    newer = ChainIdentity(
        chain=CHAIN.chain, genesis=CHAIN.genesis, schema=SCHEMA_VERSION + SCHEMAS_APART_MAX + 1
    )
    one, two = await wires.start(1), await wires.start(2, chain=newer)
    with pytest.raises(ProtocolMismatch, match=f"schema {newer.schema}"):
        await one.network.connect(two.address)


@pytest.mark.parametrize("dialler", [1, 2])
async def test_record_newer_than_the_peer_stays_here_and_the_link_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, dialler: int
) -> None:
    """A node and one of the schema before; AskHave plays a record that came with the newer one."""
    newer = ChainIdentity(CHAIN.chain, CHAIN.genesis, schema=SCHEMA_VERSION + 1)
    monkeypatch.setitem(BROUGHT_BY, newer.schema, (range(50, 51),))
    one = await world.start(1, chain=newer)
    two = await world.start(2, answering(lambda _: (HAVE, b"")))
    here, there = (one, two) if dialler == 1 else (two, one)
    await here.network.connect(there.address)
    await there.wait_up(here.peer)
    with pytest.raises(CallRefused) as refused:
        await one.network.call(two.peer, ASK, channel=Channel.BULK)
    assert refused.value.refusal == "unsupported"
    with pytest.raises(CallRefused):
        await one.network.send(two.peer, ASK, channel=Channel.BULK)
    assert not one.network.send_nowait(two.peer, ASK, channel=Channel.BULK)
    assert one.network.send_nowait(two.peer, HAVE, channel=Channel.BULK)
    await two.wait(lambda: bool(two.messages))
    told = [info.schema for node in (one, two) for info in node.network.peers()]
    assert told == [SCHEMA_VERSION, SCHEMA_VERSION]
    assert not [event for event in one.events + two.events if not event.up]


async def test_connect_to_nobody_is_unreachable(world: World) -> None:
    one, two = await world.start(1), await world.start(2)
    address = two.address
    two.scope.cancel()
    await two.stopped.wait()
    assert two.network.addresses == ()
    with pytest.raises(PeerUnreachable):
        await one.network.connect(address)


async def test_connect_to_an_impostor_is_unreachable(wires: World) -> None:
    one, two, three = [await wires.start(number) for number in (1, 2, 3)]
    with pytest.raises(PeerUnreachable):
        await one.network.connect(two.address.replace(two.peer, three.peer))
    assert one.network.peers() == ()


async def test_connect_to_nonsense_or_ourselves_is_a_local_error(world: World) -> None:
    one = await world.start(1)
    for text in ("", "127.0.0.1:4001", "/ip4/127.0.0.1/tcp/1", one.address):
        with pytest.raises(LocalError):
            await one.network.connect(text)


async def test_disconnect_closes_and_stops_redialling(world: World) -> None:
    one, two = await world.pair()
    await one.network.disconnect(two.peer)
    await two.wait_lost(one.peer)
    await one.wait_lost(two.peer)
    assert not one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL)


async def test_peer_that_restarts_is_redialled(world: World) -> None:
    one, two = await world.pair()
    address = two.address
    two.scope.cancel()
    await one.wait_lost(two.peer)
    await two.stopped.wait()
    again = await world.start(2)
    assert again.address == address
    await again.wait_up(one.peer)


async def test_send_arrives_in_order_with_tail_and_trace(world: World) -> None:
    one, two = await world.pair()
    for size in range(20):
        message = Have(size=size, leaves=0, bitset=b"")
        assert one.network.send_nowait(two.peer, message, channel=Channel.CTL, trace=b"t")
    await one.network.send(two.peer, HAVE, channel=Channel.BULK, tail=b"tail")
    await two.wait(lambda: len(two.messages) == 21)
    ctl = [incoming for incoming in two.messages if not incoming.tail]
    assert [m.message for m in ctl] == [Have(size=n, leaves=0, bitset=b"") for n in range(20)]
    assert {m.trace for m in ctl} == {b"t"}
    [bulk] = [incoming for incoming in two.messages if incoming.tail]
    assert (bulk.peer, bulk.message, bulk.tail) == (one.peer, HAVE, b"tail")


async def test_send_to_a_stranger_is_unreachable(world: World) -> None:
    one, two = await world.start(1), await world.start(2)
    assert not one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL)
    with pytest.raises(PeerUnreachable):
        await one.network.send(two.peer, HAVE, channel=Channel.CTL)
    with pytest.raises(PeerUnreachable):
        await one.network.call(two.peer, ASK, channel=Channel.CTL)


async def test_frame_of_the_largest_size_passes_and_one_byte_more_is_a_local_error(
    world: World,
) -> None:
    one, two = await world.pair()
    room = BULK_FRAME_BYTES_MAX - 200
    await one.network.send(two.peer, HAVE, channel=Channel.BULK, tail=b"x" * room)
    await two.wait(lambda: len(two.messages) == 1)
    assert two.messages[0].tail == b"x" * room
    with pytest.raises(LocalError, match="at most"):
        await one.network.send(
            two.peer, HAVE, channel=Channel.BULK, tail=b"x" * BULK_FRAME_BYTES_MAX
        )
    with pytest.raises(LocalError, match="at most"):
        one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL, tail=b"x" * MIB)


@pytest.mark.parametrize("channel", list(Channel))
async def test_call_is_answered_on_every_channel(world: World, channel: Channel) -> None:
    one, two = await world.pair(answering(lambda i: (HAVE, i.tail[::-1])))
    answer = await one.network.call(two.peer, ASK, channel=channel, tail=b"abc", trace=b"job")
    assert answer == (HAVE, b"cba")
    # The gossip mesh goes by who did something for us: one was answered, two was not.
    now_ms = one.network._now_ms()
    assert one.network._service.worth(two.peer, now_ms=now_ms) == 1
    assert two.network._service.worth(one.peer, now_ms=now_ms) == 0


async def test_calls_are_pipelined_and_matched_by_id(world: World) -> None:
    """Forty calls at once on one stream: each gets its own answer, none is refused."""

    def prepare(network: PeerNetwork) -> None:
        async def answer(incoming: Incoming) -> Answer:
            await trio.sleep(0.001 * (incoming.tail[0] % 3))
            return HAVE, incoming.tail

        network.on_call(AskHave, answer)

    one, two = await world.pair(prepare)
    answers: dict[int, bytes] = {}

    async def ask(number: int) -> None:
        tail = bytes([number])
        _, answers[number] = await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=tail)

    async with trio.open_nursery() as nursery:
        for number in range(CALLS_OPEN_MAX + 8):
            nursery.start_soon(ask, number)
    assert answers == {number: bytes([number]) for number in range(CALLS_OPEN_MAX + 8)}


async def test_call_refused_carries_reason_and_retry(world: World) -> None:
    def refuse(incoming: Incoming) -> Answer:
        match incoming.tail:
            case b"busy":
                raise Busy("come back", retry_after_ms=70)
            case b"unsupported":
                raise Unsupported("not here")
            case _:
                raise ValueError("a bug with a secret path")

    one, two = await world.pair(answering(refuse))
    for tail, reason, what, retry in (
        (b"busy", "busy", "come back", 70),
        (b"unsupported", "unsupported", "not here", 0),
        (b"bug", "internal", "the call failed inside the peer", 0),
    ):
        with pytest.raises(CallRefused) as caught:
            await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=tail)
        assert (caught.value.refusal, caught.value.what) == (reason, what)
        assert (caught.value.retry_after_ms, caught.value.peer) == (retry, two.peer)
    with pytest.raises(CallRefused) as caught:
        await one.network.call(two.peer, AskNode(digest=b"d" * 32), channel=Channel.CTL)
    assert caught.value.refusal == "unsupported"
    assert len(one.network.peers()) == 1


async def test_handler_that_blames_the_caller_penalises_it(world: World) -> None:
    """A handler's RemoteError refuses the call and counts; 100 points close the peer."""

    def blame(_incoming: Incoming) -> Answer:
        raise RemoteError("forged", penalty=60)

    one, two = await world.pair(answering(blame))
    with pytest.raises(CallRefused, match="forged"):
        await one.network.call(two.peer, ASK, channel=Channel.CTL)
    with pytest.raises((CallRefused, PeerUnreachable)):
        await one.network.call(two.peer, ASK, channel=Channel.CTL)
    await two.wait_lost(one.peer)
    with pytest.raises(PeerUnreachable, match="banned"):
        await two.network.connect(one.address)


async def test_message_handler_that_raises_harms_nothing(world: World) -> None:
    def broken(_incoming: Incoming) -> None:
        raise ValueError("a bug")

    one, two = await world.pair(lambda network: network.on_message(Blocks, broken))
    assert one.network.send_nowait(two.peer, Blocks(sizes=()), channel=Channel.CTL)
    assert one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL)
    await two.wait(lambda: len(two.messages) == 1)
    assert len(two.network.peers()) == 1


async def test_peer_lost_in_mid_call_ends_it(world: World) -> None:
    entered = trio.Event()

    def prepare(network: PeerNetwork) -> None:
        async def never(_incoming: Incoming) -> Answer:
            entered.set()
            await trio.sleep_forever()
            raise AssertionError

        network.on_call(AskHave, never)

    one, two = await world.pair(prepare)

    async def ask() -> None:
        with pytest.raises(PeerUnreachable, match="lost"):
            await one.network.call(two.peer, ASK, channel=Channel.CTL)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await entered.wait()
        two.scope.cancel()
    await one.wait_lost(two.peer)


async def test_abandoned_call_leaves_the_link_usable(world: World) -> None:
    gate = trio.Event()

    def prepare(network: PeerNetwork) -> None:
        async def slow(incoming: Incoming) -> Answer:
            if incoming.tail == b"slow":
                await gate.wait()
            return HAVE, incoming.tail

        network.on_call(AskHave, slow)

    one, two = await world.pair(prepare)
    with trio.move_on_after(0.05) as scope:
        await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=b"slow")
    assert scope.cancelled_caught
    gate.set()
    answer = await one.network.call(two.peer, ASK, channel=Channel.CTL, tail=b"quick")
    assert answer == (HAVE, b"quick")


async def test_bulk_sends_wait_for_room_and_all_arrive(world: World) -> None:
    """32 MiB through a queue of 8: `send` waits, nothing is dropped, nothing is lost."""
    one, two = await world.pair()
    for number in range(64):
        message = Have(size=number, leaves=0, bitset=b"")
        await one.network.send(two.peer, message, channel=Channel.BULK, tail=bytes(512 * KIB))
    await two.wait(lambda: len(two.messages) == 64)
    sizes = [m.message.size for m in two.messages if isinstance(m.message, Have)]
    assert sizes == list(range(64))
    assert {len(incoming.tail) for incoming in two.messages} == {512 * KIB}


async def test_full_queue_drops_the_peer(world: World) -> None:
    """Queueing without ever yielding: the 257th frame finds the queue full."""
    one, two = await world.pair()
    queued = 0
    while one.network.send_nowait(two.peer, HAVE, channel=Channel.CTL):
        queued += 1
    assert queued == 256
    await one.wait_lost(two.peer)
    assert "too slowly" in one.events[-1].why or one.events[1].why


async def test_gossip_reaches_neighbours_of_neighbours(wires: World) -> None:
    """A line of three: the middle node's verdict decides what the far end hears."""
    one, two, three = [await wires.start(number) for number in (1, 2, 3)]
    await one.network.connect(two.address)
    await three.network.connect(two.address)
    await two.wait_up(one.peer)
    await two.wait_up(three.peer)
    with trio.fail_after(30):
        while not three.records:
            await one.network.publish(TOPIC, b"record %d" % trio.current_time())
            with trio.move_on_after(0.5):
                await three.changed.park()
    assert three.records[0][0] == two.peer
    assert two.records[0][0] == one.peer
    assert one.records == []
    await one.network.publish(TOPIC, b"bad")
    await two.wait(lambda: two.records[-1][1] == b"bad")
    await one.network.publish(TOPIC, b"last")
    await three.wait(lambda: three.records[-1][1] == b"last")
    assert b"bad" not in [raw for _, raw in three.records]
    assert two.network._service.worth(one.peer, now_ms=two.network._now_ms()) == 1
    assert one.network._service.worth(two.peer, now_ms=one.network._now_ms()) == 0


async def test_publish_checks_size_and_topic(world: World) -> None:
    one = await world.start(1)
    with pytest.raises(LocalError, match="at most 65536"):
        await one.network.publish(TOPIC, b"x" * (64 * KIB + 1))
    with pytest.raises(LocalError, match="topic"):
        await one.network.publish("prsm/other", b"x")
