"""The address book: what is told gains little, what answered is not displaced unasked."""

import random

from prsm.node.net.addresses import (
    BUCKET_SIZE,
    CHALLENGES_MAX,
    DAY_MS,
    FRESH_MS,
    HOPELESS_AFTER,
    HORIZON_MS,
    MINUTE_MS,
    NEW_BUCKETS_PER_SOURCE,
    REGION_MAX,
    RETRY_FIRST_MS,
    RETRY_LONGEST_MS,
    TELLABLE_MS,
    TRIED_BUCKETS_PER_GROUP,
    AddressBook,
    Entry,
    Kind,
)
from prsm.node.net.places import Place, Scope, place_of
from tests.tools.crowds import KEY, NOW_MS, known, place


def learn(book: AddressBook, one: Place, source: str = "src", now_ms: int = NOW_MS) -> bool:
    return book.learn(one, source=source, kind=Kind.EXCHANGE, now_ms=now_ms)


def entry(book: AddressBook, one: Place) -> Entry:
    found = book.get(one.text)
    assert found is not None
    return found


def test_told_address_is_new_until_it_answers() -> None:
    book, one = AddressBook(KEY), place(1)
    assert learn(book, one)
    assert not learn(book, one)
    assert not entry(book, one).tried
    book.succeeded(one.text, now_ms=NOW_MS + 5, rtt_ms=12, region="eu")
    found = entry(book, one)
    assert found.tried
    assert (found.first_success_ms, found.rtt_ms, found.region) == (NOW_MS + 5, 12, "eu")
    assert book.tried() == [found]
    assert len(book) == 1


def test_own_address_is_never_an_entry() -> None:
    one = place(1)
    book = AddressBook(KEY, us=one.peer)
    assert not learn(book, one)
    assert len(book) == 0


def test_one_source_fills_its_share_only() -> None:
    """A flood of 5,000 addresses in 5,000 groups by one source reaches an eighth of the table."""
    book = AddressBook(KEY)
    for number in range(5_000):
        learn(book, place(number))
    assert len(book) <= NEW_BUCKETS_PER_SOURCE * BUCKET_SIZE
    assert learn(book, place(6_000), source="another")


def test_one_group_fills_its_share_of_tried_only() -> None:
    crowd = [place(n, ip=f"9.9.{n // 250}.{n % 250 + 1}") for n in range(1_000)]
    book = known(crowd)
    assert len(book.tried()) <= TRIED_BUCKETS_PER_GROUP * BUCKET_SIZE


def test_told_address_displaces_no_told_one_that_is_not_stale() -> None:
    book = AddressBook(KEY)
    first = [place(n) for n in range(300)]
    kept = [one for one in first if learn(book, one)]
    for number in range(1_000, 3_000):
        learn(book, place(number))
    assert all(book.get(one.text) for one in kept if one in kept[:1])
    assert [one for one in kept if book.get(one.text) is None] == []


def test_told_address_takes_the_place_of_a_stale_one() -> None:
    """Fill a source's share, let all of it fail, and tell others: they find room."""
    book = AddressBook(KEY)
    crowd = [place(n) for n in range(2_000)]
    held = [one for one in crowd if learn(book, one)]
    for one in held:
        for _ in range(HOPELESS_AFTER):
            book.failed(one.text, now_ms=NOW_MS)
    assert not any(learn(book, place(n), now_ms=NOW_MS + 1) for n in range(3_000, 3_100))
    later = NOW_MS + MINUTE_MS
    assert any(learn(book, place(n), now_ms=later) for n in range(3_000, 3_100))


def rivals(count: int = 1) -> tuple[AddressBook, list[tuple[Place, Place]]]:
    """Pairs that want one place of `tried`: the first holds it, the second has just answered."""
    book, holders, pairs = AddressBook(KEY), dict[tuple[int, int], Place](), []
    later = NOW_MS + FRESH_MS
    for number in range(4_000):
        one = place(number, ip=f"9.9.{number // 250}.{number % 250 + 1}")
        where = book._tried_place(one)
        if where not in holders:
            learn(book, one, source=f"s{number}")
            book.succeeded(one.text, now_ms=NOW_MS)
            holders[where] = one
        elif learn(book, one, source=f"s{number}", now_ms=later):
            pairs.append((holders[where], one))
            del holders[where]
            holders[where] = pairs[-1][0]
        if len({a.text for a, _ in pairs}) >= count:
            break
    return book, pairs


def test_holder_of_a_place_is_tested_before_it_is_evicted() -> None:
    book, [(holder, rival)] = rivals()
    later = NOW_MS + FRESH_MS
    book.succeeded(rival.text, now_ms=later)
    assert entry(book, holder).tried
    assert not entry(book, rival).tried
    assert book.to_test(later) is entry(book, holder)
    book.failed(holder.text, now_ms=later + 1)
    assert entry(book, rival).tried
    assert not entry(book, holder).tried
    assert book.to_test(later + DAY_MS) is None


def test_holder_that_answers_its_test_keeps_its_place() -> None:
    book, [(holder, rival)] = rivals()
    later = NOW_MS + FRESH_MS
    book.succeeded(rival.text, now_ms=later)
    book.succeeded(holder.text, now_ms=later + 1)
    book.failed(holder.text, now_ms=later + 2)
    assert entry(book, holder).tried
    assert not entry(book, rival).tried


