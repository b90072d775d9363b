"""The address book: where peers may be found, and what of that was ever true.

Knows addresses, who told them, attempts. Must not know clocks, dice, sockets or files: times
(ms of the wall clock) and dice are handed in. Who fills the book without limit gains nothing:

- what is only told stands in `new`, where one source group reaches `NEW_BUCKETS_PER_SOURCE` of
  `NEW_BUCKETS` buckets; what answered stands in `tried`, where one address group (/16) reaches
  `TRIED_BUCKETS_PER_GROUP` of `TRIED_BUCKETS`. Which ones, a secret key decides.
- nothing that still answers is displaced: a full place in `tried` is given away only after its
  holder was tested and did not answer; in `new`, only if its holder is stale.

Source: Heilman et al., "Eclipse Attacks on Bitcoin's Peer-to-Peer Network" (2015), sections 6-7;
the same countermeasures as bitcoin's addrman.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final, Protocol

from prsm.node.net.places import Place, Scope, may_tell
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import NAME_BYTES_MAX

NEW_BUCKETS: Final = 128
NEW_BUCKETS_PER_SOURCE: Final = 16  # 256 addresses of one source group at most
TRIED_BUCKETS: Final = 64
TRIED_BUCKETS_PER_GROUP: Final = 4
BUCKET_SIZE: Final = 16
ANCHORS_MAX: Final = 2
CHALLENGES_MAX: Final = 16
REGION_MAX: Final = NAME_BYTES_MAX
KEY_BYTES: Final = 32

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 3600_000
HORIZON_MS: Final = 30 * DAY_MS  # silence after which an address is forgotten
HOPELESS_AFTER: Final = 3  # failures of an address that never answered
LOST_AFTER: Final = 10  # failures in a row, a week after the last answer
LOST_MS: Final = 7 * DAY_MS
FRESH_MS: Final = 4 * 3600_000  # an answer so recent needs no test before eviction
TELLABLE_MS: Final = 3 * DAY_MS
RETRY_GOOD_MS: Final = 1_000  # of one that answered last time, as after a restart
RETRY_FIRST_MS: Final = 5_000
RETRY_LONGEST_MS: Final = 3600_000


class Dice(Protocol):
    """What draws: `random.Random(seed)` in tests and simulations, the system's in a node."""

    def randrange(self, start: int, /) -> int:
        """A number from 0 to start - 1."""
        ...


class Kind(IntEnum):
    """How an address was heard of."""

    CONFIGURED = 0  # a person wrote it down
    EXCHANGE = 1  # a peer answered a question of ours
    DNS = 2
    MDNS = 3  # anybody in the same local network can say anything

    @property
    def is_hint(self) -> bool:
        """Whether one party that is no peer can make up any number of them."""
        return self in {Kind.DNS, Kind.MDNS}


@dataclass(slots=True)
class Entry:
    """What is known of one address; times are wall ms, 0: never."""

    place: Place
    source: str  # group of who told it
    kind: Kind
    added_ms: int
    first_success_ms: int = 0
    last_success_ms: int = 0
    last_attempt_ms: int = 0
    failures: int = 0  # in a row
    rtt_ms: int = 0  # 0: not measured
    region: str = ""  # as the peer itself says
    tried: bool = False

    def is_stale(self, now_ms: int) -> bool:
        """Whether its place may be given to another."""
        if 0 <= now_ms - self.last_attempt_ms < MINUTE_MS:
            return False
        quiet_ms = now_ms - max(self.added_ms, self.last_success_ms)
        if quiet_ms > HORIZON_MS:
            return True
        if not self.last_success_ms:
            return self.failures >= HOPELESS_AFTER
        return self.failures >= LOST_AFTER and quiet_ms > LOST_MS

    def is_ready(self, now_ms: int) -> bool:
        """Whether it may be dialled now: attempts are twice as far apart after each failure."""
        if not self.last_attempt_ms or self.last_attempt_ms > now_ms:
            return True
        pause_ms = min(RETRY_FIRST_MS << min(self.failures, 16), RETRY_LONGEST_MS)
        if not self.failures:
            pause_ms = RETRY_GOOD_MS
        return now_ms - self.last_attempt_ms >= pause_ms


