"""Parts that follow hints, begun again after a crash: they know of every peer they have wanted."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.addresses import Kind
from prsm.node.net.interface import PeerUnreachable
from prsm.node.net.network import PeerNetwork
from prsm.node.net.places import place_of
from prsm.node.peers.discovery import LOST_GRACE_MS, Aims, Discovery
from prsm.node.supervise import Supervisor
from prsm.protocol.identity import circuit_address, peer_id_of
from prsm.protocol.ids import PeerId
from tests.tools.finders import OneClock
from tests.tools.networks import Node, World
from tests.tools.relays import RELAY, Reachable, join


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(8_000):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


class Seeker:
    """A node whose discovery is begun again where it crashes."""

    def __init__(self, aims: Aims) -> None:
        self.aims = aims
        self.supervisor = Supervisor("discovery")
        self.node: Node
        self.discovery: Discovery

    async def start(self, world: World) -> None:
        def prepare(network: PeerNetwork) -> None:
            dice = random.Random(1)
            self.discovery = Discovery(network, self.aims, None, clock=OneClock(), dice=dice)

        self.node = await world.start(1, prepare)
        await world.nursery.start(self.supervisor.run, self.discovery.run)

    @property
    def wanted(self) -> set[PeerId]:
        return set(self.node.network._peers._keepers.wanted)

    async def crash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault of ours, once; then wait until it runs again."""
        crashed = trio.Event()

        async def fault() -> None:
            crashed.set()
            await trio.lowlevel.checkpoint()
            raise RuntimeError("a fault of ours")

        with monkeypatch.context() as patch:
            patch.setattr(self.discovery, "_save_sometimes", fault)
            self.discovery._news.set()
            await crashed.wait()
        await trio.sleep(5)
        assert self.supervisor.restarts == 1


async def test_peer_that_was_being_looked_at_is_not_wanted_for_ever(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dialled us during our dial; what is at its address was being tested."""
    one, other = Seeker(Aims()), await world.start(9)
    await one.start(world)
    network, began = one.node.network, trio.Event()
    text = other.address

    async def probe(_address: str) -> None:
        began.set()
        await trio.sleep_forever()

    async def late(address: str, *, hint: str = "") -> PeerId:
        await other.network.connect(one.node.address)
        return await connect(address, hint=hint)

    connect = network.connect
    with monkeypatch.context() as patch:
        patch.setattr(network, "probe", probe)
        patch.setattr(network, "connect", late)
        one.discovery.hear(place_of(text), source="8.9", kind=Kind.EXCHANGE)
        await began.wait()
    one.discovery._barred[other.peer] = one.discovery._clock.wall_ms() + 3_600_000  # not again
    await one.crash(monkeypatch)
    assert one.discovery.outbound == ()
    assert one.wanted == set()


async def test_peers_that_were_given_up_are_not_wanted_for_ever(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, others = Seeker(Aims()), [await world.start(number) for number in (8, 9)]
    await one.start(world)
    for other in others:
        place = place_of(other.address)
        one.discovery.hear(place, source=other.peer, kind=Kind.EXCHANGE)
        await one.node.wait_up(other.peer)
    for other in others:
        other.scope.cancel()
        await one.node.wait_lost(other.peer)
    crashed = trio.Event()

    async def fault(_peer: PeerId, *, hint: str = "") -> None:
        crashed.set()
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a fault of ours")

    assert one.wanted == {other.peer for other in others}
    with monkeypatch.context() as patch:
        patch.setattr(one.node.network, "disconnect", fault)
        await crashed.wait()
    await trio.sleep(LOST_GRACE_MS / 1000)
    assert one.supervisor.restarts == 1
    assert one.discovery.outbound == ()
    assert one.wanted == set()


async def test_links_that_are_kept_are_kept_on(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Seeker(Aims()), await world.start(9)
    await one.start(world)
    one.discovery.hear(place_of(other.address), source=other.peer, kind=Kind.EXCHANGE)
    await one.node.wait_up(other.peer)
    await one.crash(monkeypatch)
    assert [link.place.peer for link in one.discovery.outbound] == [other.peer]
    assert one.wanted == {other.peer}
    assert not any(event.peer == other.peer and not event.up for event in one.node.events)


async def test_relay_that_went_while_reach_was_begun_again_is_not_wanted_for_ever(
    world: World, autojump_clock: MockClock
) -> None:
    parts: list[Reachable] = []
    one = await world.start(1, lambda net: parts.append(join(net, net._transport)))
    relay, behind = await world.start(RELAY), parts[0].behind
    async with trio.open_nursery() as nursery:
        await nursery.start(behind.run)
        where = circuit_address(relay.address, peer_id_of(b"x" * 32))
        with pytest.raises(PeerUnreachable):
            await one.network.connect(where, hint="test")
        assert behind._dialled == {relay.peer}
        nursery.cancel_scope.cancel()
    relay.scope.cancel()
    await one.wait_lost(relay.peer)
    await world.nursery.start(behind.run)
    await trio.sleep(1)
    assert behind._dialled == set()
    assert one.network._peers._keepers.wanted == {}
