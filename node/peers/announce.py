"""Announcements: what this node says by gossip, what it hears, and how it gets what it missed.

Knows: records, signatures, the mesh and the control stream. Must not know: what a content is good
for; rooms that need it listen. Decisions of repair are in `node/net/repair`, order and bounds in
`node/net/records`. Source: docs/spec/wire.md, "Gossip".

Invariants: nothing is kept or passed on whose signature was not checked; a peer costs at most its
share of signatures; an error of what a peer sent never leaves this module.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from prsm.node.clock import Clock
from prsm.node.net import delivery
from prsm.node.net.delivery import Fate
from prsm.node.net.interface import Network, PeerEvent
from prsm.node.net.records import Bounds, Item, Store, Verdict
from prsm.node.net.scores import TokenBucket
from prsm.node.peers.repairs import Repairs
from prsm.node.telemetry import logs
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.errors import BadSignature, RemoteError, WireError, WrongChain
from prsm.protocol.identity import peer_id_of, public_key_of
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import (
    TOPICS,
    Announced,
    CapacityBeacon,
    TopicRules,
    beacon_statement,
    key_of,
    read_announced,
    read_content,
)
from prsm.protocol.messages.net import GossipRecord, decode_gossip

log = logs.get("announce")

EARLY_MS: Final = 60_000  # a clock may be ahead of ours by so much
RECORDS_MAX: Final = 2_048  # of a topic: 16 MiB of the longest beacons, 2 MiB of usual ones
CHECKS_PER_S: Final = 40  # signatures of what one peer brings; large networks say 10 a topic
CHECKS_BURST: Final = 120
CHECKED_PEERS_MAX: Final = 512
MESH_PENALTY: Final = 10  # what the network counts for every record that is refused
EXPIRE_SECONDS: Final = 1.0
# Below this many signatures (39 us each) a thread hop (60 us and a wake-up) does not pay.
INLINE_MAX: Final = 4
WEIGHT_VALIDATOR: Final = 2
WEIGHT_PEER: Final = 1

_FATES: Final[Mapping[Verdict, Fate]] = {
    Verdict.STALE: Fate.STALE,
    Verdict.EXPIRED: Fate.EXPIRED,
    Verdict.CROWDED: Fate.CROWDED,
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """A record that counts, read."""

    topic: str
    author: bytes
    key: bytes
    made_ms: int
    expires_ms: int
    content: Record

    @property
    def peer(self) -> PeerId:
        """The node that made it."""
        return peer_id_of(self.author)


Listener = Callable[[Announcement], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What announcements stand on.

    Attributes:
        chain_id: 8 bytes; records of other networks are refused.
        signer: the node key: its PeerId is the author.
        verifier: libsodium's rule.
        clock: wall time stamps records, monotonic time drives repair.
        dice: `dice(n)` gives one of 0 … n - 1.
        salt: secret of this run.
        validators: their PeerIds; their records stay when there is no room for all.
        topics: by name.
    """

    chain_id: bytes
    signer: Signer
    verifier: Verifier
    clock: Clock
    dice: Callable[[int], int]
    salt: bytes
    validators: Callable[[], Iterable[PeerId]] = tuple
    topics: Mapping[str, TopicRules] = field(default_factory=lambda: TOPICS)


@dataclass(frozen=True, slots=True)
class _Read:
    """A record that looks well; its signature is still to be checked."""

    item: Item
    record: GossipRecord
    announced: Announced
    rules: TopicRules


