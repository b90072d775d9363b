"""Hints, which strangers may have given: what they begin ends, what the owner asked for stays."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import dataclasses
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from prsm.node.net.addresses import HOPELESS_AFTER, Kind
from prsm.node.net.interface import Answer, Incoming, PeerUnreachable
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.node.net.places import place_of
from prsm.node.net.relay import RelayRules
from prsm.node.peers.discovery import REFRESH_MS, Aims, Discovery
from prsm.node.peers.holders import Holders
from prsm.protocol.identity import circuit_address, peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.exchange import GetAddresses, GotAddresses
from tests.tools.finders import Finder, OneClock, find
from tests.tools.networks import World
from tests.tools.relays import RELAY, Reachable, harm, join
from tests.unit.node.peers.test_holders import ROOT, Shelf

ALONE = Aims(outbound=0)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(8_000):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


def wanted(one: Finder) -> dict[PeerId, str]:
    return one.node.network._peers._keepers.wanted


async def reaching(world: World, number: int, aims: Aims) -> tuple[Finder, Reachable]:
    """A node that finds others, also behind relays."""
    parts: list[Reachable] = []

    def beside(network: PeerNetwork, _found: Discovery) -> None:
        parts.append(join(network, network._transport))

    one = await find(world, number, aims, beside=beside)
    await world.nursery.start(parts[0].behind.run)
    return one, parts[0]


def naming(relays: Callable[[], list[str]]) -> Callable[[PeerNetwork], None]:
    """A stranger that says it is found behind some relays."""

    def prepare(network: PeerNetwork) -> None:
        async def answer(_incoming: Incoming) -> Answer:
            await trio.lowlevel.checkpoint()
            own = tuple(circuit_address(relay, network.peer_id) for relay in relays())
            return GotAddresses(region="", own=own, others=()), b""

        network.on_call(GetAddresses, answer)

    return prepare


@pytest.mark.parametrize("outbound", [0, 8])
async def test_configured_peer_is_dialled_on_when_a_fetch_finds_it_gone(
    world: World, autojump_clock: MockClock, outbound: int
) -> None:
    """The holder of a model is the configured peer, which restarts just then."""
    seed = await find(world, 1, ALONE)
    made: list[Holders] = []
    holders = frozenset({seed.node.peer})

    def beside(network: PeerNetwork, found: Discovery) -> None:
        made.append(Holders(network, Shelf(), found, lambda _root: holders, clock=OneClock()))

    aims = Aims(outbound=outbound, bootstrap=(seed.node.address,))
    lab = await find(world, 2, aims, beside=beside)
    await lab.wait_linked([seed])
    await seed.stop()
    await lab.node.wait_lost(seed.node.peer)
    await trio.sleep(1)
    await made[0].seek(ROOT)
    assert not lab.linked
    seed = await find(world, 1, ALONE)
    await trio.sleep(30)
    assert lab.linked == {seed.node.peer}


async def test_configured_peer_is_not_given_up_with_a_fetch(
    world: World, autojump_clock: MockClock
) -> None:
    """The hint was quicker than the redial: the link is the owner's all the same."""
    seed = await find(world, 1, ALONE)
    lab = await find(world, 2, Aims(outbound=0, bootstrap=(seed.node.address,)))
    await lab.wait_linked([seed])
    network = lab.node.network
    await network.connect(seed.node.address, hint="test")
    await network.disconnect(seed.node.peer, hint="test")
    await trio.sleep(1)
    assert lab.linked == {seed.node.peer}
    assert wanted(lab) == {seed.node.peer: seed.node.address}


async def test_configured_peer_is_dialled_where_the_owner_said(
    world: World, autojump_clock: MockClock
) -> None:
    """It restarts; meanwhile a stranger names it as its relay, at an address of his own."""
    seed = await find(world, 1, ALONE)
    lab, _ = await reaching(world, 2, Aims(bootstrap=(seed.node.address,)))
    await lab.wait_linked([seed])
    boot = seed.node.peer
    evil = await world.start(9, naming(lambda: [f"/ip4/127.0.0.1/tcp/6666/p2p/{boot}"]))
    await seed.stop()
    await lab.node.wait_lost(boot)
    await evil.network.connect(lab.node.address)
    where = circuit_address(f"/ip4/127.0.0.1/tcp/6666/p2p/{boot}", peer_id_of(b"x" * 32))
    with pytest.raises(PeerUnreachable):
        await lab.node.network.connect(where, hint="test")
    seed = await find(world, 1, ALONE)
    await trio.sleep(30)
    assert boot in lab.linked
    assert wanted(lab)[boot] == seed.node.address