def test_holder_that_answered_lately_is_not_even_tested() -> None:
    book, [(holder, rival)] = rivals()
    book.succeeded(holder.text, now_ms=NOW_MS + FRESH_MS - 1)
    book.succeeded(rival.text, now_ms=NOW_MS + FRESH_MS)
    assert book.to_test(NOW_MS + 2 * FRESH_MS) is None
    assert entry(book, holder).tried


def test_holder_beyond_the_horizon_gives_way_at_once() -> None:
    book, [(holder, rival)] = rivals()
    late = NOW_MS + HORIZON_MS + FRESH_MS + 1
    book.succeeded(rival.text, now_ms=late)
    assert entry(book, rival).tried
    assert book.get(holder.text) is None or not entry(book, holder).tried


def test_open_tests_are_bounded() -> None:
    book, pairs = rivals(CHALLENGES_MAX + 4)
    for _, rival in pairs:
        book.succeeded(rival.text, now_ms=NOW_MS + FRESH_MS)
    assert len(book._challenges) == CHALLENGES_MAX


def test_attempts_grow_apart_with_failures() -> None:
    book, one = known([place(1)]), place(1)
    gaps = []
    for _ in range(14):
        book.failed(one.text, now_ms=NOW_MS)
        found = entry(book, one)
        gaps.append(
            next(g for g in range(0, 2 * RETRY_LONGEST_MS, 1000) if found.is_ready(NOW_MS + g))
        )
    assert gaps[:3] == [2 * RETRY_FIRST_MS, 4 * RETRY_FIRST_MS, 8 * RETRY_FIRST_MS]
    assert gaps[-1] == RETRY_LONGEST_MS
    assert entry(book, one).is_ready(NOW_MS - DAY_MS), "a clock set back holds nobody up"


def test_failures_while_nobody_is_reached_do_not_count() -> None:
    book, one = known([place(1)]), place(1)
    book.failed(one.text, now_ms=NOW_MS, counted=False)
    assert entry(book, one).failures == 0
    assert not entry(book, one).is_ready(NOW_MS)


def test_stale_is_what_never_answered_or_is_long_silent() -> None:
    told, lost = place(1), place(2)
    book = known([lost])
    learn(book, told)
    for _ in range(HOPELESS_AFTER):
        book.failed(told.text, now_ms=NOW_MS)
        book.failed(lost.text, now_ms=NOW_MS)
    assert entry(book, told).is_stale(NOW_MS + MINUTE_MS)
    assert not entry(book, lost).is_stale(NOW_MS + MINUTE_MS)
    assert book.forget_stale(NOW_MS + HORIZON_MS) == 0
    assert book.forget_stale(NOW_MS + HORIZON_MS + 1) == 2
    assert len(book) == 0


def test_only_what_answered_lately_is_told() -> None:
    good, told, failed, old = (place(n) for n in range(4))
    book = known([good, failed])
    book.failed(failed.text, now_ms=NOW_MS)
    learn(book, told)
    learn(book, old)
    book.succeeded(old.text, now_ms=NOW_MS - TELLABLE_MS - 1)
    dice = random.Random(1)
    assert book.tellable(dice, listener=Scope.PUBLIC, count=9, now_ms=NOW_MS) == [good]


def test_private_addresses_are_not_told_to_public_peers() -> None:
    inside, local, outside = place(1, ip="10.0.0.1"), place(2, ip="127.0.0.1"), place(3)
    book = known([inside, local, outside])
    dice = random.Random(1)

    def told(listener: Scope) -> set[Place]:
        return set(book.tellable(dice, listener=listener, count=9, now_ms=NOW_MS))

    assert told(Scope.PUBLIC) == {outside}
    assert told(Scope.PRIVATE) == {outside, inside}
    assert told(Scope.LOOPBACK) == {outside, inside, local}


def test_told_addresses_are_at_most_so_many() -> None:
    book = known([place(n) for n in range(50)])
    told = book.tellable(random.Random(1), listener=Scope.PUBLIC, count=7, now_ms=NOW_MS)
    assert len({one.text for one in told}) == 7


def test_a_region_is_cut_and_noted() -> None:
    one = place(1)
    book = known([one])
    book.note(one.text, rtt_ms=3, region="r" * 99)
    assert (entry(book, one).rtt_ms, entry(book, one).region) == (3, "r" * REGION_MAX)
    book.note(one.text)
    assert entry(book, one).rtt_ms == 3


def test_what_a_person_configured_is_no_hint_any_more() -> None:
    book, one = AddressBook(KEY), place(1)
    book.learn(one, source="lan", kind=Kind.MDNS, now_ms=NOW_MS)
    assert not book.learn(one, source="", kind=Kind.CONFIGURED, now_ms=NOW_MS)
    assert entry(book, one).kind is Kind.CONFIGURED


def test_all_addresses_of_a_peer_are_found_the_good_one_first() -> None:
    one = place(1)
    other = place_of(one.text.replace("/tcp/4410", "/tcp/4411"))
    book = AddressBook(KEY)
    for where in (one, other):
        learn(book, where)
    book.succeeded(other.text, now_ms=NOW_MS)
    assert [found.place for found in book.of_peer(one.peer)] == [other, one]


def test_unknown_addresses_are_nothing() -> None:
    book = AddressBook(KEY)
    book.succeeded("x", now_ms=NOW_MS)
    book.failed("x", now_ms=NOW_MS)
    book.note("x", rtt_ms=1)
    assert len(book) == 0
    assert book.draw(random.Random(1), tried=True) is None
