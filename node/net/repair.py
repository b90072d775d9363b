"""Pull repair of gossip: whom to compare with and when, what to fetch from whom.

Pure: monotonic and wall milliseconds and dice are handed in; what it returns is to be done by the
caller (node/peers/announce, or a simulator). Knows peers by name, slots and times. Must not know
streams, signatures, or what a record says.

How a lost record comes back: who heard something new compares with `FANOUT` peers a moment later,
and goes on every `ROUND_MS` while there is news. The list that comes back names what is missing
here, and shows what is missing there, which the peer is told. One of those who have a record is
asked for it, then the next. Without news a round takes place every `IDLE_MS`.
Source: docs/spec/wire.md, "Gossip".

Invariants: one comparison and one fetch of a peer are open at a time; a slot is asked of one peer
at a time; what is wanted, refused and remembered of peers is bounded.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prsm.node.net.records import Entry, Store
from prsm.node.net.scores import TokenBucket
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import (
    GOSSIP_RECORD_BYTES_MAX,
    LISTED_MAX,
    PULLED_RECORDS_BYTES_MAX,
    PULLED_RECORDS_MAX,
)
from prsm.protocol.messages.announce import SLOT_BYTES

FANOUT: Final = 3
GRACE_MS: Final = 200  # gossip still brings what is younger (p99 126 ms at 16 nodes)
GRACE_MS_MAX: Final = 3_200  # where gossip is slow, pulling what is on its way makes it slower
JITTER_MS: Final = 100
ROUND_MS: Final = 500  # at least; six comparisons a second cost a node about 1 % of a core
ACTIVE_MS: Final = 2_000  # rounds go on so long after the last news
IDLE_MS: Final = 4_000
LOOK_MS: Final = 100  # while something is wanted and nobody free has it
PAUSE_MS: Final = 1_000  # after silence, a refusal, or an empty promise; doubles
PAUSE_MS_MAX: Final = 60_000
# After longer ones the points of a peer that is always silent would fade before more come.
SILENT_PAUSE_MS_MAX: Final = 8_000
# Who leaves so many questions in a row without any answer, 25 s and more, and keeps its link by
# heartbeats holds a place for nothing: a refusal would be an answer. A node of an overloaded
# machine looks the same for a while, so it takes minutes of it until the points are a ban.
SILENCES_MAX: Final = 5
SILENT_PENALTY: Final = 20
WANTS_MAX: Final = 8_192  # full lists of 16 liars; each goes with its first broken promise
HOLDERS_MAX: Final = 3
WANTED_MS: Final = 10_000
REFUSED_MS: Final = 30_000
REFUSED_MAX: Final = 4_096
PULLED_MAX: Final = 1_024  # the latest, to notice that they were only late
# What one peer may ask of us: twice what this plan asks of a peer, and some.
COMPARED_PER_S: Final = 8
COMPARED_BURST: Final = 16
FETCHED_PER_S: Final = 4
FETCHED_BURST: Final = 16

FIRST: Final = bytes(SLOT_BYTES)
assert GOSSIP_RECORD_BYTES_MAX <= PULLED_RECORDS_BYTES_MAX

Dice = Callable[[int], int]  # n -> one of 0 … n - 1


@dataclass(frozen=True, slots=True)
class AskListing:
    """Send `Compare` to a peer, with sums at this horizon; then `take_listing` or `fail`."""

    peer: PeerId
    horizon_ms: int  # wall
    cursor: bytes


@dataclass(frozen=True, slots=True)
class AskRecords:
    """Send `GetRecords` to a peer; then `take_records` or `fail`."""

    peer: PeerId
    slots: tuple[bytes, ...]


Ask = AskListing | AskRecords


@dataclass(slots=True)
class _Peer:
    compared: TokenBucket
    fetched: TokenBucket
    lists: bool = False  # a comparison is open
    brings: bool = False  # a fetch is open
    unread: bool = True  # new, or its list was too long for one answer
    pause_ms: int = 0
    free_ms: int = 0
    silences: int = 0  # in a row
    cursor: bytes = FIRST


@dataclass(slots=True)
class _Want:
    made_ms: int
    id: bytes
    size: int
    until_ms: int
    holders: list[PeerId] = field(default_factory=list)
    asked: PeerId | None = None


class Repair:
    """Decides what to ask of whom.

    Args:
        store: what this node has; only read.
        dice: `dice(n)` gives one of 0 … n - 1.
        now_ms: monotonic.
    """

    def __init__(self, store: Store, *, dice: Dice, now_ms: int) -> None:
        self._store = store
        self._dice = dice
        self._peers: dict[PeerId, _Peer] = {}
        self._wants: OrderedDict[bytes, _Want] = OrderedDict()
        self._refused: OrderedDict[bytes, int] = OrderedDict()
        self._pulled: OrderedDict[bytes, None] = OrderedDict()
        self._grace_ms = GRACE_MS
        self._round_ms = now_ms
        self._soonest_ms = now_ms  # whatever is heard
        self._active_ms = now_ms

    @property
    def wanted(self) -> int:
        """Slots that are known to be missing."""
        return len(self._wants)

    def add(self, peer: PeerId, *, now_ms: int) -> None:
        """A peer may be asked from now on; what it has is looked at soon."""
        self._peers[peer] = _Peer(
            compared=TokenBucket(rate_per_s=COMPARED_PER_S, burst=COMPARED_BURST, now_ms=now_ms),
            fetched=TokenBucket(rate_per_s=FETCHED_PER_S, burst=FETCHED_BURST, now_ms=now_ms),
        )

    def remove(self, peer: PeerId) -> None:
        """A peer is gone; what it was asked for is asked of others."""
        if self._peers.pop(peer, None) is not None:
            self._forget_holder(peer)

    def hear_news(self, *, now_ms: int) -> None:
        """A record was added, our own or another's: others may have missed it."""
        self._active_ms = now_ms + ACTIVE_MS
        due_ms = max(now_ms + self._grace_ms + self._dice(JITTER_MS), self._soonest_ms)
        self._round_ms = min(self._round_ms, due_ms)

    def hear_again(self, identity: bytes) -> None:
        """A record came that is here: had it been pulled, it was not lost, and gossip has longer.

        Args:
            identity: id of the record.
        """
        if identity[:8] in self._pulled:
            del self._pulled[identity[:8]]
            self._grace_ms = min(self._grace_ms + self._grace_ms // 4, GRACE_MS_MAX)

    def may_compare(self, peer: PeerId, *, now_ms: int) -> bool:
        """Is a peer's comparison within its share of our work?"""
        known = self._peers.get(peer)
        return known is not None and known.compared.take(now_ms=now_ms)

    def may_fetch(self, peer: PeerId, *, now_ms: int) -> bool:
        """Is a peer's fetch within its share of our work?"""
        known = self._peers.get(peer)
        return known is not None and known.fetched.take(now_ms=now_ms)

    def due_ms(self, *, now_ms: int) -> int:
        """When to call `plan` next, unless something happens before."""
        times = [self._round_ms]
        if self._wants:
            times.append(now_ms + LOOK_MS)
        times += [
            max(now_ms + LOOK_MS, peer.free_ms)
            for peer in self._peers.values()
            if peer.unread and not peer.lists
        ]
        return min(times)

    def plan(self, *, now_ms: int, wall_ms: int) -> list[Ask]:
        """What to ask now; each has to be answered by `take_…` or `fail`.

        Args:
            now_ms: monotonic.
            wall_ms: of the clock that records are made by.
        """
        asks: list[Ask] = [*self._fetches(now_ms)]
        free = [
            peer
            for peer, known in self._peers.items()
            if not known.lists and now_ms >= known.free_ms
        ]
        chosen = [peer for peer in free if self._peers[peer].unread][:FANOUT]
        if now_ms >= self._round_ms:
            length_ms = ROUND_MS if now_ms < self._active_ms else IDLE_MS
            self._round_ms = now_ms + length_ms + self._dice(JITTER_MS)
            self._soonest_ms = now_ms + ROUND_MS
            self._grace_ms = max(GRACE_MS, self._grace_ms - self._grace_ms // 16)
            rest = [peer for peer in free if peer not in chosen]
            while rest and len(chosen) < FANOUT:
                chosen.append(rest.pop(self._dice(len(rest))))
        for peer in chosen:
            known = self._peers[peer]
            known.lists, known.unread = True, False
            asks.append(AskListing(peer, max(0, wall_ms - self._grace_ms), known.cursor))
        return asks

    def take_listing(self, peer: PeerId, entries: Sequence[bytes], *, now_ms: int) -> int:
        """Note what a peer has and we lack.

        Args:
            peer: who answered.
            entries: of its `Listing`.
            now_ms: monotonic.

        Returns:
            How many of them we lack.
        """
        missing = self.hear_listing(peer, entries, now_ms=now_ms)
        known = self._peers.get(peer)
        if known is not None:
            known.lists, known.pause_ms, known.silences = False, 0, 0
            known.unread = len(entries) >= LISTED_MAX
            known.cursor = entries[-1][:SLOT_BYTES] if known.unread else FIRST
        return missing

    def hear_listing(self, peer: PeerId, entries: Sequence[bytes], *, now_ms: int) -> int:
        """Note what a peer says it has and we lack, without having been asked.

        Args:
            peer: who says so.
            entries: of its `Listing`.
            now_ms: monotonic.

        Returns:
            How many of them we lack.
        """
        known = self._peers.get(peer)
        if known is None or now_ms < known.free_ms:
            return 0
        missing = 0
        for raw in entries[:LISTED_MAX]:
            entry = Entry.read(raw)
            if self._is_wanted(entry, now_ms):
                missing += 1
                self._want(peer, entry, now_ms)
        return missing

    def take_records(
        self, peer: PeerId, asked: Iterable[bytes], *, brought: int, now_ms: int
    ) -> None:
        """A fetch was answered; call it after what was brought has been offered to the store.

        Args:
            peer: who answered.
            asked: slots it was asked for.
            brought: how many records it sent.
            now_ms: monotonic.
        """
        known = self._peers.get(peer)
        if known is not None:
            known.brings, known.silences = False, 0
            if brought:
                known.pause_ms = 0
            else:
                self._pause(known, now_ms)
                self._forget_holder(peer)
        for slot in asked:
            want = self._wants.get(slot)
            if want is None or want.asked != peer:
                continue
            want.asked = None
            self._settle(slot, want, peer)
            if brought and slot not in self._wants:
                self._pulled[want.id] = None
        while len(self._pulled) > PULLED_MAX:
            self._pulled.popitem(last=False)

    def refuse(self, identity: bytes, *, now_ms: int) -> None:
        """A record did not get in (no room, over, made too early): it is not asked for again now.

        Args:
            identity: id of the record.
            now_ms: monotonic.
        """
        self._refused[identity[:8]] = now_ms + REFUSED_MS
        self._refused.move_to_end(identity[:8])
        while len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)

    def fail(self, ask: Ask, *, now_ms: int, silent: bool = False) -> int:
        """A peer was silent or refused: others are asked, and this one after a pause.

        Args:
            ask: what it was asked.
            now_ms: monotonic.
            silent: no answer came at all.

        Returns:
            Points to count against the peer; 0 unless it has been silent `SILENCES_MAX` times.
        """
        known = self._peers.get(ask.peer)
        if known is None:
            return 0
        silences = known.silences + 1 if silent else 0
        if isinstance(ask, AskRecords):
            self.take_records(ask.peer, ask.slots, brought=0, now_ms=now_ms)
        else:
            known.lists, known.unread = False, True
            self._pause(known, now_ms)
        if silent:
            known.pause_ms = min(known.pause_ms, SILENT_PAUSE_MS_MAX)
            known.free_ms = min(known.free_ms, now_ms + known.pause_ms)
        known.silences = silences % SILENCES_MAX
        return SILENT_PENALTY if silences >= SILENCES_MAX else 0

    @staticmethod
    def _pause(known: _Peer, now_ms: int) -> None:
        known.pause_ms = min(max(PAUSE_MS, 2 * known.pause_ms), PAUSE_MS_MAX)
        known.free_ms = now_ms + known.pause_ms

    def _is_wanted(self, entry: Entry, now_ms: int) -> bool:
        if not 0 < entry.size <= GOSSIP_RECORD_BYTES_MAX:
            return False
        if self._refused.get(entry.id, 0) > now_ms:
            return False
        return self._store.lacks(entry.slot, entry.made_ms, entry.id)

    def _want(self, peer: PeerId, entry: Entry, now_ms: int) -> None:
        want = self._wants.get(entry.slot)
        if want is None:
            if len(self._wants) >= WANTS_MAX:
                return
            want = _Want(entry.made_ms, entry.id, entry.size, now_ms + WANTED_MS)
            self._wants[entry.slot] = want
        elif (want.made_ms, want.id) < (entry.made_ms, entry.id):
            # Who claims the latest is asked first; the others stay, for it may be a lie.
            want.made_ms, want.id, want.size = entry.made_ms, entry.id, entry.size
            want.holders = [each for each in want.holders if each != peer]
            want.holders.insert(0, peer)
            del want.holders[HOLDERS_MAX:]
        if peer not in want.holders and len(want.holders) < HOLDERS_MAX:
            want.holders.append(peer)

    def _forget_holder(self, peer: PeerId) -> None:
        for slot, want in list(self._wants.items()):
            if want.asked == peer:
                want.asked = None
            self._settle(slot, want, peer)

    def _settle(self, slot: bytes, want: _Want, peer: PeerId) -> None:
        """One of the holders of a slot is done with."""
        if peer in want.holders:
            want.holders.remove(peer)
        is_here = not self._store.lacks(slot, want.made_ms, want.id)
        if is_here or not want.holders:
            del self._wants[slot]

    def _fetches(self, now_ms: int) -> list[AskRecords]:
        """Share what is wanted among those who have it and are free."""
        slots: dict[PeerId, list[bytes]] = {}
        room: dict[PeerId, int] = {}
        for slot, want in list(self._wants.items()):
            if now_ms >= want.until_ms or not self._store.lacks(slot, want.made_ms, want.id):
                del self._wants[slot]
            elif want.asked is None:
                self._assign(slot, want, (slots, room), now_ms)
        for peer in slots:
            self._peers[peer].brings = True
        return [AskRecords(peer, tuple(each)) for peer, each in slots.items()]

    def _assign(
        self,
        slot: bytes,
        want: _Want,
        shares: tuple[dict[PeerId, list[bytes]], dict[PeerId, int]],
        now_ms: int,
    ) -> None:
        slots, room = shares
        for peer in want.holders:
            known = self._peers.get(peer)
            if known is None or known.brings or now_ms < known.free_ms:
                continue
            left = room.get(peer, PULLED_RECORDS_BYTES_MAX) - want.size
            if left < 0 or len(slots.get(peer, ())) >= PULLED_RECORDS_MAX:
                continue
            room[peer] = left
            slots.setdefault(peer, []).append(slot)
            want.asked = peer
            return
