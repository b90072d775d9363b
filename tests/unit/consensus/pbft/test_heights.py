"""From one height to the next, and from a log to its height: what is taken along, what is not.

Source: docs/spec/pbft.md, "Start" and "Persist before send". Method: a `Bench` of four cores.
"""

from collections.abc import Iterable

import pytest
from msgspec import structs

from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.config import BODIES_MAX
from prsm.consensus.pbft.effects import Broadcast, Effect, Observe, Persist, SetTimer
from prsm.consensus.pbft.events import Decided, Heard, Verdict
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.records import (
    Entered,
    Held,
    Left,
    Locked,
    LogRecord,
    LowMark,
    Voted,
    pack,
    unpack,
)
from prsm.consensus.pbft.state import State
from prsm.consensus.pbft.timeouts import timeout_ms
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.codec import encode
from prsm.protocol.headers import block_hash
from prsm.protocol.messages.consensus import Prepared, ViewChange
from prsm.protocol.schedule import STICKY_HEIGHTS
from prsm.protocol.signing import Kind
from prsm.testnet.sim.stage import Bench

HASH = bytes([9]) * 32


def restarted(bench: Bench, *records: LogRecord) -> list[Effect]:
    """Start the core with a log; what it does once a quorum was heard."""
    raws = [pack(record) for record in records]
    bench.state = replica.start(bench.config, bench.ledger.tip, raws, None)
    out = bench.take(Heard("peer0", bench.status()))
    return out + bench.take(Heard("peer1", bench.status()))


def replay_of(bench: Bench, records: Iterable[bytes]) -> State:
    """A core that starts with a log."""
    return replica.start(bench.config, bench.ledger.tip, tuple(records), None)


def test_proposer_changes_with_the_height_that_the_schedule_says() -> None:
    bench = Bench()
    for height in range(1, STICKY_HEIGHTS + 1):
        assert (bench.state.instance.height, bench.state.instance.schedule.at(0)) == (height, 0)
        bench.decide()
    assert bench.state.instance.schedule.at(0) == 1


def test_time_of_the_last_block_is_that_of_its_execution() -> None:
    """From it the gap to the next one and the heartbeat are counted, also in the same step."""
    bench = Bench()
    bench.now_ms += 5_000
    bench.decide()
    assert bench.state.applied_at_ms == bench.now_ms


def test_proof_of_the_low_mark_goes_with_the_block_it_proves() -> None:
    bench, other = Bench(), Bench()
    for _ in range(2):
        other.decide()
    blocks = other.ledger.blocks
    body = encode(ViewChange(blocks[1][1], None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=3))
    actor = bench.stage.actors[3]
    actor.state = bench.state
    for block, certificate in blocks:
        height = block.header.height
        records = (pack(LowMark(2, blocks[1][1])), pack(LowMark(height, None)))
        assert heights.surviving(bench.state, height) == records
        bench.stage.take(actor, Decided(block, certificate))
    assert bench.state.tip.height == 2
    assert heights.checkpoint(bench.state) == (pack(LowMark(2, None)),)


def test_segment_begun_behind_the_ledgers_transaction_ends_its_height() -> None:
    """Also for a ledger that is found below it one day: its votes are not in the log any more."""
    bench = Bench()
    block = bench.block()
    bench.propose(block)
    bench.votes(Kind.COMMIT, block_hash(block.header))
    assert bench.state.instance.phase is Phase.EXECUTING
    kept = heights.surviving(bench.state, 1)
    assert kept == (pack(LowMark(1, None)),)
    assert replica.start(bench.config, bench.ledger.tip, kept, None).low == 1


@pytest.mark.parametrize("view", [0, 1, 2])
def test_restarted_replica_gives_a_later_view_its_time_and_the_first_none(view: int) -> None:
    """Somebody wanted a block there; in view 0 it takes a proposal or work to run the timer."""
    bench = Bench()
    voted = Voted(Kind.PREPARE, 0, 1, view, HASH)
    changes = [bench.change(signer, view) for signer in (0, 1, 2)]
    entered = [Entered(bench.new_view(view, changes))] if view else []
    timers = [each for each in restarted(bench, *entered, voted) if isinstance(each, SetTimer)]
    assert timers[-1].at_ms <= bench.now_ms + 50, "its PREPARE is said again"
    instance = bench.state.instance
    span_ms = timeout_ms(bench.config.parameters, view)
    assert (instance.view, instance.phase) == (view, Phase.WAITING)
    assert instance.deadline_ms == (bench.now_ms + span_ms if view else None)


def test_restarted_replica_goes_on_with_the_block_it_prepared_and_no_other() -> None:
    bench = Bench()
    block, other = bench.block(), bench.block(transactions=(b"other",))
    digest = block_hash(block.header)
    for proposed, phase in ((block, Phase.PREPARING), (other, Phase.JUDGING)):
        restarted(bench, Voted(Kind.PREPARE, 0, 1, 0, digest))
        bench.propose(proposed)
        bench.take(Verdict(block_hash(proposed.header), ok=True))
        assert bench.state.instance.phase is phase


