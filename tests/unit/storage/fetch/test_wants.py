"""The planner: runs and windows, stealing, hedges, stalls, lies, tiers; each told by the clock."""

from collections.abc import Sequence

from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.fetch.asks import Action, Ask, Cancel, Drop, Hedge, Outcome
from prsm.storage.fetch.providers import LOST_MAX, RUN_LEAVES, STRIKES_MAX
from prsm.storage.fetch.wantlist import RUN_MS, STALL_MS, TIER_MS, Session
from prsm.storage.fetch.wants import END_MS_MIN, HEDGE_MS_MIN, plan
from prsm.storage.interfaces import TIER_GATEWAY, Leaf, Traits

SECOND = 1000


def leaves(*indexes: int) -> list[Leaf]:
    return [Leaf(index, b"%032d" % index, LEAF_BYTES) for index in indexes]


def session_of(count: int, *names: str) -> Session:
    session = Session(leaves(*range(count)), now_ms=0)
    for name in names:
        add_proven(session, name)
    return session


def add_proven(
    session: Session, name: str, bitset: bytes | None = None, traits: Traits | None = None
) -> None:
    """A source that has sent a right leaf before."""
    session.add_source(name, bitset, now_ms=0, traits=traits)
    session.providers[name].is_proven = True


def asks(actions: Sequence[Action]) -> list[tuple[str, list[int]]]:
    return [
        (action.source, [leaf.index for leaf in action.leaves])
        for action in actions
        if isinstance(action, Ask | Hedge)
    ]


def all_asks(actions: Sequence[Action]) -> list[Ask | Hedge]:
    return [action for action in actions if isinstance(action, Ask | Hedge)]


def bring(session: Session, ask: Ask | Hedge, now_ms: int) -> None:
    session.arrived(ask.number, session.owed(ask.number), now_ms=now_ms)


def warm_up(session: Session, name: str, *, leaves_a_second: int, now_ms: int = 0) -> int:
    """Let one source bring leaves at a rate until its window is full; returns the time."""
    under_way = [ask for ask in all_asks(plan(session, now_ms)) if ask.source == name]
    for _ in range(12):
        ask = under_way.pop(0)
        now_ms += len(ask.leaves) * SECOND // leaves_a_second
        bring(session, ask, now_ms)
        under_way += [ask for ask in all_asks(plan(session, now_ms)) if ask.source == name]
    return now_ms


def test_source_owes_one_leaf_until_a_right_one_came() -> None:
    session = Session(leaves(*range(100)), now_ms=0)
    for name in ("a", "b"):
        session.add_source(name, None, now_ms=0)
    first, second = all_asks(plan(session, 0))
    assert asks([first, second]) == [("a", [0]), ("b", [1])]
    session.arrived(second.number, (), now_ms=5)  # nothing of it was right
    assert plan(session, 5) == []
    bring(session, first, 6)
    assert asks(plan(session, 6)) == [("a", [2, 3]), ("a", [4, 5])]


def test_unknown_sources_get_small_runs_in_turn() -> None:
    session = session_of(100, "a", "b")
    assert asks(plan(session, 0)) == [("a", [0, 1]), ("b", [2, 3]), ("a", [4, 5]), ("b", [6, 7])]
    assert plan(session, 1) == []


def test_window_is_what_a_source_sends_in_a_second() -> None:
    for rate, window, run in ((100, 32, 8), (20, 20, 8), (6, 6, 3), (1, 2, 1)):
        session = session_of(400, "a")
        now_ms = warm_up(session, "a", leaves_a_second=rate)
        plan(session, now_ms)
        provider = session.providers["a"]
        assert abs(provider.open_leaves - window) < max(run, 2), rate
        assert max(len(ask.pending) for ask in session.open_asks) == run <= RUN_LEAVES


def test_source_may_want_few_and_long_runs() -> None:
    session = Session(leaves(*range(400)), now_ms=0)
    session.add_source("kubo", None, now_ms=0, traits=Traits(asks_max=1, run_leaves=16))
    now_ms = warm_up(session, "kubo", leaves_a_second=50)
    plan(session, now_ms)
    assert [len(ask.pending) for ask in session.open_asks] == [16]


def test_plan_asks_only_for_what_a_source_holds() -> None:
    session = Session(leaves(0, 1, 2, 5, 6, 9), now_ms=0)
    add_proven(session, "some", b"\x66\x00")  # 1, 2, 5, 6
    first = plan(session, 0)
    assert asks(first) == [("some", [1, 2]), ("some", [5, 6])]
    for ask in all_asks(first):
        bring(session, ask, 10)
    assert plan(session, 10) == []
    assert session.is_stuck
    session.add_source("some", b"\x66\x02", now_ms=20)  # it has got 9 meanwhile
    assert asks(plan(session, 20)) == [("some", [9])]
    session.add_source("rest", None, now_ms=30)
    assert asks(plan(session, 30)) == [("rest", [0])]


