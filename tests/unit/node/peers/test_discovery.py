"""Discovery over the memory network under a mock clock: links kept, replaced, tested, saved."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

from prsm.node.net.addresses import Entry, Kind
from prsm.node.net.entry import EntryRules
from prsm.node.net.memory import MemoryTransport
from prsm.node.net.network import PeerNetwork
from prsm.node.net.places import place_of
from prsm.node.net.seeds import KEPT
from prsm.node.net.selection import FEELER_EVERY_MS, OUTBOUND_QUOTA, Slot
from prsm.node.peers.discovery import LOST_GRACE_MS, Agreement, Aims, Discovery
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from tests.tools.finders import Finder, OneClock, find
from tests.tools.networks import OTHER, Node, World

ALONE = Aims(outbound=0)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(8_000):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


def at(node: Node) -> str:
    """Where it is found, running or not."""
    transport = node.network._transport
    assert isinstance(transport, MemoryTransport)
    return transport.address


def tell(one: Finder, *others: Node, kind: Kind = Kind.EXCHANGE) -> None:
    for other in others:
        one.discovery.hear(place_of(at(other)), source=other.peer, kind=kind)


def entry(one: Finder, other: Node) -> Entry:
    found = one.discovery.book.get(at(other))
    assert found is not None
    return found


async def test_told_peers_are_linked_up_to_the_quota(
    world: World, autojump_clock: MockClock
) -> None:
    crowd = [await world.start(number) for number in range(10, 24)]
    one = await find(world, 1)
    tell(one, *crowd)
    await one.node.wait(lambda: len(one.linked) >= OUTBOUND_QUOTA)
    await trio.sleep(FEELER_EVERY_MS / 1000 - 20)
    assert len(one.linked) == len(one.discovery.outbound) == OUTBOUND_QUOTA
    assert all(entry(one, peer).tried for peer in crowd if peer.peer in one.linked)


async def test_feeler_tests_a_told_address_and_leaves_no_link(
    world: World, autojump_clock: MockClock
) -> None:
    crowd = [await world.start(number) for number in range(10, 20)]
    one = await find(world, 1)
    tell(one, *crowd)
    await trio.sleep(3 * FEELER_EVERY_MS / 1000)
    assert len(one.discovery.outbound) == OUTBOUND_QUOTA
    assert len(one.discovery.book.tried()) == 10
    assert len(one.linked) == OUTBOUND_QUOTA


async def test_lost_link_is_replaced_after_a_while(world: World, autojump_clock: MockClock) -> None:
    """The network redials for half a minute; then another peer takes the place."""
    first, second = await world.start(10), await world.start(11)
    one = await find(world, 1, Aims(outbound=1))
    tell(one, first)
    await one.node.wait_up(first.peer)
    tell(one, second)
    first.scope.cancel()
    await one.node.wait_lost(first.peer)
    await trio.sleep(LOST_GRACE_MS / 1000 - 1)
    assert one.linked == set(), "the first one may come back"
    await one.node.wait_up(second.peer)
    await wait_all_tasks_blocked()
    assert [link.place.peer for link in one.discovery.outbound] == [second.peer]
    assert entry(one, first).last_attempt_ms


async def test_link_that_comes_back_in_time_is_kept(
    world: World, autojump_clock: MockClock
) -> None:
    first = await world.start(10)
    one = await find(world, 1)
    tell(one, first)
    await one.node.wait_up(first.peer)
    first.scope.cancel()
    await one.node.wait_lost(first.peer)
    await trio.sleep(LOST_GRACE_MS / 2000)
    again = await world.start(10)
    await one.node.wait_up(again.peer)
    await trio.sleep(LOST_GRACE_MS / 500)
    assert one.linked == {again.peer}
    assert entry(one, again).failures == 0


async def test_address_where_nobody_answers_is_tried_ever_more_seldom(
    world: World, autojump_clock: MockClock
) -> None:
    gone, there = await world.start(10), await world.start(11)
    one = await find(world, 1)
    tell(one, there)
    await one.node.wait_up(there.peer)
    gone.scope.cancel()
    await gone.stopped.wait()
    tell(one, gone)
    await trio.sleep(600)
    assert 3 <= entry(one, gone).failures <= 8
    assert one.linked == {there.peer}


async def test_failures_do_not_count_while_nobody_is_reached(
    world: World, autojump_clock: MockClock
) -> None:
    gone = await world.start(10)
    one = await find(world, 1)
    gone.scope.cancel()
    await gone.stopped.wait()
    tell(one, gone)
    await trio.sleep(60)
    assert entry(one, gone).last_attempt_ms
    assert entry(one, gone).failures == 0


async def test_peer_of_another_network_is_not_dialled_again_and_again(
    world: World, autojump_clock: MockClock
) -> None:
    stranger = await world.start(10, chain=OTHER)
    one = await find(world, 1)
    tell(one, stranger)
    await trio.sleep(600)
    assert entry(one, stranger).failures == 1
    assert one.linked == set()


async def test_hints_fill_half_of_the_quota(world: World, autojump_clock: MockClock) -> None:
    crowd = [await world.start(number) for number in range(10, 22)]
    one = await find(world, 1)
    tell(one, *crowd, kind=Kind.MDNS)
    await trio.sleep(60)
    assert len(one.linked) == OUTBOUND_QUOTA // 2


async def test_untrusted_hints_are_not_even_kept(world: World, autojump_clock: MockClock) -> None:
    stranger = await world.start(10)
    one = await find(world, 1, Aims(trusted=frozenset({PeerId("somebody")})))
    tell(one, stranger)
    assert len(one.discovery.book) == 0


def members(*nodes: Node, own: int, world: World) -> Agreement:
    peers = [*(node.peer for node in nodes), world.transport(own).peer_id]
    return Agreement(members=lambda: peers)


async def test_validator_links_to_all_others_it_knows(
    world: World, autojump_clock: MockClock
) -> None:
    """A dozen validators, more than the quota, and a quota of its own for the rest."""
    crowd = [await world.start(number) for number in range(10, 22)]
    agreement = members(*crowd, own=1, world=world)
    one = await find(world, 1, agreement=agreement)
    tell(one, *crowd)
    await one.node.wait(lambda: len(one.linked) == len(crowd))
    assert sum(link.slot is Slot.MEMBER for link in one.discovery.outbound) >= 4


async def test_who_does_not_validate_keeps_to_its_quota(
    world: World, autojump_clock: MockClock
) -> None:
    crowd = [await world.start(number) for number in range(10, 22)]
    peers = [node.peer for node in crowd]
    one = await find(world, 1, agreement=Agreement(members=lambda: peers))
    tell(one, *crowd)
    await trio.sleep(60)
    assert len(one.linked) == OUTBOUND_QUOTA


async def test_validator_without_blocks_dials_known_validators_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    """An address in its back-off of up to an hour is dialled after a silence of ten seconds."""
    there, gone = await world.start(10), await world.start(11)
    agreement = members(there, gone, own=1, world=world)
    one = await find(world, 1, agreement=Agreement(agreement.members, patience_ms=10_000))
    tell(one, there)
    await one.node.wait_up(there.peer)
    gone.scope.cancel()
    await gone.stopped.wait()
    tell(one, gone)
    one.discovery.book.failed(at(gone), now_ms=OneClock().wall_ms())
    for _ in range(20):
        one.discovery.book.failed(at(gone), now_ms=OneClock().wall_ms())
    again = await world.start(11)
    one.discovery.heard_certificate()
    began = trio.current_time()
    await one.node.wait_up(again.peer)
    assert 9 <= trio.current_time() - began <= 13


async def test_blocks_keep_the_alarm_silent(world: World, autojump_clock: MockClock) -> None:
    there, gone = await world.start(10), await world.start(11)
    agreement = members(there, gone, own=1, world=world)
    one = await find(world, 1, agreement=Agreement(agreement.members, patience_ms=10_000))
    tell(one, there, gone)
    await one.node.wait(lambda: len(one.linked) == 2)
    gone.scope.cancel()
    await one.node.wait_lost(gone.peer)
    await trio.sleep(LOST_GRACE_MS / 1000 + 5)
    for _ in range(20):
        one.discovery.book.failed(at(gone), now_ms=OneClock().wall_ms())
    failures = entry(one, gone).failures
    for _ in range(100):
        one.discovery.heard_certificate()
        await trio.sleep(1)
    assert entry(one, gone).failures == failures


async def test_anchors_are_the_oldest_links_and_come_first_after_a_start(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = await world.start(10), await world.start(11)
    one = await find(world, 1)
    tell(one, first, second)
    await one.node.wait(lambda: len(one.linked) == 2)
    await trio.sleep(200)
    assert set(one.discovery.book.anchors) == {at(first), at(second)}


async def test_no_quota_asks_nobody_and_answers_nobody(
    world: World, autojump_clock: MockClock
) -> None:
    other = await find(world, 2)
    one = await find(world, 1, Aims(bootstrap=[other.node.address], outbound=0))
    await one.wait_linked([other])
    await trio.sleep(300)
    assert one.discovery.exchange is None
    assert len(other.discovery.book) == 0


async def test_announced_addresses_stand_for_those_it_listens_on(
    world: World, autojump_clock: MockClock
) -> None:
    one = await find(world, 1, Aims(announce=["/ip4/9.9.9.9/tcp/5"]))
    one.discovery.more_addresses = lambda: ["/a/b"]
    assert one.discovery.own_addresses() == (f"/ip4/9.9.9.9/tcp/5/p2p/{one.node.peer}", "/a/b")
    two = await find(world, 2)
    assert two.discovery.own_addresses() == (two.node.address,)


class Names(trio.abc.HostnameResolver):
    """Every name is this machine; notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @override
    async def getaddrinfo(  # type: ignore[override]  # answers of IPv4 only
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
        await trio.lowlevel.checkpoint()
        assert host is not None
        self.asked.append(host.decode())
        if host == b"nowhere.test":
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", int(port or 0)))]

    @override
    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        raise NotImplementedError


async def test_configured_name_is_resolved_and_its_peer_linked(
    world: World, autojump_clock: MockClock
) -> None:
    names = Names()
    trio.socket.set_custom_hostname_resolver(names)
    two = await find(world, 2)
    address = two.node.address.replace("/ip4/127.0.0.1/", "/dns4/lab.test/")
    gone = two.node.address.replace("/ip4/127.0.0.1/", "/dns4/nowhere.test/")
    one = await find(world, 1, Aims(bootstrap=[gone, address]))
    await one.wait_linked([two])
    await wait_all_tasks_blocked()
    assert set(names.asked) == {"lab.test", "nowhere.test"}
    assert entry(one, two.node).kind is Kind.DNS


async def test_own_address_among_the_configured_is_left_out(
    world: World, autojump_clock: MockClock
) -> None:
    """One list of peers may go to all nodes of a network."""
    two = await find(world, 2)
    ours = two.node.address.replace(two.node.peer, world.transport(1).peer_id)
    one = await find(world, 1, Aims(bootstrap=[ours, two.node.address]))
    await one.wait_linked([two])
    assert one.discovery.kept == {two.node.peer}


async def test_bootstrap_peers_are_left_for_others_and_come_back_to(
    world: World, autojump_clock: MockClock
) -> None:
    """Places at a bootstrap node are for newcomers; who has lost half of its links is one again."""
    crowd = [await world.start(number) for number in range(10, 14)]
    seeds = [await world.start(number) for number in (2, 3, 4, 5)]
    one = await find(world, 1, Aims(bootstrap=[seed.address for seed in seeds], outbound=4))
    await one.node.wait(lambda: len(one.linked) == len(seeds))
    tell(one, *crowd)
    await trio.sleep(60)
    assert one.linked >= {other.peer for other in crowd}
    assert len(one.linked) == len(crowd) + KEPT
    for other in crowd[:3]:
        other.scope.cancel()
    await trio.sleep(LOST_GRACE_MS / 1000 + 20)
    assert one.linked == {crowd[3].peer} | {seed.peer for seed in seeds}


async def test_validator_stays_with_a_bootstrap_peer_that_validates(
    world: World, autojump_clock: MockClock
) -> None:
    crowd = [await world.start(number) for number in range(10, 14)]
    seeds = [await world.start(number) for number in range(2, 9)]
    addresses = [seed.address for seed in seeds]
    members = [world.transport(1).peer_id, seeds[0].peer]
    one = await find(
        world, 1, Aims(bootstrap=addresses, outbound=4), agreement=Agreement(lambda: members)
    )
    tell(one, *crowd)
    await trio.sleep(60)
    assert seeds[0].peer in one.linked
    assert len(one.linked) - len(crowd) in (KEPT, KEPT + 1)


async def test_who_finds_no_place_at_a_bootstrap_peer_hears_of_others(
    world: World, autojump_clock: MockClock
) -> None:
    """The bootstrap node has one place and it is taken; it names whom it has reached."""
    crowd = [await world.start(number) for number in (10, 11)]

    def small(network: PeerNetwork, discovery: Discovery) -> None:
        network.admit(EntryRules(peers_max=2))
        network.send_elsewhere(discovery.elsewhere)

    seed = await find(world, 2, beside=small)
    tell(seed, *crowd)
    await seed.node.wait(lambda: len(seed.linked) == 2)
    one = await find(world, 1, Aims(bootstrap=[seed.node.address]))
    await one.node.wait(lambda: len(one.linked) == 2)
    assert one.linked == {other.peer for other in crowd}
    assert not one.node.network.bans()
    assert not seed.node.network.bans()


async def test_banned_peer_gives_its_place_to_another_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = await world.start(10), await world.start(11)
    one = await find(world, 1, Aims(outbound=1))
    tell(one, first)
    await one.node.wait_up(first.peer)
    tell(one, second)
    began = trio.current_time()
    one.node.network.penalise(first.peer, RemoteError("lied", penalty=100))
    await one.node.wait_up(second.peer)
    assert trio.current_time() - began < 3
