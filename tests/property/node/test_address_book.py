"""The address book and the selection over random histories: their promises hold at every step."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.net.addresses import (
    BUCKET_SIZE,
    CHALLENGES_MAX,
    NEW_BUCKETS,
    TRIED_BUCKETS,
    AddressBook,
    Kind,
)
from prsm.node.net.bookfile import from_bytes, to_bytes
from prsm.node.net.places import Place
from prsm.node.net.selection import OUTBOUND_QUOTA, Outbound, Selection, Slot
from tests.tools.crowds import KEY, NOW_MS, place

CROWD = [
    *(place(n) for n in range(60)),  # each in a /16 of its own
    *(place(n, ip=f"9.9.{n // 200}.{n % 200 + 1}") for n in range(60, 500)),  # all in one
    *(place(n, ip="127.0.0.1", port=n) for n in range(500, 540)),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["learn", "learn", "succeed", "fail", "fail", "note", "wait"]),
        st.integers(0, len(CROWD) - 1),
        st.integers(0, 5),
    ),
    max_size=400,
)


def play(steps: list[tuple[str, int, int]]) -> tuple[AddressBook, int]:
    """A book after a history, and its time."""
    book, now_ms = AddressBook(KEY, us=CROWD[0].peer), NOW_MS
    for what, number, detail in steps:
        one = CROWD[number]
        match what:
            case "learn":
                kind = Kind(detail % len(Kind))
                book.learn(one, source=f"s{detail}", kind=kind, now_ms=now_ms)
            case "succeed":
                book.learn(one, source=f"s{detail}", kind=Kind.EXCHANGE, now_ms=now_ms)
                book.succeeded(one.text, now_ms=now_ms, rtt_ms=detail, region=f"r{detail}")
            case "fail":
                book.failed(one.text, now_ms=now_ms, counted=detail > 0)
            case "note":
                book.note(one.text, rtt_ms=detail)
            case _:
                now_ms += 10 ** (detail + 4)  # ten seconds to eleven days
                book.forget_stale(now_ms)
    return book, now_ms


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_every_entry_has_exactly_its_place(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happened: tables and entries agree, bounds hold, nobody is `tried` for nothing."""
    book, _ = play(steps)
    stood = {
        entry.place.text: tried
        for table, tried in ((book._new, False), (book._tried, True))
        for bucket in table.values()
        for entry in bucket.values()
    }
    assert stood == {entry.place.text: entry.tried for entry in book}
    for entry in book:
        where = book._tried_place(entry.place) if entry.tried else book._new_place(entry)
        table = book._tried if entry.tried else book._new
        assert table[where[0]][where[1]] is entry
        assert entry.last_success_ms or not entry.tried
        assert entry.first_success_ms <= entry.last_success_ms <= entry.last_attempt_ms
    assert len(book.tried()) <= TRIED_BUCKETS * BUCKET_SIZE
    assert len(book) - len(book.tried()) <= NEW_BUCKETS * BUCKET_SIZE
    assert len(book._challenges) <= CHALLENGES_MAX
    assert CROWD[0].text not in stood


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_book_is_the_same_after_its_bytes(steps: list[tuple[str, int, int]]) -> None:
    book, now_ms = play(steps)
    again = from_bytes(to_bytes(book), us=CROWD[0].peer, now_ms=now_ms)
    assert {entry.place.text: entry for entry in again} == {e.place.text: e for e in book}


@given(STEPS, st.integers(0, 2**32), st.sets(st.integers(0, len(CROWD) - 1)))
@settings(deadline=None, max_examples=40)
def test_chosen_links_keep_every_promise(
    steps: list[tuple[str, int, int]], seed: int, dead: set[int]
) -> None:
    """Fill the quota, some addresses dead: distinct peers, groups, hints, and an end."""
    book, now_ms = play(steps)
    selection, links = Selection(book, random.Random(seed)), list[Outbound]()
    gone = {CROWD[number].text for number in dead}
    barred = frozenset({CROWD[1].peer})
    for _ in range(3 * len(CROWD)):
        dial = selection.next_dial(links, barred=barred, now_ms=now_ms)
        if dial is None:
            break
        if dial.place.text in gone:
            book.failed(dial.place.text, now_ms=now_ms)
        else:
            links.append(Outbound(dial.place, dial.slot, dial.kind, now_ms, dial.region))
    else:
        raise AssertionError("the selection has no end")
    _check(links, barred)


def _check(links: list[Outbound], barred: frozenset[str]) -> None:
    places: list[Place] = [link.place for link in links]
    groups = {one.group for one in places}
    assert len(links) <= OUTBOUND_QUOTA
    assert len({one.peer for one in places}) == len(links)
    assert not {one.peer for one in places} & barred
    assert len(links) - len(groups) <= OUTBOUND_QUOTA // 2
    assert sum(link.kind.is_hint for link in links) <= OUTBOUND_QUOTA // 2
    assert sum(link.slot is Slot.SENIOR for link in links) <= 2
    assert sum(link.slot is Slot.NEAR for link in links) <= 2
