"""The normal case of one core: what is judged, voted for, decided, refused.

Method: a `Bench` of four cores with keyed signatures; a test forges messages with the keys of
the validators it plays, hands them to one core and reads what that core orders.
"""

from dataclasses import replace

import msgspec
import pytest

from prsm.consensus.pbft import heights, replica
from prsm.consensus.pbft.config import BODIES_MAX, Config
from prsm.consensus.pbft.effects import (
    Accuse,
    Broadcast,
    Effect,
    Execute,
    Fetch,
    NeedPayload,
    Persist,
    SetTimer,
    Validate,
)
from prsm.consensus.pbft.events import (
    Applied,
    Fetched,
    Heard,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.opened import Opened, is_signed, open_message
from prsm.consensus.pbft.records import Voted, pack
from prsm.consensus.pbft.state import keep_body, load
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.certificates import certificate_hash
from prsm.protocol.codec import encode
from prsm.protocol.errors import WireError
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX
from prsm.protocol.messages.consensus import (
    NewView,
    Prepared,
    Proposal,
    SignedMessage,
)
from prsm.protocol.signing import Kind
from prsm.testnet.sim.ledger import GENESIS_ROOT
from prsm.testnet.sim.stage import Bench, Stage

HASH = bytes([9]) * 32


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects if not isinstance(effect, SetTimer)]


def said(effects: list[Effect]) -> list[Kind]:
    return [e.message.kind for e in effects if isinstance(e, Broadcast)]


def test_first_signature_waits_for_peers_of_a_quorum() -> None:
    bench = Bench(greeted=False)
    block = bench.block()
    assert kinds(bench.propose(block)) == ["Validate"]
    assert bench.take(Verdict(block_hash(block.header), ok=True)) == []
    assert bench.take(Heard("peer0", bench.status())) == []
    assert said(bench.take(Heard("peer1", bench.status()))) == [Kind.PREPARE]


def test_prepare_follows_a_good_verdict_only() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    assert [e for e in bench.propose(block) if isinstance(e, Validate)] == [Validate(block, digest)]
    assert said(bench.take(Verdict(HASH, ok=True))) == []
    assert kinds(bench.take(Verdict(digest, ok=False))) == []
    # A quorum that found it good is proof enough: the verdict is not asked any more.
    effects = bench.votes(Kind.PREPARE, digest)
    assert said(effects) == [Kind.COMMIT]
    assert isinstance(effects[-2], Persist) or isinstance(effects[0], Persist)


def _with(block: Block, **fields: object) -> Block:
    return Block(msgspec.structs.replace(block.header, **fields), block.body)


