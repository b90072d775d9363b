"""Announcements a node holds: the latest of each author, topic and key, bounded and comparable.

Pure: time is handed in, in integer milliseconds. Knows order, bounds, sums. Must not know
signatures, peers or bodies: what is offered has been checked.

Invariants: of one slot (author, topic, key) the record with the latest (made_ms, id) is kept; of
one author and topic the latest `records_per_author`; of a topic the `records` of highest rank.
Rank is the weight of the author first, so that no number of strangers pushes out a record of a
known one, then a salted hash of the author: strangers cannot choose who of them stays. Each of
the three keeps the best of all that was offered, so arrival order does not matter while nothing
expires and weights stay. Source: docs/spec/wire.md, "Gossip".
"""

import hashlib
import struct
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

from prsm.protocol.limits import GOSSIP_SUMS_MAX, LISTED_MAX, PULLED_RECORDS_BYTES_MAX
from prsm.protocol.messages.announce import (
    ENTRY_BYTES,
    SLOT_BYTES,
    SUM_BYTES,
    Compare,
    Listing,
    TopicSums,
)
from prsm.protocol.messages.net import GossipRecord

# Ages in ms behind the horizon that are compared apart: what is new differs, what is old seldom.
AGES_MS: Final = (1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000)
# Two nodes forget a record at different moments; near its end neither counts it.
FORGET_MARGIN_MS: Final = 5_000
_SUM_MODULUS: Final = 1 << (8 * SUM_BYTES)
_ENTRY: Final = struct.Struct(">12sQI8s")
assert _ENTRY.size == ENTRY_BYTES
assert len(AGES_MS) < GOSSIP_SUMS_MAX

Rank = tuple[int, bytes, int, bytes, bytes]  # weight, author's place, made_ms, id, slot


class Verdict(Enum):
    """What became of a record that was offered."""

    ADDED = "added"
    STALE = "stale"  # this one or a later one is here
    EXPIRED = "expired"
    CROWDED = "crowded"  # no room for one of its rank


@dataclass(frozen=True, slots=True)
class Item:
    """A record as the store sees it.

    Attributes:
        slot: 12 bytes of the hash of topic, author and key.
        id: 16 bytes of the hash of the record.
        number: `id` as an integer, for sums.
        raw: its canonical bytes.
    """

    topic: str
    author: bytes
    made_ms: int
    expires_ms: int
    slot: bytes
    id: bytes
    number: int
    raw: bytes

    @classmethod
    def of(cls, record: GossipRecord, raw: bytes, *, key: bytes, ttl_ms: int) -> Self:
        """Describe a record and its canonical bytes."""
        identity = hashlib.sha256(raw).digest()[:SUM_BYTES]
        return cls(
            topic=record.topic,
            author=record.author,
            made_ms=record.made_ms,
            expires_ms=record.made_ms + ttl_ms,
            slot=slot_of(record.topic, record.author, key),
            id=identity,
            number=int.from_bytes(identity, "big"),
            raw=raw,
        )

    @property
    def entry(self) -> bytes:
        """What a listing says of it."""
        return _ENTRY.pack(self.slot, self.made_ms, len(self.raw), self.id[:8])


@dataclass(frozen=True, slots=True)
class Entry:
    """What a peer says it has."""

    slot: bytes
    made_ms: int
    size: int
    id: bytes  # first 8 bytes

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Read an entry; any 32 bytes are one."""
        slot, made_ms, size, identity = _ENTRY.unpack(raw)
        return cls(slot, made_ms, size, identity)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many records of a topic are kept, and how many of one author."""

    records: int
    records_per_author: int


@dataclass(slots=True)
class _Topic:
    bounds: Bounds
    items: dict[bytes, Item] = field(default_factory=dict)
    ranks: list[Rank] = field(default_factory=list)  # ascending: the first goes first
    rank_of: dict[bytes, Rank] = field(default_factory=dict)
    authors: dict[bytes, list[tuple[int, bytes, bytes]]] = field(default_factory=dict)
    pushed_out: int = 0

    def add(self, item: Item, rank: Rank) -> None:
        self.items[item.slot] = item
        self.rank_of[item.slot] = rank
        insort(self.ranks, rank)
        insort(self.authors.setdefault(item.author, []), (item.made_ms, item.id, item.slot))

    def remove(self, slot: bytes) -> Item:
        item = self.items.pop(slot)
        rank = self.rank_of.pop(slot)
        del self.ranks[bisect_left(self.ranks, rank)]
        mine = self.authors[item.author]
        del mine[bisect_left(mine, (item.made_ms, item.id, slot))]
        if not mine:
            del self.authors[item.author]
        return item


