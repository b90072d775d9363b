"""What this node announces of itself: capacity, models, where it stands, blocks it proposed.

Knows: when to say it again, and who signs it. Must not know: gossip, or who listens. A network of
many nodes says each thing less often, so that all together stay at ten records a second.
Source: docs/spec/wire.md, "Gossip".
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final, Protocol

import msgspec
import trio

from prsm.node.chain.driver import Driver, Head
from prsm.node.inference.capacity import Standing
from prsm.node.net.records import slot_of
from prsm.node.peers.announce import Announcement, Announcer, Ground
from prsm.node.telemetry import logs
from prsm.node.version import VERSION
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier, Signer
from prsm.protocol.errors import LocalError, PrsmError
from prsm.protocol.framing import PROTOCOL_VERSION
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import HELLO_ADDRESSES_MAX
from prsm.protocol.messages.announce import (
    BEACON_CLASSES_MAX,
    BEACON_MODELS_MAX,
    BLOCKS,
    CAPACITY,
    MODELS,
    STATUS,
    CapacityBeacon,
    ModelOffer,
    NewBlock,
    PeerStatus,
    TopicRules,
    beacon_statement,
)
from prsm.protocol.messages.models import ModelManifest
from prsm.protocol.messages.net import SCHEMA_VERSION

log = logs.get("beacons")

LOOK_SECONDS: Final = 2.0
CAPACITY_MS: Final = 30_000
CAPACITY_CHANGED_MS: Final = 5_000  # what changes every moment is not said every moment
OFFER_MS: Final = 240_000
OFFERS_AT_ONCE: Final = 5  # of one look: a shelf of models is told over a minute
STATUS_MS: Final = 60_000
BLOCK_MS: Final = 5_000
NETWORK_PER_S: Final = 10  # records of one topic, of all nodes together
assert CAPACITY.ttl_ms > 2 * CAPACITY_MS  # one may be lost
assert MODELS.ttl_ms > 2 * OFFER_MS
assert STATUS.ttl_ms > 2 * STATUS_MS


class Payer(Protocol):
    """Whose capacity it is."""

    @property
    def chain_id(self) -> bytes:
        """8 bytes that name the network."""
        ...

    @property
    def address(self) -> bytes:
        """Account that is to be paid."""
        ...

    @property
    def signer(self) -> Signer:
        """Its key.

        Raises:
            WalletLocked: nobody unlocked it.
        """
        ...


class Shelf(Protocol):
    """The models of this node."""

    def held(self) -> tuple[bytes, ...]:
        """CIDs of the manifests whose files are all here."""
        ...

    async def manifest(self, cid: bytes) -> ModelManifest:
        """The manifest of a CID.

        Raises:
            PrsmError: not to be had now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Labour:
    """What this node does for others.

    Attributes:
        standing: what it offers now.
        slots: units it works on at once.
        memory_bytes: its workers may take.
    """

    standing: Callable[[], Standing]
    slots: Callable[[], int]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Views:
    """What the beacons look at.

    Attributes:
        driver: height, head, clock, network; tells of blocks.
        payer: the payment account.
        shelf: its models.
        labour: None on a node that does not work for others.
        agent: program and version.
        region: as the operator calls it.
        dice: `dice(n)` gives one of 0 … n - 1.
    """

    driver: Driver
    payer: Payer
    shelf: Shelf
    labour: Labour | None
    agent: str
    region: str
    dice: Callable[[int], int]