async def test_relays_that_a_stranger_made_up_are_not_dialled(
    world: World, autojump_clock: MockClock
) -> None:
    """Each time it comes it names two: neither is a place taken, nor anybody redialled."""
    victim, parts = await reaching(world, 1, Aims())
    ghosts: list[str] = []

    def invent() -> list[str]:
        made = [peer_id_of(bytes([100 + len(ghosts) + n]) * 32) for n in range(2)]
        ghosts.extend(f"/ip4/127.0.0.1/tcp/2000/p2p/{ghost}" for ghost in made)
        return ghosts[-2:]

    evil = await world.start(9, naming(invent))
    for _ in range(9):
        await evil.network.connect(victim.node.address)
        await trio.sleep(1)
        await evil.network.disconnect(victim.node.peer)
        await trio.sleep(1)
    assert len(ghosts) == 18
    hints = [circuit_address(ghost, evil.peer) for ghost in ghosts]
    for hint in hints:  # not even where one of them is followed
        with pytest.raises(PeerUnreachable):
            await victim.node.network.connect(hint, hint="test")
    assert not parts.behind._dialled
    assert not wanted(victim)


async def test_probe_dials_no_relay(world: World, autojump_clock: MockClock) -> None:
    relays: list[Reachable] = []

    def serving(network: PeerNetwork) -> None:
        relays.append(join(network, network._transport, rules=RelayRules()))

    relay = await world.start(RELAY, serving)
    one, _ = await reaching(world, 1, ALONE)
    with pytest.raises(PeerUnreachable, match="for a probe"):
        await one.node.network.probe(circuit_address(relay.address, peer_id_of(b"x" * 32)))
    assert not one.linked


async def test_peer_that_dialled_during_our_dial_is_not_wanted_for_ever(
    world: World, autojump_clock: MockClock
) -> None:
    """Where it said to be nobody answers; it comes by itself meanwhile, and goes away for good."""
    victim = await find(world, 1)
    other, evil = await world.start(8), await world.start(9)
    await other.network.connect(victim.node.address)
    began, dials = trio.Event(), list[float]()
    dial = victim.node.network._transport.dial

    async def tarpit(peer: PeerId, address: str) -> Connection:
        if peer == evil.peer:
            dials.append(trio.current_time())
            began.set()
            await trio.sleep_forever()
        return await dial(peer, address)

    harm(victim.node.network._transport, "dial", tarpit)
    where = place_of(f"/ip4/8.9.0.1/tcp/4000/p2p/{evil.peer}")
    victim.discovery.hear(where, source="8.9", kind=Kind.EXCHANGE)
    await began.wait()
    await evil.network.connect(victim.node.address)
    await trio.sleep(6)
    assert victim.linked == {other.peer, evil.peer}, "its own link stays"
    assert not wanted(victim)
    evil.scope.cancel()
    await victim.node.wait_lost(evil.peer)
    await trio.sleep(3600)
    assert len(dials) <= 2 * HOPELESS_AFTER, "the book's attempts, and no redials"


async def test_relay_of_a_stranger_that_comes_and_goes_ends_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    """It answers late, dials in and hangs up meanwhile; another hint names it, and it is lost."""
    victim, parts = await reaching(world, 1, ALONE)
    other, evil = await world.start(8), await world.start(9)
    network = victim.node.network
    await other.network.connect(victim.node.address)
    dial = network._transport.dial

    async def late(peer: PeerId, address: str) -> Connection:
        if peer == evil.peer:
            await trio.sleep(3)
        return await dial(peer, address)

    harm(network._transport, "dial", late)

    async def follow(seed: bytes) -> None:
        with pytest.raises(PeerUnreachable):
            await network.connect(circuit_address(evil.address, peer_id_of(seed)), hint="test")

    async with trio.open_nursery() as hints:
        hints.start_soon(follow, b"x" * 32)
        await trio.sleep(0.5)
        await evil.network.connect(victim.node.address)
        await trio.sleep(0.2)
        await evil.network.disconnect(victim.node.peer)
        await trio.sleep(0.5)
        hints.start_soon(follow, b"y" * 32)
    assert parts.behind._dialled == wanted(victim).keys() == {evil.peer}
    evil.scope.cancel()
    await trio.sleep(2)
    assert network.restarts == 0
    assert victim.linked == {other.peer}
    assert not parts.behind._dialled
    assert not wanted(victim)


async def test_peer_that_discovery_keeps_is_kept_though_a_stranger_names_it_as_relay(
    world: World, autojump_clock: MockClock
) -> None:
    """The hint is sooner than the redial; when the link is lost again it is redialled."""
    victim, parts = await reaching(world, 1, Aims())
    mate = await find(world, 2, ALONE)
    where = place_of(mate.node.address)
    victim.discovery.hear(where, source="127.0", kind=Kind.EXCHANGE)
    await victim.wait_linked([mate])
    await trio.sleep(60)
    await mate.stop()
    await trio.sleep(15)
    mate = await find(world, 2, ALONE)
    hint = circuit_address(mate.node.address, peer_id_of(b"x" * 32))
    with pytest.raises(PeerUnreachable):
        await victim.node.network.connect(hint, hint="test")
    assert parts.behind._dialled == {mate.node.peer}
    await mate.stop()
    await trio.sleep(1)
    assert wanted(victim) == {mate.node.peer: where.text}
    mate = await find(world, 2, ALONE)
    await trio.sleep(12)
    assert victim.linked == {mate.node.peer}


