"""Pull repair: whom to ask, when, for what; silence, lies, bounds, and what it costs to be idle."""

import random
from collections.abc import Callable
from itertools import pairwise

from prsm.node.net import repair
from prsm.node.net.records import Bounds, Item, Store, Verdict
from prsm.node.net.repair import Ask, AskListing, AskRecords, Repair
from prsm.protocol.ids import PeerId
from prsm.protocol.limits import LISTED_MAX, PULLED_RECORDS_MAX
from tests.tools.announced import TOPIC, item

NOW = 1_000_000
A, B, C, D, E = (PeerId(name) for name in "ABCDE")


def store(salt: bytes = b"s") -> Store:
    return Store({TOPIC: Bounds(records=4_096, records_per_author=256)}, salt=salt)


def made(mine: Store, *peers: PeerId, now_ms: int = 0, seed: str = "") -> Repair:
    plan = Repair(mine, dice=random.Random(seed).randrange, now_ms=now_ms)
    for peer in peers:
        plan.add(peer, now_ms=now_ms)
    return plan


def settled(mine: Store, *peers: PeerId) -> Repair:
    """A plan that has compared with all peers once and found nothing."""
    plan = made(mine, *peers)
    for now_ms in range(0, 2_000, repair.LOOK_MS):
        for ask in plan.plan(now_ms=now_ms, wall_ms=NOW + now_ms):
            plan.take_listing(ask.peer, (), now_ms=now_ms)
    return plan


def listings(asks: list[Ask]) -> list[PeerId]:
    return [ask.peer for ask in asks if isinstance(ask, AskListing)]


def fetches(asks: list[Ask]) -> dict[PeerId, tuple[bytes, ...]]:
    return {ask.peer: ask.slots for ask in asks if isinstance(ask, AskRecords)}


def test_new_peers_are_compared_with_at_once_three_at_a_time() -> None:
    plan = made(store(), A, B, C, D, E)
    assert listings(plan.plan(now_ms=0, wall_ms=NOW)) == [A, B, C]
    assert plan.due_ms(now_ms=0) == repair.LOOK_MS
    assert listings(plan.plan(now_ms=100, wall_ms=NOW)) == [D, E]


def test_idle_node_compares_seldom_and_news_wakes_it() -> None:
    plan = settled(store(), A, B, C, D)
    first = plan.due_ms(now_ms=5_000)
    rounds = []
    for now_ms in range(5_000, 45_000, 50):
        asks = plan.plan(now_ms=now_ms, wall_ms=NOW + now_ms)
        if asks:
            rounds.append(now_ms)
        assert len(asks) <= repair.FANOUT
        for ask in asks:
            plan.take_listing(ask.peer, (), now_ms=now_ms)
    assert first <= 5_000 + repair.IDLE_MS + repair.JITTER_MS
    assert 9 <= len(rounds) <= 11
    plan.hear_news(now_ms=45_000)
    due = plan.due_ms(now_ms=45_000)
    assert 45_000 + repair.GRACE_MS <= due <= 45_000 + repair.GRACE_MS + repair.JITTER_MS


def test_missing_record_is_asked_of_one_holder_then_of_the_next() -> None:
    plan = settled(store(), A, B, C)
    lost = item(1, NOW)
    plan.hear_listing(A, (lost.entry,), now_ms=2_000)
    plan.hear_listing(B, (lost.entry,), now_ms=2_000)
    (ask,) = [a for a in plan.plan(now_ms=2_000, wall_ms=NOW) if isinstance(a, AskRecords)]
    assert (ask.peer, ask.slots) == (A, (lost.slot,))
    assert fetches(plan.plan(now_ms=2_100, wall_ms=NOW)) == {}
    plan.fail(ask, now_ms=3_000)
    assert fetches(plan.plan(now_ms=3_000, wall_ms=NOW)) == {B: (lost.slot,)}


def test_wanted_record_that_comes_by_itself_is_not_asked_for() -> None:
    mine = store()
    plan = settled(mine, A)
    lost = item(1, NOW)
    assert plan.hear_listing(A, (lost.entry,), now_ms=2_000) == 1
    assert mine.offer(lost, now_ms=NOW) is Verdict.ADDED
    assert fetches(plan.plan(now_ms=2_000, wall_ms=NOW)) == {}
    assert plan.wanted == 0


def test_silent_peer_is_left_alone_for_longer_each_time() -> None:
    plan = made(store(), A)
    asked = []
    for now_ms in range(0, 130_000, 100):
        for ask in plan.plan(now_ms=now_ms, wall_ms=NOW):
            asked.append(now_ms)
            plan.fail(ask, now_ms=now_ms)
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps[:6] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]
    assert gaps[6] == repair.PAUSE_MS_MAX