@pytest.mark.parametrize(
    "fields",
    [
        {"chain_id": bytes(8)},
        {"epoch": 1},
        {"prev_hash": HASH},
        {"state_root": HASH},
        {"receipts_root": HASH},
        {"validators_hash": HASH},
        {"next_validators_hash": HASH},
        {"time_ms": 0},
        {"proposer": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_proposal_that_breaks_a_rule_is_not_judged(fields: dict[str, object]) -> None:
    bench = Bench()
    assert kinds(bench.propose(_with(bench.block(), **fields))) == []
    assert bench.state.instance.phase is Phase.WAITING
    # The first proposal of a view is the only one.
    assert kinds(bench.propose(bench.block())) == ["Accuse"]
    assert bench.state.instance.phase is Phase.WAITING


@pytest.mark.parametrize(("later_ms", "ordered"), [(0, []), (1, ["Validate"])])
def test_block_is_later_than_its_parent(later_ms: int, ordered: list[str]) -> None:
    bench = Bench(blocks=2)
    parent = bench.state.tip.block
    assert parent is not None
    block = _with(bench.block(), time_ms=parent.header.time_ms + later_ms)
    assert kinds(bench.propose(block)) == ordered


def test_proposal_by_another_than_the_proposer_is_ignored() -> None:
    bench = Bench()
    assert bench.propose(bench.block(proposer=1), signer=1) == []
    assert kinds(bench.propose(bench.block(), new_view=HASH)) == []
    assert bench.state.instance.proposals != {}


def test_proposal_needs_the_certificate_of_its_parent() -> None:
    bench = Bench(blocks=2)
    block = bench.block()
    assert block.body.prev_cert is not None
    for wrong in (
        None,
        bench.certificate(Kind.COMMIT, bench.state.tip.block_hash, height=2, signers=(0, 1)),
        bench.certificate(Kind.PREPARE, bench.state.tip.block_hash, height=2),
    ):
        fresh = Bench(blocks=2)
        body = msgspec.structs.replace(block.body, prev_cert=wrong)
        header = msgspec.structs.replace(block.header, prev_cert_hash=certificate_hash(wrong))
        assert kinds(fresh.propose(Block(header, body))) == []
    assert kinds(bench.propose(block)) == ["Validate"]


def test_proposal_on_another_certified_parent_halts() -> None:
    """Two certificates at one height, of which one came with the next block: no fork is followed.

    Whatever else the header says: on a real fork its parent differs too.
    """
    for parent in (HASH, None):
        bench = Bench(blocks=2)
        block = bench.block()
        other = bench.certificate(Kind.COMMIT, HASH, height=2)
        body = msgspec.structs.replace(block.body, prev_cert=other)
        header = msgspec.structs.replace(
            block.header,
            prev_cert_hash=certificate_hash(other),
            prev_hash=parent or block.header.prev_hash,
        )
        weak = bench.certificate(Kind.COMMIT, HASH, height=2, signers=(0, 1))
        lie = Block(
            msgspec.structs.replace(header, prev_cert_hash=certificate_hash(weak)),
            msgspec.structs.replace(body, prev_cert=weak),
        )
        assert kinds(Bench(blocks=2).propose(lie)) == []
        effects = bench.propose(Block(header, body))
        assert kinds(effects) == ["Observe"]
        assert "another block than mine" in str(effects[0])
        assert bench.state.instance.phase is Phase.HALTED


def test_proposal_beyond_the_size_of_a_body_is_refused() -> None:
    bench = Bench()
    filled = (bytes(60_000),) * (BLOCK_BODY_BYTES_MAX // 60_000)
    rest = BLOCK_BODY_BYTES_MAX - len(encode(bench.block(transactions=(*filled, bytes(999))).body))
    for size, ordered in ((999 + rest + 1, []), (999 + rest, ["Validate"])):
        block = bench.block(transactions=(*filled, bytes(size)))
        assert (len(encode(block.body)) > BLOCK_BODY_BYTES_MAX) is not bool(ordered)
        assert kinds(Bench().propose(block)) == ordered


def test_certified_block_on_another_state_halts() -> None:
    """My state is wrong if a quorum says so: nothing more is signed or executed."""
    bench = Bench()
    block = _with(bench.block(), state_root=HASH)
    bench.propose(block)
    effects = bench.votes(Kind.COMMIT, block_hash(block.header))
    assert kinds(effects) == ["Observe"]
    assert "state root differs" in str(effects[-1])
    assert bench.state.instance.phase is Phase.HALTED
    assert bench.take(Tick(), 5_000) == []


def test_commit_certificate_decides_without_an_own_vote() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    (effect,) = [e for e in bench.votes(Kind.COMMIT, digest) if isinstance(e, Execute)]
    assert effect.block == block
    # A segment begun before the ledger is done forbids no vote: if it never is, this one is needed.
    assert bench.state.low == 0
    begun = heights.checkpoint(bench.state)
    again = replica.start(bench.config, bench.ledger.tip, begun, None)
    assert (again.low, again.instance.height, again.fetch_to) == (0, 1, 0)
    # While the ledger works, messages of the height are past and those of the next are kept.
    assert bench.votes(Kind.COMMIT, digest) == []
    assert bench.hear(bench.sign(Kind.PREPARE, 0, HASH, height=2)) == []
    assert load(bench.state)["ahead"] == 1
    tip = bench.state.tip
    bench.take(Applied(1, digest, HASH, HASH, tip.epoch))
    assert (bench.state.tip.height, bench.state.instance.height) == (1, 2)
    assert load(bench.state)["ahead"] == 0
    assert bench.state.instance.tallies != {}


def test_votes_for_a_missing_block_fetch_it_by_hash_once_in_a_while() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    effects = bench.votes(Kind.COMMIT, digest, signers=(0, 1, 2))
    assert kinds(effects) == ["Persist", "Fetch"]
    assert effects[-1] == Fetch(1, 1, digest, ("peer0", "peer1", "peer2"))
    assert [e for e in bench.take(Tick()) if isinstance(e, Fetch)] == []
    assert [e for e in bench.take(Tick(), 250) if isinstance(e, Fetch)] != []
    # Neither another block nor one of another height is taken for it.
    assert kinds(bench.take(Fetched(bench.block(transactions=(b"t other",))))) == []
    assert kinds(bench.take(Fetched(block))) == ["Execute"]


def test_single_validator_needs_nobody() -> None:
    stage = Stage((5,))
    actor = stage.actors[0]
    actor.pool.append(b"t one")
    stage.take(actor, Waiting(transactions=True))
    assert actor.ledger.tip.height == 2
    assert actor.ledger.tip.state_root != GENESIS_ROOT


def test_opening_refuses_bodies_that_are_none_of_their_kind() -> None:
    bench = Bench()
    block = bench.block()
    change = bench.change(0, 1)
    vote = bench.sign(Kind.PREPARE, 0, HASH, view=1)

    def opened(kind: Kind, body: bytes, *, height: int = 1, view: int = 1) -> Opened:
        return open_message(SignedMessage(kind, 0, height, view, body, 0, bytes(64)))

    unbound = Block(block.header, msgspec.structs.replace(block.body, transactions=()))
    for kind, body in ((Kind.PREPARE, b"short"), (Kind.PROPOSE, b"\x90"), (Kind.VIEW_CHANGE, b"")):
        with pytest.raises(WireError):
            opened(kind, body)
    later = bench.sign(Kind.VIEW_CHANGE, 0, change.body, view=1, height=2)
    next_epoch = msgspec.structs.replace(change, epoch=1)
    for kind, record, height, what in (
        (Kind.PROPOSE, Proposal(unbound, None), 1, "does not commit to its body"),
        (Kind.PROPOSE, Proposal(block, None), 2, "block of height 1, view 0 proposed at height 2"),
        (Kind.NEW_VIEW, NewView((vote,)), 1, "of another kind, height or view"),
        (Kind.NEW_VIEW, NewView((bench.change(0, 2),)), 1, "of another kind, height or view"),
        (Kind.NEW_VIEW, NewView((later,)), 1, "of another kind, height or view"),
        (Kind.NEW_VIEW, NewView((next_epoch,)), 1, "of another kind, height or view"),
        (Kind.NEW_VIEW, NewView((change, change)), 1, "counts one signer twice"),
    ):
        with pytest.raises(WireError, match=what) as caught:
            opened(kind, encode(record), height=height)
        assert caught.value.penalty == 100, "no honest validator says that"
    validators, verifier = bench.state.validators, bench.config.verifier
    for message, expected in (
        (vote, True),
        (msgspec.structs.replace(vote, epoch=1), False),
        (msgspec.structs.replace(vote, signer=4), False),
        (msgspec.structs.replace(vote, signer=7), False),
        (msgspec.structs.replace(vote, view=2), False),
    ):
        held = open_message(message)
        signed = is_signed(held, validators, chain_id=bench.config.chain_id, verifier=verifier)
        assert signed is expected


def test_conflicting_votes_are_shown_and_counted_once() -> None:
    bench = Bench()
    first = bench.sign(Kind.PREPARE, 0, HASH)
    second = bench.sign(Kind.PREPARE, 0, bytes(32))
    bench.hear(first)
    assert bench.hear(second) == [Accuse(first, second)]
    assert bench.state.instance.tallies[Kind.PREPARE, 0].weights == {HASH: 1}


def test_config_of_a_genesis_is_the_network() -> None:
    bench = Bench()
    assert isinstance(bench.config, Config)
    assert bench.state.instance.own == 3


def test_restarted_replica_does_not_prepare_a_second_block() -> None:
    bench = Bench()
    records = [pack(Voted(Kind.PREPARE, 0, 1, 0, HASH))]
    bench.state = replica.start(bench.config, bench.ledger.tip, records, None)
    bench.take(Heard("peer0", bench.status()))
    assert said(bench.take(Heard("peer1", bench.status()))) == [Kind.PREPARE]
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    assert said(bench.take(Verdict(digest, ok=True))) == []
    # A quorum without it is another matter: COMMIT says that they prepared it.
    assert said(bench.votes(Kind.PREPARE, digest)) == [Kind.COMMIT]


def test_restarted_replica_decides_with_its_own_vote_said_again() -> None:
    """Others voted while it was away; its own COMMIT, from the log, is the last of a quorum."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    out = bench.propose(block) + bench.take(Verdict(digest, ok=True))
    out += bench.votes(Kind.PREPARE, digest, signers=(0, 1))
    assert said(out) == [Kind.PREPARE, Kind.COMMIT]
    records = [effect.record for effect in out if isinstance(effect, Persist)]
    bench.state = replica.start(bench.config, bench.ledger.tip, records, None)
    assert bench.votes(Kind.COMMIT, digest, signers=(0, 1)) == []
    bench.take(Heard("peer0", bench.status()))
    out = bench.take(Heard("peer1", bench.status()))
    assert said(out) == [Kind.PREPARE, Kind.COMMIT]
    assert [effect.block for effect in out if isinstance(effect, Execute)] == [block]


def test_two_proposals_are_kept_before_their_view_and_no_third() -> None:
    bench = Bench()
    for view in (1, 2, 4):  # the proposer of view 3 is the core under test
        proposer = bench.state.instance.schedule.at(view)
        block = bench.block(view=view, proposer=proposer)
        bench.propose(block, view=view, signer=proposer)
    assert sorted(bench.state.instance.proposals) == [1, 2]


def test_bodies_of_a_height_are_bounded_and_the_needed_ones_stay() -> None:
    bench = Bench()
    locked = bench.block()
    digest = block_hash(locked.header)
    bench.propose(locked)
    bench.votes(Kind.PREPARE, digest)
    assert bench.state.instance.locked is not None
    held = []
    for view in range(1, 17):
        proposer = bench.state.instance.schedule.at(view)
        for signer in (0, 1):
            bench.hear(bench.change(signer, view))
        message = bench.new_view(view, [bench.change(signer, view) for signer in (0, 1, 2)])
        if proposer != 3:
            bench.hear(message)
            fresh = bench.block(view=view, proposer=proposer, transactions=(b"t%d" % view,))
            named = open_message(message).digest
            bench.propose(fresh, view=view, new_view=named, signer=proposer)
        held.append(load(bench.state)["bodies"])
        assert digest in bench.state.instance.bodies
    assert max(held) == BODIES_MAX


def test_blocks_that_were_voted_for_give_way_last_and_the_oldest_of_them_first() -> None:
    bench = Bench()
    instance, block = bench.state.instance, bench.block()
    names = [bytes([i]) * 32 for i in range(BODIES_MAX + 4)]
    instance.locked, instance.demanded = (
        Prepared(0, digest, bench.certificate(Kind.PREPARE, digest)) for digest in names[:2]
    )
    instance.certificate = bench.certificate(Kind.COMMIT, names[2])
    instance.block_hash = names[3]
    instance.held = {*names[4:6], *names[7:]}
    for digest in names:
        keep_body(bench.state, digest, block)
    gone = [names[6], *names[4:6], names[7]]  # nobody's vote; then votes, as they came
    assert list(instance.bodies) == [name for name in names if name not in gone]
    assert instance.held == set(names[8:])


def test_proposer_with_work_wakes_when_the_gap_between_blocks_ends() -> None:
    """Not sooner, and no timer is left in the past once the payload was asked for."""
    bench = Bench(blocks=32)
    state = bench.state
    assert state.instance.schedule.at(0) == 3
    parameters = msgspec.structs.replace(state.config.parameters, block_gap_min_ms=200)
    state.config = replace(state.config, parameters=parameters)
    state.applied_at_ms = bench.now_ms
    end_ms = bench.now_ms + 200
    assert bench.take(Waiting(transactions=True), 50) == [SetTimer(end_ms)]
    assert bench.take(Tick(), 149) == []
    asked, timer = bench.take(Tick(), 1)
    assert asked == NeedPayload(state.instance.height, 0)
    assert isinstance(timer, SetTimer)
    assert timer.at_ms > bench.now_ms == end_ms
