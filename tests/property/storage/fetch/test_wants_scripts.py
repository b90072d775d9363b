"""The planner by a virtual clock, with sources that follow scripts: nothing lost, little twice."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.protocol.limits import LEAF_BYTES
from prsm.storage.fetch.asks import Ask, Cancel, Drop, Hedge, Outcome
from prsm.storage.fetch.wantlist import Session
from prsm.storage.fetch.wants import plan
from prsm.storage.interfaces import Leaf, Traits

TICK_MS = 250
END_MS = 3_600_000


class Script(Enum):
    """What a source does, after it has sent some leaves as it should."""

    HONEST = "honest"
    STALLS = "stalls"  # never says another word
    LACKS = "lacks"  # says it does not hold what it said it holds
    FAILS = "fails"  # breaks off
    GIVES_UP = "gives up"  # a typed timeout each time
    BUSY = "busy"  # every second ask is refused with a time


@dataclass
class Actor:
    """A source of the play: sends one leaf after the other, at a pace."""

    script: Script
    leaf_ms: int
    good: int  # leaves until the script begins
    joins_ms: int
    bitset: bytes | None
    sent: int = 0
    free_ms: int = 0
    refuses: bool = False


@dataclass
class Play:
    """A session and its sources; time is a number."""

    size: int
    actors: dict[str, Actor]
    now_ms: int = 0
    came: list[int] = field(default_factory=list)  # indexes, with repetitions
    queue: list[tuple[int, int, str, int, int | None]] = field(default_factory=list)
    asked: dict[int, list[int]] = field(default_factory=dict)  # open asks as the sources see them
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        leaves = [Leaf(index, b"%032d" % index, LEAF_BYTES) for index in range(self.size)]
        self.session = Session(leaves, now_ms=0)
        self._ids: Iterator[int] = count()
        self._joins = sorted(self.actors, key=lambda name: self.actors[name].joins_ms)

    def run(self) -> None:
        while not self.session.is_finished:
            while self._joins and self.actors[self._joins[0]].joins_ms <= self.now_ms:
                name = self._joins.pop(0)
                self.session.add_source(name, self.actors[name].bitset, now_ms=self.now_ms)
            self._act()
            self._check()
            if self.session.is_stuck and not self._joins:
                return
            due_ms = self.queue[0][0] if self.queue else END_MS
            self.now_ms = max(self.now_ms, min(due_ms, self.now_ms + TICK_MS))
            while self.queue and self.queue[0][0] <= self.now_ms:
                self._happen(*heapq.heappop(self.queue)[2:])
            assert self.now_ms < END_MS, "it does not end"

    def _act(self) -> None:
        for action in plan(self.session, self.now_ms):
            match action:
                case Ask() | Hedge():
                    assert action.source not in self.dropped
                    actor = self.actors[action.source]
                    for leaf in action.leaves:
                        bits = actor.bitset
                        assert bits is None or bits[leaf.index // 8] >> leaf.index % 8 & 1
                    self.asked[action.number] = [leaf.index for leaf in action.leaves]
                    self._schedule(action.source, action.number)
                case Cancel():
                    self.asked.pop(action.number, None)  # it may have failed in the same moment
                case Drop():
                    self.dropped.add(action.source)

    def _schedule(self, name: str, number: int) -> None:
        """One leaf after the other, or what the script says instead."""
        actor = self.actors[name]
        at_ms = max(self.now_ms, actor.free_ms)
        for index in self.asked[number]:
            actor.refuses = not actor.refuses
            is_due = actor.sent >= actor.good and actor.script is not Script.HONEST
            if is_due and (actor.script is not Script.BUSY or actor.refuses):
                if actor.script is not Script.STALLS:
                    self._push(at_ms + 1, name, number, None)
                return
            at_ms += actor.leaf_ms
            actor.sent += 1
            actor.free_ms = at_ms
            self._push(at_ms, name, number, index)

    def _push(self, at_ms: int, name: str, number: int, index: int | None) -> None:
        heapq.heappush(self.queue, (at_ms, next(self._ids), name, number, index))

    def _happen(self, name: str, number: int, index: int | None) -> None:
        if number not in self.asked:
            return
        if index is None:
            del self.asked[number]
            self._fail(name, number)
            return
        leaf = Leaf(index, b"%032d" % index, LEAF_BYTES)
        self.came.append(index)
        self.session.arrived(number, (leaf,), now_ms=self.now_ms)
        self.asked[number].remove(index)
        if not self.session.owed(number):
            self.asked.pop(number)

    def _fail(self, name: str, number: int) -> None:
        outcome = {
            Script.LACKS: Outcome.LACKS,
            Script.FAILS: Outcome.FAILED,
            Script.GIVES_UP: Outcome.LATE,
            Script.BUSY: Outcome.BUSY,
        }[self.actors[name].script]
        retry_ms = 300 if outcome is Outcome.BUSY else 0
        self.session.ended(number, outcome, now_ms=self.now_ms, retry_after_ms=retry_ms)
        if outcome is Outcome.FAILED:
            self.dropped.add(name)

    def _check(self) -> None:
        """Each leaf done, waiting or open; open once, or twice within the budget."""
        session = self.session
        done = set(self.came)
        owing = [index for ask in session.open_asks for index in ask.pending]
        assert session.waiting == self.size - len(done | set(owing))
        assert not done & set(owing)
        assert max((owing.count(index) for index in owing), default=1) <= 2
        assert session.waste.doubled <= session.waste.allowed
        for name, provider in session.providers.items():
            mine = [ask for ask in session.open_asks if ask.source == name]
            assert [ask.number for ask in mine] == provider.open_asks
            assert provider.open_leaves == sum(len(ask.pending) for ask in mine)
            assert len(mine) <= 5  # four runs, and one in place of a late one


def full(size: int) -> bytes:
    return ((1 << size) - 1).to_bytes((size + 7) // 8, "little")


@st.composite
def plays(draw: st.DrawFn) -> Play:
    size = draw(st.integers(1, 120))
    actors = {}
    for number in range(draw(st.integers(1, 4))):
        bitset = draw(st.sampled_from((None, full(size), full(size // 2).ljust(16, b"\0"))))
        actors[str(number)] = Actor(
            script=draw(st.sampled_from(Script)),
            leaf_ms=draw(st.sampled_from((2, 10, 50, 300, 2_000))),
            good=draw(st.integers(0, 40)),
            joins_ms=draw(st.sampled_from((0, 0, 0, 400, 7_000))),
            bitset=bitset,
        )
    return Play(size, actors)


@settings(max_examples=60, deadline=None)
@given(plays())
def test_every_leaf_is_done_waiting_or_open_whatever_sources_do(play: Play) -> None:
    """And while one honest source that holds all of it is there, it is finished."""
    play.run()
    honest = [a for a in play.actors.values() if a.script is Script.HONEST]
    if any(a.bitset is None or a.bitset == full(play.size) for a in honest):
        assert play.session.is_finished
    twice = len(play.came) - len(set(play.came))
    assert twice * LEAF_BYTES <= max(play.size * LEAF_BYTES * 3 // 100, LEAF_BYTES)


def honest(leaf_ms: int) -> Actor:
    return Actor(Script.HONEST, leaf_ms, good=0, joins_ms=0, bitset=None)


def test_faster_source_does_its_share() -> None:
    """Ten times as fast: the slow one does not make the whole wait."""
    play = Play(300, {"fast": honest(10), "slow": honest(100)})
    play.run()
    assert play.now_ms < 1.15 * 300 / (1 / 10 + 1 / 100)


def test_stalled_source_costs_little() -> None:
    stalls = Actor(Script.STALLS, 10, good=30, joins_ms=0, bitset=None)
    play = Play(1024, {"a": honest(10), "b": honest(10), "c": stalls})
    play.run()
    assert play.now_ms < 2 * 1024 * 10 / 3


def test_source_that_joins_late_helps() -> None:
    late = Actor(Script.HONEST, 10, good=0, joins_ms=1_000, bitset=None)
    play = Play(1024, {"a": honest(10), "b": late})
    play.run()
    assert play.now_ms < 1.1 * (1_000 + (1024 * 10 - 1_000) / 2)


def test_traits_bound_open_asks() -> None:
    session = Session([Leaf(i, b"%032d" % i, LEAF_BYTES) for i in range(64)], now_ms=0)
    session.add_source("one", None, now_ms=0, traits=Traits(asks_max=1))
    assert len(plan(session, 0)) == 1
