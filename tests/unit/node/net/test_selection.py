"""Selection: the quota is spread over groups, acquaintances, regions and kinds."""

import random
from collections import Counter

from prsm.node.net.addresses import AddressBook, Kind
from prsm.node.net.places import Place
from prsm.node.net.selection import (
    FEELER_EVERY_MS,
    OUTBOUND_QUOTA,
    Dial,
    Outbound,
    Selection,
    Slot,
    choose_anchors,
)
from tests.tools.crowds import KEY, NOW_MS, known, place

LATER = NOW_MS + 3600_000


def hours(count: int) -> int:
    return NOW_MS + count * 3600_000


def fill(
    selection: Selection, book: AddressBook, *, now_ms: int = LATER, dead: set[str] | None = None
) -> list[Outbound]:
    """Dial what is chosen until nothing is chosen any more; `dead` addresses do not answer."""
    links: list[Outbound] = []
    for _ in range(3_000):
        dial = selection.next_dial(links, barred=frozenset(), now_ms=now_ms)
        if dial is None:
            return links
        if dead and dial.place.text in dead:
            book.failed(dial.place.text, now_ms=now_ms)
            continue
        book.succeeded(dial.place.text, now_ms=now_ms)
        links.append(Outbound(dial.place, dial.slot, dial.kind, now_ms, dial.region))
    raise AssertionError("the selection goes on for ever")


def test_quota_is_filled_in_distinct_groups() -> None:
    book = known([place(n) for n in range(100)], dice=random.Random(1))
    links = fill(Selection(book, random.Random(2)), book)
    assert len(links) == OUTBOUND_QUOTA
    assert len({link.place.group for link in links}) == OUTBOUND_QUOTA
    assert Counter(link.slot for link in links) == {Slot.SENIOR: 2, Slot.NEAR: 2, Slot.DRAWN: 4}


def test_one_group_fills_at_most_half_of_the_quota_beside_its_first() -> None:
    """A university has one /16: its nodes still find one another, but not for the whole quota."""
    crowd = [place(n, ip=f"9.9.1.{n + 1}") for n in range(60)]
    links = fill(Selection(known(crowd), random.Random(1)), known(crowd))
    assert len(links) == 1 + OUTBOUND_QUOTA // 2


def test_groups_are_shared_only_when_no_other_is_left() -> None:
    crowd = [place(n, ip=f"9.9.1.{n + 1}") for n in range(60)]
    others = [place(n) for n in range(100, 105)]
    book = known([*crowd, *others])
    links = fill(Selection(book, random.Random(3)), book)
    assert {link.place for link in links} >= set(others)
    assert len(links) == OUTBOUND_QUOTA


def test_local_networks_are_exempt_from_groups() -> None:
    book = known([place(n, ip="127.0.0.1", port=5000 + n) for n in range(20)])
    assert len(fill(Selection(book, random.Random(1)), book)) == OUTBOUND_QUOTA


def test_anchors_come_first_and_once() -> None:
    book = known([place(n) for n in range(50)])
    anchors = [place(7).text, place(11).text]
    book.set_anchors(anchors)
    links = fill(Selection(book, random.Random(1)), book)
    assert [link.place.text for link in links[:2]] == anchors
    assert all(link.slot is Slot.ANCHOR for link in links[:2])
    gone = fill(Selection(book, random.Random(1)), book, now_ms=hours(2), dead=set(anchors))
    assert not {link.place.text for link in gone} & set(anchors)


def test_anchor_dialled_a_moment_before_the_restart_is_dialled_again() -> None:
    book = known([place(1)])
    book.failed(place(1).text, now_ms=LATER)
    book.set_anchors([place(1).text])
    dial = Selection(book, random.Random(1)).next_dial((), barred=frozenset(), now_ms=LATER)
    assert dial is not None
    assert dial.slot is Slot.ANCHOR


def test_seniors_are_the_oldest_acquaintances() -> None:
    old, young = [place(n) for n in range(4)], [place(n) for n in range(100, 400)]
    book = known(old, since_ms=NOW_MS - 10**9)
    for one in young:
        book.learn(one, source=one.group, kind=Kind.EXCHANGE, now_ms=NOW_MS)
        book.succeeded(one.text, now_ms=NOW_MS)
    for seed in range(20):
        selection = Selection(book, random.Random(seed))
        dial = selection.next_dial((), barred=frozenset(), now_ms=LATER)
        assert dial is not None
        assert dial.slot is Slot.SENIOR
        assert dial.place in old


