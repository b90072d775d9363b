"""Who holds a root: hints of linked peers lead to a link, within bounds."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.addresses import Kind
from prsm.node.net.interface import CallRefused, Channel
from prsm.node.net.network import PeerNetwork
from prsm.node.net.peers import Connection
from prsm.node.net.places import place_of
from prsm.node.peers.discovery import Aims, Discovery
from prsm.node.peers.holders import ANSWERS_BURST, KEPT_SECONDS, LINKS_MAX, Holders
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import HOLDERS_TOLD_MAX
from prsm.protocol.messages.exchange import GetHolders, GotHolders
from prsm.protocol.messages.models import Have
from prsm.storage.cid import Cid, decode_cid
from prsm.storage.errors import NotFound
from prsm.storage.store.leases import Leases
from tests.tools.finders import Finder, OneClock, find
from tests.tools.networks import World

ROOT = decode_cid(bytes.fromhex("01551220") + b"r" * 32)
OTHER = decode_cid(bytes.fromhex("01551220") + b"o" * 32)


class Shelf:
    """Holds some roots, as manifests."""

    def __init__(self, *roots: Cid) -> None:
        self.digests = {root.digest for root in roots}
        self.leases = Leases(lambda: 0)

    async def get_block(self, digest: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if digest not in self.digests:
            raise NotFound("not held")
        return b""

    async def have(self, root: Cid) -> Have:
        await trio.lowlevel.checkpoint()
        raise NotFound(f"{root} is not held")

    async def read_leaves(self, root: Cid, first: int, count: int) -> list[bytes]:
        raise NotImplementedError


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(8_000):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


async def holder(
    world: World,
    number: int,
    *roots: Cid,
    announced: frozenset[PeerId] = frozenset(),
    **aims: object,
) -> tuple[Finder, Holders]:
    """A node that holds some roots and knows who announced any; it dials only its bootstrap."""
    made: list[Holders] = []
    given = Aims(outbound=0, **aims)  # type: ignore[arg-type]  # of one test each

    def beside(network: PeerNetwork, found: Discovery) -> None:
        shelf = Shelf(*roots)
        made.append(Holders(network, shelf, found, lambda _root: announced, clock=OneClock()))

    finder = await find(world, number, given, beside=beside)
    await world.nursery.start(made[0].run)
    return finder, made[0]


async def test_hint_of_a_linked_peer_leads_to_a_holder(
    world: World, autojump_clock: MockClock
) -> None:
    """One asks two, who has heard the announcement of three and verified its address."""
    three, _ = await holder(world, 3, ROOT)
    two, _ = await holder(
        world, 2, announced=frozenset({three.node.peer}), bootstrap=[three.node.address]
    )
    await two.wait_linked([three])
    one, seeker = await holder(world, 1, bootstrap=[two.node.address])
    await one.wait_linked([two])
    await seeker.seek(ROOT)
    assert one.linked == {two.node.peer, three.node.peer}
    await trio.sleep(1.2 * KEPT_SECONDS)
    assert one.linked == {two.node.peer}, "given up after the fetch"


async def test_announced_holder_is_dialled_from_the_book(
    world: World, autojump_clock: MockClock
) -> None:
    three, _ = await holder(world, 3, ROOT)
    one, seeker = await holder(world, 1, announced=frozenset({three.node.peer}))
    await seeker.seek(ROOT)
    assert one.linked == set(), "nobody knows where it is"
    one.discovery.hear(place_of(three.node.address), source="s", kind=Kind.EXCHANGE)
    await seeker.seek(ROOT)
    assert one.linked == {three.node.peer}


async def test_nobody_is_asked_while_a_holder_is_linked(
    world: World, autojump_clock: MockClock
) -> None:
    two, _ = await holder(world, 2)
    asked: list[PeerId] = []
    one, seeker = await holder(
        world, 1, announced=frozenset({two.node.peer}), bootstrap=[two.node.address]
    )
    await one.wait_linked([two])
    seeker._ask = lambda _root: asked.append(two.node.peer)  # type: ignore[method-assign, assignment, return-value]  # notes it
    await seeker.seek(ROOT)
    assert asked == []


async def test_answer_names_ourselves_only_for_what_is_here(
    world: World, autojump_clock: MockClock
) -> None:
    two, _ = await holder(world, 2, ROOT)
    one, _ = await holder(world, 1, bootstrap=[two.node.address])
    await one.wait_linked([two])

    async def ask(root: Cid) -> tuple[str, ...]:
        ask = GetHolders(root=root.raw)
        answer, _ = await one.node.network.call(two.node.peer, ask, channel=Channel.CTL)
        assert isinstance(answer, GotHolders)
        return answer.addresses

    assert await ask(ROOT) == (two.node.address,)
    assert await ask(OTHER) == ()
    for _ in range(ANSWERS_BURST - 2):
        await ask(ROOT)
    with pytest.raises(CallRefused) as refused:
        await ask(ROOT)
    assert refused.value.refusal == "busy"


async def test_hints_cost_a_bounded_number_of_dials(
    world: World, autojump_clock: MockClock
) -> None:
    """A hostile answer of sixteen addresses makes four dials, none of them to ourselves."""
    one, seeker = await holder(world, 1)
    dialled: list[str] = []

    async def connect(address: str, *, hint: str = "") -> PeerId:
        assert hint
        dialled.append(address)
        raise NotFound("nobody")

    one.node.network.connect = connect  # type: ignore[method-assign]  # notes it
    peers = [world.transport(number) for number in range(30, 30 + HOLDERS_TOLD_MAX)]
    places = [place_of(f"/ip4/127.0.0.1/tcp/9/p2p/{peer.peer_id}") for peer in peers]
    await seeker.link([place_of(one.node.address), *places], seconds=1)
    assert len(dialled) == 4
    assert one.node.address not in dialled


DEAD = f"/ip4/127.0.0.1/tcp/9/p2p/{peer_id_of(b'd' * 32)}"


def hanging(one: Finder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom a node dials, one of them in vain and without an end."""
    transport = one.node.network._transport
    dial, dials = transport.dial, list[str]()

    async def hang(peer: PeerId, address: str) -> Connection:
        dials.append(address)
        if address == DEAD:
            await trio.sleep_forever()
        return await dial(peer, address)

    monkeypatch.setattr(transport, "dial", hang)
    return dials