class Beacons:
    """Says what is new, and the rest again before it is over.

    Args:
        announcer: of this node.
        views: what is said is read from here.
    """

    def __init__(self, announcer: Announcer, views: Views) -> None:
        self.announcer, self._views = announcer, views
        self._clock = views.driver.clock
        self._capacity_due_ms = self._capacity_said_ms = self._status_due_ms = 0
        self._said: object = None  # what the last capacity beacon said that matters at once
        self._offers_due_ms: dict[bytes, int] = {}
        self._proposed: Head | None = None
        self._block_due_ms = 0
        views.driver.on_head.append(self._hear_head)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the announcer, and say what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.announcer.run)
            task_status.started()
            await trio.sleep(self._views.dice(1_000) / 1000)  # nodes of one site start together
            while True:
                await self.look()
                await trio.sleep(LOOK_SECONDS)

    def holders(self, manifest: bytes) -> frozenset[PeerId]:
        """Other nodes that offer a model now, by the CID of its manifest; linked or not."""
        store, heard = self.announcer.store, self.announcer.delivery[MODELS.name].authors
        return frozenset(
            peer_id_of(author)
            for author in heard
            if store.get(slot_of(MODELS.name, author, manifest)) is not None
        )

    def on_block(self, hear: Callable[[PeerId, int], None]) -> None:
        """Have somebody told of blocks that their proposers announce, by peer and height."""

        def tell(said: Announcement) -> None:
            assert isinstance(said.content, NewBlock)
            hear(said.peer, said.content.height)

        self.announcer.listen(BLOCKS.name, tell)

    async def look(self) -> None:
        """Say what is new or due now."""
        now_ms = self._clock.monotonic_ms()
        await self._say_status(now_ms)
        await self._say_capacity(now_ms)
        await self._say_offers(now_ms)
        await self._say_block(now_ms)

    async def _say_status(self, now_ms: int) -> None:
        if now_ms < self._status_due_ms:
            return
        self._status_due_ms = now_ms + self._pause_ms(STATUS, STATUS_MS)
        views, ledger = self._views, self._views.driver.ledger
        status = PeerStatus(
            height=ledger.height,
            head=ledger.tip.block_hash,
            protocol=PROTOCOL_VERSION,
            schema=SCHEMA_VERSION,
            agent=views.agent,
            region=views.region,
            addresses=tuple(views.driver.network.addresses)[:HELLO_ADDRESSES_MAX],
        )
        await self.announcer.publish(STATUS.name, status)

    async def _say_capacity(self, now_ms: int) -> None:
        views, labour = self._views, self._views.labour
        now = labour.standing() if labour is not None else None
        if labour is None or now is None or not now.runtime:
            return
        matters = (now.price_per_row, now.slots_free > 0, now.classes, views.shelf.held())
        is_news = matters != self._said and now_ms >= self._capacity_said_ms + CAPACITY_CHANGED_MS
        if now_ms < self._capacity_due_ms and not is_news:
            return
        try:
            signer = views.payer.signer
        except LocalError as error:
            log.debug("no capacity announced", why=error.what)
            return
        self._said, self._capacity_said_ms = matters, now_ms
        self._capacity_due_ms = now_ms + self._pause_ms(CAPACITY, CAPACITY_MS)
        made_ms, sequence = self.announcer.stamp(CAPACITY.name)
        unsigned = CapacityBeacon(
            worker=views.payer.address,
            price_per_row=now.price_per_row,
            slots=labour.slots(),
            slots_free=now.slots_free,
            waiting_ms=now.waiting_ms,
            memory_bytes=labour.memory_bytes,
            runtime=now.runtime,
            region=views.region,
            models=views.shelf.held()[:BEACON_MODELS_MAX],
            classes=now.classes[:BEACON_CLASSES_MAX],
            signature=bytes(64),
        )
        statement = beacon_statement(
            unsigned,
            chain_id=views.payer.chain_id,
            author=self.announcer.author,
            made_ms=made_ms,
        )
        beacon = msgspec.structs.replace(unsigned, signature=signer.sign(statement))
        await self.announcer.publish_stamped(
            CAPACITY.name, beacon, made_ms=made_ms, sequence=sequence
        )

    async def _say_offers(self, now_ms: int) -> None:
        held = self._views.shelf.held()[: MODELS.records_per_author]
        due_ms = {cid: self._offers_due_ms.get(cid, 0) for cid in held}
        for cid in [cid for cid in held if due_ms[cid] <= now_ms][:OFFERS_AT_ONCE]:
            due_ms[cid] = now_ms + self._pause_ms(MODELS, OFFER_MS)
            try:
                manifest = await self._views.shelf.manifest(cid)
            except PrsmError as error:
                log.debug("a model is not offered", why=error.what)
                continue
            offer = ModelOffer(
                manifest=cid,
                pinned_sha256=manifest.compute.pinned_sha256,
                name=manifest.name,
                semver=manifest.semver,
                size_bytes=manifest.total_bytes,
            )
            await self.announcer.publish(MODELS.name, offer)
        self._offers_due_ms = due_ms

    async def _say_block(self, now_ms: int) -> None:
        head = self._proposed
        if head is None or now_ms < self._block_due_ms:
            return
        self._proposed, self._block_due_ms = None, now_ms + BLOCK_MS
        hint = NewBlock(height=head.block.header.height, block_hash=head.certificate.block_hash)
        await self.announcer.publish(BLOCKS.name, hint)

    def _hear_head(self, head: Head) -> None:
        validators = self._views.driver.validators.validators
        proposer = head.block.header.proposer
        us = self._views.driver.network.peer_id
        if proposer < len(validators) and validators[proposer].peer_id == us:
            self._proposed = head

    def _pause_ms(self, rules: TopicRules, usual_ms: int) -> int:
        """Until it is said again: a tenth more or less, longer in a network of many."""
        authors = len(self.announcer.delivery[rules.name].authors)
        shared_ms = min(authors * 1000 // NETWORK_PER_S, rules.ttl_ms * 3 // 4)
        pause_ms = max(usual_ms, shared_ms)
        return pause_ms - pause_ms // 10 + self._views.dice(pause_ms // 5)


def make_beacons(
    seed: bytes, driver: Driver, payer: Payer, shelf: Shelf, *, labour: Labour | None, region: str
) -> Beacons:
    """Join announcements to a node; before its network runs.

    Args:
        seed: 32 bytes, of the node key.
        driver: of the node.
        payer: its payment account.
        shelf: its models.
        labour: None when it does not work for others.
        region: as the operator calls it.
    """
    dice = SystemRandom()
    ground = Ground(
        chain_id=payer.chain_id,
        signer=Ed25519Signer(seed),
        verifier=Ed25519Verifier(),
        clock=driver.clock,
        dice=dice.randrange,
        salt=dice.randbytes(16),
        validators=lambda: [PeerId(each.peer_id) for each in driver.validators.validators],
    )
    views = Views(driver, payer, shelf, labour, f"prsm/{VERSION}", region, dice.randrange)
    return Beacons(Announcer(driver.network, ground), views)