def test_peer_that_promises_and_brings_nothing_loses_all_its_promises() -> None:
    plan = settled(store(), A, B)
    lies = [item(number, NOW).entry for number in range(1, 401)]
    assert plan.hear_listing(A, lies, now_ms=2_000) == 400
    ((peer, slots),) = fetches(plan.plan(now_ms=2_000, wall_ms=NOW)).items()
    assert (peer, len(slots)) == (A, PULLED_RECORDS_MAX)
    plan.take_records(A, slots, brought=0, now_ms=2_050)
    assert plan.wanted == 0
    assert plan.hear_listing(A, lies, now_ms=2_060) == 0  # paused: its words count for nothing


def test_claim_of_a_later_record_does_not_hide_who_has_the_true_one() -> None:
    mine = store()
    plan = settled(mine, A, B)
    true, lie = item(1, NOW), item(1, NOW + 50_000)
    plan.hear_listing(B, (true.entry,), now_ms=2_000)
    plan.hear_listing(A, (lie.entry,), now_ms=2_000)
    assert fetches(plan.plan(now_ms=2_000, wall_ms=NOW)) == {A: (true.slot,)}
    plan.take_records(A, (true.slot,), brought=0, now_ms=2_010)
    assert fetches(plan.plan(now_ms=2_010, wall_ms=NOW)) == {B: (true.slot,)}
    mine.offer(true, now_ms=NOW)
    plan.take_records(B, (true.slot,), brought=1, now_ms=2_020)
    assert plan.wanted == 0


def horizon(plan: Repair, now_ms: int) -> int:
    """How long the next round leaves to gossip."""
    plan.hear_news(now_ms=now_ms)
    now_ms = plan.due_ms(now_ms=now_ms)
    asks = plan.plan(now_ms=now_ms, wall_ms=NOW)
    for ask in asks:
        plan.take_listing(ask.peer, (), now_ms=now_ms)
    return NOW - max(ask.horizon_ms for ask in asks if isinstance(ask, AskListing))


def test_gossip_that_is_slow_gets_longer_and_then_its_old_time_again() -> None:
    """Pulled records that come by gossip as well were late; others change nothing."""
    mine = store()
    plan = settled(mine, A)
    assert horizon(plan, 10_000) == repair.GRACE_MS
    for number in range(1, 41):
        late = item(number, NOW)
        plan.hear_listing(A, (late.entry,), now_ms=20_000)
        asks = plan.plan(now_ms=20_000, wall_ms=NOW)
        for peer in listings(asks):
            plan.take_listing(peer, (), now_ms=20_000)
        ((_, slots),) = fetches(asks).items()
        mine.offer(late, now_ms=NOW)
        plan.take_records(A, slots, brought=1, now_ms=20_000)
        if number > 30:
            plan.hear_again(late.id)
            plan.hear_again(late.id)
    slow_ms = horizon(plan, 30_000)
    assert 5 * repair.GRACE_MS < slow_ms <= repair.GRACE_MS_MAX
    times = [horizon(plan, now_ms) for now_ms in range(40_000, 100_000, 1_000)]
    assert times[-1] == repair.GRACE_MS


def test_refused_record_is_not_asked_for_again_for_a_while() -> None:
    plan = settled(store(), A)
    lost = item(1, NOW)
    plan.refuse(lost.id, now_ms=2_000)
    assert plan.hear_listing(A, (lost.entry,), now_ms=2_001) == 0
    assert plan.hear_listing(A, (lost.entry,), now_ms=2_001 + repair.REFUSED_MS) == 1


def test_list_that_was_too_long_is_continued_behind_its_last_entry() -> None:
    plan = made(store(), A)
    (first,) = plan.plan(now_ms=0, wall_ms=NOW)
    assert isinstance(first, AskListing)
    entries = sorted(item(number, NOW).entry for number in range(1, LISTED_MAX + 1))
    plan.take_listing(A, entries, now_ms=10)
    again = [ask for ask in plan.plan(now_ms=20, wall_ms=NOW) if isinstance(ask, AskListing)]
    assert [ask.cursor for ask in again] == [entries[-1][:12]]


def test_what_liars_promise_is_bounded() -> None:
    peers = [PeerId(f"liar{number}") for number in range(40)]
    plan = settled(store(), *peers)
    for number, peer in enumerate(peers):
        lies = [item(1_000 * number + place, NOW).entry for place in range(1, LISTED_MAX + 1)]
        plan.hear_listing(peer, lies, now_ms=2_000)
    assert plan.wanted == repair.WANTS_MAX
    plan.plan(now_ms=2_000 + repair.WANTED_MS, wall_ms=NOW)
    assert plan.wanted == 0