async def test_link_of_a_fetch_that_is_cancelled_is_given_up(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two hints one hangs; the other's link ends when it would have, and is not redialled."""
    two, _ = await holder(world, 2, ROOT)
    one, seeker = await holder(world, 1)
    dials = hanging(one, monkeypatch)
    with trio.move_on_after(2):
        await seeker.link([place_of(two.node.address), place_of(DEAD)], seconds=KEPT_SECONDS)
    assert one.linked == {two.node.peer}
    await trio.sleep(1.2 * KEPT_SECONDS)
    assert one.linked == set()
    await two.stop()
    dials.clear()
    await trio.sleep(KEPT_SECONDS)
    assert dials == []


async def test_links_of_cancelled_fetches_are_bounded(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seeker = await holder(world, 1)
    hanging(one, monkeypatch)
    for number in range(2, LINKS_MAX + 5):
        other, _ = await holder(world, number)
        with trio.move_on_after(2):
            await seeker.link([place_of(other.node.address), place_of(DEAD)], seconds=KEPT_SECONDS)
        assert other.node.peer in one.linked
    assert len(one.linked) == LINKS_MAX


async def test_link_that_a_fetch_took_up_again_is_not_given_up_with_the_others(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are over; while one is closed a fetch renews the second, or gives it up itself."""
    one, seeker = await holder(world, 1)
    first, second, third = (peer_id_of(bytes([number]) * 32) for number in (11, 12, 13))
    given_up: list[PeerId] = []

    async def disconnect(peer: PeerId, *, hint: str = "") -> None:
        assert hint
        await trio.lowlevel.checkpoint()
        given_up.append(peer)
        seeker._links[second] = trio.current_time() + KEPT_SECONDS
        seeker._links.pop(third, None)

    monkeypatch.setattr(one.node.network, "disconnect", disconnect)
    for peer in (first, second, third):
        seeker._links[peer] = trio.current_time()
    await trio.sleep(KEPT_SECONDS / 2)
    assert given_up == [first]
    assert list(seeker._links) == [second]
