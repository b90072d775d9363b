"""The schedule of faults, which ways they close, and whom nobody can show a block then."""

from collections import Counter
from itertools import islice, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.protocol.errors import LocalError
from prsm.testnet.faults import (
    LOSSY,
    PASSING,
    SLOW,
    Fault,
    Kind,
    Round,
    cut_off,
    joined,
    layer_of,
    schedule,
    stacked,
)
from prsm.testnet.histories.run import CLIENTS_MAX, Options, check_options
from prsm.testnet.proxy import CLEAR, STALLED, Conditions, Pair


def rounds(seed: int, count: int, *, scale: float = 1.0) -> list[Round]:
    return list(islice(schedule(seed, 5, scale=scale), count))


def test_same_seed_gives_the_same_rounds() -> None:
    """And another seed others."""
    assert rounds(7, 50) == rounds(7, 50)
    assert rounds(7, 50) != rounds(8, 50)


def test_each_cycle_does_everything_once_in_its_own_order() -> None:
    """The first one thing at a time, later sometimes two at once; victims are nodes."""
    cycles = [rounds(3, 40)[start : start + 10] for start in range(0, 40, 10)]
    for cycle in cycles:
        assert Counter(each.faults[0].kind for each in cycle) == Counter(PASSING)
    assert all(len(each.faults) == 1 for each in cycles[0])
    later = [each for cycle in cycles[1:] for each in cycle]
    assert {len(each.faults) for each in later} == {1, 2}
    victims = {place for each in later for fault in each.faults for place in fault.places}
    assert victims == {0, 1, 2, 3, 4}
    assert cycles[0] != cycles[1]


def test_scale_shortens_all_durations() -> None:
    """For the gate; what happens stays the same."""
    for short, long in zip(rounds(3, 20, scale=0.5), rounds(3, 20), strict=True):
        assert [fault.kind for fault in short.faults] == [fault.kind for fault in long.faults]
        for one, other in zip(short.faults, long.faults, strict=True):
            assert one.seconds == pytest.approx(other.seconds / 2)
        assert short.rest_seconds == pytest.approx(long.rest_seconds / 2)


def open_ways(fault: Fault, count: int = 4) -> set[Pair]:
    layer = layer_of(fault, count)
    return {way for way in permutations(range(count), 2) if not layer.get(way, CLEAR).is_stalled}


def test_partition_closes_ways_between_groups_and_of_who_is_in_none() -> None:
    """Two of five against two; the fifth is alone. Flapping closes the same ways."""
    for kind in (Kind.SPLIT, Kind.FLAP):
        fault = Fault(kind, groups=((0, 1), (2, 3)))
        assert open_ways(fault, 5) == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_isolated_and_unheard_nodes() -> None:
    """Isolated: neither way. One-way: it hears the others, and nobody hears it."""
    others = set(permutations((0, 1, 2), 2))
    assert open_ways(Fault(Kind.ISOLATE, (3,))) == others
    assert open_ways(Fault(Kind.SILENCE, (3,))) == others | {(0, 3), (1, 3), (2, 3)}


def test_loss_and_delay_are_of_all_links_or_of_some_nodes() -> None:
    """With what the fault says, or what is usual; other kinds do nothing to links."""
    assert set(layer_of(Fault(Kind.LOSS), 3).values()) == {LOSSY}
    assert len(layer_of(Fault(Kind.SLOW), 3)) == 6
    own = Conditions(delay_ms=7)
    layer = layer_of(Fault(Kind.SLOW, (0,), conditions=own), 3)
    assert layer == dict.fromkeys([(0, 1), (0, 2), (1, 0), (2, 0)], own)
    for kind in (Kind.KILL, Kind.CLOCK, Kind.DISK_FULL, Kind.BYZANTINE, Kind.CUT):
        assert layer_of(Fault(kind, (0,)), 3) == {}


def test_layers_add_up_over_what_the_link_has() -> None:
    """Delays and jitter add, losses are independent, the narrower link bounds, a stall wins."""
    both = joined(Conditions(10, 5, 0.5, 1_000), Conditions(20, 0, 0.5, 0))
    assert both == Conditions(30, 5, 0.75, 1_000)
    base = {(0, 1): Conditions(delay_ms=50)}
    ways = stacked(base, [{(0, 1): SLOW}, {(0, 1): STALLED}], 2)
    assert ways[0, 1] == Conditions(150, 100, 0.0, 200_000, is_stalled=True)
    assert ways[1, 0] == CLEAR
    assert stacked(base, [], 2)[0, 1] == base[0, 1]


def cut_by(fault: Fault, count: int = 4, voters: int | None = None) -> frozenset[int]:
    ways = stacked({}, [layer_of(fault, count)], count)
    return cut_off(ways, range(count if voters is None else voters), count)


def test_who_is_cut_off() -> None:
    """Of 2/2 everybody, of 3/1 the one; of one-way those that hear too few, not the unheard one."""
    assert cut_by(Fault(Kind.SPLIT, groups=((0, 1), (2, 3)))) == {0, 1, 2, 3}
    assert cut_by(Fault(Kind.SPLIT, groups=((0, 1, 2), (3,)))) == {3}
    assert cut_by(Fault(Kind.ISOLATE, (2,))) == {2}
    assert cut_by(Fault(Kind.SILENCE, (2,))) == frozenset()
    assert cut_by(Fault(Kind.SILENCE, (0, 2))) == {1, 3}
    assert cut_by(Fault(Kind.LOSS)) == frozenset()


def test_follower_is_cut_off_with_the_group_it_is_in() -> None:
    """Four validators and one that follows: beside three of them it gets blocks, alone not."""
    assert cut_by(Fault(Kind.SPLIT, groups=((0, 1, 2, 4), (3,))), 5, 4) == {3}
    assert cut_by(Fault(Kind.SPLIT, groups=((0, 1, 2, 3), (4,))), 5, 4) == {4}


@given(
    count=st.integers(1, 6),
    closed=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5))),
)
def test_cut_off_agrees_with_a_search_for_paths(count: int, closed: set[Pair]) -> None:
    """The dumb twin walks every path backwards from a node and counts whom it meets."""
    ways = {way: STALLED if way in closed else CLEAR for way in permutations(range(count), 2)}

    def reach(place: int) -> set[int]:
        met, edge = {place}, [place]
        while edge:
            here = edge.pop()
            new = {s for s, r in ways if r == here and not ways[s, r].is_stalled} - met
            met |= new
            edge += new
        return met

    quorum = count - (count - 1) // 3
    expected = {place for place in range(count) if len(reach(place)) < quorum}
    assert cut_off(ways, range(count), count) == expected


@pytest.mark.parametrize(
    "bad",
    [
        Options(operations=0),
        Options(operations=10_000_001),
        Options(nodes=3),
        Options(nodes=14),
        Options(clients=0),
        Options(clients=CLIENTS_MAX + 1),
    ],
)
def test_options_no_history_is_made_with_are_refused(bad: Options) -> None:
    """Before any key is made."""
    with pytest.raises(LocalError, match=r"at (least|most)|4 to 13"):
        check_options(bad)
