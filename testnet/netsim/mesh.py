"""One node's gossip mesh as py-libp2p 0.8.1 keeps it with our settings, in virtual time.

Follows `GossipSub` of libp2p 0.8.1 with degree 6, low 4, high 12, heartbeat 1 s, protocol 1.1 and
scores that are ours alone: every heartbeat a mesh that is not too small grafts two more of those
outside that are worth as much, one that is too large falls back to the degree, one worthless
member is exchanged; IHAVE of the last three heartbeats goes to six peers outside the mesh, or a
quarter of them; messages are kept for five. Knows peers as numbers. Must not know links, records'
contents or who is honest. One topic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, final

DEGREE: Final = 6
DEGREE_LOW: Final = 4
DEGREE_HIGH: Final = 12
HEARTBEAT_MS: Final = 1000
WINDOW: Final = 3  # heartbeats whose messages are told of
HISTORY: Final = 5  # heartbeats whose messages are kept
LAZY_MIN: Final = 6
LAZY_SHARE: Final = 0.25
GRAFT_THRESHOLD: Final = 0.5  # of the median score
GRAFTS_EXTRA: Final = 2  # a heartbeat adds so many to a mesh that is large enough
BACK_OFF_MS: Final = 60_000
GRAFT_FLOOD_MS: Final = 10_000

Worth = Callable[[int], int]  # of a peer, 0 or 1


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat sends: to whom GRAFT, PRUNE and IHAVE, and of which records."""

    grafts: list[int]
    prunes: list[int]
    listeners: list[int]
    told: tuple[int, ...]


@final
class Mesh:
    """Peers of one node that records are passed to, and what it tells the others.

    Args:
        peers: all that are connected, subscribed; shared with the node, kept by it.
        dice: of choices.
        worth: what libp2p is told a peer's score is.
    """

    __slots__ = ("_cache", "_dice", "_peers", "_pruned", "_refused", "_worth", "members")

    def __init__(self, peers: dict[int, bool], dice: Random, worth: Worth = lambda _: 0) -> None:
        self._peers = peers
        self._worth = worth
        self._dice = dice
        self.members: dict[int, None] = {}  # in order of joining
        self._refused: dict[int, int] = {}  # peer: until when it may not be grafted
        self._pruned: dict[int, int] = {}  # peer: when it sent us PRUNE
        self._cache: list[list[int]] = [[] for _ in range(HISTORY)]

    def keep(self, record: int) -> None:
        """Remember a record that is passed on, to tell of it and to hand it out."""
        self._cache[0].append(record)

    def kept(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Those of some records that are still here."""
        held = [record for record in wanted if any(record in slot for slot in self._cache)]
        return tuple(held)

    def recent(self) -> tuple[int, ...]:
        """The records a new peer is handed at once."""
        return tuple(record for slot in self._cache[:WINDOW] for record in slot)

    def joined(self, peer: int, now_ms: int) -> bool:
        """Take note of a new peer; True if it is to be grafted at once."""
        if len(self.members) >= DEGREE_LOW or peer in self.members or self._backs_off(peer, now_ms):
            return False
        self.members[peer] = None
        return True

    def left(self, peer: int) -> None:
        """Forget a peer that is gone."""
        self.members.pop(peer, None)

    def clear(self) -> None:
        """Forget everything: the node starts again."""
        self.members.clear()
        self._refused.clear()
        self._pruned.clear()
        self._cache = [[] for _ in range(HISTORY)]

    def on_graft(self, peer: int, now_ms: int) -> bool:
        """Be asked into a peer's mesh; False if it is to be told PRUNE."""
        pruned_ms = self._pruned.get(peer)
        if pruned_ms is not None and now_ms - pruned_ms < GRAFT_FLOOD_MS:
            return False
        if self._backs_off(peer, now_ms):
            self._refused[peer] = now_ms + BACK_OFF_MS
            return False
        self.members[peer] = None
        return True

    def on_prune(self, peer: int, now_ms: int) -> None:
        """Be told to leave a peer's mesh."""
        self._refused[peer] = now_ms + BACK_OFF_MS
        self._pruned[peer] = now_ms
        self.members.pop(peer, None)

    def heartbeat(self, now_ms: int) -> Beat:
        """Do what is done each second."""
        members = self.members
        count = len(members)
        grafts: list[int] = []
        if count < DEGREE_LOW:
            grafts = self._outside(DEGREE - count, now_ms)
        elif count < len(self._peers):
            grafts = self._better(now_ms)
        for peer in grafts:
            members[peer] = None
        prunes: list[int] = []
        if count > DEGREE_HIGH:
            pool = self._dice.sample(list(members), len(members))
            prunes = sorted(pool, key=self._worth)[: count - DEGREE]
            for peer in prunes:
                del members[peer]
        told = self.recent()
        listeners: list[int] = []
        if told:
            lazy = max(LAZY_MIN, int((len(self._peers) - len(members)) * LAZY_SHARE))
            listeners = self._outside(lazy, now_ms)
        self._cache.insert(0, [])
        self._cache.pop()
        if swap := self._swap(now_ms):
            prunes.append(swap[0])
            grafts.append(swap[1])
        return Beat(grafts, prunes, listeners, told)

    def _better(self, now_ms: int) -> list[int]:
        """Opportunistic grafting: two peers outside that reach the threshold, the best first."""
        scores = sorted(map(self._worth, self.members))
        middle = (scores[(len(scores) - 1) // 2] + scores[len(scores) // 2]) / 2
        threshold = max(middle * GRAFT_THRESHOLD, scores[0] * 1.1)
        if threshold > 1:
            return []
        pool = self._outside(len(self._peers), now_ms)
        worth = {peer: self._worth(peer) for peer in pool}
        able = [peer for peer in pool if worth[peer] >= threshold]
        able = self._dice.sample(able, len(able))
        able.sort(key=lambda peer: -worth[peer])
        return able[:GRAFTS_EXTRA]

    def _swap(self, now_ms: int) -> tuple[int, int] | None:
        """Exchange the worst member for the best other peer, if that is better."""
        if len(self.members) < DEGREE:
            return None
        worst = min(self.members, key=self._worth)
        if self._worth(worst):
            return None
        pool = self._outside(len(self._peers), now_ms)
        best = next((peer for peer in pool if self._worth(peer)), None)
        if best is None:
            return None
        del self.members[worst]
        self.members[best] = None
        self._refused[worst] = now_ms + BACK_OFF_MS
        self._pruned[worst] = now_ms
        return worst, best

    def _outside(self, count: int, now_ms: int) -> list[int]:
        members, refused = self.members, self._refused
        pool = [peer for peer in self._peers if peer not in members]
        if refused:
            pool = [peer for peer in pool if refused.get(peer, 0) <= now_ms]
        return pool if len(pool) <= count else self._dice.sample(pool, count)

    def _backs_off(self, peer: int, now_ms: int) -> bool:
        return self._refused.get(peer, 0) > now_ms
