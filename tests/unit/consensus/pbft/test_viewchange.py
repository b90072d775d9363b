"""Leaving and entering views, leading them, and what a NEW_VIEW demands.

Method: a `Bench` of four cores with keyed signatures; a test forges messages with the keys of
the validators it plays, hands them to one core and reads what that core orders.
"""

from dataclasses import replace

import msgspec

from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.config import RESEND_MS, VIEWS_BEHIND_MAX
from prsm.consensus.pbft.effects import (
    Broadcast,
    Effect,
    Fetch,
    NeedPayload,
    Persist,
    Send,
    SetTimer,
    Validate,
)
from prsm.consensus.pbft.events import (
    Draft,
    Fetched,
    Heard,
    Payload,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.records import highest_mark
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import (
    Prepared,
    SignedMessage,
    ViewChange,
)
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH = bytes([9]) * 32


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects if not isinstance(effect, SetTimer)]


def said(effects: list[Effect]) -> list[Kind]:
    return [e.message.kind for e in effects if isinstance(e, Broadcast)]


def test_forged_view_changes_move_nobody() -> None:
    bench = Bench(blocks=2)
    digest = block_hash(bench.block().header)
    forged = [
        Prepared(0, digest, bench.certificate(Kind.PREPARE, digest, signers=(0, 1))),
        Prepared(0, digest, bench.certificate(Kind.COMMIT, digest)),
        Prepared(0, HASH, bench.certificate(Kind.PREPARE, digest)),
        Prepared(1, digest, bench.certificate(Kind.PREPARE, digest, view=1)),
        Prepared(0, digest, bench.certificate(Kind.PREPARE, digest, height=7)),
        Prepared(0, digest, bench.certificate(Kind.PREPARE, digest, view=9)),
    ]
    for prepared in forged:
        for signer in (0, 1):
            assert bench.hear(bench.change(signer, 1, prepared)) == []
    stale = bench.certificate(Kind.COMMIT, HASH, height=1)
    assert bench.hear(bench.change(0, 1, tip_cert=stale)) == []
    nothing = encode(ViewChange(None, None))
    assert bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, nothing, view=1)) == []
    assert bench.hear(bench.change(0, 0)) == []
    assert bench.state.instance.view_changes == {}
    # Two honest ones are more than a third: the replica joins.
    bench.hear(bench.change(0, 1))
    assert said(bench.hear(bench.change(1, 1))) == [Kind.VIEW_CHANGE]


def test_first_height_has_no_parent_to_show() -> None:
    bench = Bench()
    ghost = bench.certificate(Kind.COMMIT, HASH, height=1)
    assert bench.hear(bench.change(0, 1, tip_cert=ghost)) == []
    assert bench.state.instance.view_changes == {}
    bench.hear(bench.change(0, 1))
    assert list(bench.state.instance.view_changes) == [0]


def test_join_goes_to_the_highest_view_more_than_a_third_has_reached() -> None:
    bench = Bench()
    bench.hear(bench.change(0, 9))
    effects = bench.hear(bench.change(1, 4))
    assert said(effects) == [Kind.VIEW_CHANGE]
    assert bench.state.instance.view == 4
    # A signer's earlier VIEW_CHANGE does not take the later one back, nor another of its view.
    digest = block_hash(bench.block().header)
    shown = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    for second in (bench.change(0, 2), bench.change(0, 9, shown)):
        bench.hear(second)
        assert bench.state.instance.view_changes[0].message == bench.change(0, 9)


def test_another_certified_parent_than_mine_halts() -> None:
    bench = Bench(blocks=2)
    other = bench.certificate(Kind.COMMIT, HASH, height=2)
    effects = bench.hear(bench.change(0, 1, tip_cert=other))
    assert kinds(effects) == ["Observe"]
    assert "another block than mine" in str(effects[0])


def _changes(bench: Bench, view: int, prepared: Prepared | None = None) -> list[SignedMessage]:
    return [bench.change(0, view, prepared), bench.change(1, view), bench.change(2, view)]


