"""What a node says of itself, and when: on change, before it is over, less often in a crowd."""

from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import cast

import pytest

from prsm.node.chain.driver import Driver, Head
from prsm.node.inference.capacity import Standing
from prsm.node.peers import beacons
from prsm.node.peers.beacons import Beacons, Labour, Views
from prsm.protocol.ed25519 import Ed25519Signer
from prsm.protocol.errors import LocalError
from prsm.protocol.messages.announce import (
    BLOCKS,
    CAPACITY,
    MODELS,
    STATUS,
    CapacityBeacon,
    ModelOffer,
    PeerStatus,
)
from prsm.protocol.messages.models import ModelManifest
from prsm.storage.errors import NotFound
from tests.tools.announced import CHAIN, GossipWire, SetClock, announcer, peer, signer


@dataclass
class FakePayer:
    """An account that can be locked."""

    is_locked: bool = False
    chain_id: bytes = CHAIN
    address: bytes = field(default_factory=lambda: signer(50).public_key)

    @property
    def signer(self) -> Ed25519Signer:
        if self.is_locked:
            raise LocalError("the wallet is locked")
        return signer(50)


@dataclass
class FakeShelf:
    """Models by CID."""

    cids: tuple[bytes, ...] = ()

    def held(self) -> tuple[bytes, ...]:
        return self.cids

    async def manifest(self, cid: bytes) -> ModelManifest:
        if cid[:1] == b"\xff":
            raise NotFound("it is gone")
        compute = SimpleNamespace(pinned_sha256=b"p" * 32)
        made = SimpleNamespace(name="m", semver="1.0.0", compute=compute, total_bytes=9)
        return cast("ModelManifest", made)


class Scene:
    """A node of fakes, and beacons over a wire that notes."""

    def __init__(self) -> None:
        self.clock, self.wire = SetClock(), GossipWire()
        self.payer, self.shelf = FakePayer(), FakeShelf()
        self.standing = Standing(
            price_per_row=5, runtime="ort", slots_free=4, classes=(), waiting_ms=7
        )
        self.wire.addresses = ("/ip4/127.0.0.1/tcp/1",)
        us = SimpleNamespace(peer_id=self.wire.peer_id)
        self.heads: list[object] = []
        driver = SimpleNamespace(
            clock=self.clock,
            ledger=SimpleNamespace(height=7, tip=SimpleNamespace(block_hash=b"h" * 32)),
            network=self.wire,
            on_head=self.heads,
            validators=SimpleNamespace(validators=(SimpleNamespace(peer_id="other"), us)),
        )
        self.announcer = announcer(self.wire, 1, self.clock)
        views = Views(
            driver=cast("Driver", driver),
            payer=self.payer,
            shelf=self.shelf,
            labour=Labour(lambda: self.standing, slots=lambda: 64, memory_bytes=2**32),
            agent="prsm/test",
            region="eu",
            dice=lambda n: n // 2,
        )
        self.beacons = Beacons(self.announcer, views)

    async def after(self, millis: int) -> list[str]:
        """Topics of what is said at a look so much later."""
        self.clock.now_ms += millis
        self.wire.published.clear()
        await self.beacons.look()
        return [topic for topic, _ in self.wire.published]

    def propose(self, proposer: int) -> None:
        header = SimpleNamespace(height=8, proposer=proposer)
        head = SimpleNamespace(
            block=SimpleNamespace(header=header), certificate=SimpleNamespace(block_hash=b"b" * 32)
        )
        self.beacons._hear_head(cast("Head", head))


async def test_first_look_says_where_it_stands_and_what_it_offers() -> None:
    scene = Scene()
    assert await scene.after(0) == [STATUS.name, CAPACITY.name]
    [status] = scene.announcer.current(STATUS.name)
    assert isinstance(status.content, PeerStatus)
    assert (status.content.height, status.content.region) == (7, "eu")
    assert status.content.addresses == ("/ip4/127.0.0.1/tcp/1",)
    [capacity] = scene.announcer.current(CAPACITY.name)
    assert isinstance(capacity.content, CapacityBeacon)
    assert (capacity.content.slots, capacity.content.slots_free) == (64, 4)
    assert capacity.content.waiting_ms == 7


async def test_another_node_believes_the_beacon() -> None:
    scene = Scene()
    await scene.after(0)
    other = GossipWire()
    announcer(other, 2, scene.clock)
    verdicts = [other.gossip[topic](scene.wire.peer_id, raw) for topic, raw in scene.wire.published]
    assert verdicts == [True, True]


