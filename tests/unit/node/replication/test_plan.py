"""Duties: the first in the order acts, the next ones only if it did not; surplus is given back."""

import pytest

from prsm.node.replication.placement import Keeper, spread
from prsm.node.replication.plan import (
    EXCESS_MS,
    GIVE_BACK_TURN_MS,
    GRACE_MS,
    TURN_MS,
    Clocks,
    Duty,
    Subject,
    View,
    assigned,
    duty,
    turn_of,
)
from prsm.protocol.ids import PeerId

CID = bytes(36)
ALL = [Keeper(PeerId(f"peer{i}"), f"region{i % 2}", 2**40) for i in range(6)]
NAMES = [keeper.peer for keeper in ALL]


def view(me: str) -> View:
    return View(PeerId(me), {keeper.peer: keeper for keeper in ALL})


def model(*holders: str, copies: int = 3, size: int = 10) -> Subject:
    return Subject(CID, size, frozenset(map(PeerId, holders)), copies)


def at(me: str, subject: Subject, short_ms: int | None) -> Duty:
    return duty(view(me), subject, short_ms=short_ms, over_ms=None, is_mine=False)


def test_everybody_agrees_who_fetches_and_nobody_acts_within_the_grace() -> None:
    subject = model("peer0")
    first = {keeper.peer for keeper in assigned(view("peer5"), subject)}
    assert len(first) == 2
    for me in NAMES:
        assert {keeper.peer for keeper in assigned(view(me), subject)} == first
        assert at(me, subject, GRACE_MS - 1) is Duty.NOTHING
        assert at(me, subject, None) is Duty.NOTHING
        assert (at(me, subject, GRACE_MS) is Duty.FETCH) is (me in first)


def test_next_in_the_order_takes_over_turn_by_turn() -> None:
    subject = model("peer0")
    turns = {me: turn_of(view(me), subject) for me in NAMES if me != "peer0"}
    assert sorted(turns.values(), key=int) == [0, 0, 1, 2, 3]  # type: ignore[arg-type]  # none is None here
    for me, turn in turns.items():
        assert turn is not None
        due = GRACE_MS + turn * TURN_MS
        assert at(me, subject, due) is Duty.FETCH
        assert turn == 0 or at(me, subject, due - 1) is Duty.NOTHING


def test_holder_stranger_and_who_has_no_room_do_nothing() -> None:
    long = 100 * TURN_MS
    assert at("peer0", model("peer0"), long) is Duty.NOTHING
    assert at("stranger", model("peer0"), long) is Duty.NOTHING
    assert at("peer1", model("peer0", size=2**41), long) is Duty.NOTHING
    assert at("peer1", model("peer0", "peer2", "peer3"), long) is Duty.NOTHING
    assert turn_of(view("peer1"), model("peer0", copies=1)) is None


def test_surplus_copy_is_given_back_late_and_one_at_a_time() -> None:
    """Those placement would choose last go first; what was not fetched to repair never goes."""
    names = ("peer0", "peer1", "peer2", "peer3")
    subject = model(*names)
    order = [k.peer for k in spread(CID, view("peer0").known(subject.holders), size_bytes=0)]
    for turn, me in enumerate(reversed(order)):
        due = EXCESS_MS + turn * GIVE_BACK_TURN_MS
        for over_ms, is_mine in ((due, True), (due - 1, True), (due, False), (None, True)):
            found = duty(view(me), subject, short_ms=None, over_ms=over_ms, is_mine=is_mine)
            gives = over_ms == due and is_mine
            assert found is (Duty.RELEASE if gives else Duty.NOTHING)


def test_clocks_start_when_it_begins_and_forget_when_it_ends() -> None:
    clocks = Clocks()
    clocks.look({CID: model("peer0")}, 1_000)
    clocks.look({CID: model("peer0")}, 5_000)
    assert clocks.short_ms(CID, 6_000) == 5_000
    assert clocks.over_ms(CID, 6_000) is None
    clocks.look({CID: model("peer0", "peer1", "peer2", "peer3")}, 7_000)
    assert (clocks.short_ms(CID, 8_000), clocks.over_ms(CID, 8_000)) == (None, 1_000)
    clocks.look({}, 9_000)
    assert clocks.over_ms(CID, 9_000) is None


def test_model_without_a_live_holder_cannot_be_repaired() -> None:
    clocks = Clocks()
    clocks.look({CID: model()}, 0)
    assert clocks.short_ms(CID, 10**9) is None


@pytest.mark.parametrize("copies", [1, 3, 6])
def test_all_together_make_exactly_the_missing_copies(copies: int) -> None:
    """Nodes act one after the other as their turns come; the copies stop at the target."""
    holders = {"peer0"}
    for now_ms in range(0, 200_000, 1_000):
        for me in NAMES:
            subject = model(*holders, copies=copies)
            if subject.missing and at(me, subject, now_ms) is Duty.FETCH:
                holders.add(me)
    assert len(holders) == copies