def test_what_did_not_come_is_asked_of_others() -> None:
    session = session_of(2, "a")
    (ask,) = all_asks(plan(session, 0))
    session.arrived(ask.number, ask.leaves[:1], now_ms=10)
    session.add_source("b", None, now_ms=10)
    session.ended(ask.number, Outcome.FAILED, now_ms=20)
    assert asks(plan(session, 20)) == [("b", [1])]
    assert list(session.providers) == ["b"]


def test_failed_source_is_cancelled_everywhere_and_never_asked_again() -> None:
    session = session_of(20, "a", "b")
    first = [ask for ask in all_asks(plan(session, 0)) if ask.source == "a"]
    session.ended(first[0].number, Outcome.FAILED, now_ms=5)
    actions = plan(session, 5)
    assert Cancel(first[1].number, "a") in actions
    assert all(ask.source == "b" for ask in all_asks(actions))
    session.ended(first[1].number, Outcome.FAILED, now_ms=6)  # it ended for the session before


def test_idle_source_takes_over_what_a_slow_one_has_not_begun() -> None:
    session = session_of(60, "fast", "slow")
    now_ms, under_way = 0, all_asks(plan(session, 0))
    slow = [ask for ask in under_way if ask.source == "slow"]
    session.arrived(slow[0].number, slow[0].leaves[:1], now_ms=900)  # about one leaf a second
    while session.waiting:
        now_ms += 20
        bring(session, session_asks(session, "fast")[0], now_ms)
        plan(session, max(now_ms, 900))
    stolen: list[Action] = []
    for ask in session_asks(session, "fast"):
        bring(session, ask, 1_400)
        stolen += plan(session, 1_400)
    assert Cancel(slow[1].number, "slow") in stolen
    assert ("fast", [leaf.index for leaf in slow[1].leaves]) in asks(stolen)


def session_asks(session: Session, name: str) -> list[Ask]:
    return [
        Ask(ask.number, ask.source, tuple(ask.pending.values()))
        for ask in session.open_asks
        if ask.source == name
    ]


def test_late_run_is_asked_of_an_idle_source_and_the_loser_cancelled() -> None:
    session = session_of(20, "a", "b")
    now_ms = 0
    plan(session, 0)
    (owed, _) = session_asks(session, "b")
    while session_asks(session, "a"):
        now_ms += 5
        bring(session, session_asks(session, "a")[0], now_ms)
        assert not any(isinstance(action, Hedge) for action in plan(session, now_ms))
    assert plan(session, END_MS_MIN - 1) == []
    (hedge,) = plan(session, END_MS_MIN)  # b owes one run; the other was taken over
    assert isinstance(hedge, Hedge)
    assert (hedge.source, hedge.leaves) == ("a", owed.leaves[:1])  # 3 % are less than a leaf
    bring(session, hedge, END_MS_MIN + 10)
    assert session.owed(owed.number) == owed.leaves[1:]
    bring(session, owed, END_MS_MIN + 20)
    assert session.is_finished


def test_loser_of_a_doubled_run_is_cancelled() -> None:
    session = session_of(100, "a", "b")
    now_ms, actions = 0, plan(session, 0)
    (owed, _) = session_asks(session, "b")
    while Cancel(owed.number, "b") not in actions:
        now_ms += 20
        for ask in session_asks(session, "a"):
            bring(session, ask, now_ms)
        actions = plan(session, now_ms)
    assert END_MS_MIN < now_ms < 2 * END_MS_MIN
    assert session.waste.doubled == 2 * LEAF_BYTES
    assert session.is_finished


def test_late_run_is_doubled_while_others_wait_for_somebody_else() -> None:
    session = session_of(20, "b")
    session.add_source("a", b"\x03", now_ms=0)  # holds what b owes, and nothing that waits
    plan(session, 0)
    assert plan(session, HEDGE_MS_MIN - 1) == []
    assert [type(action) for action in plan(session, HEDGE_MS_MIN)] == [Hedge]


def test_doubled_leaf_waits_for_nobody_when_one_of_the_two_fails() -> None:
    session = session_of(100, "b")
    add_proven(session, "a", b"\x03")
    (first, _) = all_asks(plan(session, 0))
    (hedge,) = all_asks(plan(session, HEDGE_MS_MIN))
    assert hedge.leaves == first.leaves
    waiting, doubled = session.waiting, session.waste.doubled
    session.ended(hedge.number, Outcome.LATE, now_ms=HEDGE_MS_MIN + 1)
    assert (session.waiting, session.waste.doubled) == (waiting, doubled - 2 * LEAF_BYTES)
    bring(session, first, HEDGE_MS_MIN + 2)
    assert session.waiting == waiting


def test_run_that_has_begun_to_come_is_not_taken_over() -> None:
    for came in (1, 0):
        session = session_of(8, "slow", "fast")
        plan(session, 0)
        _, new = session_asks(session, "slow")
        session.arrived(new.number, new.leaves[:came], now_ms=5)
        for ask in session_asks(session, "fast"):
            bring(session, ask, 30)
        is_taken = Cancel(new.number, "slow") in plan(session, 30)
        assert is_taken == (not came)