def test_share_of_a_peer_is_bounded_and_strangers_have_none() -> None:
    plan = made(store(), A)
    assert sum(plan.may_compare(A, now_ms=0) for _ in range(100)) == repair.COMPARED_BURST
    assert sum(plan.may_fetch(A, now_ms=0) for _ in range(100)) == repair.FETCHED_BURST
    assert not plan.may_compare(B, now_ms=0)
    assert not plan.may_fetch(B, now_ms=0)
    assert plan.may_compare(A, now_ms=1_000)


def test_peer_that_leaves_frees_what_it_was_asked_for() -> None:
    plan = settled(store(), A, B)
    lost = item(1, NOW)
    for peer in (A, B):
        plan.hear_listing(peer, (lost.entry,), now_ms=2_000)
    assert fetches(plan.plan(now_ms=2_000, wall_ms=NOW)) == {A: (lost.slot,)}
    plan.remove(A)
    assert fetches(plan.plan(now_ms=2_001, wall_ms=NOW)) == {B: (lost.slot,)}


class Mesh:
    """Nodes of real stores and plans, on a clock of this test; each call takes a round trip."""

    def __init__(self, count: int, *, answers: Callable[[], bool] = lambda: True) -> None:
        self.names = [PeerId(f"n{number}") for number in range(count)]
        self.stores = {name: store(name.encode()) for name in self.names}
        self.plans = {
            name: made(self.stores[name], *(n for n in self.names if n != name), seed=name)
            for name in self.names
        }
        self.answers = answers
        self.calls = 0
        self.now_ms = 0

    def hear(self, name: PeerId, record: Item) -> None:
        if self.stores[name].offer(record, now_ms=NOW + self.now_ms) is Verdict.ADDED:
            self.plans[name].hear_news(now_ms=self.now_ms)

    def step(self, millis: int) -> None:
        self.now_ms += millis
        for name in self.names:
            for ask in self.plans[name].plan(now_ms=self.now_ms, wall_ms=NOW + self.now_ms):
                self.calls += 1
                if self.answers():
                    self.serve(name, ask)
                else:
                    self.plans[name].fail(ask, now_ms=self.now_ms)

    def serve(self, name: PeerId, ask: Ask) -> None:
        plan, mine, theirs = self.plans[name], self.stores[name], self.stores[ask.peer]
        if isinstance(ask, AskRecords):
            brought = theirs.pick(ask.slots)
            for record in brought:
                self.hear(name, record)
            plan.take_records(ask.peer, ask.slots, brought=len(brought), now_ms=self.now_ms)
            return
        answer = theirs.differing(mine.compare(horizon_ms=ask.horizon_ms, cursor=ask.cursor))
        plan.take_listing(ask.peer, answer.entries, now_ms=self.now_ms)
        hint = mine.surplus(answer, horizon_ms=ask.horizon_ms)
        if hint is not None:
            self.plans[ask.peer].hear_listing(name, hint.entries, now_ms=self.now_ms)


def test_record_that_one_of_sixteen_has_reaches_all_within_two_seconds() -> None:
    mesh = Mesh(16)
    for _ in range(100):
        mesh.step(50)
    record = item(1, NOW + mesh.now_ms)
    mesh.hear(mesh.names[0], record)
    for _ in range(40):
        mesh.step(50)
    assert all(each.get(record.slot) for each in mesh.stores.values())


def test_record_that_half_of_sixteen_missed_is_repaired_in_a_second_though_calls_are_lost() -> None:
    dice = random.Random(7)
    mesh = Mesh(16, answers=lambda: dice.random() > 0.2)
    for _ in range(100):
        mesh.step(50)
    late = []
    for number in range(1, 21):
        record = item(number, NOW + mesh.now_ms)
        for name in dice.sample(mesh.names, 8):
            mesh.hear(name, record)
        for _ in range(20):
            mesh.step(50)
        late.append(sum(not each.get(record.slot) for each in mesh.stores.values()))
    assert sum(late) <= 16 * 20 // 100
    assert max(late) <= 3


def test_newcomer_fetches_more_than_one_list_holds() -> None:
    mesh = Mesh(2)
    full, empty = mesh.names
    for number in range(1, 1_201):
        mesh.stores[full].offer(item(number, NOW - 10_000), now_ms=NOW)
    for _ in range(100):
        mesh.step(50)
    assert len(mesh.stores[empty]) == 1_200


def test_idle_network_says_next_to_nothing() -> None:
    mesh = Mesh(4)
    for _ in range(200):
        mesh.step(50)
    before = mesh.calls
    for _ in range(800):
        mesh.step(50)
    assert mesh.calls - before <= 4 * 3 * 11  # 40 s: three comparisons every 4 s and node
