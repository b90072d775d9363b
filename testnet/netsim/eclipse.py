"""A restart with a poisoned address book: how many of the first links are honest.

Drives the address book, its file and the selection of a real node, ten thousand times; no links
are simulated beyond "somebody answers". The attacker answers at every address it has told; of the
honest peers some are gone. Must not know gossip. Without the guard the book is a plain list and
eight of it are dialled: the control.
"""

from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

from prsm.node.net.addresses import DAY_MS, AddressBook, Kind
from prsm.node.net.bookfile import from_bytes, to_bytes
from prsm.node.net.places import Place
from prsm.node.net.selection import OUTBOUND_QUOTA, Outbound, Selection, Slot, choose_anchors
from prsm.protocol.identity import peer_id_of
from prsm.protocol.ids import PeerId
from prsm.testnet.netsim.plan import Plan, Role
from prsm.testnet.netsim.scene import WALL_MS, place_for

HONEST: Final = 64  # peers the node knew by having been linked to them
LINKED_MS: Final = 3 * DAY_MS  # since when
POISON_MS: Final = DAY_MS  # since when the attacker tells of itself
TESTED: Final = 64  # of its addresses the node has dialled by then: feelers, lost links
TELL_AT_ONCE: Final = 64
DIALS_LONGEST: Final = 200
TABLES: Final = 50  # restarts with one poisoned book, differing in dice and in who is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Siege:
    """One attack on a book.

    Attributes:
        seed: of all dice.
        ratio: addresses of the attacker for each honest one.
        groups: /16 groups it has.
        gone: per mille of the honest peers that no longer answer.
        anchors_lost: whether the links of before the restart are forgotten too.
        guard: whether the real book and selection are used.
    """

    seed: int = 0
    ratio: int = 10
    groups: int = 32
    gone: int = 200
    anchors_lost: bool = True
    guard: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What many restarts showed.

    Attributes:
        runs: restarts.
        with_honest: of them, with at least one honest outbound link.
        honest_links: honest outbound links in all.
        known_honest: mean honest addresses in the book at the restart.
        known_sybils: mean addresses of the attacker there.
    """

    runs: int
    with_honest: int
    honest_links: int
    known_honest: float
    known_sybils: float

    @property
    def share(self) -> float:
        """Share of the restarts with at least one honest link."""
        return self.with_honest / self.runs if self.runs else 1.0


def play(siege: Siege, runs: int) -> Outcome:
    """Restart a node with poisoned books.

    Args:
        siege: how they are poisoned.
        runs: restarts; each `TABLES` of them share a book.
    """
    with_honest = links = 0
    sizes = [0, 0]
    tables = 0
    people = _People(siege, 0)
    saved = people.poisoned()
    for run in range(runs):
        if run % TABLES == 0:
            people = _People(siege, run)
            book = people.poisoned()
            tables += 1
            sizes[0] += sum(entry.place.peer in people.honest for entry in book)
            sizes[1] += sum(entry.place.peer not in people.honest for entry in book)
            saved = from_bytes(to_bytes(book), us=people.us, now_ms=WALL_MS)
        found = people.restart(saved, Random(f"{siege.seed} restart {run}"))
        with_honest += found > 0
        links += found
    return Outcome(runs, with_honest, links, sizes[0] / tables, sizes[1] / tables)


class _People:
    """Who there is around one node."""

    def __init__(self, siege: Siege, table: int) -> None:
        self._siege = siege
        self._dice = Random(f"{siege.seed} people {table}")
        plan = Plan(seed=siege.seed + table, sybil_groups=siege.groups)
        self._friends = [place_for(plan, number, Role.HONEST) for number in range(HONEST)]
        self._sybils = [
            place_for(plan, 100_000 + number, Role.SYBIL) for number in range(HONEST * siege.ratio)
        ]
        self.honest = {place.peer for place in self._friends}
        self._key = sha256(f"{siege.seed} key {table}".encode()).digest()
        self.us = peer_id_of(self._key)

    def poisoned(self) -> AddressBook:
        """The book of a node that had honest links, and then heard of sybils for a day."""
        book = AddressBook(self._key, us=self.us)
        linked_ms, poisoned_ms = WALL_MS - LINKED_MS, WALL_MS - POISON_MS
        for number, place in enumerate(self._friends):
            self._learn(book, place, self._friends[number // 8], linked_ms + number)
            book.succeeded(place.text, now_ms=linked_ms + number * 1000, rtt_ms=self._rtt_ms())
        kept = [
            Outbound(place, Slot.DRAWN, Kind.EXCHANGE, linked_ms)
            for place in self._friends[:OUTBOUND_QUOTA]
        ]
        book.set_anchors([] if self._siege.anchors_lost else choose_anchors(kept))
        for start in range(0, len(self._sybils), TELL_AT_ONCE):
            for place in self._sybils[start : start + TELL_AT_ONCE]:
                self._learn(book, place, self._sybils[start], poisoned_ms + start)
        for number, place in enumerate(self._sybils[:TESTED]):
            now_ms = poisoned_ms + 1000 * number
            while (tested := book.to_test(now_ms)) is not None:
                self._try(book, tested.place, now_ms)
            book.succeeded(place.text, now_ms=now_ms, rtt_ms=1)  # it answers at once
        return book

    def restart(self, saved: AddressBook, dice: Random) -> int:
        """Dial until the quota is full; return how many links are honest."""
        book = AddressBook(saved.key, us=self.us)
        for entry in saved:
            book.restore(copy(entry), WALL_MS)
        book.set_anchors(saved.anchors)
        gone = {place.peer for place in self._friends if dice.random() * 1000 < self._siege.gone}
        if not self._siege.guard:
            return self._plain(gone, dice)
        selection = Selection(book, dice)
        links: list[Outbound] = []
        now_ms = WALL_MS
        for _ in range(DIALS_LONGEST):
            dial = selection.next_dial(links, barred=frozenset(), now_ms=now_ms)
            if dial is None:
                break
            now_ms += 1000
            if dial.place.peer in gone:
                book.failed(dial.place.text, now_ms=now_ms)
            else:
                book.succeeded(dial.place.text, now_ms=now_ms)
                links.append(Outbound(dial.place, dial.slot, dial.kind, now_ms, dial.region))
        return sum(link.place.peer in self.honest for link in links)

    def _plain(self, gone: set[PeerId], dice: Random) -> int:
        """The control: eight of a list of all that was ever told."""
        there = [place for place in (*self._friends, *self._sybils) if place.peer not in gone]
        drawn = dice.sample(there, OUTBOUND_QUOTA)
        return sum(place.peer in self.honest for place in drawn)

    def _learn(self, book: AddressBook, place: Place, teller: Place, now_ms: int) -> None:
        book.learn(place, source=teller.group, kind=Kind.EXCHANGE, now_ms=now_ms)

    def _try(self, book: AddressBook, place: Place, now_ms: int) -> None:
        """Test the holder of a contested place: sybils always answer, honest ones mostly."""
        if place.peer in self.honest and self._dice.random() * 1000 < self._siege.gone:
            book.failed(place.text, now_ms=now_ms)
        else:
            book.succeeded(place.text, now_ms=now_ms)

    def _rtt_ms(self) -> int:
        return 10 + self._dice.randrange(150)