class Announcer:
    """Publishes, judges, keeps and repairs announcements.

    Args:
        network: where they travel; handlers are registered here, before it runs.
        ground: keys, clocks, dice and topics.
    """

    def __init__(self, network: Network, ground: Ground) -> None:
        self._network, self._ground = network, ground
        self._peers: set[bytes] = set()
        self._weights: dict[bytes, int] = {}
        self.store = Store(
            {name: _bounds(rules) for name, rules in ground.topics.items()},
            salt=ground.salt,
            weigh=self._weigh,
        )
        self.delivery = {name: delivery.Topic() for name in ground.topics}
        self._shares: dict[PeerId, TokenBucket] = {}
        self._last: dict[str, tuple[int, int]] = {}  # topic -> made_ms, sequence of our latest
        self._listeners: dict[str, list[Listener]] = {name: [] for name in ground.topics}
        self._repairs = Repairs(
            network, self.store, take=self._take, clock=ground.clock, dice=ground.dice
        )
        for rules in ground.topics.values():
            network.on_gossip(rules.name, functools.partial(self._hear, rules))
        network.on_peer(self._see_peer)

    @property
    def author(self) -> bytes:
        """Key of our own records."""
        return self._ground.signer.public_key

    @property
    def wanted(self) -> int:
        """Records that are known to be missing here now."""
        return self._repairs.plan.wanted

    def listen(self, topic: str, listener: Listener) -> None:
        """Be told of each record of a topic that counts, our own ones too; must not wait."""
        self._listeners[topic].append(listener)

    def current(self, topic: str) -> list[Announcement]:
        """What counts now on a topic, by author and key."""
        now_ms = self._ground.clock.wall_ms()
        rules = self._ground.topics[topic]
        found = [_open(item, rules) for item in self.store.items(topic) if item.expires_ms > now_ms]
        return sorted(found, key=lambda each: (each.author, each.key))

    async def publish(self, topic: str, content: Record, *, key: bytes | None = None) -> None:
        """Sign an announcement and give it to the mesh; what gets lost is pulled by others.

        Args:
            topic: one of ours.
            content: of the topic's class.
            key: of a topic that is not in `TOPICS`.
        """
        made_ms, sequence = self.stamp(topic)
        await self.publish_stamped(topic, content, made_ms=made_ms, sequence=sequence, key=key)

    def stamp(self, topic: str) -> tuple[int, int]:
        """Take the moment and the sequence number of our next record on a topic."""
        last_ms, sequence = self._last.get(topic, (0, 0))
        now_ms = self._ground.clock.wall_ms()
        if last_ms > now_ms + EARLY_MS:  # the clock was set back; nobody took what it said before
            last_ms = 0
        stamp = max(now_ms, last_ms + 1), sequence + 1
        self._last[topic] = stamp
        return stamp

    async def publish_stamped(
        self, topic: str, content: Record, *, made_ms: int, sequence: int, key: bytes | None = None
    ) -> None:
        """Publish a content whose own signature covers the moment it was stamped with."""
        ground, rules = self._ground, self._ground.topics[topic]
        announced = Announced(
            key=key_of(content) if key is None else key,
            sequence=sequence,
            content=encode(content),
        )
        assert len(announced.content) <= rules.content_bytes_max
        unsigned = GossipRecord(
            chain=ground.chain_id,
            topic=topic,
            author=ground.signer.public_key,
            made_ms=made_ms,
            body=encode(announced),
            signature=bytes(64),
        )
        signature = ground.signer.sign(unsigned.signed_bytes)
        record = msgspec.structs.replace(unsigned, signature=signature)
        raw = encode(record)
        item = Item.of(record, raw, key=announced.key, ttl_ms=rules.ttl_ms)
        self.delivery[topic].published += 1
        if self.store.offer(item, now_ms=made_ms) is Verdict.ADDED:
            self._repairs.hear_news(topic)
            self._tell(_announcement(item, announced.key, content))
        await self._network.publish(topic, raw)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Repair and forget until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._repairs.run)
            task_status.started()
            while True:
                self.store.expire(now_ms=self._ground.clock.wall_ms())
                self._weigh_anew()
                await trio.sleep(EXPIRE_SECONDS)

    # -- who is known

    def _weigh(self, author: bytes) -> int:
        return self._weights.get(author, 0)

    def _weigh_anew(self) -> None:
        weights = dict.fromkeys(self._peers, WEIGHT_PEER)
        for peer in self._ground.validators():
            weights[_key_of(peer)] = WEIGHT_VALIDATOR
        weights[self._ground.signer.public_key] = WEIGHT_VALIDATOR
        self._weights = weights

    def _see_peer(self, event: PeerEvent) -> None:
        author = public_key_of(event.peer)
        if event.up:
            self._peers.add(author)
        else:
            self._peers.discard(author)
        self._weigh_anew()

    # -- hearing

    def _hear(self, rules: TopicRules, peer: PeerId, raw: bytes) -> bool | None:
        """Judge a gossiped record: pass it on, refuse it, or let it be. Total."""
        try:
            read = self._read(raw)
            if read.rules is not rules:
                raise WireError(f"a record of {read.rules.name} came on {rules.name}")
            if not self._is_news(read.item) or not self._may_check(peer, rules):
                return None
            return self._keep(read, self._check(read), repaired=False) or None
        except RemoteError as error:
            self._refuse(peer, rules.name, error)
            return False

    async def _take(self, peer: PeerId, raws: Sequence[bytes], asked: frozenset[bytes]) -> None:
        """Judge what a peer brought.

        Raises:
            WireError: a record nobody asked for, or none.
            WrongChain, BadSignature: a record no honest node keeps.
        """
        reads = [self._read(raw) for raw in raws]
        if any(read.item.slot not in asked for read in reads):
            raise WireError("a record nobody asked for")
        news = [read for read in reads if self._is_news(read.item)]
        if len(news) <= INLINE_MAX:
            contents = [self._check(read) for read in news]
        else:
            contents = await trio.to_thread.run_sync(lambda: [self._check(each) for each in news])
        for read, content in zip(news, contents, strict=True):
            self._keep(read, content, repaired=True)
        log.debug("records repaired", peer=peer, count=len(news))

    def _refuse(self, peer: PeerId, topic: str, error: RemoteError) -> None:
        self.delivery[topic].fates[Fate.REFUSED] += 1
        log.debug("record refused", topic=topic, peer=peer, why=error.what)
        if error.penalty > MESH_PENALTY:  # the mesh counts its own for every refusal
            error.penalty -= MESH_PENALTY
            self._network.penalise(peer, error)

    def _read(self, raw: bytes) -> _Read:
        """Read a record as far as it costs next to nothing.

        Raises:
            WireError: no record, or on no topic of ours.
            WrongChain: of another network.
        """
        record = decode_gossip(raw)
        if record.chain != self._ground.chain_id:
            raise WrongChain(f"a record of chain {record.chain.hex()}", penalty=20)
        rules = self._ground.topics.get(record.topic)
        if rules is None:
            raise WireError(f"a record of topic {record.topic!r}")
        announced = read_announced(record, rules)
        item = Item.of(record, raw, key=announced.key, ttl_ms=rules.ttl_ms)
        return _Read(item, record, announced, rules)

    def _is_news(self, item: Item) -> bool:
        now_ms = self._ground.clock.wall_ms()
        if item.made_ms > now_ms + EARLY_MS:
            fate: Fate | None = Fate.EARLY
        else:
            fate = _FATES.get(self.store.judge(item, now_ms=now_ms))
        if fate is not None:
            self._leave(item, fate)
        return fate is None

    def _leave(self, item: Item, fate: Fate) -> None:
        self.delivery[item.topic].fates[fate] += 1
        if fate is Fate.STALE:
            self._repairs.hear_again(item.id)
        else:
            self._repairs.refuse(item.id)

    def _may_check(self, peer: PeerId, rules: TopicRules) -> bool:
        now_ms = self._ground.clock.monotonic_ms()
        share = self._shares.get(peer)
        if share is None:
            if len(self._shares) >= CHECKED_PEERS_MAX:
                self._shares.clear()
            share = self._shares[peer] = TokenBucket(
                rate_per_s=CHECKS_PER_S, burst=CHECKS_BURST, now_ms=now_ms
            )
        if share.take(now_ms=now_ms):
            return True
        self.delivery[rules.name].fates[Fate.UNCHECKED] += 1
        return False

    def _check(self, read: _Read) -> Record:
        """Check who signed a record, and read what it says; threads may.

        Raises:
            BadSignature: not its author, or not who is to be paid.
            WireError: no content of its topic.
        """
        ground, record = self._ground, read.record
        if not ground.verifier.verify(record.author, record.signed_bytes, record.signature):
            raise BadSignature("a record its author did not sign", penalty=50)
        content = read_content(read.announced, read.rules)
        if isinstance(content, CapacityBeacon):
            statement = beacon_statement(
                content, chain_id=ground.chain_id, author=record.author, made_ms=record.made_ms
            )
            if not ground.verifier.verify(content.worker, statement, content.signature):
                raise BadSignature("a beacon its account did not sign", penalty=50)
        return content

    def _keep(self, read: _Read, content: Record, *, repaired: bool) -> bool:
        """Store a checked record; False when it is no news any more."""
        item, now_ms = read.item, self._ground.clock.wall_ms()
        verdict = self.store.offer(item, now_ms=now_ms)
        if verdict is not Verdict.ADDED:
            self._leave(item, _FATES[verdict])
            return False
        self.delivery[item.topic].see(
            item.author,
            sequence=read.announced.sequence,
            made_ms=item.made_ms,
            arrived_ms=now_ms,
            repaired=repaired,
        )
        self._repairs.hear_news(item.topic)
        self._tell(_announcement(item, read.announced.key, content))
        return True

    def _tell(self, announcement: Announcement) -> None:
        for listener in self._listeners[announcement.topic]:
            try:
                listener(announcement)
            except Exception:
                log.exception("a listener failed", topic=announcement.topic)


_key_of = functools.lru_cache(maxsize=256)(public_key_of)  # 20 us, for each validator and second


def _bounds(rules: TopicRules) -> Bounds:
    return Bounds(records=RECORDS_MAX, records_per_author=rules.records_per_author)


def _announcement(item: Item, key: bytes, content: Record) -> Announcement:
    return Announcement(item.topic, item.author, key, item.made_ms, item.expires_ms, content)


def _open(item: Item, rules: TopicRules) -> Announcement:
    """Read what was checked when it came."""
    announced = read_announced(decode_gossip(item.raw), rules)
    return _announcement(item, announced.key, read_content(announced, rules))