class AddressBook:
    """All addresses a node knows, within fixed bounds.

    Args:
        key: 32 secret random bytes: nobody else can say which addresses share a place.
        us: never an entry.
    """

    def __init__(self, key: bytes, *, us: PeerId | None = None) -> None:
        assert len(key) == KEY_BYTES
        self.key = key
        self.us = us
        self._entries: dict[str, Entry] = {}
        self._new: dict[int, dict[int, Entry]] = {}  # bucket -> place in it; empty ones absent
        self._tried: dict[int, dict[int, Entry]] = {}
        self._challenges: dict[str, str] = {}  # who holds the place -> who wants it
        self._anchors: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def get(self, text: str) -> Entry | None:
        """The entry of an address."""
        return self._entries.get(text)

    def of_peer(self, peer: PeerId) -> list[Entry]:
        """All entries of a peer, the last one that answered first."""
        found = [entry for entry in self._entries.values() if entry.place.peer == peer]
        return sorted(found, key=lambda entry: (-entry.last_success_ms, entry.place.text))

    def tried(self) -> list[Entry]:
        """Addresses that answered; order of arrival."""
        return [entry for entry in self._entries.values() if entry.tried]

    @property
    def anchors(self) -> tuple[str, ...]:
        """Addresses of outbound links before the last stop: dialled first after a start."""
        return self._anchors

    def set_anchors(self, texts: Sequence[str]) -> bool:
        """Note the links to begin with next time; whether they are others than before."""
        anchors = tuple(texts[:ANCHORS_MAX])
        changed, self._anchors = anchors != self._anchors, anchors
        return changed

    # -- what happens

    def learn(self, place: Place, *, source: str, kind: Kind, now_ms: int) -> bool:
        """Note an address somebody told; whether it was new and found room.

        Args:
            place: the address.
            source: group of who told it (`Place.group` of the teller).
            kind: how it was heard of.
            now_ms: wall time.
        """
        known = self._entries.get(place.text)
        if known is not None and kind is Kind.CONFIGURED:
            known.kind = kind  # a person vouches for what was a hint
        if place.peer == self.us or known is not None:
            return False
        return self._put_new(Entry(place, source, kind, added_ms=now_ms), now_ms)

    def succeeded(self, text: str, *, now_ms: int, rtt_ms: int = 0, region: str = "") -> None:
        """Note that the peer answered there and shook hands; an unknown address is nothing."""
        entry = self._entries.get(text)
        if entry is None:
            return
        entry.last_attempt_ms = entry.last_success_ms = now_ms
        entry.first_success_ms = entry.first_success_ms or now_ms
        entry.failures = 0
        entry.rtt_ms = rtt_ms or entry.rtt_ms
        entry.region = region[:REGION_MAX] or entry.region
        self._challenges.pop(text, None)  # tested, and there
        if not entry.tried:
            self._promote(entry, now_ms)

    def failed(self, text: str, *, now_ms: int, counted: bool = True) -> None:
        """Note that nobody answered there.

        Args:
            text: the address.
            now_ms: wall time.
            counted: False while this node reaches nobody at all: that says nothing of others.
        """
        entry = self._entries.get(text)
        if entry is None:
            return
        entry.last_attempt_ms = now_ms
        if not counted:
            return
        entry.failures += 1
        heir = self._entries.get(self._challenges.pop(text, ""))
        if heir is not None and not heir.tried:
            self._demote(entry, now_ms)
            self._promote(heir, now_ms)

    def note(self, text: str, *, rtt_ms: int = 0, region: str = "") -> None:
        """Note what became known of a live link later."""
        entry = self._entries.get(text)
        if entry is not None:
            entry.rtt_ms = rtt_ms or entry.rtt_ms
            entry.region = region[:REGION_MAX] or entry.region

    def forget_stale(self, now_ms: int) -> int:
        """Drop what was silent beyond the horizon; how many."""
        stale = [entry for entry in self if now_ms - _known_ms(entry) > HORIZON_MS]
        for entry in stale:
            self._drop(entry)
        return len(stale)

    # -- questions

    def to_test(self, now_ms: int) -> Entry | None:
        """A holder of a contested place that must show whether it is still there."""
        for text in self._challenges:
            entry = self._entries[text]
            if entry.is_ready(now_ms):
                return entry
        return None

    def draw(self, dice: Dice, *, tried: bool) -> Entry | None:
        """One entry: a bucket is drawn first, so that whoever fills few buckets weighs little."""
        table = self._tried if tried else self._new
        if not table:
            return None
        bucket = table[tuple(table)[dice.randrange(len(table))]]
        return bucket[tuple(bucket)[dice.randrange(len(bucket))]]

    def tellable(self, dice: Dice, *, listener: Scope, count: int, now_ms: int) -> list[Place]:
        """Addresses to tell a peer: only such as answered this node itself lately.

        Args:
            dice: who draws them.
            listener: how far the address of the peer that asks reaches.
            count: at most so many.
            now_ms: wall time.
        """
        found = [
            entry.place
            for entry in self._entries.values()
            if entry.last_success_ms
            and not entry.failures
            and now_ms - entry.last_success_ms <= TELLABLE_MS
            and may_tell(entry.place.scope, listener)
        ]
        return draw_some(dice, found, count)

    def restore(self, entry: Entry, now_ms: int) -> None:
        """Take over an entry as it was saved; one that finds no room is lost."""
        if entry.place.peer == self.us or entry.place.text in self._entries:
            return
        if entry.tried:
            bucket, position = self._tried_place(entry.place)
            if position not in self._tried.get(bucket, {}):
                self._entries[entry.place.text] = entry
                self._tried.setdefault(bucket, {})[position] = entry
                return
            entry.tried = False
        self._put_new(entry, now_ms)

    # -- places

    def _put_new(self, entry: Entry, now_ms: int) -> bool:
        bucket, position = self._new_place(entry)
        holder = self._new.get(bucket, {}).get(position)
        if holder is not None:
            if not holder.is_stale(now_ms):
                return False
            self._drop(holder)
        entry.tried = False
        self._entries[entry.place.text] = entry
        self._new.setdefault(bucket, {})[position] = entry
        return True

    def _promote(self, entry: Entry, now_ms: int) -> None:
        bucket, position = self._tried_place(entry.place)
        holder = self._tried.get(bucket, {}).get(position)
        if holder is not None and not holder.is_stale(now_ms):
            fresh = not holder.failures and now_ms - holder.last_success_ms < FRESH_MS
            if not fresh and len(self._challenges) < CHALLENGES_MAX:
                self._challenges.setdefault(holder.place.text, entry.place.text)
            return
        if holder is not None:
            self._demote(holder, now_ms)
        _take_out(self._new, *self._new_place(entry))
        entry.tried = True
        self._tried.setdefault(bucket, {})[position] = entry

    def _demote(self, entry: Entry, now_ms: int) -> None:
        self._drop(entry)
        self._put_new(entry, now_ms)

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.place.text]
        self._challenges.pop(entry.place.text, None)
        if entry.tried:
            _take_out(self._tried, *self._tried_place(entry.place))
        else:
            _take_out(self._new, *self._new_place(entry))

    def _new_place(self, entry: Entry) -> tuple[int, int]:
        share = self._hash("share", entry.place.group, entry.source) % NEW_BUCKETS_PER_SOURCE
        bucket = self._hash("new", entry.source, str(share)) % NEW_BUCKETS
        return bucket, self._hash("place", str(bucket), entry.place.text) % BUCKET_SIZE

    def _tried_place(self, place: Place) -> tuple[int, int]:
        share = self._hash("share", place.text) % TRIED_BUCKETS_PER_GROUP
        bucket = self._hash("tried", place.group, str(share)) % TRIED_BUCKETS
        return bucket, self._hash("place", str(bucket), place.text) % BUCKET_SIZE

    def _hash(self, *parts: str) -> int:
        digest = blake2b("\0".join(parts).encode(), digest_size=8, key=self.key).digest()
        return int.from_bytes(digest, "big")


def draw_some(dice: Dice, items: Sequence[Place], count: int) -> list[Place]:
    """At most `count` of the items, each set of them as likely as any other."""
    pool = list(items)
    count = min(count, len(pool))
    for index in range(count):
        other = index + dice.randrange(len(pool) - index)
        pool[index], pool[other] = pool[other], pool[index]
    return pool[:count]


def _known_ms(entry: Entry) -> int:
    return max(entry.added_ms, entry.last_success_ms)


def _take_out(table: dict[int, dict[int, Entry]], bucket: int, position: int) -> None:
    del table[bucket][position]
    if not table[bucket]:
        del table[bucket]
