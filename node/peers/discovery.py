"""Finding peers: whom this node dials by itself, and the address book it does it with.

Knows the book, the selection, the configured peers, who the validators are. Must not know what
peers are for. It dials nobody unless it was told an address: by its configuration, by a peer it
was told of, or by its own file. Decisions are `node/net/selection`'s; this carries them out.

Invariants: a link that was chosen here is closed here; one dial to a peer at a time; the file of
the book is written at most once a minute, whole or not at all.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from prsm.node.clock import Clock
from prsm.node.net.addresses import Dice, Entry, Kind
from prsm.node.net.entry import PeerFull
from prsm.node.net.interface import Network, PeerEvent, PeerUnreachable
from prsm.node.net.places import Place, is_place, place_of
from prsm.node.net.seeds import Seeds
from prsm.node.net.selection import (
    OUTBOUND_QUOTA,
    Dial,
    Outbound,
    Selection,
    Slot,
    choose_anchors,
)
from prsm.node.peers.bookshelf import load_book, save_book
from prsm.node.peers.bootstrap import Bootstrap
from prsm.node.peers.exchange import Exchange, Teller
from prsm.node.telemetry import logs
from prsm.protocol.errors import LocalError, RemoteError
from prsm.protocol.ids import PeerId

log = logs.get("discovery")

HINT: Final = "discovery"  # whose hints these are
LOOK_SECONDS: Final = 1.0
NOBODY_MS: Final = 5_000  # without news; a back-off of an address may end meanwhile
DIALS_MAX: Final = 4
URGENT_MAX: Final = 64  # dials at once when a validator hears nothing of the chain
LOST_GRACE_MS: Final = 30_000  # the network redials a lost link so long; then another is chosen
BARRED_MS: Final = 3600_000  # of another network, or refusing us
BARRED_MAX: Final = 1024
ANCHOR_AGE_MS: Final = 60_000
REFRESH_MS: Final = 600_000
SAVE_EVERY_MS: Final = 300_000
SAVE_ANCHORS_MS: Final = 60_000
LAST_SAVE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Aims:
    """What a node was told about its links.

    Attributes:
        bootstrap: peers to begin with, as addresses with /p2p/; always linked where `outbound` is 0
            or `trusted` names peers.
        announce: where others may dial it, without /p2p/; empty: where it listens.
        outbound: links to keep by its own choice; 0: none, and nobody is asked for addresses.
        region: label of this node for the topology.
        trusted: the only peers it deals with; everybody if empty.
    """

    bootstrap: Sequence[str] = ()
    announce: Sequence[str] = ()
    outbound: int = OUTBOUND_QUOTA
    region: str = ""
    trusted: frozenset[PeerId] = frozenset()


@dataclass(frozen=True, slots=True)
class Agreement:
    """What discovery asks of the chain.

    Attributes:
        members: peers of the validators of now.
        patience_ms: how long no certificate is normal: a heartbeat block and three timeouts; 0:
            for ever.
    """

    members: Callable[[], Collection[PeerId]] = tuple
    patience_ms: int = 0


@dataclass(slots=True)
class _Kept:
    link: Outbound
    lost_ms: int | None = None  # monotonic
    is_banned: bool = False
    refreshed_ms: int = 0


class Discovery:
    """Keeps a node linked.

    Args:
        network: not running yet.
        aims: what the owner wants.
        path: file of the book; None: it is kept in memory only.
        clock: of the node.
        dice: `random.SystemRandom()` in a node.
    """

    def __init__(
        self, network: Network, aims: Aims, path: Path | None, *, clock: Clock, dice: Dice
    ) -> None:
        self._network = network
        self._aims = aims
        self._path = path
        self._clock = clock
        self.agreement = Agreement()
        self.more_addresses: Callable[[], Sequence[str]] = tuple  # such as places at relays
        self.book = load_book(path, us=network.peer_id, now_ms=clock.wall_ms(), dice=dice)
        self._selection = Selection(self.book, dice, quota=aims.outbound)
        self._kept: dict[PeerId, _Kept] = {}
        self._unkept: set[PeerId] = set()  # our hint may stand; given up, also after a crash
        self._dialling: dict[PeerId, Dial] = {}
        self._barred: dict[PeerId, int] = {}
        # Who deals with few only, or chooses nobody, has nobody else to go to.
        quota = 0 if aims.trusted else aims.outbound
        self._bootstrap = Bootstrap(
            network, aims.bootstrap, Seeds(quota, dice), stay=self._fellow_members
        )
        self._bootstrap.note = self._note_configured
        self._configured = self._bootstrap.peers
        self._heard_ms = clock.monotonic_ms()
        self._saved_ms = self._clock.wall_ms()
        self._news = trio.Event()
        self._has_news = True
        self._nobody_until_ms = 0
        self.exchange: Exchange | None = None
        if aims.outbound:
            teller = Teller(aims.region, self.own_addresses, aims.trusted)
            self.exchange = Exchange(network, self.book, teller, clock=clock, dice=dice)
            self.exchange.chosen = lambda: self.kept
            self.exchange.vouched = frozenset(self._bootstrap.addresses)
            self._bootstrap.hear = self.exchange.hear_elsewhere
        network.on_peer(self._on_peer)

    @property
    def outbound(self) -> tuple[Outbound, ...]:
        """The links this node chose, live or being redialled."""
        return tuple(kept.link for kept in self._kept.values())

    @property
    def kept(self) -> frozenset[PeerId]:
        """Peers whose links are kept from here: chosen, or configured."""
        return self._configured | self._kept.keys()

    def is_trusted(self, peer: PeerId) -> bool:
        """Whether the owner lets this node deal with a peer."""
        return not self._aims.trusted or peer in self._aims.trusted

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until cancelled; the network must run."""
        try:
            async with trio.open_nursery() as nursery:
                self._bootstrap.start(nursery)
                if self.exchange is not None:
                    await nursery.start(self.exchange.run)
                task_status.started()
                while True:
                    self._settle()
                    for peer in sorted(self._unkept - self._dialling.keys()):
                        await self._give_up(peer)
                    self._bootstrap.look(self._chosen(), now_ms=self._clock.monotonic_ms())
                    for dial in self._orders():
                        self._dialling[dial.place.peer] = dial
                        nursery.start_soon(self._dial, dial)
                    await self._save_sometimes()
                    with trio.move_on_after(LOOK_SECONDS):
                        await self._news.wait()
                        self._has_news = True
                    self._news = trio.Event()
        finally:
            with trio.move_on_after(LAST_SAVE_SECONDS, shield=True):
                await self._save()

    def heard_certificate(self) -> None:
        """Note that the chain goes on."""
        self._heard_ms = self._clock.monotonic_ms()

    def hear(self, place: Place, *, source: str, kind: Kind) -> bool:
        """Take a hint of somebody who is no peer, such as mDNS; whether it was new."""
        if not self.is_trusted(place.peer):
            return False
        now_ms = self._clock.wall_ms()
        new = self.book.learn(place, source=source, kind=kind, now_ms=now_ms)
        if new:
            self._news.set()
        return new

    # -- what to dial

    def _orders(self) -> list[Dial]:
        now_ms = self._clock.wall_ms()
        self._barred = {peer: until for peer, until in self._barred.items() if until > now_ms}
        live = frozenset(info.peer for info in self._network.peers())
        orders = self._members(live, now_ms)
        if not self._aims.outbound:
            return orders
        taken = {dial.place.peer for dial in orders}
        barred = live | self._barred.keys() | self._configured | self._kept.keys() | taken
        barred |= self._dialling.keys()
        links = [kept.link for kept in self._kept.values() if kept.link.slot is not Slot.MEMBER]
        links += [dial.link(now_ms) for dial in self._dialling.values() if dial.is_kept]
        room = DIALS_MAX - len(self._dialling) if self._may_find(now_ms) else 0
        while room > 0:
            dial = self._selection.next_dial(links, barred=barred, now_ms=now_ms)
            if dial is None:
                self._nobody_until_ms = now_ms + NOBODY_MS
                break
            orders.append(dial)
            links.append(dial.link(now_ms))
            room -= 1
        feeler = self._selection.next_feeler(links, barred=barred, now_ms=now_ms)
        return [*orders, feeler] if feeler else orders

    def _members(self, live: frozenset[PeerId], now_ms: int) -> list[Dial]:
        """A validator keeps a link to each other one it knows an address of."""
        members = frozenset(self.agreement.members())
        if self._network.peer_id not in members:
            return []
        urgent = self._is_alarmed()
        busy = live | self._dialling.keys() | self._configured | {self._network.peer_id}
        busy |= self._kept.keys()
        wanted = [self.book.of_peer(peer) for peer in sorted(members - busy)]
        if urgent:
            anchors = [self.book.get(text) for text in self.book.anchors]
            wanted += [[entry] for entry in anchors if entry and entry.place.peer not in busy]
        orders: dict[PeerId, Dial] = {}
        for entries in wanted:
            entry = _first(entries, now_ms, urgent=urgent)
            if entry is not None and len(orders) < URGENT_MAX:
                orders[entry.place.peer] = Dial(entry.place, Slot.MEMBER, entry.kind, entry.region)
        if urgent and orders:
            log.warning("no block: anchors and known validators are dialled", count=len(orders))
        return list(orders.values())

    def _may_find(self, now_ms: int) -> bool:
        """Whether there may be somebody to choose: not right after all of the book was in vain."""
        is_over = not 0 < self._nobody_until_ms - now_ms <= NOBODY_MS
        if self._has_news or is_over:
            self._has_news = False
            return True
        return False

    def _fellow_members(self) -> Collection[PeerId]:
        members = frozenset(self.agreement.members())
        return members if self._network.peer_id in members else frozenset()

    def _chosen(self) -> int:
        """Live links of the quota."""
        kept = self._kept.values()
        return sum(one.lost_ms is None and one.link.slot is not Slot.MEMBER for one in kept)

    def _is_alarmed(self) -> bool:
        """Whether no certificate was seen for too long; once in that time."""
        patience_ms, now_ms = self.agreement.patience_ms, self._clock.monotonic_ms()
        if not patience_ms or now_ms - self._heard_ms < patience_ms:
            return False
        self._heard_ms = now_ms
        return True

    # -- dialling

    async def _dial(self, dial: Dial) -> None:
        peer, text = dial.place.peer, dial.place.text
        try:
            await self._network.connect(text, hint=HINT)
        except PeerUnreachable as error:
            if isinstance(error, PeerFull) and self.exchange is not None and dial.is_kept:
                self.exchange.hear_elsewhere(text, error.others)
            self.book.failed(
                text, now_ms=self._clock.wall_ms(), counted=bool(self._network.peers())
            )
        except (LocalError, RemoteError) as error:
            log.info("peer is not for us", peer=peer, why=error.what)
            self.book.failed(text, now_ms=self._clock.wall_ms())
            self._bar(peer)
        else:
            self._unkept.add(peer)
            is_there, now_ms = await self._is_there(peer, text), self._clock.wall_ms()
            if is_there:
                self.book.succeeded(text, now_ms=now_ms, region=dial.region)
            else:
                self.book.failed(text, now_ms=now_ms)
            if is_there and (dial.is_kept or dial.slot is Slot.MEMBER):
                self._kept[peer] = _Kept(dial.link(now_ms), refreshed_ms=now_ms)
                self._unkept.discard(peer)
            else:
                await self._give_up(peer)
        finally:
            del self._dialling[peer]
            self._news.set()

    async def _give_up(self, peer: PeerId) -> None:
        await self._network.disconnect(peer, hint=HINT)
        self._unkept.discard(peer)

    async def _is_there(self, peer: PeerId, text: str) -> bool:
        """Is a peer that is linked at this address? Its link may be another one, made meanwhile."""
        info = next((info for info in self._network.peers() if info.peer == peer), None)
        if info is None or (info.outbound and is_place(info.address, text)):
            return True
        try:
            await self._network.probe(text)
        except (LocalError, RemoteError) as error:
            log.info("peer is not where it was said to be", peer=peer, why=error.what)
            return False
        return True

    def _bar(self, peer: PeerId) -> None:
        if len(self._barred) >= BARRED_MAX:
            del self._barred[min(self._barred, key=lambda known: self._barred[known])]
        self._barred[peer] = self._clock.wall_ms() + BARRED_MS

    def _note_configured(self, address: str, kind: Kind) -> None:
        try:
            place = place_of(address)
        except LocalError:
            return
        now_ms = self._clock.wall_ms()
        self.book.learn(place, source="configured", kind=kind, now_ms=now_ms)
        self.book.succeeded(place.text, now_ms=now_ms)

    # -- what became of the links

    def _on_peer(self, event: PeerEvent) -> None:
        kept = self._kept.get(event.peer)
        if kept is not None:
            kept.lost_ms = None if event.up else self._clock.monotonic_ms()
            kept.is_banned = event.is_banned
        self._news.set()

    def _settle(self) -> None:
        """Note what became known of the links; those that are lost for long are not kept."""
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        live = {info.peer: info for info in self._network.peers()}
        for peer, kept in tuple(self._kept.items()):
            info, text = live.get(peer), kept.link.place.text
            if info is not None:
                kept.lost_ms = None
                self.book.note(text, rtt_ms=info.rtt_ms or 0)
                is_due = not 0 <= wall_ms - kept.refreshed_ms < REFRESH_MS
                if is_due and info.outbound and is_place(info.address, text):
                    kept.refreshed_ms = wall_ms
                    self.book.succeeded(text, now_ms=wall_ms)
            elif kept.lost_ms is None:
                kept.lost_ms = now_ms
            elif kept.is_banned or now_ms - kept.lost_ms > LOST_GRACE_MS:
                del self._kept[peer]
                self._unkept.add(peer)
                self.book.failed(text, now_ms=wall_ms, counted=bool(live))

    def own_addresses(self) -> Sequence[str]:
        """Where others are told to dial this node."""
        us = self._network.peer_id
        announced = [f"{address}/p2p/{us}" for address in self._aims.announce]
        return tuple(
            dict.fromkeys([*(announced or self._network.addresses), *self.more_addresses()])
        )

    def elsewhere(self, address: str) -> Sequence[str]:
        """Whom one may dial who is seen at an address and finds no place here."""
        return self.exchange.elsewhere(address) if self.exchange is not None else ()

    # -- the file

    async def _save_sometimes(self) -> None:
        now_ms = self._clock.wall_ms()
        anchors = [
            kept.link
            for kept in self._kept.values()
            if kept.lost_ms is None and now_ms - kept.link.since_ms >= ANCHOR_AGE_MS
        ]
        changed = bool(anchors) and self.book.set_anchors(choose_anchors(anchors))
        age_ms = now_ms - self._saved_ms
        if age_ms >= SAVE_EVERY_MS or age_ms < 0 or (changed and age_ms >= SAVE_ANCHORS_MS):
            self.book.forget_stale(now_ms)
            await self._save()

    async def _save(self) -> None:
        self._saved_ms = self._clock.wall_ms()
        if self._path is not None:
            await save_book(self._path, self.book)


def _first(entries: Sequence[Entry], now_ms: int, *, urgent: bool) -> Entry | None:
    return next((entry for entry in entries if urgent or entry.is_ready(now_ms)), None)
