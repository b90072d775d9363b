"""Dial-backs and views between nodes on the memory network: verdicts, abuse, half-seen links."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.dialback import DIAL_PAUSE_MS, DIALS_BURST
from prsm.node.net.interface import Busy, CallRefused, Channel, Incoming
from prsm.node.net.links import links_of
from prsm.node.net.network import PeerNetwork
from prsm.node.net.reach import Reach, ReachConfig
from prsm.node.net.relay import RelayRules
from prsm.node.net.sightings import Verdict
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.reach import DialBack, DialledBack, GetView, Seen
from tests.tools.networks import Node, World
from tests.tools.relays import carrier_of, now_ms


class Reaching(World):
    """Nodes with all parts of reach."""

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery, "memory")
        self.reach: dict[int, Reach] = {}
        self.hidden: set[int] = set()  # nobody can dial them
        self.probed: list[str] = []

    async def open(self, number: int, *, relay: bool = False) -> Node:
        def prepare(network: PeerNetwork) -> None:
            async def probe(address: str) -> PeerId:
                self.probed.append(address)
                return await network.probe(address)

            self.reach[number] = reach = Reach(
                network,
                carrier_of(network._transport),
                listening=lambda: (
                    () if number in self.hidden else tuple(network._transport.addresses)
                ),
                config=ReachConfig(relay=RelayRules() if relay else None, region=f"r{number}"),
                now_ms=now_ms,
            )
            reach.dialbacks._probe = probe

        node = await self.start(number, prepare)
        await self.nursery.start(self.reach[number].run)
        return node

    def verdict(self, number: int) -> Verdict:
        return self.reach[number].dialbacks.verdict()


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[Reaching]:
    with trio.fail_after(3600):
        yield Reaching(nursery)
        nursery.cancel_scope.cancel()


async def test_node_that_two_peers_can_dial_is_reachable(
    world: Reaching, autojump_clock: MockClock
) -> None:
    one, two, three = [await world.open(number) for number in (1, 2, 3)]
    await one.network.connect(two.address)
    await trio.sleep(30)
    assert world.verdict(1) is Verdict.UNKNOWN  # one voice
    await one.network.connect(three.address)
    await trio.sleep(30)
    assert world.verdict(1) is Verdict.REACHABLE
    assert world.probed == [one.address, one.address]
    info = world.reach[1].dialbacks.info()
    assert (info.ip, info.seen, info.dialled) == ("127.0.0.1", {"127.0.0.1": 2}, {"reachable": 2})


async def test_node_that_nobody_can_dial_takes_a_place_by_itself(
    world: Reaching, autojump_clock: MockClock
) -> None:
    """Dials back fail (new connections to it find nobody); the relay among its peers helps."""
    one, two, three = [await world.open(n, relay=n == 3) for n in (1, 2, 3)]
    for other in (two, three):
        await one.network.connect(other.address)
    assert world.hub is not None
    world.hub._nodes[one.peer] = world.hub.transport(b"\x07" * 32)  # nobody answers as it there
    await trio.sleep(120)
    assert world.verdict(1) is Verdict.UNREACHABLE
    assert [place.relay for place in world.reach[1].behind.places()] == [three.peer]
    assert one.network.addresses[-1].endswith(f"{three.peer}/p2p-circuit/p2p/{one.peer}")


async def test_node_that_listens_nowhere_needs_no_dial_back_to_know(
    world: Reaching, autojump_clock: MockClock
) -> None:
    world.hidden.add(1)
    one, two = await world.open(1), await world.open(2, relay=True)
    await one.network.connect(two.address)
    await trio.sleep(10)
    assert world.verdict(1) is Verdict.UNREACHABLE
    assert world.probed == []
    assert len(world.reach[1].behind.places()) == 1


async def test_peers_that_dialled_show_that_it_can_be_done(
    world: Reaching, autojump_clock: MockClock
) -> None:
    one, two, three = [await world.open(number) for number in (1, 2, 3)]
    await two.network.connect(one.address)
    await three.network.connect(one.address)
    await trio.sleep(1)
    assert world.verdict(1) is Verdict.REACHABLE


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/10.0.0.1/tcp/10000/p2p/{us}",  # another ip: amplification
        "/ip4/127.0.0.1/tcp/10001/p2p/{victim}",  # somebody else
        "/ip4/127.0.0.1/tcp/0/p2p/{us}",
        "/ip4/127.0.0.1/tcp/1/p2p/{victim}/p2p-circuit/p2p/{us}",
        "nonsense",
    ],
)
async def test_dial_back_goes_to_nobody_else(
    world: Reaching, autojump_clock: MockClock, address: str
) -> None:
    one, two, three = [await world.open(number) for number in (1, 2, 3)]
    await one.network.connect(two.address)
    ask = DialBack(address=address.format(us=one.peer, victim=three.peer))
    with pytest.raises(CallRefused) as caught:
        await one.network.call(two.peer, ask, channel=Channel.CTL)
    assert caught.value.refusal == "dial_refused"
    assert set(world.probed) <= {one.address}  # its own asking


async def test_dial_backs_are_seldom_for_one_and_for_all(
    world: Reaching, autojump_clock: MockClock
) -> None:
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)
    await trio.sleep(20)  # its own asking
    ask = DialBack(address=one.address)
    answer, _ = await one.network.call(two.peer, ask, channel=Channel.CTL)
    assert answer == DialledBack(reached=True, why="")
    with pytest.raises(CallRefused, match="lately") as caught:
        await one.network.call(two.peer, ask, channel=Channel.CTL)
    assert 0 < caught.value.retry_after_ms <= DIAL_PAUSE_MS
    backs = world.reach[2].dialbacks
    for number in range(DIALS_BURST - 1):  # and the one above
        backs._refuse_often(PeerId(f"caller {number}"))
    with pytest.raises(Busy, match="too many dials back"):
        backs._refuse_often(PeerId("one more"))
    assert len(backs._dialled_ms) <= DIALS_BURST + 1


async def test_dial_back_that_fails_says_why(world: Reaching, autojump_clock: MockClock) -> None:
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)
    ask = DialBack(address=one.address.replace("/tcp/10000", "/tcp/9"))
    answer, _ = await one.network.call(two.peer, ask, channel=Channel.CTL)
    assert isinstance(answer, DialledBack)
    assert not answer.reached
    assert "nobody answers" in answer.why


async def test_seen_address_that_is_none_is_a_fault(
    world: Reaching, autojump_clock: MockClock
) -> None:
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)
    await trio.sleep(1)
    told = one.network._peers.handlers.messages[Seen]
    with pytest.raises(RemoteError, match="no address"):
        told(Incoming(two.peer, Seen(address="here"), b"", b""))
    told(Incoming(PeerId("stranger"), Seen(address="/ip4/1.2.3.4/tcp/1"), b"", b""))
    assert world.reach[1].dialbacks.info().seen == {"127.0.0.1": 1}


async def test_peer_where_nobody_can_be_dialled_has_no_voice(
    world: Reaching, autojump_clock: MockClock
) -> None:
    """Of a reserved range, which some sites use: what it says of itself ends nothing here."""
    one, two, three = [await world.open(number) for number in (1, 2, 3)]
    assert world.hub is not None
    for place, node in enumerate((two, three)):
        transport = world.hub._nodes[node.peer]
        transport._address = transport.address.replace("127.0.0.1", f"240.0.0.{place}")
    await one.network.connect(world.hub.address(two.peer))
    await three.network.connect(one.address)
    await trio.sleep(30)
    assert len(one.network.peers()) == 2
    info = world.reach[1].dialbacks.info()
    assert (info.verdict, info.seen, info.dialled) == (Verdict.UNKNOWN, {}, {})


async def test_way_out_of_another_family_than_is_listened_on_says_nothing(
    world: Reaching, autojump_clock: MockClock
) -> None:
    """Who dials by IPv6 and listens by IPv4 alone cannot be dialled back there."""
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)
    await trio.sleep(30)
    world.probed.clear()
    told = one.network._peers.handlers.messages[Seen]
    told(Incoming(two.peer, Seen(address="/ip6/2001:db8::1/tcp/1"), b"", b""))
    await trio.sleep(120)
    assert world.reach[1].dialbacks.info().seen == {"127.0.0.1": 1}
    assert set(world.probed) == {one.address}


async def test_ip4_way_to_a_socket_of_both_families_is_tried(
    world: Reaching, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await world.open(1)
    both = one.address.replace("/ip4/127.0.0.1/", "/ip6/::/")
    monkeypatch.setattr(world.reach[1].dialbacks, "_listening", lambda: (both,))
    assert world.reach[1].dialbacks._at("127.0.0.1") == [one.address]


async def test_one_node_shows_links_two_steps_away(
    world: Reaching, autojump_clock: MockClock
) -> None:
    """A line of five: the fourth is asked through the third, the fifth is named and no more."""
    nodes = [await world.open(number) for number in (1, 2, 3, 4, 5)]
    for near, far in pairwise(nodes):
        await near.network.connect(far.address)
    await trio.sleep(12)
    heard = {each.peer: each for each in await world.reach[2].topology.gather()}
    one, two, three, four, five = (heard[node.peer] for node in nodes)
    assert two.view
    assert (one.via, three.via, four.via) == (None, None, nodes[2].peer)
    assert four.view
    assert four.view.region == "r4"
    assert (five.view, five.why) == (None, "farther away than one step")
    links = links_of({each.peer: each.view for each in heard.values() if each.view})
    assert len(links) == 4
    assert not any(link.is_one_sided for link in links)


async def test_link_only_one_end_has_is_flagged(world: Reaching, autojump_clock: MockClock) -> None:
    """A half-open link: three still names two, two does not name three any more."""
    one, two, three = [await world.open(number) for number in (1, 2, 3)]
    for near, far in ((one, two), (one, three), (three, two)):
        await near.network.connect(far.address)
    await trio.sleep(1)
    del two.network._peers._links[three.peer]
    heard = await world.reach[1].topology.gather()
    links = links_of({each.peer: each.view for each in heard if each.view})
    [flagged] = [link for link in links if link.is_one_sided]
    assert {flagged.one, flagged.other} == {two.peer, three.peer}


async def test_view_of_a_stranger_is_refused(world: Reaching, autojump_clock: MockClock) -> None:
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)
    with pytest.raises(CallRefused) as caught:
        await one.network.call(two.peer, GetView(of="stranger"), channel=Channel.CTL)
    assert caught.value.refusal == "unknown_node"


async def test_silent_peer_is_named_with_its_reason(
    world: Reaching, autojump_clock: MockClock
) -> None:
    one, two = await world.open(1), await world.open(2)
    await one.network.connect(two.address)

    async def never(_incoming: Incoming) -> None:
        await trio.sleep_forever()

    two.network._peers.handlers.calls[GetView] = never  # type: ignore[assignment]  # hostile
    heard = {each.peer: each for each in await world.reach[1].topology.gather()}
    assert (heard[two.peer].view, heard[two.peer].why) == (None, "no answer in 3 s")
