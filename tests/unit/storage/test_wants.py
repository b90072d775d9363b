"""The planner: every leaf is asked of somebody who has it, once at a time, and none is lost."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from prsm.storage.interfaces import Leaf
from prsm.storage.wants import RUN_LEAVES, WINDOW, Ask, Session, plan


def leaves(*indexes: int) -> list[Leaf]:
    return [Leaf(index, b"%032d" % index, 1) for index in indexes]


def indexes(ask: Ask) -> list[int]:
    return [leaf.index for leaf in ask.leaves]


def test_plan_fills_windows_in_turn_with_runs() -> None:
    session = Session(leaves(*range(100)))
    session.add_source("a", None)
    session.add_source("b", None)
    asks = plan(session)
    assert [(ask.source, ask.leaves[0].index, len(ask.leaves)) for ask in asks] == [
        ("a", 0, RUN_LEAVES),
        ("b", 8, RUN_LEAVES),
        ("a", 16, RUN_LEAVES),
        ("b", 24, RUN_LEAVES),
    ]
    assert plan(session) == []
    session.ended(asks[0], missing=())
    assert [(ask.source, ask.leaves[0].index) for ask in plan(session)] == [("a", 32)]


def test_plan_asks_only_for_what_a_source_holds() -> None:
    session = Session(leaves(0, 1, 2, 5, 6, 9))
    session.add_source("some", b"\x66\x00")  # 1, 2, 5, 6
    asks = plan(session)
    assert [indexes(ask) for ask in asks] == [[1, 2], [5, 6]]
    for ask in asks:
        session.ended(ask, missing=())
    assert plan(session) == []
    assert not session.is_finished
    session.add_source("rest", None)
    asks = plan(session)
    assert [indexes(ask) for ask in asks] == [[0], [9]]
    for ask in asks:
        session.ended(ask, missing=())
    assert session.is_finished


def test_what_did_not_come_is_asked_of_others() -> None:
    session = Session(leaves(0, 1, 2))
    session.add_source("a", None)
    (ask,) = plan(session)
    session.add_source("b", None)
    session.drop_source("a")
    session.ended(ask, missing=ask.leaves[1:])
    (again,) = plan(session)
    assert (again.source, indexes(again)) == ("b", [1, 2])
    session.ended(again, missing=again.leaves, lacks=True)
    assert plan(session) == []


def test_nothing_missing_is_finished() -> None:
    assert Session([]).is_finished
    assert plan(Session(leaves(0))) == []


@given(
    st.sets(st.integers(0, 60), min_size=1),
    st.lists(st.one_of(st.none(), st.binary(max_size=8)), max_size=4),
    st.randoms(use_true_random=False),
)
def test_no_leaf_is_lost_or_asked_twice_at_once(
    wanted: set[int], bitsets: list[bytes | None], dice: Random
) -> None:
    """Any order of answers, drops and shortfalls: waiting + open + done is all, always."""
    session = Session(leaves(*wanted))
    for number, bitset in enumerate(bitsets):
        session.add_source(str(number), bitset)
    done: set[int] = set()
    open_asks: list[Ask] = []
    for _ in range(400):
        open_asks += plan(session)
        asked = [index for ask in open_asks for index in indexes(ask)]
        assert len(asked) == len(set(asked))
        assert not done & set(asked)
        assert all(len(ask.leaves) <= RUN_LEAVES for ask in open_asks)
        for name in {ask.source for ask in open_asks}:
            assert sum(ask.source == name for ask in open_asks) <= WINDOW
        if not open_asks:
            break
        ask = open_asks.pop(dice.randrange(len(open_asks)))
        came = dice.randint(1, len(ask.leaves))
        done |= set(indexes(ask)[:came])
        if dice.random() < 0.1:
            session.drop_source(ask.source)
        session.ended(ask, missing=ask.leaves[came:])
    assert not open_asks
    assert session.is_finished == (done == wanted)
    if session.is_finished:
        return
    for name in session.sources():
        assert bitsets[int(name)] is not None  # a source that may hold it would have been asked