def test_waste_budget_bounds_what_is_doubled() -> None:
    session = session_of(100, "a")
    add_proven(session, "b", traits=Traits(asks_max=1))
    now_ms = 0
    plan(session, 0)
    for _ in range(200):
        now_ms += 20
        for ask in session_asks(session, "a"):
            bring(session, ask, now_ms)
        plan(session, now_ms)
        assert session.waste.doubled <= 3 * LEAF_BYTES
    assert session.waste.doubled == 3 * LEAF_BYTES
    assert [len(ask.leaves) for ask in session_asks(session, "b")] == [1]


def test_stalled_source_gets_one_leaf_at_a_time_and_is_dropped_in_the_end() -> None:
    session = session_of(4, "a")
    plan(session, 0)
    for strike in range(1, STRIKES_MAX + 1):
        actions = plan(session, strike * STALL_MS)
        assert any(isinstance(action, Cancel) for action in actions)
        assert asks(actions) == [("a", [0])]
    actions = plan(session, (STRIKES_MAX + 1) * STALL_MS)
    (drop,) = [action for action in actions if isinstance(action, Drop)]
    assert drop.source == "a"
    assert not drop.is_lie
    assert "leaves 0..0" in drop.why
    assert session.is_stuck


def test_stalled_source_that_comes_back_is_forgiven() -> None:
    session = session_of(8, "a")
    plan(session, 0)
    (ask,) = all_asks(plan(session, STALL_MS))
    bring(session, ask, STALL_MS + 10)
    assert session.providers["a"].strikes == 0
    assert len(all_asks(plan(session, STALL_MS + 10))) == 2


def test_run_that_takes_too_long_is_taken_back_though_others_come() -> None:
    session = session_of(50, "a")
    old, new = all_asks(plan(session, 0))
    for second in range(1, RUN_MS // SECOND):
        session.arrived(new.number, session.owed(new.number)[:1], now_ms=second * SECOND)
        plan(session, second * SECOND)
        new = session_asks(session, "a")[-1]
    assert Cancel(old.number, "a") in plan(session, RUN_MS)


def test_lost_leaf_is_asked_of_a_source_four_times_at_most() -> None:
    session = session_of(1, "a")
    for time in range(1 + LOST_MAX):
        (ask,) = all_asks(plan(session, time))
        session.ended(ask.number, Outcome.LATE, now_ms=time)
    plan(session, 10)
    assert session.is_stuck


def test_busy_source_is_asked_again_when_it_says() -> None:
    session = session_of(1, "a")
    (ask,) = all_asks(plan(session, 0))
    session.ended(ask.number, Outcome.BUSY, now_ms=0, retry_after_ms=700)
    assert plan(session, 699) == []
    assert not session.is_stuck
    assert asks(plan(session, 700)) == [("a", [0])]


def test_busy_for_ever_is_dropped() -> None:
    session = session_of(1, "a")
    now_ms = 0
    while not session.is_stuck:
        for ask in all_asks(plan(session, now_ms)):
            session.ended(ask.number, Outcome.BUSY, now_ms=now_ms, retry_after_ms=10)
        now_ms += 10
        assert now_ms < 1_000
    assert "a" not in session.providers


def test_liar_about_having_is_dropped_after_three_lies() -> None:
    session = Session(leaves(*range(40)), now_ms=0)
    session.add_source("liar", b"\xff" * 5, now_ms=0)
    drops: list[Drop] = []
    for time in range(5):
        for ask in session_asks(session, "liar") or all_asks(plan(session, time)):
            session.ended(ask.number, Outcome.LACKS, now_ms=time)
        drops += [action for action in plan(session, time) if isinstance(action, Drop)]
    assert [drop.is_lie for drop in drops] == [True]


def test_source_that_cannot_tell_is_no_liar() -> None:
    session = session_of(40, "a")
    for time in range(30):
        for ask in session_asks(session, "a") or all_asks(plan(session, time)):
            session.ended(ask.number, Outcome.LACKS, now_ms=time)
    assert "a" in session.providers
    assert session.is_stuck


def test_late_tier_waits_for_slow_peers_and_begins_at_once_without_any() -> None:
    gateway = Traits(tier=TIER_GATEWAY)
    session = session_of(400, "peer")
    session.add_source("gateway", None, now_ms=0, traits=gateway)
    plan(session, 0)
    assert {ask.source for ask in session.open_asks} == {"peer"}
    plan(session, TIER_MS - 1)
    assert {ask.source for ask in session.open_asks} == {"peer"}
    plan(session, TIER_MS)
    assert {ask.source for ask in session.open_asks} == {"peer", "gateway"}
    alone = Session(leaves(*range(400)), now_ms=0)
    alone.add_source("gateway", None, now_ms=0, traits=gateway)
    assert {source for source, _ in asks(plan(alone, 0))} == {"gateway"}


def test_asks_of_all_sources_can_be_held_to_one() -> None:
    session = session_of(400, "a", "b")
    session.asks_max = 1
    assert len(plan(session, 0)) == 1
    session.asks_max = None
    assert len(plan(session, 1)) == 3


def test_nothing_missing_is_finished() -> None:
    assert session_of(0).is_finished
    assert plan(session_of(1), 0) == []