async def test_relay_of_the_owner_is_not_left_with_the_bootstrap_peers(
    world: World, autojump_clock: MockClock
) -> None:
    """It is one of them; once the node has found others it leaves all of those but two."""
    seeds = [await find(world, 50 + each, ALONE) for each in range(4)]
    mate = await find(world, 10, ALONE)
    via = seeds[0].node
    parts: list[Reachable] = []

    def beside(network: PeerNetwork, _found: Discovery) -> None:
        parts.append(join(network, network._transport, via=[via.address]))

    aims = Aims(outbound=1, bootstrap=tuple(seed.node.address for seed in seeds))
    one = await find(world, 2, aims, beside=beside)
    await world.nursery.start(parts[0].behind.run)
    one.discovery.hear(place_of(mate.node.address), source="127.0", kind=Kind.EXCHANGE)
    await trio.sleep(120)
    assert one.discovery._bootstrap.is_left(via.peer)
    assert len(one.linked) < len(seeds) + 1
    assert via.peer in one.linked
    assert wanted(one)[via.peer] == via.address


@pytest.mark.parametrize("is_true", [True, False])
async def test_address_is_not_believed_because_its_peer_dialled_us(
    world: World, autojump_clock: MockClock, *, is_true: bool
) -> None:
    """It did so while we waited for our turn to dial it: what is at that address was not seen."""
    first = await world.start(10)
    one = await find(world, 1, Aims(outbound=1))
    assert world.hub is not None
    text = first.address if is_true else first.address.replace("/tcp/1", "/tcp/2")

    async def hang() -> None:
        with pytest.raises(PeerUnreachable):
            await one.node.network.connect(first.address, hint="another part")

    world.hub.stall(one.node.peer, first.peer)
    world.nursery.start_soon(hang)
    await wait_all_tasks_blocked()
    one.discovery.hear(place_of(text), source=first.peer, kind=Kind.EXCHANGE)
    await trio.sleep(1)
    world.hub.heal(one.node.peer, first.peer)
    await first.network.connect(one.node.address)
    await trio.sleep(20)
    (info,) = one.node.network.peers()
    assert not info.outbound
    known = one.discovery.book.get(text)
    assert known is not None
    assert known.tried is is_true
    assert bool(one.discovery.outbound) is is_true
    seen_ms = known.last_success_ms
    for kept in one.discovery._kept.values():
        kept.refreshed_ms -= REFRESH_MS
    await trio.sleep(20)  # nor does its link say anything later on
    known = one.discovery.book.get(text)
    assert known is not None
    assert known.last_success_ms == seen_ms


async def test_address_is_not_believed_because_another_part_dialled_its_peer_elsewhere(
    world: World, autojump_clock: MockClock
) -> None:
    """We waited for our turn meanwhile: the link is ours, and says nothing of this address."""
    first = await world.start(10)
    one = await find(world, 1, Aims(outbound=1))
    assert world.hub is not None
    text = first.address.replace("/tcp/1", "/tcp/2")
    world.hub.link(one.node.peer, first.peer).delay_s = 0.5
    connect = partial(one.node.network.connect, first.address, hint="another part")
    world.nursery.start_soon(connect)
    await wait_all_tasks_blocked()
    one.discovery.hear(place_of(text), source=first.peer, kind=Kind.EXCHANGE)
    await trio.sleep(20)
    (info,) = one.node.network.peers()
    assert info.outbound
    known = one.discovery.book.get(text)
    assert known is not None
    assert not known.tried
    assert not one.discovery.outbound


async def test_address_is_not_refreshed_by_a_link_that_another_part_made_elsewhere(
    world: World, autojump_clock: MockClock
) -> None:
    """The peer was lost, and is linked again where the owner says that it is."""
    first = await world.start(10)
    one = await find(world, 1, Aims(outbound=1))
    one.discovery.hear(place_of(first.address), source=first.peer, kind=Kind.EXCHANGE)
    await trio.sleep(20)
    (kept,) = one.discovery._kept.values()
    old = first.address.replace("/tcp/1", "/tcp/2")
    one.discovery.book.learn(place_of(old), source="it", kind=Kind.EXCHANGE, now_ms=0)
    kept.link = dataclasses.replace(kept.link, place=place_of(old))
    kept.refreshed_ms -= REFRESH_MS
    await trio.sleep(20)
    known = one.discovery.book.get(old)
    assert known is not None
    assert not known.last_success_ms
