"""The store of announcements: what a comparison covers, what is over, what fits one answer.

Order of arrival and bounds against a dumb twin: tests/property/node/test_gossip_records.py.
"""

from prsm.node.net.records import AGES_MS, FORGET_MARGIN_MS, Bounds, Entry, Store, Verdict, slot_of
from prsm.protocol.limits import GOSSIP_RECORD_BYTES_MAX, PULLED_RECORDS_BYTES_MAX
from prsm.protocol.messages.announce import Compare, TopicSums
from tests.tools.announced import TOPIC, TTL_MS, item

NOW = 1_000_000


def store(records: int = 64) -> Store:
    return Store({TOPIC: Bounds(records=records, records_per_author=8)}, salt=b"s")


def test_young_and_ending_records_are_not_compared() -> None:
    """One is still on its way by gossip, the other is forgotten at two moments."""
    mine = store()
    for number, made_ms in (
        (1, NOW + 1),
        (2, NOW),
        (3, NOW - TTL_MS + FORGET_MARGIN_MS),
        (4, NOW - TTL_MS + FORGET_MARGIN_MS + 1),
    ):
        assert mine.offer(item(number, made_ms), now_ms=NOW) is Verdict.ADDED
    nothing = Compare(horizon_ms=NOW, cursor=bytes(12), topics=(TopicSums(TOPIC, ()),))
    listed = {Entry.read(raw).slot for raw in mine.differing(nothing).entries}
    assert listed == {item(2, 0).slot, item(4, 0).slot}


def test_sums_are_apart_by_age_and_end_where_nothing_is() -> None:
    mine = store()
    assert mine.sums(TOPIC, horizon_ms=NOW) == ()
    mine.offer(item(1, NOW - AGES_MS[1]), now_ms=NOW)
    young, older = mine.sums(TOPIC, horizon_ms=NOW)
    assert young == bytes(16)
    assert older == item(1, NOW - AGES_MS[1]).id
    mine.offer(item(2, NOW - AGES_MS[1] - 1), now_ms=NOW)
    assert len(mine.sums(TOPIC, horizon_ms=NOW)) == 3


def test_what_is_over_is_forgotten_at_its_moment() -> None:
    mine = store()
    mine.offer(item(1, NOW), now_ms=NOW)
    assert mine.expire(now_ms=NOW + TTL_MS - 1) == []
    assert [each.author for each in mine.expire(now_ms=NOW + TTL_MS)] == [item(1, 0).author]
    assert len(mine) == 0
    assert mine.get(item(1, 0).slot) is None


def test_answer_holds_what_fits_and_nothing_twice() -> None:
    mine = store()
    big = [item(number, NOW, body=bytes(GOSSIP_RECORD_BYTES_MAX - 512)) for number in (1, 2, 3)]
    small = item(4, NOW)
    for each in (*big, small):
        mine.offer(each, now_ms=NOW)
    picked = mine.pick([each.slot for each in (*big, small, small)])
    assert picked == [big[0], big[1], small]
    assert sum(len(each.raw) for each in picked) <= PULLED_RECORDS_BYTES_MAX
    assert mine.pick([bytes(12)]) == []


def test_topics_of_others_are_passed_over() -> None:
    mine = store()
    mine.offer(item(1, NOW), now_ms=NOW)
    asked = Compare(horizon_ms=NOW, cursor=bytes(12), topics=(TopicSums("other", (bytes(16),)),))
    assert mine.differing(asked).entries == ()


def test_slots_of_different_names_differ() -> None:
    author = bytes(32)
    names = {
        slot_of("ab", author, b""),
        slot_of("a", author, b""),
        slot_of("a", author, b"b"),
        slot_of("a", b"b" * 32, b""),
    }
    assert len(names) == 4


def test_what_was_pushed_out_is_counted() -> None:
    mine = store(records=2)
    verdicts = [mine.offer(item(number, NOW), now_ms=NOW) for number in range(1, 9)]
    added = verdicts.count(Verdict.ADDED)
    assert added + verdicts.count(Verdict.CROWDED) == 8
    assert mine.pushed_out(TOPIC) == added - 2 > 0
    assert len(mine.items(TOPIC)) == 2
