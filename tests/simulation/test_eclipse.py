"""Eclipse on restart: a book poisoned 10:1, a start, and whether one honest peer is linked.

The real book and the real selection; only who answers is made up. Each run: a node knows honest
peers; then somebody pours in ten addresses for each that is known, from groups and sources of
their own, and all of his answer, so that feelers move what they test into `tried`. The node
restarts without configured peers: an honest peer is up with a chance of 7 in 10, anchors too.
Longer runs and more attacks: testnet/netsim.
"""

import random
from dataclasses import dataclass, replace

import pytest

from prsm.node.net.addresses import DAY_MS, AddressBook, Kind
from prsm.node.net.bookfile import from_bytes, to_bytes
from prsm.node.net.places import Place
from prsm.node.net.selection import OUTBOUND_QUOTA, Outbound, Selection, Slot, choose_anchors
from tests.tools.crowds import NOW_MS, place

HONEST = 60
SYBILS = 10 * HONEST
UP_OF_TEN = 7
POISONED_MS = NOW_MS + 10 * DAY_MS
RESTART_MS = POISONED_MS + DAY_MS


@dataclass(frozen=True)
class Attack:
    """What the attacker can do beyond owning ten addresses for each honest one.

    Attributes:
        groups: /16 networks he owns.
        sources: groups he tells his addresses from.
        tested: of his addresses, how many had been dialled and answered before the restart.
        anchors: whether the node remembers its last links.
    """

    groups: int
    sources: int
    tested: int
    anchors: bool = True


ATTACKS = {
    "told by 4 sources": Attack(groups=SYBILS, sources=4, tested=0),
    "told by 200 sources": Attack(groups=SYBILS, sources=200, tested=0),
    "all tested": Attack(groups=SYBILS, sources=200, tested=SYBILS),
    "all tested, 32 groups": Attack(groups=32, sources=32, tested=SYBILS),
    "all tested, no anchors": Attack(groups=SYBILS, sources=200, tested=SYBILS, anchors=False),
}


def poisoned(attack: Attack, honest: list[Place]) -> bytes:
    """The saved book of a node that was attacked for a day after ten quiet ones."""
    book = AddressBook(bytes(32))
    for number, one in enumerate(honest):
        book.learn(one, source=f"h{number}", kind=Kind.EXCHANGE, now_ms=NOW_MS + number)
        book.succeeded(one.text, now_ms=NOW_MS + number, rtt_ms=40 + number)
        book.succeeded(one.text, now_ms=POISONED_MS)
    for number in range(SYBILS):
        group = number % attack.groups
        ip = f"{150 + group // 200}.{group % 200 + 1}.{number // 250}.{number % 250 + 1}"
        sybil = place(100_000 + number, ip=ip)
        source = f"a{number % attack.sources}"
        book.learn(sybil, source=source, kind=Kind.EXCHANGE, now_ms=POISONED_MS)
        if number < attack.tested:
            book.succeeded(sybil.text, now_ms=RESTART_MS - 3600_000, rtt_ms=1)
    if attack.anchors:
        links = [Outbound(one, Slot.DRAWN, Kind.EXCHANGE, 0) for one in honest[20:22]]
        book.set_anchors(choose_anchors(links))
    return to_bytes(book)


def restart(saved: AddressBook, up: set[str], seed: int) -> list[Outbound]:
    """Fill the quota once: sybils answer, honest peers if they are up."""
    book = AddressBook(saved.key)
    for entry in saved:
        book.restore(replace(entry), RESTART_MS)
    book.set_anchors(saved.anchors)
    selection, links = Selection(book, random.Random(seed)), list[Outbound]()
    while dial := selection.next_dial(links, barred=frozenset(), now_ms=RESTART_MS):
        is_sybil = int(dial.place.group.partition(".")[0]) >= 150
        if is_sybil or dial.place.text in up:
            links.append(Outbound(dial.place, dial.slot, dial.kind, RESTART_MS, dial.region))
        else:
            book.failed(dial.place.text, now_ms=RESTART_MS)
    return links


def eclipsed(attack: Attack, runs: int) -> int:
    """How many of so many restarts linked to no honest peer at all."""
    honest = [place(n) for n in range(HONEST)]
    saved, lost = from_bytes(poisoned(attack, honest), us=None, now_ms=RESTART_MS), 0
    texts = {one.text for one in honest}
    for seed in range(runs):
        dice = random.Random(seed)
        up = {one.text for one in honest if dice.randrange(10) < UP_OF_TEN}
        links = restart(saved, up, seed)
        assert len(links) == OUTBOUND_QUOTA
        lost += not any(link.place.text in texts for link in links)
    return lost


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_restart_with_a_poisoned_table_finds_an_honest_peer(name: str) -> None:
    """40 restarts of each attack; the bar of 10,000 is the long run below."""
    assert eclipsed(ATTACKS[name], 40) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_ten_thousand_restarts_find_an_honest_peer(name: str) -> None:
    assert eclipsed(ATTACKS[name], 10_000) <= 10