def test_near_slots_take_the_nearest_of_those_drawn() -> None:
    book = known([place(n) for n in range(40)])
    for number in range(40):
        book.note(place(number).text, rtt_ms=200 + number)
    book.note(place(17).text, rtt_ms=1)
    near = [
        link.place
        for seed in range(40)
        for link in fill(Selection(book, random.Random(seed)), book, now_ms=hours(seed + 2))
        if link.slot is Slot.NEAR
    ]
    assert near.count(place(17)) > 15


def test_missing_regions_come_first() -> None:
    book = known([place(n) for n in range(60)])
    for number in range(60):
        book.note(place(number).text, region=("eu", "us", "ap")[number % 20 // 9])
    with_regions = Counter(
        link.region
        for seed in range(30)
        for link in fill(Selection(book, random.Random(seed)), book, now_ms=hours(seed + 2))
        if link.slot is Slot.DRAWN
    )
    assert with_regions["ap"] > 30 * 4 * 2 // 20, "drawn more often than its tenth of the book"


def test_hints_are_at_most_half() -> None:
    book = AddressBook(KEY)
    for number in range(60):
        book.learn(place(number), source=f"s{number}", kind=Kind.MDNS, now_ms=NOW_MS)
    assert len(fill(Selection(book, random.Random(1)), book)) == OUTBOUND_QUOTA // 2


def test_known_addresses_come_before_told_ones() -> None:
    """Of 100 known and up to 2,000 told ones three draws of four are known ones."""
    book = known([place(n) for n in range(100)])
    for number in range(1_000, 3_000):
        book.learn(place(number), source=f"s{number}", kind=Kind.EXCHANGE, now_ms=NOW_MS)
    tried = {entry.place for entry in book.tried()}
    slots = (Slot.SENIOR, Slot.SENIOR, Slot.NEAR, Slot.NEAR)
    links = [Outbound(place(9_000 + n), slot, Kind.EXCHANGE, 0) for n, slot in enumerate(slots)]
    drawn = Counter[bool]()
    for seed in range(300):
        dial = Selection(book, random.Random(seed)).next_dial(
            links, barred=frozenset(), now_ms=LATER
        )
        assert dial is not None
        drawn[dial.place in tried] += 1
    assert drawn[True] > 2 * drawn[False]


def test_barred_peers_are_not_dialled() -> None:
    book = known([place(1), place(2)])
    selection = Selection(book, random.Random(1))
    barred = frozenset({place(1).peer})
    dial = selection.next_dial((), barred=barred, now_ms=LATER)
    assert dial is not None
    assert dial.place == place(2)
    assert selection.next_dial((_link(place(2)),), barred=barred, now_ms=LATER) is None


def test_nothing_is_drawn_while_nobody_can_be_dialled() -> None:
    """Of a network where everybody is linked a node would draw hundreds of times in vain."""
    places = [place(i) for i in range(8)]
    dice = random.Random(1)
    before = dice.getstate()
    barred = frozenset(one.peer for one in places)
    assert Selection(known(places), dice).next_dial([], barred=barred, now_ms=LATER) is None
    assert dice.getstate() == before


def test_feelers_come_every_two_minutes_and_test_told_addresses() -> None:
    book = known([place(1)])
    book.learn(place(2), source="s", kind=Kind.EXCHANGE, now_ms=NOW_MS)
    selection = Selection(book, random.Random(1))

    def feel(now_ms: int) -> Dial | None:
        return selection.next_feeler((), barred=frozenset(), now_ms=now_ms)

    assert feel(LATER) is None, "not at once: the quota comes first"
    dial = feel(LATER + FEELER_EVERY_MS)
    assert dial is not None
    assert (dial.place, dial.slot) == (place(2), Slot.FEELER)
    assert feel(LATER + FEELER_EVERY_MS + 1) is None
    book.succeeded(place(2).text, now_ms=LATER + FEELER_EVERY_MS)
    again = feel(LATER + 2 * FEELER_EVERY_MS)
    assert again is not None
    assert again.place == place(1), "nothing is only told: who was silent longest"


def test_anchors_are_the_oldest_links_of_distinct_groups() -> None:
    same = place(5, ip="9.9.1.1"), place(6, ip="9.9.1.2")
    links = [
        _link(place(1), since_ms=5, kind=Kind.MDNS),
        _link(same[0], since_ms=10),
        _link(same[1], since_ms=11),
        _link(place(2), since_ms=12),
        _link(place(3), since_ms=13),
    ]
    assert choose_anchors(links) == [same[0].text, place(2).text]


def _link(one: Place, *, since_ms: int = 0, kind: Kind = Kind.EXCHANGE) -> Outbound:
    return Outbound(one, Slot.DRAWN, kind, since_ms)