def test_new_view_is_entered_when_a_quorum_justifies_it() -> None:
    bench = Bench()
    message = bench.new_view(1, _changes(bench, 1))
    effects = bench.hear(message)
    assert kinds(effects) == ["Persist"]
    assert (bench.state.instance.view, bench.state.instance.phase) == (1, Phase.WAITING)
    assert bench.hear(message) == []
    assert bench.hear(bench.new_view(1, _changes(bench, 1)[:3][::-1])) == []
    # A free choice: a fresh block of this view, bound to this NEW_VIEW.
    digest = open_message(message).digest
    fresh = bench.block(view=1, proposer=1)
    assert kinds(bench.propose(fresh, view=1, new_view=digest, signer=1)) == ["Validate"]


def test_new_view_refused() -> None:
    bench = Bench()
    changes = _changes(bench, 1)
    forged = msgspec.structs.replace(changes[2], signature=bytes(64))
    digest = block_hash(bench.block().header)
    lie = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest, signers=(0,)))
    for parts in (changes[:2], [*changes[:2], forged], [*changes[:2], bench.change(2, 1, lie)]):
        assert bench.hear(bench.new_view(1, parts)) == []
    assert bench.hear(bench.new_view(1, changes, signer=2)) == []
    assert bench.state.instance.view == 0


def test_part_of_a_new_view_is_believed_for_itself_and_not_for_its_signer() -> None:
    """What the signer said here before vouches for those very bytes only."""
    bench = Bench()
    changes = _changes(bench, 1)
    bench.hear(changes[0])
    digest = block_hash(bench.block().header)
    shown = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    forged = msgspec.structs.replace(bench.change(0, 1, shown), signature=bytes(64))
    assert bench.hear(bench.new_view(1, [forged, *changes[1:]])) == []
    assert bench.state.instance.view == 0
    bench.hear(bench.new_view(1, changes))
    assert bench.state.instance.view == 1


def test_proposal_that_overtakes_its_new_view_is_judged_with_it() -> None:
    bench = Bench()
    message = bench.new_view(1, _changes(bench, 1))
    digest = open_message(message).digest
    fresh = bench.block(view=1, proposer=1)
    assert kinds(bench.propose(fresh, view=1, new_view=digest, signer=1)) == []
    assert kinds(bench.hear(message)) == ["Persist", "Validate"]


def test_votes_are_kept_four_views_back_and_proposals_none() -> None:
    bench = Bench()
    bench.propose(bench.block())
    bench.votes(Kind.PREPARE, HASH, view=1, signers=(0,))
    for view, tallies in ((1 + VIEWS_BEHIND_MAX, [(Kind.PREPARE, 1)]), (2 + VIEWS_BEHIND_MAX, [])):
        bench.hear(bench.new_view(view, _changes(bench, view)))
        assert bench.state.instance.view == view
        assert list(bench.state.instance.tallies) == tallies
        assert bench.state.instance.proposals == {}


def test_new_view_demands_the_highest_prepared_block() -> None:
    bench = Bench()
    low_block, high_block = bench.block(), bench.block(view=1, proposer=1, transactions=(b"t2",))
    low, high = block_hash(low_block.header), block_hash(high_block.header)
    changes = [
        bench.change(0, 2, Prepared(0, low, bench.certificate(Kind.PREPARE, low))),
        bench.change(1, 2, Prepared(1, high, bench.certificate(Kind.PREPARE, high, view=1))),
        bench.change(2, 2),
    ]
    message = bench.new_view(2, changes)
    bench.hear(message)
    digest = open_message(message).digest
    demanded = bench.state.instance.demanded
    assert demanded is not None
    assert demanded.block_hash == high
    for wrong in (low_block, bench.block(view=2, proposer=2)):
        held = Bench()
        held.hear(message)
        assert kinds(held.propose(wrong, view=2, new_view=digest, signer=2)) == []
    # The right one is prepared without asking the ledger: no time window on a re-proposal.
    assert said(bench.propose(high_block, view=2, new_view=digest, signer=2)) == [Kind.PREPARE]


def test_two_blocks_prepared_in_one_view_halt() -> None:
    bench = Bench()
    other = HASH
    digest = block_hash(bench.block().header)
    changes = [
        bench.change(0, 1, Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))),
        bench.change(1, 1, Prepared(0, other, bench.certificate(Kind.PREPARE, other))),
        bench.change(2, 1),
    ]
    effects = bench.hear(bench.new_view(1, changes))
    assert kinds(effects) == ["Observe"]
    assert "two blocks are prepared" in str(effects[0])