async def test_everything_is_said_again_before_it_is_over() -> None:
    scene = Scene()
    scene.shelf.cids = (b"\1" * 36,)
    said: dict[str, list[int]] = {}
    for _ in range(450):
        for topic in await scene.after(2_000):
            said.setdefault(topic, []).append(scene.clock.now_ms)
    for rules in (STATUS, CAPACITY, MODELS):
        moments = said[rules.name]
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert max(gaps) * 2 <= rules.ttl_ms, rules.name
    assert 28 <= len(said[CAPACITY.name]) <= 31
    assert 14 <= len(said[STATUS.name]) <= 16


async def test_change_of_capacity_is_said_soon_and_not_at_every_moment() -> None:
    scene = Scene()
    await scene.after(0)
    scene.standing = Standing(price_per_row=6, runtime="ort", slots_free=4, classes=())
    assert await scene.after(1_000) == []
    assert await scene.after(beacons.CAPACITY_CHANGED_MS) == [CAPACITY.name]
    scene.standing = Standing(price_per_row=6, runtime="ort", slots_free=3, classes=())
    assert await scene.after(beacons.CAPACITY_CHANGED_MS) == []  # still room: it can wait
    scene.standing = Standing(price_per_row=6, runtime="ort", slots_free=0, classes=())
    assert await scene.after(0) == [CAPACITY.name]


@pytest.mark.parametrize("why", ["locked", "no runner"])
async def test_node_that_cannot_work_offers_nothing(why: str) -> None:
    scene = Scene()
    scene.payer.is_locked = why == "locked"
    if why == "no runner":
        scene.standing = Standing(price_per_row=5, runtime="", slots_free=4, classes=())
    assert await scene.after(0) == [STATUS.name]
    scene.payer.is_locked = False
    scene.standing = Standing(price_per_row=5, runtime="ort", slots_free=4, classes=())
    assert await scene.after(2_000) == [CAPACITY.name]


async def test_models_are_offered_when_they_come_a_few_at_a_time() -> None:
    scene = Scene()
    await scene.after(0)
    scene.shelf.cids = (*(bytes([number]) * 36 for number in range(1, 9)), b"\xff" * 36)
    first = await scene.after(5_000)
    assert first.count(MODELS.name) == beacons.OFFERS_AT_ONCE
    second = await scene.after(2_000)
    assert second.count(MODELS.name) == 3
    assert (await scene.after(2_000)).count(MODELS.name) == 0
    offers = [each.content for each in scene.announcer.current(MODELS.name)]
    assert len(offers) == 8
    assert all(isinstance(offer, ModelOffer) and offer.size_bytes == 9 for offer in offers)


async def test_only_own_proposals_are_hinted_at_and_not_all() -> None:
    scene = Scene()
    await scene.after(0)
    scene.propose(0)
    assert BLOCKS.name not in await scene.after(2_000)
    scene.propose(1)
    assert BLOCKS.name in await scene.after(2_000)
    scene.propose(1)
    assert BLOCKS.name not in await scene.after(2_000)
    assert BLOCKS.name in await scene.after(beacons.BLOCK_MS)
    scene.propose(9)  # of an epoch with more validators


async def test_crowd_says_it_less_often() -> None:
    """A thousand authors: each says it before it is over, all together stay near the bound."""
    scene = Scene()
    topic = scene.announcer.delivery[STATUS.name]
    for number in range(1_000):
        topic.see(number.to_bytes(32, "big"), sequence=1, made_ms=1, arrived_ms=1, repaired=False)
    count = 0
    for _ in range(300):
        count += (await scene.after(2_000)).count(STATUS.name)
    assert 4 <= count <= 7


async def test_peers_that_offer_a_model_are_known() -> None:
    scene, other = Scene(), GossipWire()
    theirs = announcer(other, 2, scene.clock)
    offer = ModelOffer(
        manifest=b"\1" * 36, pinned_sha256=b"p" * 32, name="m", semver="1", size_bytes=1
    )
    await theirs.publish(MODELS.name, offer)
    [(topic, raw)] = other.published
    assert scene.wire.gossip[topic](peer(2), raw) is True
    assert scene.beacons.holders(b"\1" * 36) == {peer(2)}
    assert scene.beacons.holders(b"\2" * 36) == frozenset()
    scene.announcer.store.expire(now_ms=scene.clock.now_ms + MODELS.ttl_ms)
    assert scene.beacons.holders(b"\1" * 36) == frozenset()
