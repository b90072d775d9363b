"""Placement: all agree, copies are balanced, a node that leaves moves only its own."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from prsm.node.replication.placement import (
    Keeper,
    chosen,
    ranked,
    room_told,
)
from prsm.protocol.ids import PeerId

GIB = 2**30


def subject(number: int) -> bytes:
    return number.to_bytes(36, "big")


def site(count: int, regions: int = 1, room: int = 64 * GIB) -> list[Keeper]:
    return [Keeper(PeerId(f"peer{i}"), f"region{i % regions}", room) for i in range(count)]


KEEPERS = st.lists(
    st.builds(
        Keeper,
        st.integers(0, 40).map(lambda n: PeerId(f"peer{n}")),
        st.sampled_from(("", "a", "b", "c")),
        st.sampled_from((0, GIB, 4 * GIB, 1024 * GIB)),
        st.booleans(),
    ),
    unique_by=lambda keeper: keeper.peer,
    max_size=16,
)


def peers(keepers: tuple[Keeper, ...]) -> set[PeerId]:
    return {keeper.peer for keeper in keepers}


@settings(max_examples=60, deadline=None)
@given(keepers=KEEPERS, number=st.integers(0, 2**32), copies=st.integers(0, 7), dice=st.randoms())
def test_placement_does_not_depend_on_the_order_in_which_nodes_were_heard(
    keepers: list[Keeper], number: int, copies: int, dice: st.DataObject
) -> None:
    shuffled = list(keepers)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random
    first = chosen(subject(number), keepers, copies=copies, size_bytes=GIB)
    assert first == chosen(subject(number), shuffled, copies=copies, size_bytes=GIB)
    assert len(first) == min(copies, sum(keeper.room_bytes >= GIB for keeper in keepers))
    assert all(keeper.room_bytes >= GIB for keeper in first)


@settings(max_examples=60, deadline=None)
@given(keepers=KEEPERS, number=st.integers(0, 2**32), copies=st.integers(1, 7))
def test_who_leaves_moves_only_his_own_copy_and_who_comes_takes_one_place(
    keepers: list[Keeper], number: int, copies: int
) -> None:
    before = chosen(subject(number), keepers, copies=copies, size_bytes=1)
    for gone in keepers:
        left = [keeper for keeper in keepers if keeper is not gone]
        after = chosen(subject(number), left, copies=copies, size_bytes=1)
        moved = peers(after) - peers(before)
        assert len(moved) <= (gone in before)


@settings(max_examples=60, deadline=None)
@given(keepers=KEEPERS, number=st.integers(0, 2**32), copies=st.integers(1, 7))
def test_no_region_has_two_copies_while_another_has_none(
    keepers: list[Keeper], number: int, copies: int
) -> None:
    placed = chosen(subject(number), keepers, copies=copies, size_bytes=1)
    counts = Counter(keeper.region for keeper in placed)
    for region in {keeper.region for keeper in keepers if keeper.room_bytes}:
        able = sum(k.region == region and k.room_bytes > 0 for k in keepers)
        if counts[region] < able and counts:
            assert max(counts.values()) <= counts[region] + 1


def test_copies_are_balanced_over_equal_nodes() -> None:
    """2,000 models of three copies over 10 nodes: each within 10 % of 600."""
    keepers, held = site(10), Counter[PeerId]()
    for number in range(2_000):
        held.update(k.peer for k in chosen(subject(number), keepers, copies=3, size_bytes=1))
    assert sum(held.values()) == 6_000
    assert all(540 < count < 660 for count in held.values())


def test_first_places_follow_weight() -> None:
    """Six tickets against two: three of four first places, as the odds say."""
    keepers = [Keeper(PeerId("large"), "", 16 * GIB), Keeper(PeerId("small"), "", GIB)]
    assert [keeper.weight for keeper in keepers] == [6, 2]
    first = Counter(ranked(subject(n), keepers)[0].peer for n in range(2_000))
    assert 1_430 < first[PeerId("large")] < 1_570
    assert Keeper(PeerId("p"), "", 2**60).weight == 16
    assert Keeper(PeerId("p"), "", 0, is_bonded=True).weight == 3


def test_regions_of_holders_count_as_taken() -> None:
    keepers = site(6, regions=3)
    holder = keepers[0]
    nexts = chosen(subject(1), keepers, copies=2, size_bytes=1, holders=[holder])
    assert holder not in nexts
    assert {keeper.region for keeper in nexts} == {"region1", "region2"}
    assert chosen(subject(1), keepers, copies=-1, size_bytes=1) == ()


def test_room_is_told_in_powers_of_two() -> None:
    assert [room_told(n) for n in (-1, 0, 1, 5, GIB, GIB + 1)] == [0, 0, 1, 4, GIB, GIB]