def test_late_view_change_is_answered_with_the_new_view() -> None:
    bench = Bench()
    message = bench.new_view(2, _changes(bench, 2))
    bench.hear(message)
    assert bench.hear(bench.change(0, 1)) == [Send("peer0", message)]
    bench.hear(bench.change(1, 2))
    assert bench.hear(bench.change(1, 2)) == [Send("peer1", message)]


def _proposer() -> Bench:
    """Core 3 as proposer of view 3, entered by a free NEW_VIEW."""
    bench = Bench()
    changes = _changes(bench, 3)
    for change in changes:
        bench.hear(change)
    assert bench.state.instance.phase is Phase.WAITING
    assert bench.state.instance.view == 3
    return bench


def test_proposer_of_a_view_leads_it_and_asks_for_a_payload() -> None:
    bench = Bench()
    out: list[Effect] = []
    for change in _changes(bench, 3):
        out += bench.hear(change)
    # It joined at two, and led at three with its own.
    assert said(out) == [Kind.VIEW_CHANGE, Kind.NEW_VIEW]
    assert NeedPayload(1, 3) in out
    place = [type(e).__name__ for e in out].index("Broadcast", 2)
    assert any(isinstance(effect, Persist) for effect in out[:place])


def test_payload_is_used_once_and_asked_again_when_there_is_none() -> None:
    bench = _proposer()
    assert bench.take(Payload(1, 2, Draft((), (), 1))) == []
    assert bench.take(Payload(1, 3, None)) == []
    assert NeedPayload(1, 3) not in bench.take(Tick(), RESEND_MS - 1)
    assert NeedPayload(1, 3) in bench.take(Tick(), 1)
    effects = bench.take(Payload(1, 3, Draft((b"t1",), (), 77)))
    assert kinds(effects) == ["Persist", "Broadcast", "Validate"]
    (validate,) = [effect for effect in effects if isinstance(effect, Validate)]
    assert (validate.block.header.view, validate.block.header.proposer) == (3, 3)
    assert bench.take(Payload(1, 3, Draft((b"t2",), (), 78))) == []


def test_payload_is_of_no_use_to_who_may_not_sign_or_does_not_propose() -> None:
    """It was asked for before a weak quorum said that the height is decided."""
    for settled, ordered in ((1, []), (0, ["Persist", "Broadcast", "Validate"])):
        bench = _proposer()
        bench.state.settled = settled
        assert kinds(bench.take(Payload(1, 3, Draft((), (), 77)))) == ordered
    bench = Bench()
    assert kinds(bench.take(Payload(1, 0, Draft((), (), 77)))) == []


def test_first_view_after_a_change_asks_for_a_payload_whatever_the_gap() -> None:
    """Somebody wanted a block and has waited for long."""
    bench = Bench(blocks=20)
    parameters = msgspec.structs.replace(bench.config.parameters, block_gap_min_ms=60_000)
    bench.state.config = replace(bench.config, parameters=parameters)
    assert bench.state.instance.schedule.at(1) == 3
    out = [effect for signer in (0, 1, 2) for effect in bench.hear(bench.change(signer, 1))]
    assert bench.state.instance.view == 1
    assert NeedPayload(21, 1) in out


def test_proposal_and_new_view_are_sent_again_to_those_without_a_commit() -> None:
    bench = _proposer()
    bench.take(Payload(1, 3, Draft((), (), 77)))
    digest = bench.state.instance.block_hash
    bench.hear(bench.sign(Kind.COMMIT, 0, digest, view=3))
    sent = [e for e in bench.take(Tick(), 250) if isinstance(e, Send)]
    assert [(e.peer, e.message.kind) for e in sent] == [
        ("peer1", Kind.NEW_VIEW),
        ("peer2", Kind.NEW_VIEW),
        ("peer1", Kind.PROPOSE),
        ("peer2", Kind.PROPOSE),
    ]


def test_proposer_without_the_demanded_body_asks_for_it() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    prepared = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    out: list[Effect] = []
    for change in _changes(bench, 3, prepared):
        out += bench.hear(change)
    assert Fetch(1, 1, digest, ("peer0", "peer1", "peer2")) in out
    assert bench.take(Payload(1, 3, Draft((), (), 1))) == []
    assert [e for e in bench.take(Tick(), 100) if isinstance(e, Fetch)] == []
    assert [e for e in bench.take(Tick(), 150) if isinstance(e, Fetch)] != []
    assert said(bench.take(Fetched(block))) == [Kind.PROPOSE, Kind.PREPARE]
    assert replica.body(bench.state, 1, digest) == block
    assert replica.body(bench.state, 2, digest) is None
    assert replica.body(bench.state, 1, HASH) is None


