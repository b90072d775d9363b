"""What a core keeps of messages: those before their height, and the highest vote of each key.

Source: docs/spec/pbft.md, "Messages". Method: a `Bench` of four cores; the test signs for 0, 1, 2.
"""

from dataclasses import replace

import pytest

from prsm.consensus.pbft import replica, statuses
from prsm.consensus.pbft.config import HEIGHTS_AHEAD_MAX, VIEWS_AHEAD_MAX, VIEWS_BEHIND_MAX
from prsm.consensus.pbft.effects import Accuse
from prsm.consensus.pbft.events import Heard, Installed
from prsm.consensus.pbft.inbox import is_late
from prsm.consensus.pbft.state import load
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import ViewChange
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH, OTHER = bytes([9]) * 32, bytes([8]) * 32


def test_member_that_says_anything_was_heard_now() -> None:
    bench = Bench()
    bench.hear(bench.sign(Kind.PREPARE, 2, HASH))
    assert bench.state.heard_at_ms["peer2"] == bench.now_ms
    bench.take(Heard("peer1", bench.status()), 77)
    assert bench.state.heard_at_ms["peer1"] == bench.now_ms


def test_message_of_a_later_height_waits_for_that_and_for_no_other() -> None:
    bench = Bench()
    early = bench.sign(Kind.PREPARE, 1, HASH, height=3)
    bench.hear(early)
    for height in (2, 3):
        assert list(bench.state.ahead) == [(3, 0, Kind.PREPARE, 0, 1)]
        bench.decide()
        assert bench.state.instance.height == height
    assert not bench.state.ahead
    tally = bench.state.instance.tallies[Kind.PREPARE, 0]
    assert tally.votes[1].message == early


@pytest.mark.parametrize("kind", [Kind.PREPARE, Kind.COMMIT])
def test_votes_are_kept_to_four_heights_ahead_and_to_view_four(kind: Kind) -> None:
    bench = Bench()
    for height in (1 + HEIGHTS_AHEAD_MAX, 2 + HEIGHTS_AHEAD_MAX):
        for view in (VIEWS_AHEAD_MAX, VIEWS_AHEAD_MAX + 1):
            bench.hear(bench.sign(kind, 0, HASH, height=height, view=view))
    assert list(bench.state.ahead) == [(1 + HEIGHTS_AHEAD_MAX, 0, kind, VIEWS_AHEAD_MAX, 0)]


@pytest.mark.parametrize("kind", [Kind.PREPARE, Kind.COMMIT])
def test_votes_of_the_height_count_four_views_behind_and_ahead(kind: Kind) -> None:
    bench = Bench()
    view = bench.state.instance.view = 9
    for said in range(view + 9):
        bench.hear(bench.sign(kind, 0, HASH, view=said))
    counted = range(view - VIEWS_BEHIND_MAX, view + VIEWS_AHEAD_MAX + 1)
    assert sorted(bench.state.instance.tallies) == [(kind, each) for each in counted]


def test_votes_are_late_once_nothing_but_evidence_hangs_on_them() -> None:
    """PREPAREs once this node said COMMIT, all votes of a decided height; never anything else."""
    bench = Bench()
    prepare, commit = (bench.sign(kind, 2, HASH) for kind in (Kind.PREPARE, Kind.COMMIT))
    elsewhere = bench.sign(Kind.PREPARE, 2, HASH, view=1)
    ahead = bench.sign(Kind.COMMIT, 2, HASH, height=2)
    change = bench.sign(Kind.VIEW_CHANGE, 2, encode(ViewChange(None, None)), view=1)

    def late() -> list[bool]:
        said = (prepare, commit, elsewhere, ahead, change)
        return [is_late(bench.state, message) for message in said]

    assert late() == [False] * 5
    bench.state.instance.voted[Kind.COMMIT, 0] = HASH
    assert late() == [True, False, False, False, False]
    bench.state.instance.voted.clear()
    bench.decide()
    assert late() == [True, True, True, False, False]
    assert bench.state.instance.height == 2
    for signer in (0, 1, 2):
        bench.hear(bench.sign(Kind.COMMIT, signer, HASH, height=2))
    assert bench.state.instance.certificate is not None
    assert late() == [True, True, True, True, False]


def test_proposal_of_the_present_view_always_has_room_and_takes_none() -> None:
    """Two of later views are kept beside it, whichever came first; the last one is of view 4."""
    assert [Bench().state.instance.schedule.at(view) for view in range(6)] == [0, 1, 2, 3, 0, 1]
    for order in ((0, 1, 4), (1, 4, 0), (5, 4, 0, 2, 1)):
        bench = Bench()
        for view in order:
            proposer = bench.state.instance.schedule.at(view)
            block = bench.block(view=view, proposer=proposer)
            bench.propose(block, view=view, signer=proposer)
        kept = [view for view in order if view <= VIEWS_AHEAD_MAX][:3]
        assert list(bench.state.instance.proposals) == kept


def test_first_of_two_that_contradict_each_other_is_kept() -> None:
    """The second is no news: a liar that says more cannot hide what it said."""
    bench = Bench()
    first, second = (bench.sign(Kind.PREPARE, 0, digest) for digest in (HASH, OTHER))
    bench.hear(first)
    bench.hear(second)
    assert statuses.status_for(bench.state, "peer0").your_highest == first
    certificate = bench.certificate(Kind.COMMIT, HASH)
    bodies = [encode(ViewChange(known, None)) for known in (None, certificate)]
    first, second = (bench.sign(Kind.VIEW_CHANGE, 1, body, view=1, height=2) for body in bodies)
    bench.hear(first)
    bench.hear(second)
    (kept,) = bench.state.ahead.values()
    assert kept.message == first


def test_tables_that_peers_can_fill_are_named_for_who_bounds_them() -> None:
    sizes = load(Bench(greeted=False).state)
    assert set(sizes.values()) == {0}
    assert list(sizes) == [
        *("ahead", "bodies_ahead", "bodies", "tallies", "proposals", "view_changes"),
        *("checked", "memories", "claims", "probation", "heard", "highest"),
    ]


def test_snapshot_passes_over_what_was_kept_for_heights_before_it() -> None:
    bench = Bench()
    grown = Bench(blocks=2)
    for height in (2, 4):
        bench.hear(bench.sign(Kind.PREPARE, 0, HASH, height=height))
    assert len(bench.state.ahead) == 2
    certificate = bench.certificate(Kind.COMMIT, HASH, height=3)
    bench.take(Installed(grown.ledger.tip, certificate, None))
    assert bench.state.instance.height == 3
    assert list(bench.state.ahead) == [(4, 0, Kind.PREPARE, 0, 0)]
    assert not bench.state.instance.tallies


def test_same_block_proposed_in_two_ways_is_no_contradiction() -> None:
    """The certificate that goes with it is no part of what its proposer stands for."""
    bench = Bench()
    block = bench.block()
    bench.propose(block)
    first = bench.state.instance.proposals[0]
    assert not [each for each in bench.propose(block, new_view=HASH) if isinstance(each, Accuse)]
    assert bench.state.instance.proposals[0] is first


def test_who_has_no_key_answers_nobody() -> None:
    """A COMMIT of its own is what it would answer with."""
    bench = Bench()
    bench.state = replica.start(replace(bench.config, signers=()), bench.ledger.tip, (), None)
    bench.decide()
    [past] = bench.state.past
    again = past.tallies[Kind.PREPARE, 0].votes[0].message
    assert bench.hear(again) == []
