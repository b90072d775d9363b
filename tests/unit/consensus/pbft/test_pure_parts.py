"""The leaves without a network: order of effects, timeouts, schedule, records, phases, tallies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prsm.consensus.pbft import records
from prsm.consensus.pbft.config import BadConfig, Config
from prsm.consensus.pbft.effects import (
    Accuse,
    Batch,
    Broadcast,
    Effect,
    NeedPayload,
    Observe,
    Persist,
    SetTimer,
    order,
)
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.timeouts import timeout_ms
from prsm.consensus.pbft.transitions import TRANSITIONS, Fact, Phase, after
from prsm.consensus.pbft.votes import Tally
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import WireError
from prsm.protocol.genesis import Genesis, Parameters
from prsm.protocol.headers import block_hash
from prsm.protocol.ids import Digest
from prsm.protocol.limits import CTL_FRAME_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind
from prsm.protocol.validators import Validator
from prsm.testnet.sim.signing import KeyedSigner
from prsm.testnet.sim.stage import Bench

HASH = bytes([7]) * 32


def _message(kind: Kind = Kind.PREPARE, signer: int = 0, view: int = 0) -> SignedMessage:
    return SignedMessage(kind, 0, 1, view, HASH, signer, bytes(64))


def _genesis(parameters: Parameters) -> Genesis:
    validators = tuple(
        Validator(bytes([i]) * 32, bytes([i + 1]) * 32, f"p{i}", stake)
        for i, stake in enumerate((1, 1, 1, 1))
    )
    return Genesis(1, "n", True, 5, validators, (), parameters)


@given(st.lists(st.sampled_from([Persist(b"a"), Persist(b"b"), SetTimer(1), NeedPayload(1, 0)])))
def test_order_makes_every_record_durable_before_any_later_effect(effects: list[Effect]) -> None:
    """Against the list itself: count, for each effect, the records that had to precede it."""
    steps = order(effects)
    assert len(steps) <= 2
    assert all(step.records or step.effects for step in steps)
    seen_records: list[bytes] = []
    done: list[tuple[Effect, int]] = []
    for step in steps:
        seen_records += step.records
        done += [(effect, len(seen_records)) for effect in step.effects]
    kept = [effect for effect in effects if not isinstance(effect, Persist)]
    assert [effect for effect, _ in done] == kept
    assert seen_records == [effect.record for effect in effects if isinstance(effect, Persist)]
    needed = 0
    places = iter(done)
    for effect in effects:
        if isinstance(effect, Persist):
            needed += 1
        else:
            assert next(places)[1] >= needed


def test_order_lets_what_precedes_the_records_leave_without_waiting() -> None:
    first, second = _message(), _message(signer=1)
    steps = order([Accuse(first, second), Persist(b"r"), Broadcast(first), Persist(b"s")])
    assert [step.records for step in steps] == [(), (b"r", b"s")]
    assert steps[1].effects == (Broadcast(first),)


def test_order_lets_no_record_behind_a_forgotten_vote_overtake_the_guard() -> None:
    """One that raises the low mark over the vote would hide it, if the node died in between."""
    forgot = Observe("shown", forgot=True)
    assert order([SetTimer(1), Persist(b"r"), SetTimer(2), forgot, Persist(b"s"), SetTimer(3)]) == [
        Batch((), (SetTimer(1),)),
        Batch((b"r",), (SetTimer(2), forgot)),
        Batch((b"s",), (SetTimer(3),)),
    ]


def test_timeouts_grow_by_half_and_stop_at_the_cap() -> None:
    parameters = Parameters(timeout_base_ms=400, timeout_cap_ms=2_000)
    assert [timeout_ms(parameters, v) for v in range(6)] == [400, 600, 900, 1350, 2000, 2000]
    assert timeout_ms(parameters, 2**31) == 2_000
    assert all(isinstance(timeout_ms(parameters, v), int) for v in range(70))
    endless = Parameters(timeout_base_ms=400, timeout_cap_ms=2**62)
    assert timeout_ms(endless, 64) == 400 * 3**64 // 2**64
    assert timeout_ms(endless, 65) == 2**62


def test_config_refuses_what_no_replica_can_run_with() -> None:
    with pytest.raises(BadConfig, match="below timeout_base_ms 500"):
        Config.of(
            _genesis(Parameters(timeout_base_ms=500, timeout_cap_ms=400)),
            signers=(),
            verifier=Ed25519Verifier(),
        )
    with pytest.raises(BadConfig, match="7 bytes, it has 8"):
        Config(bytes(7), 0, Parameters(), Ed25519Verifier(), ()).validate()


def test_timeouts_may_be_as_long_as_their_cap_from_the_first() -> None:
    parameters = Parameters(timeout_base_ms=500, timeout_cap_ms=500)
    config = Config.of(_genesis(parameters), signers=(), verifier=Ed25519Verifier())
    assert [timeout_ms(config.parameters, view) for view in range(3)] == [500, 500, 500]


def test_config_takes_another_key_once() -> None:
    first, second = KeyedSigner(0, 1), KeyedSigner(0, 2)
    config = Config.of(_genesis(Parameters()), signers=(first,), verifier=Ed25519Verifier())
    assert config.with_signer(KeyedSigner(0, 1)) is config
    assert config.with_signer(second).signers == (first, second)


def _certificate(kind: Kind, height: int) -> Certificate:
    return Certificate(1, kind, 0, height, 2, HASH, 0b11, (bytes(64), bytes(64)))


ALL_RECORDS: tuple[records.LogRecord, ...] = (
    records.LowMark(4, None),
    records.LowMark(9, _certificate(Kind.COMMIT, 9)),
    records.Voted(Kind.PROPOSE, 0, 10, 0, HASH),
    records.Voted(Kind.PREPARE, 0, 10, 0, HASH),
    records.Left(0, 10, 1),
    records.Entered(_message(Kind.NEW_VIEW)),
)


def test_records_come_back_as_they_were() -> None:
    for record in ALL_RECORDS:
        assert records.unpack(records.pack(record)) == record


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"\x00", b"\x01\x90", records.pack(ALL_RECORDS[0]) + b"x"]
)
def test_records_that_nobody_wrote_are_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        records.unpack(raw)


@pytest.mark.parametrize(("raw", "what"), [(b"", "empty"), (b"\x06\x90", "06"), (b"\xff", "ff")])
def test_record_of_a_type_nobody_has_is_named(raw: bytes, what: str) -> None:
    with pytest.raises(WireError, match=f"^log record of unknown type {what}$"):
        records.unpack(raw)


def test_record_beyond_its_size_is_refused_before_it_is_read() -> None:
    most = 2 * CTL_FRAME_BYTES_MAX
    with pytest.raises(WireError, match=f"^{most + 1} bytes, at most {most}$"):
        records.unpack(bytes(1 + most + 1))


def test_every_vote_has_its_mark_and_nothing_else_has() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    certificate = bench.certificate(Kind.PREPARE, digest, view=4)
    said: dict[records.LogRecord, records.Mark | None] = {
        records.Voted(Kind.PROPOSE, 2, 10, 4, HASH): records.Mark(2, 10, 4, 1, HASH),
        records.Voted(Kind.PREPARE, 2, 10, 4, HASH): records.Mark(2, 10, 4, 2, HASH),
        records.Locked(2, 10, 4, certificate, block): records.Mark(2, 10, 4, 3, digest),
        records.Left(2, 10, 5): records.Mark(2, 10, 5, 0, bytes(32)),
        records.Entered(_message(Kind.NEW_VIEW)): None,
        records.LowMark(9, None): None,
    }
    for record, mark in said.items():
        assert records.mark_of(records.pack(record)) == mark


def test_marks_follow_one_another_as_votes_do() -> None:
    """A VIEW_CHANGE opens its view, so it stands before the votes of that view."""
    said: list[records.LogRecord] = [
        records.Voted(Kind.PROPOSE, 0, 10, 0, HASH),
        records.Voted(Kind.PREPARE, 0, 10, 0, HASH),
        records.Left(0, 10, 1),
        records.Voted(Kind.PREPARE, 0, 10, 1, HASH),
        records.Voted(Kind.PREPARE, 0, 11, 0, HASH),
    ]
    raws = [records.pack(record) for record in said]
    marks = [records.mark_of(raw) for raw in raws]
    positions = [mark.position for mark in marks if mark is not None]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(said)
    assert records.highest_mark(raws) == marks[-1]
    assert records.highest_mark([]) is None
    assert records.mark_of(records.pack(ALL_RECORDS[0])) is None


def test_replay_takes_a_vote_as_proof_that_its_parent_was_committed() -> None:
    """The ledger may stand below the log after a crash; the low mark does not."""
    raws = [records.pack(record) for record in ALL_RECORDS]
    found = records.replay(raws, committed=3)
    assert found.low == 9
    assert found.proof == _certificate(Kind.COMMIT, 9)
    assert sorted(found.heights) == [10]
    memory = found.heights[10]
    assert (memory.view, memory.active) == (1, False)
    assert memory.voted == {(Kind.PROPOSE, 0): HASH, (Kind.PREPARE, 0): HASH}
    assert len(memory.raws) == 3
    late = records.replay(raws, committed=20)
    assert (late.low, late.proof, late.heights) == (20, None, {})
    level = records.replay(raws, committed=10)
    assert (level.low, level.heights) == (10, {})
    voted = records.replay([records.pack(records.Voted(Kind.PREPARE, 0, 8, 0, HASH))], committed=3)
    assert (voted.low, voted.proof) == (7, None)


def test_low_mark_of_a_segment_is_its_heads_or_a_later_one_of_its_records() -> None:
    vote = records.pack(records.Voted(Kind.PREPARE, 0, 9, 0, HASH))
    marks = [
        records.pack(records.LowMark(height, _certificate(Kind.COMMIT, height)))
        for height in (4, 3)
    ]
    assert records.low_mark([], 2) == 2
    assert records.low_mark([vote, *marks], 2) == 4
    assert records.low_mark([vote, *marks], 7) == 7
    assert records.low_mark([marks[1], b"\xff", marks[0]], 2) == 3, "what is not readable ends it"


def test_replay_keeps_the_highest_view_whatever_the_order() -> None:
    entered = records.Entered(_message(Kind.NEW_VIEW, view=2))
    raws = [
        records.pack(record)
        for record in (records.Left(0, 1, 2), entered, records.Left(0, 1, 3), records.Left(0, 1, 1))
    ]
    memory = records.replay(raws, committed=0).heights[1]
    assert (memory.view, memory.active, memory.new_view) == (3, False, None)
    for both in (raws[:2], raws[1::-1]):
        memory = records.replay(both, committed=0).heights[1]
        assert (memory.view, memory.active) == (2, True)
    lower = records.pack(records.Entered(_message(Kind.NEW_VIEW, view=1)))
    memory = records.replay([raws[1], lower], committed=0).heights[1]
    assert (memory.view, memory.new_view) == (2, entered.new_view)


def test_replay_keeps_the_block_prepared_last_whatever_the_order() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    first, last = (
        records.Locked(0, 1, view, bench.certificate(Kind.PREPARE, digest, view=view), block)
        for view in (0, 2)
    )
    for order_of in ((first, last), (last, first)):
        memory = records.replay(map(records.pack, order_of), committed=0).heights[1]
        assert memory.locked == last
        assert set(memory.voted) == {(Kind.COMMIT, 0), (Kind.COMMIT, 2)}


def test_block_that_was_prepared_is_in_the_log_or_the_log_is_damaged() -> None:
    """Before the lock, or in it, where an earlier program wrote it."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    certificate = bench.certificate(Kind.PREPARE, digest)
    held, bare = records.Held(1, block), records.Locked(0, 1, 0, certificate, None)
    logs: list[tuple[records.LogRecord, ...]] = [
        (held, bare),
        (records.Locked(0, 1, 0, certificate, block),),
    ]
    for log in logs:
        memory = records.replay(map(records.pack, log), committed=0).heights[1]
        assert memory.bodies == {digest: block}
    logs = [(bare,), (records.Held(1, bench.block(view=1)), bare)]
    for log in logs:
        with pytest.raises(WireError, match="without the block that was prepared at height 1"):
            records.replay(map(records.pack, log), committed=0)
    assert records.mark_of(records.pack(held)) is None, "it is no vote"


def test_phases_refuse_what_the_table_does_not_list() -> None:
    assert after(Phase.WAITING, Fact.ACCEPTED) is Phase.JUDGING
    for phase, ways in TRANSITIONS.items():
        for fact in Fact:
            if fact not in ways:
                with pytest.raises(AssertionError):
                    after(phase, fact)


def test_tally_counts_the_first_vote_of_a_signer() -> None:
    tally = Tally()
    vote = Opened(_message(), Digest(HASH))
    other = Opened(_message(), Digest(bytes(32)))
    for _ in range(2):
        tally.add(vote, 3)
    assert tally.weight(HASH) == 3
    tally.add(other, 3)
    assert tally.weight(bytes(32)) == 0
    assert tally.weight(bytes(32)) == 0
    assert list(tally.signatures(HASH)) == [0]