def test_demanded_body_is_asked_first_of_those_who_have_it_on_disk() -> None:
    """Who only prepared it lost it with the power; who shows it locked it before."""
    bench = Bench()
    digest = block_hash(bench.block().header)
    prepared = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    out: list[Effect] = []
    for signer in (0, 2, 1):
        out += bench.hear(bench.change(signer, 3, prepared if signer == 2 else None))
    assert Fetch(1, 1, digest, ("peer2", "peer0", "peer1")) in out


def test_idle_replica_sends_nothing_and_sets_no_timer() -> None:
    bench = Bench()
    for _ in range(20):
        assert bench.take(Tick(), 250) == []
    assert bench.take(Tick(), 60_000) != []  # the heartbeat block is due


def test_timer_stops_with_the_work_and_view_zero_is_left_after_its_time() -> None:
    bench = Bench()
    assert bench.take(Waiting(transactions=True)) == [SetTimer(bench.now_ms + 400)]
    bench.take(Waiting(transactions=False))
    assert bench.take(Tick(), 1_000) == []
    bench.take(Waiting(transactions=True))
    assert said(bench.take(Tick(), 399)) == []
    assert said(bench.take(Tick(), 1)) == [Kind.VIEW_CHANGE]
    # Alone in its view it waits for others, saying it again every 250 ms, and goes no further.
    for _ in range(20):
        assert set(said(bench.take(Tick(), 250))) == {Kind.VIEW_CHANGE}
    assert bench.state.instance.view == 1


def test_checkpoint_keeps_what_the_present_height_and_later_ones_need() -> None:
    bench = _proposer()
    bench.take(Payload(1, 3, Draft((b"t1",), (), 77)))
    digest = bench.state.instance.block_hash
    bench.take(Verdict(digest, ok=True))
    bench.votes(Kind.PREPARE, digest, view=3)
    assert bench.state.instance.phase is Phase.COMMITTING
    again = replica.start(bench.config, bench.ledger.tip, heights.checkpoint(bench.state), None)
    for field in ("height", "view", "voted", "locked", "new_view", "demanded"):
        assert getattr(again.instance, field) == getattr(bench.state.instance, field)
    leaving = heights.checkpoint(bench.state)
    bench.state = replica.start(bench.config, bench.ledger.tip, leaving, None)
    bench.take(Heard("peer0", bench.status()))
    assert said(bench.take(Heard("peer1", bench.status()))) == [Kind.PREPARE, Kind.COMMIT]
    assert bench.state.instance.phase is Phase.COMMITTING


def test_same_events_give_the_same_effects() -> None:
    def play() -> list[Effect]:
        bench = _proposer()
        return bench.take(Payload(1, 3, Draft((b"t1",), (), 77)))

    assert play() == play()


def test_segment_begun_in_a_view_that_was_left_for_is_not_behind_the_guard() -> None:
    """The guard's last word is the VIEW_CHANGE; a log that held the NEW_VIEW alone had lost it."""
    bench = Bench()
    bench.take(Waiting(transactions=True))
    effects = bench.take(Tick(), 400)
    written = [effect.record for effect in effects if isinstance(effect, Persist)]
    changes = [bench.change(signer, 1) for signer in (0, 1, 2)]
    effects = bench.hear(bench.new_view(1, changes))
    written += [effect.record for effect in effects if isinstance(effect, Persist)]
    assert bench.state.instance.phase is Phase.WAITING
    begun = heights.checkpoint(bench.state)
    assert highest_mark(begun) == highest_mark(written)
    again = replica.start(bench.config, bench.ledger.tip, begun, None)
    assert (again.instance.view, again.instance.phase) == (1, Phase.WAITING)
    assert again.instance.new_view == bench.state.instance.new_view


def test_segment_begun_between_two_views_keeps_what_was_left() -> None:
    bench = Bench()
    bench.take(Waiting(transactions=True))
    bench.take(Tick(), 400)
    assert (bench.state.instance.view, bench.state.instance.phase) == (1, Phase.CHANGING)
    again = replica.start(bench.config, bench.ledger.tip, heights.checkpoint(bench.state), None)
    assert (again.instance.view, again.instance.phase) == (1, Phase.CHANGING)