def test_block_is_in_the_log_before_the_first_vote_for_it_and_there_once() -> None:
    """Who can show that it was prepared may keep it back, and all who voted lost their power."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    first = [each.record for each in bench.take(Verdict(digest, ok=True)) if type(each) is Persist]
    assert first == [pack(Held(1, block)), pack(Voted(Kind.PREPARE, 0, 1, 0, digest))]
    then = [
        type(unpack(each.record))
        for each in bench.votes(Kind.PREPARE, digest)
        if isinstance(each, Persist)
    ]
    assert then == [Locked]
    for records in (first, heights.checkpoint(replay_of(bench, first))):
        again = replay_of(bench, records)
        assert replica.body(again, 1, digest) == block
        assert again.instance.held == {digest}


def test_block_a_quorum_prepared_without_me_is_in_the_log_before_my_commit() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)  # no verdict comes
    out = [
        unpack(each.record)
        for each in bench.votes(Kind.PREPARE, digest)
        if isinstance(each, Persist)
    ]
    assert out == [Held(1, block), Locked(0, 1, 0, bench.certificate(Kind.PREPARE, digest), None)]


def test_of_many_blocks_in_the_log_those_stay_that_a_replica_kept() -> None:
    """The one it prepared, and of the others those voted for last, also for a second time."""
    bench = Bench()
    blocks = [bench.block(view=view) for view in range(BODIES_MAX + 2)]
    names = [block_hash(block.header) for block in blocks]
    records: list[LogRecord] = []
    for view, (block, name) in enumerate(zip(blocks, names, strict=True)):
        records += [Held(1, block), Voted(Kind.PREPARE, 0, 1, view, name)]
        if view == 0:
            records.append(Locked(0, 1, 0, bench.certificate(Kind.PREPARE, name), None))
    state = replay_of(bench, map(pack, records))
    assert state.instance.held == {names[0], *names[-(BODIES_MAX - 1) :]}
    again = (*records[3:], Held(1, blocks[1]))  # dropped as the oldest, then voted for in a view
    assert replica.body(replay_of(bench, map(pack, again)), 1, names[1]) == blocks[1]
    assert replay_of(bench, heights.checkpoint(state)).instance.held == state.instance.held


def test_vote_of_an_earlier_program_has_its_block_in_the_log_once_it_is_here_again() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    restarted(bench, Voted(Kind.PREPARE, 0, 1, 0, digest))
    bench.propose(block)
    out = bench.take(Verdict(digest, ok=True))
    assert [each.record for each in out if isinstance(each, Persist)] == [pack(Held(1, block))]


def test_segment_begun_in_a_later_view_keeps_each_commit_of_the_height() -> None:
    """One that a peer saw and the log forgot makes an observer of an honest replica."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    first = bench.certificate(Kind.PREPARE, digest)
    shown = Prepared(0, digest, first)
    changes = [bench.change(signer, 1, shown) for signer in (0, 1, 3)]
    restarted(
        bench,
        Voted(Kind.PREPARE, 0, 1, 0, digest),
        Locked(0, 1, 0, first, block),
        Left(0, 1, 1),
        Entered(bench.new_view(1, changes)),
        Voted(Kind.PREPARE, 0, 1, 1, digest),
        Locked(0, 1, 1, bench.certificate(Kind.PREPARE, digest, view=1), block),
    )
    voted = dict(bench.state.instance.voted)
    assert {(Kind.COMMIT, 0), (Kind.COMMIT, 1)} < set(voted)
    begun = heights.checkpoint(bench.state)
    again = replica.start(bench.config, bench.ledger.tip, begun, None)
    assert again.instance.voted == voted
    assert again.instance.locked == bench.state.instance.locked
    mine = bench.sign(Kind.COMMIT, 3, digest, view=0)
    bench.state = again
    bench.take(Heard("peer0", bench.status()))
    assert not [
        each
        for each in bench.take(Heard("peer1", structs.replace(bench.status(), your_highest=mine)))
        if isinstance(each, Observe)
    ]


def test_restarted_replica_takes_no_other_block_than_its_new_view_demands() -> None:
    """The log holds the NEW_VIEW; without its demand a second block could be prepared."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    shown = Prepared(0, digest, bench.certificate(Kind.PREPARE, digest))
    changes = [bench.change(0, 1, shown), bench.change(1, 1), bench.change(2, 1)]
    message = bench.new_view(1, changes)
    named = open_message(message).digest
    for proposed, phase in (
        (bench.block(view=1, proposer=1), Phase.WAITING),
        (block, Phase.PREPARING),
    ):
        restarted(bench, Left(0, 1, 1), Entered(message))
        assert bench.state.instance.demanded == shown
        bench.propose(proposed, view=1, new_view=named, signer=1)
        assert bench.state.instance.phase is phase


def test_block_prepared_before_the_restart_is_committed_once_when_signing_is_allowed() -> None:
    """The network judges and prepares it again meanwhile; nothing leaves, then all of it does."""
    bench = Bench(greeted=False)
    block = bench.block()
    digest = block_hash(block.header)
    locked = Locked(0, 1, 0, bench.certificate(Kind.PREPARE, digest), block)
    bench.state = replica.start(bench.config, bench.ledger.tip, [pack(locked)], None)
    early = bench.propose(block) + bench.take(Verdict(digest, ok=True))
    early += bench.votes(Kind.PREPARE, digest)
    assert not [each for each in early if isinstance(each, Broadcast | Persist)]
    phases = [bench.state.instance.phase]
    bench.take(Heard("peer0", bench.status()))
    later = bench.take(Heard("peer1", bench.status()))
    assert [each.message.kind for each in later if isinstance(each, Broadcast)] == [Kind.COMMIT]
    assert [*phases, bench.state.instance.phase] == [Phase.JUDGING, Phase.COMMITTING]
