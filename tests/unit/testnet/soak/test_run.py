"""Which faults a soak has, and what it fails for; the hour itself needs daemons."""

from itertools import islice

import pytest

from prsm.protocol.errors import LocalError
from prsm.testnet import chaos
from prsm.testnet.faults import Kind, schedule
from prsm.testnet.soak.run import Options, failures, spare


def test_only_nodes_behind_the_spared_ones_are_killed() -> None:
    """Four of seven keep their processes; the other faults are about anybody."""
    options = Options()
    kinds = chaos.kinds_of(options.chaos)
    drawn = list(islice(spare(schedule(3, 7, kinds=kinds), options.spared, 7), 300))
    faults = [fault for each in drawn for fault in each.faults]
    assert {p for f in faults if f.kind is Kind.KILL for p in f.places} == {4, 5, 6}
    assert {p for f in faults if f.kind is Kind.PAUSE for p in f.places} == set(range(7))
    untouched = list(islice(schedule(3, 7, kinds=kinds), 300))
    assert [[f.kind for f in r.faults] for r in drawn] == [
        [f.kind for f in r.faults] for r in untouched
    ]


def test_short_run_leaves_out_a_part_of_itself() -> None:
    """Ten minutes of an hour; half a minute of three."""
    assert Options().warm_s == 600
    assert Options(minutes=3).warm_s == 30


def test_options_no_network_can_be_made_of_are_refused() -> None:
    """By the rules of chaos."""
    with pytest.raises(LocalError, match="3 nodes"):
        chaos.check_options(Options(nodes=3).chaos)


def document(**changes: object) -> dict[str, object]:
    row = {
        "spared": True,
        "slope_s": 3000,
        "rss_mib_per_h": 1.0,
        "children_mib_per_h": None,
        "fds_per_h": 0.0,
    }
    found: dict[str, object] = {
        "troubles": [],
        "availability": {"reads_share": 1.0},
        "nodes_seen": {"node1": row, "node7": {**row, "spared": False, "rss_mib_per_h": 400.0}},
        "check": {"broken": []},
    }
    return {**found, **changes}


def test_sound_document_has_no_failures() -> None:
    """What a node that was killed again and again loads at each start is no growth."""
    assert failures(document()) == []


def test_each_thing_that_should_have_held_is_named() -> None:
    """Growth, silence, trouble of the run, what the judge found, no figures at all."""
    grown = {
        "node2": {
            "spared": True,
            "slope_s": 700,
            "rss_mib_per_h": 17.5,
            "fds_per_h": 61.0,
            "tasks_per_h": 60.0,
        }
    }
    assert failures(document(nodes_seen=grown)) == [
        "node2: rss_mib_per_h 17.5, at most 16.0",
        "node2: fds_per_h 61.0, at most 60.0",
    ]
    short = {name: {**row, "slope_s": 500} for name, row in grown.items()}
    assert failures(document(nodes_seen=short)) == []
    silent = failures(document(availability={"reads_share": 0.99}))
    assert silent == ["0.99000 of the reads answered, at least 0.999"]
    assert failures(document(troubles=["after 3 s: x"])) == ["after 3 s: x"]
    assert failures(document(check={"broken": ["fork"]})) == ["fork"]
    assert failures({}) == ["the run came to no figures"]
