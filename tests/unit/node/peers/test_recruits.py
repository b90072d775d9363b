"""Workers that were only heard of: in one order, from the book, within bounds."""
# ruff: noqa: ARG001 - autojump_clock is asked for by name, nothing reads it

import random
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import MockClock

from prsm.node.net.addresses import Kind
from prsm.node.net.network import PeerNetwork
from prsm.node.net.places import place_of
from prsm.node.peers.announce import Announcement
from prsm.node.peers.discovery import Aims, Discovery
from prsm.node.peers.holders import DIALS_MAX, KEPT_SECONDS, Holders
from prsm.node.peers.recruits import BATCHES_MAX, Recruits, ranked
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import CAPACITY, CapacityBeacon
from prsm.storage.errors import NotFound
from tests.tools.announced import author
from tests.tools.finders import Finder, OneClock, find
from tests.tools.networks import World
from tests.unit.node.peers.test_holders import Shelf

MODEL, RUNTIME = b"m" * 36, "ort 1"
BEACON = CapacityBeacon(
    worker=author(7),
    price_per_row=5,
    slots=2,
    slots_free=1,
    waiting_ms=0,
    memory_bytes=1,
    runtime=RUNTIME,
    region="",
    models=(MODEL,),
    classes=(),
    signature=bytes(64),
)


def key(number: int) -> bytes:
    """What the memory network takes for the key of node `number`."""
    return bytes([number]) * 32


def peer(number: int) -> PeerId:
    return peer_id_of(key(number))


def heard(number: int, **fields: object) -> Announcement:
    """What node `number` announced."""
    beacon = msgspec.structs.replace(BEACON, **fields)
    return Announcement(CAPACITY.name, key(number), b"", 1, 2, beacon)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(8_000):
        yield World(nursery, "memory")
        nursery.cancel_scope.cancel()


async def recruiter(world: World, *said: Announcement) -> tuple[Finder, Recruits]:
    """Node 1, that heard these beacons and dials nobody by itself."""
    made: list[tuple[Holders, Recruits]] = []

    def beside(network: PeerNetwork, found: Discovery) -> None:
        holders = Holders(network, Shelf(), found, lambda _root: (), clock=OneClock())
        made.append((holders, Recruits(network, found, holders, lambda: said)))

    finder = await find(world, 1, Aims(outbound=0), beside=beside)
    [(holders, recruits)] = made
    await world.nursery.start(holders.run)
    return finder, recruits


def test_order_is_model_then_room_then_price_whatever_came_first() -> None:
    said = [
        heard(2, models=(), price_per_row=0),
        heard(3, price_per_row=9),
        heard(4, slots_free=0, price_per_row=1),
        heard(5, price_per_row=8),
        heard(6, price_per_row=8, waiting_ms=4),
        heard(7, runtime="ort 2"),
    ]
    wanted = [peer(number) for number in (5, 6, 3, 4, 2)]
    for turn in range(20):
        random.Random(turn).shuffle(said)
        assert ranked(said, MODEL, RUNTIME) == wanted


def test_only_accounts_that_may_work_are_named() -> None:
    said = [heard(2, worker=author(1)), heard(3, worker=author(2))]
    assert ranked(said, MODEL, RUNTIME, (author(2),)) == [peer(3)]


async def test_worker_is_dialled_when_its_address_is_known_and_kept_for_a_while(
    world: World, autojump_clock: MockClock
) -> None:
    two = await find(world, 2, Aims(outbound=0))
    one, recruits = await recruiter(world, heard(2))
    assert not await recruits.seek(MODEL, RUNTIME)
    one.discovery.hear(place_of(two.node.address), source="s", kind=Kind.EXCHANGE)
    assert await recruits.seek(MODEL, RUNTIME)
    assert one.linked == {two.node.peer}
    assert not await recruits.seek(MODEL, RUNTIME), "it is linked already"
    await trio.sleep(2 * KEPT_SECONDS)
    assert one.linked == {two.node.peer}, "its work may take longer than a fetch"
    await trio.sleep(5 * KEPT_SECONDS)
    assert one.linked == set()


async def test_dials_are_bounded_and_go_in_order(world: World, autojump_clock: MockClock) -> None:
    numbers = range(10, 10 + 2 * BATCHES_MAX * DIALS_MAX)
    said = [heard(number, price_per_row=number) for number in numbers]
    one, recruits = await recruiter(world, *said)
    dialled: list[str] = []

    async def connect(address: str, *, hint: str = "") -> PeerId:
        assert hint
        dialled.append(address)
        raise NotFound("nobody")

    one.node.network.connect = connect  # type: ignore[method-assign]  # notes it
    places = [f"/ip4/127.0.0.1/tcp/{number}/p2p/{peer(number)}" for number in numbers]
    for place in places:
        one.discovery.hear(place_of(place), source=place, kind=Kind.EXCHANGE)
    assert not await recruits.seek(MODEL, RUNTIME)
    first, second = set(places[:DIALS_MAX]), set(places[DIALS_MAX : 2 * DIALS_MAX])
    assert (set(dialled[:DIALS_MAX]), set(dialled[DIALS_MAX:])) == (first, second)
