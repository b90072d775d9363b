"""Announcements over both implementations of the port: heard through others, pulled when missed.

Method: an announcer on each node; tests wait for what is heard, never for a time.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import trio

from prsm.node.clock import TrioClock
from prsm.node.net.network import PeerNetwork
from prsm.node.peers.announce import Announcement, Announcer, Ground
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import RemoteError
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import BLOCKS, MODELS, TOPICS, ModelOffer, NewBlock
from tests.tools.announced import signed, signer
from tests.tools.networks import CHAIN, Node, World


@pytest.fixture(params=["memory", pytest.param("libp2p", marks=pytest.mark.slow)])
async def world(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[World]:
    with trio.fail_after(50):
        yield World(nursery, request.param)
        nursery.cancel_scope.cancel()


@dataclass
class Party:
    """A node, its announcer, and what that was told."""

    node: Node
    announcer: Announcer
    heard: list[Announcement] = field(default_factory=list)
    blamed: list[tuple[PeerId, RemoteError]] = field(default_factory=list)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def hear(self, announcement: Announcement) -> None:
        self.heard.append(announcement)
        self.changed.unpark_all()

    async def wait_heard(self, count: int) -> None:
        with trio.fail_after(20):
            while len(self.heard) < count:
                await self.changed.park()


async def party(world: World, number: int) -> Party:
    made: list[Announcer] = []

    def prepare(network: PeerNetwork) -> None:
        ground = Ground(
            chain_id=CHAIN.chain,
            signer=signer(number),
            verifier=Ed25519Verifier(),
            clock=TrioClock(),
            dice=lambda n: number % n,
            salt=b"salt",
        )
        made.append(Announcer(network, ground))

    node = await world.start(number, prepare)
    found = Party(node, made[0])
    for topic in TOPICS:
        made[0].listen(topic, found.hear)
    await world.nursery.start(made[0].run)
    return found


def offer(number: int) -> ModelOffer:
    return ModelOffer(
        manifest=b"\1" + bytes([number]) * 35,
        pinned_sha256=b"p" * 32,
        name=f"model{number}",
        semver="1.0.0",
        size_bytes=5,
    )


async def test_announcement_is_heard_through_a_neighbour(world: World) -> None:
    one, two, three = [await party(world, number) for number in (1, 2, 3)]
    await one.node.network.connect(two.node.address)
    await three.node.network.connect(two.node.address)
    await two.node.wait_up(three.node.peer)
    await one.announcer.publish(BLOCKS.name, NewBlock(height=7, block_hash=b"h" * 32))
    await three.wait_heard(1)
    assert three.heard[0].author == signer(1).public_key
    assert three.heard[0].content == NewBlock(height=7, block_hash=b"h" * 32)
    assert one.heard == three.heard


async def test_newcomer_pulls_what_was_said_before_it_came(world: World) -> None:
    one, two = await party(world, 1), await party(world, 2)
    for number in range(1, 21):
        await one.announcer.publish(MODELS.name, offer(number))
    await trio.sleep(0.3)  # younger records are left to gossip
    await two.node.network.connect(one.node.address)
    await two.wait_heard(20)
    assert two.announcer.current(MODELS.name) == one.announcer.current(MODELS.name)
    [author] = two.announcer.delivery[MODELS.name].authors.values()
    assert (author.seen, author.missing) == (20, 0)
    # libp2p tells a newcomer of its latest heartbeats by itself, of all of them if they are few.
    assert author.repaired >= 1 or world.hub is None


async def test_later_word_of_an_author_replaces_the_earlier_everywhere(world: World) -> None:
    one, two = await party(world, 1), await party(world, 2)
    await one.node.network.connect(two.node.address)
    await two.node.wait_up(one.node.peer)
    for height in (1, 2, 3):
        await one.announcer.publish(BLOCKS.name, NewBlock(height=height, block_hash=b"h" * 32))
    with trio.fail_after(20):
        while [each.content for each in two.announcer.current(BLOCKS.name)] != [
            NewBlock(height=3, block_hash=b"h" * 32)
        ]:
            await two.changed.park()


async def test_forged_record_is_not_passed_on_and_its_bringer_is_blamed(world: World) -> None:
    """A node without announcer gossips what its author never signed."""
    rogue = await world.start(9, lambda network: network.on_gossip(BLOCKS.name, lambda *_: True))
    two, three = await party(world, 2), await party(world, 3)
    await rogue.network.connect(two.node.address)
    await three.node.network.connect(two.node.address)
    await two.node.wait_up(rogue.peer)
    made_ms = int(TrioClock().wall_ms())
    with trio.fail_after(30):
        while not any(event.peer == rogue.peer and not event.up for event in two.node.events):
            made_ms += 1
            forged = signed(signer(4), made_ms=made_ms, author=bytes(signer(5).public_key))
            await rogue.network.publish(BLOCKS.name, encode(forged))
            with trio.move_on_after(0.2):
                await two.node.changed.park()
    assert [ban.peer for ban in two.node.network.bans()] == [rogue.peer]
    assert two.heard == three.heard == []
