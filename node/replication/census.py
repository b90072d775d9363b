"""Who holds which model, and who would hold more: told by announcements, doubted by lost links.

A table that is kept as announcements come, so that looking at it every two seconds costs nothing
where nothing changed. Pure: times are handed in. Must not know links, stores, or what follows.
Bounds: an author's records are bounded by their topics, all authors together here.
Source: docs/spec/storage.md, "Copies".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from prsm.node.replication.placement import Keeper
from prsm.protocol.ids import PeerId
from prsm.protocol.messages.announce import ModelOffer, StorageBeacon

OFFERS_MAX: Final = 50_000  # of all nodes: 1,000 of 50 models each
KEEPERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Heard:
    """When an announcement was made and until when it counts, in wall time."""

    made_ms: int
    expires_ms: int


class Census:
    """What was heard and still counts."""

    def __init__(self) -> None:
        self._offers: dict[bytes, dict[PeerId, Heard]] = {}
        self._beacons: dict[PeerId, tuple[StorageBeacon, Heard]] = {}
        self._lost_ms: dict[PeerId, int] = {}
        self._count = 0

    def hear_offer(self, peer: PeerId, offer: ModelOffer, heard: Heard) -> None:
        """Note that a node holds a model."""
        holders = self._offers.setdefault(offer.manifest, {})
        if peer not in holders:
            if self._count >= OFFERS_MAX:
                return
            self._count += 1
        holders[peer] = heard

    def hear_beacon(self, peer: PeerId, beacon: StorageBeacon, heard: Heard) -> None:
        """Note what a node would keep, and wishes."""
        if peer in self._beacons or len(self._beacons) < KEEPERS_MAX:
            self._beacons[peer] = (beacon, heard)

    def see(self, peer: PeerId, *, is_up: bool, now_ms: int) -> None:
        """Note that the link to a node came up or broke."""
        if is_up:
            self._lost_ms.pop(peer, None)
        else:
            self._lost_ms[peer] = now_ms

    def forget(self, now_ms: int) -> None:
        """Drop what does not count any more."""
        for cid, holders in list(self._offers.items()):
            gone = [peer for peer, heard in holders.items() if heard.expires_ms <= now_ms]
            for peer in gone:
                del holders[peer]
            self._count -= len(gone)
            if not holders:
                del self._offers[cid]
        beacons = self._beacons.items()
        self._beacons = {p: each for p, each in beacons if each[1].expires_ms > now_ms}
        spoke = {peer for holders in self._offers.values() for peer in holders}
        spoke.update(self._beacons)
        # A loss matters while something the peer said before it still counts.
        self._lost_ms = {peer: at for peer, at in self._lost_ms.items() if peer in spoke}

    def holders(self, me: PeerId, held: Collection[bytes]) -> dict[bytes, frozenset[PeerId]]:
        """Live holders by manifest.

        Args:
            me: this node, whose own announcements may lag behind.
            held: what it holds.
        """
        mine = frozenset(held)
        found: dict[bytes, frozenset[PeerId]] = {}
        for cid in sorted(mine | self._offers.keys()):
            others = self._offers.get(cid, {}).items()
            live = {peer for peer, heard in others if peer != me and self._is_live(peer, heard)}
            if cid in mine:
                live.add(me)
            found[cid] = frozenset(live)
        return found

    def keepers(self, bonded: Collection[PeerId]) -> dict[PeerId, Keeper]:
        """Live nodes with room for others' models."""
        return {
            peer: Keeper(peer, beacon.region, beacon.room_bytes, peer in bonded)
            for peer, (beacon, heard) in self._beacons.items()
            if beacon.room_bytes and self._is_live(peer, heard)
        }

    def wishes(self, holders: Mapping[bytes, Collection[PeerId]]) -> dict[bytes, int]:
        """The most copies any live holder of a model wishes for."""
        wishes: dict[bytes, int] = {}
        for peer, (beacon, _) in self._beacons.items():
            for wish in beacon.wishes:
                if peer in holders.get(wish.manifest, ()):
                    wishes[wish.manifest] = max(wishes.get(wish.manifest, 0), wish.copies)
        return wishes

    def _is_live(self, peer: PeerId, heard: Heard) -> bool:
        """A node we lost is live again once it said something later; its link says so at once."""
        lost_ms = self._lost_ms.get(peer)
        return lost_ms is None or heard.made_ms > lost_ms