class Store:
    """The records of all topics.

    Args:
        bounds: of each topic; a record of another topic is never offered.
        salt: secret of this node; decides which strangers stay when there is no room for all.
        weigh: how much an author is known here; 0 for a stranger.
    """

    def __init__(
        self,
        bounds: Mapping[str, Bounds],
        *,
        salt: bytes,
        weigh: Callable[[bytes], int] = lambda _author: 0,
    ) -> None:
        self._topics = {topic: _Topic(each) for topic, each in bounds.items()}
        self._slots: dict[bytes, str] = {}
        self._salt = salt
        self._weigh = weigh

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics, as given."""
        return tuple(self._topics)

    def items(self, topic: str) -> Sequence[Item]:
        """Records of a topic, by slot."""
        items = self._topics[topic].items
        return [items[slot] for slot in sorted(items)]

    def pushed_out(self, topic: str) -> int:
        """How many records had to go for others of higher rank."""
        return self._topics[topic].pushed_out

    def get(self, slot: bytes) -> Item | None:
        """The record of a slot."""
        topic = self._slots.get(slot)
        return None if topic is None else self._topics[topic].items[slot]

    def lacks(self, slot: bytes, made_ms: int, identity: bytes) -> bool:
        """Would a record of this slot, moment and id (its first 8 bytes) be news?"""
        mine = self.get(slot)
        return mine is None or (mine.made_ms, mine.id[:8]) < (made_ms, identity)

    def judge(self, item: Item, *, now_ms: int) -> Verdict:
        """Say what `offer` would, for everything that costs nothing: before a signature is checked.

        Args:
            item: not yet checked.
            now_ms: wall clock.
        """
        topic = self._topics[item.topic]
        mine = topic.items.get(item.slot)
        if mine is not None and (mine.made_ms, mine.id) >= (item.made_ms, item.id):
            return Verdict.STALE
        if item.expires_ms <= now_ms:
            return Verdict.EXPIRED
        if mine is not None:
            return Verdict.ADDED
        others = topic.authors.get(item.author, [])
        if len(others) >= topic.bounds.records_per_author:
            is_late = others[0] < (item.made_ms, item.id, item.slot)
            return Verdict.ADDED if is_late else Verdict.CROWDED
        if len(topic.items) >= topic.bounds.records and self._rank(item) < topic.ranks[0]:
            return Verdict.CROWDED
        return Verdict.ADDED

    def offer(self, item: Item, *, now_ms: int) -> Verdict:
        """Keep a checked record if it is news and there is room for one of its rank.

        Args:
            item: its signature holds.
            now_ms: wall clock.
        """
        verdict = self.judge(item, now_ms=now_ms)
        topic = self._topics[item.topic]
        if verdict is Verdict.ADDED:
            self._make_room(topic, item)
            topic.add(item, self._rank(item))
            self._slots[item.slot] = item.topic
        return verdict

    def _make_room(self, topic: _Topic, item: Item) -> None:
        if item.slot in topic.items:
            self._drop(topic, item.slot)
        elif len(topic.authors.get(item.author, ())) >= topic.bounds.records_per_author:
            self._drop(topic, topic.authors[item.author][0][2])
            topic.pushed_out += 1
        elif len(topic.items) >= topic.bounds.records:
            self._drop(topic, topic.ranks[0][4])
            topic.pushed_out += 1

    def _drop(self, topic: _Topic, slot: bytes) -> Item:
        del self._slots[slot]
        return topic.remove(slot)

    def _rank(self, item: Item) -> Rank:
        place = hashlib.sha256(self._salt + item.author).digest()[:8]
        return self._weigh(item.author), place, item.made_ms, item.id, item.slot

    def expire(self, *, now_ms: int) -> list[Item]:
        """Forget what is over, and say what it was.

        Args:
            now_ms: wall clock.
        """
        gone: list[Item] = []
        for topic in self._topics.values():
            over = [slot for slot, item in topic.items.items() if item.expires_ms <= now_ms]
            gone += [self._drop(topic, slot) for slot in over]
        return gone

    def sums(self, topic: str, *, horizon_ms: int) -> tuple[bytes, ...]:
        """Sums of the ids of a topic's records by age; alike on nodes that hold the same.

        Args:
            topic: one of ours.
            horizon_ms: wall time of the one who compares; younger records do not count.
        """
        totals = [0] * (len(AGES_MS) + 1)
        for item, age in self._comparable(topic, horizon_ms):
            totals[age] += item.number
        while totals and not totals[-1]:
            totals.pop()
        return tuple((total % _SUM_MODULUS).to_bytes(SUM_BYTES, "big") for total in totals)

    def compare(self, *, horizon_ms: int, cursor: bytes = bytes(SLOT_BYTES)) -> Compare:
        """What to ask a peer, to hear of everything made by the horizon that we lack."""
        topics = tuple(
            TopicSums(topic=topic, sums=self.sums(topic, horizon_ms=horizon_ms))
            for topic in self._topics
        )
        return Compare(horizon_ms=horizon_ms, cursor=cursor, topics=topics)

    def differing(self, asked: Compare) -> Listing:
        """Answer a peer's comparison: what we have where its sums differ from ours.

        Topics that are not ours are passed over. Entries behind the cursor come first.
        """
        horizon_ms = asked.horizon_ms
        sums, found = self._unlike(asked.topics, horizon_ms)
        found.sort(key=lambda item: (item.slot <= asked.cursor, item.slot))
        entries = tuple(item.entry for item in found[:LISTED_MAX])
        return Listing(topics=sums, entries=entries)

    def surplus(self, answer: Listing, *, horizon_ms: int) -> Listing | None:
        """What the peer that gave this answer lacks and we have; None for nothing.

        Args:
            answer: to our comparison; a full one says nothing of what the peer lacks.
            horizon_ms: of that comparison.
        """
        if not answer.topics or len(answer.entries) >= LISTED_MAX:
            return None
        theirs = {entry.slot: entry for entry in map(Entry.read, answer.entries)}
        _, found = self._unlike(answer.topics, horizon_ms)
        news = [item for item in found if _is_later(item, theirs.get(item.slot))]
        news.sort(key=lambda item: item.slot)
        entries = tuple(item.entry for item in news[:LISTED_MAX])
        return Listing(topics=(), entries=entries) if entries else None

    def _unlike(
        self, topics: Iterable[TopicSums], horizon_ms: int
    ) -> tuple[tuple[TopicSums, ...], list[Item]]:
        """Our sums of the topics that differ, and our records of the ages that do."""
        theirs = {each.topic: each.sums for each in topics if each.topic in self._topics}
        sums: list[TopicSums] = []
        found: list[Item] = []
        for topic, said in theirs.items():
            ours = self.sums(topic, horizon_ms=horizon_ms)
            if ages := _differing_ages(ours, said):
                sums.append(TopicSums(topic=topic, sums=ours))
                found += [item for item, age in self._comparable(topic, horizon_ms) if age in ages]
        return tuple(sums), found

    def pick(self, slots: Iterable[bytes]) -> list[Item]:
        """Records of slots, those that are here, as many as fit one answer."""
        picked: list[Item] = []
        room = PULLED_RECORDS_BYTES_MAX
        for slot in dict.fromkeys(slots):
            item = self.get(slot)
            if item is not None and len(item.raw) <= room:
                room -= len(item.raw)
                picked.append(item)
        return picked

    def _comparable(self, topic: str, horizon_ms: int) -> Iterator[tuple[Item, int]]:
        least_ms = horizon_ms + FORGET_MARGIN_MS
        for item in self._topics[topic].items.values():
            age_ms = horizon_ms - item.made_ms
            if age_ms >= 0 and item.expires_ms > least_ms:
                yield item, bisect_left(AGES_MS, age_ms)


def _is_later(item: Item, theirs: Entry | None) -> bool:
    return theirs is None or (theirs.made_ms, theirs.id) < (item.made_ms, item.id[:8])


def slot_of(topic: str, author: bytes, key: bytes) -> bytes:
    """Name of a slot: topic, author (32 bytes) and key."""
    name = topic.encode()
    return hashlib.sha256(bytes([len(name)]) + name + author + key).digest()[:SLOT_BYTES]


def _differing_ages(ours: tuple[bytes, ...], theirs: tuple[bytes, ...]) -> set[int]:
    nothing = bytes(SUM_BYTES)
    length = max(len(ours), len(theirs))
    padded = [sums + (nothing,) * (length - len(sums)) for sums in (ours, theirs)]
    return {age for age, pair in enumerate(zip(*padded, strict=True)) if pair[0] != pair[1]}
