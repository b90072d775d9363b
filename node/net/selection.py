"""Which peers a node dials by itself: a quota, spread so that one party cannot be all of it.

Knows the address book and the outbound links there are. Must not know clocks, dice or sockets:
both are handed in. What it promises, in order:

1. after a start the anchors come first: links of before, which nobody could choose for us;
2. every outbound link is in a group of its own (/16) while other groups are left; beyond that at
   most half of the quota may share one;
3. at most half of the quota are hints (DNS, mDNS);
4. of the quota two are the oldest acquaintances (a table poisoned yesterday has none of them),
   two are near (round trip), the rest is drawn, known addresses before told ones, regions that
   are missing first.

Source: RELIABILITY threat 6 and section 6; Heilman et al. (2015), section 7; bitcoin's
`CConnman::ThreadOpenConnections`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from prsm.node.net.addresses import ANCHORS_MAX, AddressBook, Dice, Entry, Kind
from prsm.node.net.places import Place
from prsm.protocol.ids import PeerId

OUTBOUND_QUOTA: Final = 8
SENIOR_SLOTS: Final = 2
NEAR_SLOTS: Final = 2
FEELER_EVERY_MS: Final = 120_000
OLDEST_OF: Final = 4  # a senior is drawn from so many of the oldest, so that none is fixed
NEAREST_OF: Final = 16  # the nearest of so many drawn ones
REGIONS_OF: Final = 4  # the rarest region of so many drawn ones
DRAWS_MAX: Final = 64
TRIED_IN_FOUR: Final = 3  # of four draws, those from what answered before


class Slot(Enum):
    """What an outbound link is kept for."""

    ANCHOR = "anchor"
    SENIOR = "senior"
    NEAR = "near"
    DRAWN = "drawn"
    MEMBER = "member"  # a validator's link to another one: beside the quota
    FEELER = "feeler"  # dialled, greeted, closed: is anybody there?


@dataclass(frozen=True, slots=True)
class Outbound:
    """An outbound link of the quota, live or being dialled."""

    place: Place
    slot: Slot
    kind: Kind
    since_ms: int
    region: str = ""


@dataclass(frozen=True, slots=True)
class Dial:
    """An order: dial this address and keep the link for that slot."""

    place: Place
    slot: Slot
    kind: Kind
    region: str

    @property
    def is_kept(self) -> bool:
        """Whether the link counts to the quota."""
        return self.slot not in {Slot.FEELER, Slot.MEMBER}

    def link(self, now_ms: int) -> Outbound:
        """The link it is to lead to, as it counts from now on."""
        return Outbound(self.place, self.slot, self.kind, now_ms, self.region)


class Selection:
    """The choices of one run of a node.

    Args:
        book: what is known; only read here.
        dice: who draws.
        quota: outbound links to keep.
    """

    def __init__(self, book: AddressBook, dice: Dice, *, quota: int = OUTBOUND_QUOTA) -> None:
        self._book = book
        self._dice = dice
        self.quota = quota
        self._anchors = list(book.anchors)
        self._feeler_ms: int | None = None

    def next_dial(
        self, links: Sequence[Outbound], *, barred: frozenset[PeerId], now_ms: int
    ) -> Dial | None:
        """What to dial now so that the quota is full; None: it is, or nobody can be dialled.

        Args:
            links: the outbound links of the quota, also those being dialled.
            barred: peers not to dial: linked otherwise, banned, of another network.
            now_ms: wall time.
        """
        if len(links) >= self.quota:
            return None
        view = _View(links, barred, self.quota, now_ms)
        while self._anchors:
            entry = self._book.get(self._anchors.pop(0))
            # Whether it was tried a moment before the restart does not matter: once, now.
            if entry is not None and view.may_link(entry):
                return _dial(entry, Slot.ANCHOR)
        if not any(map(view.is_ready, self._book)):  # hundreds of draws would find nobody
            return None
        for slot in (Slot.SENIOR, Slot.NEAR):
            wanted = SENIOR_SLOTS if slot is Slot.SENIOR else NEAR_SLOTS
            if sum(link.slot is slot for link in links) < min(wanted, self.quota // 4):
                pick = self._senior if slot is Slot.SENIOR else self._near
                if entry := pick(view):
                    return _dial(entry, slot)
        entry = self._drawn(view, view.is_free) or self._drawn(view, view.is_shared)
        return _dial(entry, Slot.DRAWN) if entry else None

    def next_feeler(
        self, links: Sequence[Outbound], *, barred: frozenset[PeerId], now_ms: int
    ) -> Dial | None:
        """Whom to dial only to learn whether it is there; one in two minutes.

        A contested place is tested first, then what was only told, then what is known longest
        without a word.
        """
        if self._feeler_ms is None or now_ms < self._feeler_ms - FEELER_EVERY_MS:
            self._feeler_ms = now_ms + FEELER_EVERY_MS
        if now_ms < self._feeler_ms:
            return None
        self._feeler_ms = now_ms + FEELER_EVERY_MS
        view = _View(links, barred, self.quota, now_ms)
        entry = (
            self._book.to_test(now_ms) or self._told(view.is_ready) or self._silent(view.is_ready)
        )
        return _dial(entry, Slot.FEELER) if entry else None

    # -- how each slot is filled

    def _senior(self, view: "_View") -> Entry | None:
        able = [entry for entry in self._book.tried() if view.is_free(entry)]
        able.sort(key=lambda entry: (entry.first_success_ms, entry.place.text))
        return able[self._dice.randrange(min(OLDEST_OF, len(able)))] if able else None

    def _near(self, view: "_View") -> Entry | None:
        drawn = self._draws(view.is_free, want=NEAREST_OF, told=False)
        measured = [entry for entry in drawn if entry.rtt_ms]
        return min(measured, key=lambda entry: entry.rtt_ms, default=None)

    def _drawn(self, view: "_View", able: Callable[[Entry], bool]) -> Entry | None:
        drawn = self._draws(able, want=REGIONS_OF, told=True)
        if not drawn:  # few can be dialled: look at each
            drawn = [entry for entry in self._book if able(entry)]
            if not drawn:
                return None
            drawn = [drawn[self._dice.randrange(len(drawn))]]
        return min(drawn, key=lambda entry: view.regions.count(entry.region))

    def _draws(self, able: Callable[[Entry], bool], *, want: int, told: bool) -> list[Entry]:
        found: dict[str, Entry] = {}
        for _ in range(DRAWS_MAX):
            tried = not told or self._dice.randrange(4) < TRIED_IN_FOUR
            entry = self._book.draw(self._dice, tried=tried)
            if entry is not None and able(entry):
                found[entry.place.text] = entry
                if len(found) >= want:
                    break
        return list(found.values())

    def _told(self, able: Callable[[Entry], bool]) -> Entry | None:
        for _ in range(DRAWS_MAX):
            entry = self._book.draw(self._dice, tried=False)
            if entry is not None and able(entry):
                return entry
        return None

    def _silent(self, able: Callable[[Entry], bool]) -> Entry | None:
        known = (entry for entry in self._book if able(entry))
        return min(known, key=lambda entry: (entry.last_attempt_ms, entry.place.text), default=None)


def choose_anchors(links: Iterable[Outbound]) -> list[str]:
    """Which links to begin with after a restart: the oldest, of distinct groups, no hints."""
    chosen: dict[str, str] = {}
    for link in sorted(links, key=lambda link: (link.since_ms, link.place.text)):
        if not link.kind.is_hint and len(chosen) < ANCHORS_MAX:
            chosen.setdefault(link.place.group, link.place.text)
    return list(chosen.values())


class _View:
    """Who may be linked beside the links there are."""

    def __init__(
        self, links: Sequence[Outbound], barred: frozenset[PeerId], quota: int, now_ms: int
    ) -> None:
        self._peers = barred | {link.place.peer for link in links}
        self._groups = [link.place.group for link in links]
        self.regions = [link.region for link in links]
        self._now_ms = now_ms
        repeats = len(self._groups) - len(set(self._groups))
        self._may_repeat = repeats < quota // 2
        self._may_hint = sum(link.kind.is_hint for link in links) < quota // 2

    def may_link(self, entry: Entry) -> bool:
        """Whether a link to it would keep what is promised, whenever it was dialled last."""
        return (
            entry.place.peer not in self._peers
            and entry.place.group not in self._groups
            and (self._may_hint or not entry.kind.is_hint)
        )

    def is_free(self, entry: Entry) -> bool:
        """Whether it may be dialled now, in a group that has no link yet."""
        return self.may_link(entry) and self._is_due(entry)

    def is_shared(self, entry: Entry) -> bool:
        """Whether it may be dialled now although its group has a link."""
        return (
            self._may_repeat
            and entry.place.peer not in self._peers
            and (self._may_hint or not entry.kind.is_hint)
            and self._is_due(entry)
        )

    def is_ready(self, entry: Entry) -> bool:
        """Whether it may be dialled now without being kept."""
        return entry.place.peer not in self._peers and self._is_due(entry)

    def _is_due(self, entry: Entry) -> bool:
        return entry.is_ready(self._now_ms) and not entry.is_stale(self._now_ms)


def _dial(entry: Entry, slot: Slot) -> Dial:
    return Dial(entry.place, slot, entry.kind, entry.region)
