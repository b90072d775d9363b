"""The store of announcements against its dumb twin: any order of arrival gives the same store.

The twin keeps everything it was ever offered, sorts it, and cuts. Sums and lists of two stores
are compared with the plain difference of their contents.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prsm.node.net.records import Bounds, Entry, Item, Store, Verdict
from prsm.protocol.codec import decode, encode
from prsm.protocol.messages.announce import Compare, Listing
from tests.tools.announced import TOPIC, author, item

NOW = 1_000_000
SALT = b"salt"
BOUNDS = Bounds(records=6, records_per_author=2)
OTHER = "u"


def weigh(key: bytes) -> int:
    """Authors 1 and 2 are known, all others are strangers."""
    return 2 if key in {author(1), author(2)} else 0


def store(bounds: Bounds = BOUNDS) -> Store:
    return Store({TOPIC: bounds, OTHER: bounds}, salt=SALT, weigh=weigh)


items = st.builds(
    item,
    st.integers(1, 8),
    st.integers(NOW - 1_000, NOW),
    key=st.sampled_from([b"", b"a", b"b", b"c"]),
    body=st.sampled_from([b"", b"x"]),
)


def twin(offered: Iterable[Item]) -> set[bytes]:
    """Ids of what a store should hold after all of these."""
    latest: dict[bytes, Item] = {}
    for each in offered:
        held = latest.get(each.slot)
        if held is None or (held.made_ms, held.id) < (each.made_ms, each.id):
            latest[each.slot] = each
    authors: defaultdict[bytes, list[Item]] = defaultdict(list)
    for each in latest.values():
        authors[each.author].append(each)
    kept: list[Item] = []
    for mine in authors.values():
        mine.sort(key=lambda each: (each.made_ms, each.id), reverse=True)
        kept += mine[: BOUNDS.records_per_author]

    def rank(each: Item) -> tuple[int, bytes, int, bytes]:
        place = hashlib.sha256(SALT + each.author).digest()[:8]
        return weigh(each.author), place, each.made_ms, each.id

    kept.sort(key=rank, reverse=True)
    return {each.id for each in kept[: BOUNDS.records]}


class StoreMachine(RuleBasedStateMachine):
    """Two stores get the same records, one of them in another order and some of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.store = store()
        self.offered: list[Item] = []

    @rule(each=items)
    def offer(self, each: Item) -> None:
        before = {held.id for held in self.store.items(TOPIC)}
        judged = self.store.judge(each, now_ms=NOW)
        assert self.store.offer(each, now_ms=NOW) is judged
        self.offered.append(each)
        after = {held.id for held in self.store.items(TOPIC)}
        assert (each.id in after - before) == (judged is Verdict.ADDED)

    @rule(each=items)
    def offer_what_is_over(self, each: Item) -> None:
        assert self.store.offer(each, now_ms=each.expires_ms) is not Verdict.ADDED

    @rule(seed=st.integers(0, 2**32))
    def replay(self, seed: int) -> None:
        again = store()
        shuffled = self.offered + self.offered[::3]
        random.Random(seed).shuffle(shuffled)
        for each in shuffled:
            again.offer(each, now_ms=NOW)
        assert again.items(TOPIC) == self.store.items(TOPIC)
        assert again.sums(TOPIC, horizon_ms=NOW) == self.store.sums(TOPIC, horizon_ms=NOW)

    @invariant()
    def holds_what_the_twin_holds(self) -> None:
        held = self.store.items(TOPIC)
        assert {each.id for each in held} == twin(self.offered)
        assert len(self.store) == len(held)
        assert all(self.store.get(each.slot) == each for each in held)


TestStore = StoreMachine.TestCase

many = st.lists(
    st.builds(
        item,
        st.integers(1, 5),
        st.integers(NOW - 80_000, NOW + 200),
        key=st.sampled_from([b"a", b"b", b"c"]),
        topic=st.sampled_from([TOPIC, OTHER]),
    ),
    max_size=20,
)


def full(offered: Iterable[Item]) -> Store:
    made = store(Bounds(records=64, records_per_author=8))
    for each in offered:
        made.offer(each, now_ms=NOW)
    return made


def held(made: Store) -> dict[bytes, Item]:
    return {each.slot: each for topic in made.topics for each in made.items(topic)}


@given(many, many, many, st.binary(min_size=12, max_size=12))
def test_comparison_names_at_least_what_the_other_has_later(
    both: list[Item], mine: list[Item], theirs: list[Item], cursor: bytes
) -> None:
    ours, peers = full(both + mine), full(both + theirs)
    asked = ours.compare(horizon_ms=NOW, cursor=cursor)
    asked = decode(encode(asked), Compare, size_max=4_096)
    answer = decode(encode(peers.differing(asked)), Listing, size_max=65_536)
    hint = ours.surplus(answer, horizon_ms=NOW)
    news = {Entry.read(raw).id for raw in answer.entries}
    told = {Entry.read(raw).id for raw in hint.entries} if hint else set()

    def later(left: dict[bytes, Item], right: dict[bytes, Item]) -> set[bytes]:
        return {
            each.id[:8]
            for slot, each in left.items()
            if each.made_ms <= NOW
            and each.expires_ms > NOW + 5_000
            and (
                slot not in right or (right[slot].made_ms, right[slot].id) < (each.made_ms, each.id)
            )
        }

    assert later(held(peers), held(ours)) <= news
    assert later(held(ours), held(peers)) <= told
    assert told <= {each.id[:8] for each in held(ours).values()}


@given(many, st.integers(0, 2**32))
def test_equal_stores_say_nothing(offered: list[Item], seed: int) -> None:
    shuffled = list(offered)
    random.Random(seed).shuffle(shuffled)
    answer = full(shuffled).differing(full(offered).compare(horizon_ms=NOW))
    assert answer == Listing(topics=(), entries=())
