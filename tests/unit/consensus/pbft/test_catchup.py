"""Certificates, STATUS, blocks of peers, floods: what is believed, kept, fetched.

Method: a `Bench` of four cores with keyed signatures; a test forges messages with the keys of
the validators it plays, hands them to one core and reads what that core orders.
"""

from dataclasses import replace

import msgspec

from prsm.consensus.pbft import heights, replica, statuses
from prsm.consensus.pbft.config import BEHIND_GRACE_MS
from prsm.consensus.pbft.effects import (
    Broadcast,
    Effect,
    Execute,
    Fetch,
    Observe,
    Persist,
    SetTimer,
)
from prsm.consensus.pbft.events import (
    Decided,
    Heard,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.records import Voted, pack
from prsm.consensus.pbft.state import load, may_sign
from prsm.protocol.codec import encode
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import (
    NewView,
    Proposal,
    ViewChange,
)
from prsm.protocol.signing import Kind, sha256
from prsm.testnet.sim.stage import Bench

HASH = bytes([9]) * 32


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects if not isinstance(effect, SetTimer)]


def said(effects: list[Effect]) -> list[Kind]:
    return [e.message.kind for e in effects if isinstance(e, Broadcast)]


def _with(block: Block, **fields: object) -> Block:
    return Block(msgspec.structs.replace(block.header, **fields), block.body)


def test_commit_certificate_inside_a_later_message_decides() -> None:
    """A replica one height behind: the certificate is proof, the block may be here already."""
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    bench.propose(block)
    certificate = bench.certificate(Kind.COMMIT, digest)
    body = encode(ViewChange(certificate, None))
    effects = bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=2))
    assert kinds(effects) == ["Execute"]
    # A second certificate of that height, for another block, means that the network broke.
    other = encode(ViewChange(bench.certificate(Kind.COMMIT, HASH, height=1), None))
    effects = bench.hear(bench.sign(Kind.VIEW_CHANGE, 1, other, view=1, height=2))
    assert [effect.reason for effect in effects if isinstance(effect, Observe)] == [
        "two blocks are certified at height 1"
    ]


def test_certificate_of_a_later_height_raises_the_low_mark_for_good() -> None:
    bench = Bench()
    certificate = bench.certificate(Kind.COMMIT, HASH, height=3)
    body = encode(ViewChange(certificate, None))
    effects = bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=4))
    assert kinds(effects) == ["Persist", "Fetch"]
    assert effects[1] == Fetch(1, 3, None, ("peer0", "peer1", "peer2"))
    assert bench.state.low == 3
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 1, body, view=1, height=4))
    # It votes at none of those heights again, also after a restart.
    records = [effect.record for effect in effects if isinstance(effect, Persist)]
    again = replica.start(bench.config, bench.ledger.tip, records, None)
    for state in (bench.state, again):
        bench.state = state
        bench.take(Heard("peer0", bench.status()))
        bench.take(Heard("peer1", bench.status()))
        block = bench.block()
        bench.propose(block)
        assert said(bench.take(Verdict(block_hash(block.header), ok=True))) == []
        assert said(bench.votes(Kind.PREPARE, block_hash(block.header))) == []
        assert said(bench.take(Tick(), 10_000)) == []
    assert heights.checkpoint(again)[0] == records[0]


def test_peer_one_block_ahead_is_waited_for_from_when_it_first_was() -> None:
    """A block is on its way to everybody; who was level for a minute is not behind for one."""
    bench = Bench()
    for _ in range(60):
        assert not fetches(bench.take(Heard("peer0", bench.status(height=0)), 1_000))
    assert not fetches(bench.take(Heard("peer0", bench.status(height=1))))
    assert not fetches(bench.take(Heard("peer0", bench.status(height=1)), BEHIND_GRACE_MS - 1))
    assert fetches(bench.take(Heard("peer0", bench.status(height=1)), 1)) == [
        Fetch(1, 1, None, ("peer0",))
    ]


def fetches(effects: list[Effect]) -> list[Fetch]:
    return [effect for effect in effects if isinstance(effect, Fetch)]


def test_certificate_seen_before_its_height_decides_there() -> None:
    """Nobody says it a second time: whoever forgot it would wait for a timeout."""
    bench = Bench()
    early = bench.certificate(Kind.COMMIT, HASH, height=2)
    body = encode(ViewChange(early, None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=3))
    bench.decide()
    assert (bench.state.tip.height, bench.state.instance.height) == (1, 2)
    assert bench.state.instance.certificate == early
    assert bench.state.proof == early


def test_forged_certificates_raise_nothing() -> None:
    bench = Bench()
    for certificate in (
        bench.certificate(Kind.COMMIT, HASH, height=3, signers=(0, 1)),
        bench.certificate(Kind.PREPARE, HASH, height=3),
        bench.certificate(Kind.COMMIT, HASH, height=2),
    ):
        body = encode(ViewChange(certificate, None))
        assert kinds(bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=4))) == []
    assert bench.state.low == 0


def test_flood_of_messages_ahead_stays_within_its_bounds() -> None:
    bench = Bench()
    for height in range(2, 9):
        for view in range(12):
            for signer in (0, 1, 2):
                for kind in (Kind.PREPARE, Kind.COMMIT):
                    bench.hear(bench.sign(kind, signer, HASH, view=view, height=height))
                body = encode(ViewChange(None, None))
                bench.hear(bench.sign(Kind.VIEW_CHANGE, signer, body, view=view, height=height))
                part = bench.sign(Kind.VIEW_CHANGE, signer, body, view=view, height=height)
                many = encode(NewView((part,)))
                bench.hear(bench.sign(Kind.NEW_VIEW, signer, many, view=view, height=height))
            block = _with(bench.block(), height=height)
            bench.propose(block, view=view)
    sizes = load(bench.state)
    assert sizes["bodies_ahead"] == 2
    assert sizes["ahead"] <= 4 * (5 * 2 + 1) * 3 + 4
    # The current height: views up to 4 ahead, two proposals beside that of the own view.
    for view in range(40):
        bench.votes(Kind.PREPARE, HASH, view=view)
        proposer = bench.state.instance.schedule.at(view)
        if proposer != 3:
            bench.propose(bench.block(view=view, proposer=proposer), view=view, signer=proposer)
    sizes = load(bench.state)
    assert sizes["tallies"] <= 5
    assert sizes["proposals"] <= 3


def test_messages_of_strangers_and_other_epochs_are_ignored() -> None:
    bench = Bench()
    vote = bench.sign(Kind.PREPARE, 0, HASH)
    for wrong in (
        msgspec.structs.replace(vote, signer=4),  # there are 0 to 3
        msgspec.structs.replace(vote, signer=9),
        msgspec.structs.replace(vote, epoch=5),
        msgspec.structs.replace(vote, height=0),
    ):
        assert bench.hear(wrong) == []
    assert bench.state.instance.tallies == {}


def test_peer_that_holds_a_lost_vote_of_mine_makes_me_an_observer() -> None:
    bench = Bench(greeted=False)
    vote = bench.sign(Kind.COMMIT, 3, HASH)
    unsigned = msgspec.structs.replace(vote, signature=bytes(64))
    strange = msgspec.structs.replace(vote, body=b"short")
    for harmless in (unsigned, strange, bench.sign(Kind.COMMIT, 0, HASH)):
        assert kinds(bench.take(Heard("peer0", bench.status(highest=harmless)))) == []
    effects = bench.take(Heard("peer0", bench.status(highest=vote)))
    assert kinds(effects) == ["Observe"]
    assert "COMMIT of height 1, view 0" in str(effects[0])
    block = bench.block()
    bench.take(Heard("peer1", bench.status()))
    assert said(bench.propose(block)) == []
    # It still follows: blocks are decided and executed.
    assert "Execute" in kinds(bench.votes(Kind.COMMIT, block_hash(block.header)))


def test_peer_that_holds_a_vote_my_log_remembers_changes_nothing() -> None:
    bench = Bench(greeted=False)
    records = [pack(Voted(Kind.PREPARE, 0, height, 0, HASH)) for height in (1, 2)]
    bench.state = replica.start(bench.config, bench.ledger.tip, records, None)
    assert bench.state.low == 1
    known = bench.sign(Kind.PREPARE, 3, HASH, height=2)
    assert kinds(bench.take(Heard("peer0", bench.status(highest=known)))) == []
    # At or below the low mark nothing is signed any more, so nothing there can matter.
    assert (
        kinds(bench.take(Heard("peer0", bench.status(highest=bench.sign(Kind.COMMIT, 3, HASH)))))
        == []
    )
    body = encode(ViewChange(None, None))
    later = bench.sign(Kind.VIEW_CHANGE, 3, body, view=1, height=2)
    assert kinds(bench.take(Heard("peer0", bench.status(highest=later)))) == ["Observe"]


def test_nothing_is_signed_where_a_weak_quorum_says_it_is_decided() -> None:
    """Two of four: one is honest and has executed it. My log may have lost what I said there."""
    bench = Bench()
    block = bench.block()
    bench.take(Heard("peer0", bench.status(height=1)))
    bench.take(Heard("peer3", bench.status(height=9)))  # my own name in somebody's mouth
    bench.take(Heard("stranger", bench.status(height=9)))
    bench.take(Heard("peer0", bench.status(height=0)))  # it was there once
    assert may_sign(bench.state)
    bench.take(Heard("peer1", bench.status(height=1)))
    assert not may_sign(bench.state)
    assert said(bench.propose(block)) == []
    assert "Execute" in kinds(bench.votes(Kind.COMMIT, block_hash(block.header)))


def test_one_liar_s_height_silences_nobody() -> None:
    bench = Bench()
    bench.take(Heard("peer0", bench.status(height=10**9)))
    assert bench.state.settled == 0
    assert may_sign(bench.state)


def test_own_proposal_or_new_view_shown_by_a_peer_changes_nothing() -> None:
    """A liar who shows what I really sent, but no honest STATUS holds, must not silence me."""
    bench = Bench()
    proposal = encode(Proposal(bench.block(), None))
    for message in (
        bench.sign(Kind.PROPOSE, 3, proposal),
        bench.new_view(3, [bench.change(signer, 3) for signer in (0, 1, 2)]),
    ):
        assert kinds(bench.take(Heard("peer0", bench.status(highest=message)))) == []
    assert bench.state.observer is None


def test_proven_height_is_fetched_before_a_claimed_one() -> None:
    bench = Bench()
    body = encode(ViewChange(bench.certificate(Kind.COMMIT, HASH, height=3), None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, body, view=1, height=4))
    effects = bench.take(Heard("peer2", bench.status(900)), 1_000)
    assert effects[0] == Fetch(1, 3, None, ("peer0", "peer1", "peer2"))


def test_unknown_vote_of_a_height_the_log_does_not_know_is_noticed() -> None:
    bench = Bench()
    vote = bench.sign(Kind.PREPARE, 3, HASH, height=5)
    assert kinds(bench.take(Heard("peer0", bench.status(highest=vote)))) == ["Observe"]


def test_vote_shows_before_the_view_change_it_followed() -> None:
    """A log may end behind VIEW_CHANGE(h, 1) and have lost PREPARE(h, 1), which came later."""
    bench = Bench()
    bench.hear(bench.sign(Kind.PREPARE, 0, HASH, view=1))
    change = encode(ViewChange(None, None))
    bench.hear(bench.sign(Kind.VIEW_CHANGE, 0, change, view=1))
    shown = statuses.status_for(bench.state, "peer0").your_highest
    assert shown is not None
    assert (shown.kind, shown.view) == (Kind.PREPARE, 1)


def test_large_vote_is_shown_by_its_digest() -> None:
    bench = Bench()
    block = bench.block()
    bench.propose(block)
    shown = statuses.status_for(bench.state, "peer0").your_highest
    assert shown is not None
    assert (shown.kind, shown.body) == (Kind.PROPOSE, block_hash(block.header))


def own(bench: Bench, kind: Kind, body: bytes, digest: bytes) -> list[str]:
    """What comes of a peer that shows a vote of view 1, with the digest in place of its body."""
    vote = msgspec.structs.replace(bench.sign(kind, 3, body, view=1), body=digest)
    return kinds(bench.take(Heard("peer0", bench.status(highest=vote))))


def test_forgotten_proposal_makes_an_observer() -> None:
    """A proposer that lost its PROPOSE would make another one: peers hold it against that."""
    bench = Bench()
    block = bench.block()
    body, digest = encode(Proposal(block, None)), block_hash(block.header)
    assert own(Bench(), Kind.PROPOSE, body, digest) == ["Observe"]
    assert own(Bench(), Kind.PROPOSE, body, HASH) == []  # another digest than was signed
    bench.state.instance.voted[Kind.PROPOSE, 1] = digest
    assert own(bench, Kind.PROPOSE, body, digest) == []


def test_forgotten_new_view_makes_an_observer_unless_its_view_is_left() -> None:
    body = encode(NewView(()))
    for view, seen in ((0, ["Observe"]), (1, ["Observe"]), (2, [])):
        bench = Bench()
        bench.state.instance.view = view
        assert own(bench, Kind.NEW_VIEW, body, sha256(body)) == seen, view


def test_log_that_cannot_be_read_starts_an_observer() -> None:
    bench = Bench()
    state = replica.start(bench.config, bench.ledger.tip, [b"\xee"], None)
    assert state.observer is not None
    assert "cannot be read" in state.observer
    assert state.low == bench.ledger.tip.height


def test_status_shows_the_highest_vote_of_its_receiver() -> None:
    bench = Bench()
    bench.votes(Kind.COMMIT, HASH, signers=(0,))
    bench.votes(Kind.PREPARE, HASH, signers=(0,))
    shown = statuses.status_for(bench.state, "peer0").your_highest
    assert shown is not None
    assert shown.kind is Kind.COMMIT
    assert statuses.status_for(bench.state, "peer1").your_highest is None
    assert statuses.status_for(bench.state, "stranger").your_highest is None


def test_peer_far_ahead_is_asked_at_once_and_one_block_ahead_after_a_grace() -> None:
    bench = Bench()
    assert kinds(bench.take(Heard("peer0", bench.status(1)))) == []
    assert kinds(bench.take(Heard("peer0", bench.status(1)), 299)) == []
    assert kinds(bench.take(Heard("peer0", bench.status(1)), 1)) == ["Fetch"]
    # One range in flight, however many claim to be ahead; no height is believed for later.
    assert kinds(bench.take(Heard("peer1", bench.status(900)), 100)) == []
    assert kinds(bench.take(Heard("peer1", bench.status(900)), 1_000)) == ["Fetch"]
    assert bench.state.fetch_to == 0
    assert kinds(bench.take(Tick(), 2_000)) == []
    effects = bench.take(Heard("stranger", bench.status(900)))
    assert effects[0] == Fetch(1, 64, None, ("stranger",))
    assert set(bench.state.claims) == {"peer0", "peer1"}, "a stranger's word weighs nothing"
    assert set(bench.state.heard_at_ms) == {"peer0", "peer1"}


def test_synced_block_is_believed_by_its_certificate_only() -> None:
    bench = Bench()
    block = bench.block()
    digest = block_hash(block.header)
    weak = bench.certificate(Kind.COMMIT, digest, signers=(0, 1))
    good = bench.certificate(Kind.COMMIT, digest)
    unbound = Block(block.header, msgspec.structs.replace(block.body, transactions=(b"t9",)))
    for wrong, certificate in (
        (block, weak),
        (block, bench.certificate(Kind.COMMIT, HASH)),
        (unbound, good),
        (_with(block, height=2), good),
    ):
        assert kinds(bench.take(Decided(wrong, certificate))) == []
    assert kinds(bench.take(Decided(block, good))) == ["Execute"]
    assert bench.take(Decided(block, good)) == []


def test_node_without_a_key_follows_and_serves() -> None:
    bench = Bench()
    config = replace(bench.config, signers=())
    bench.state = replica.start(config, bench.ledger.tip, (), None)
    bench.take(Waiting(transactions=True))
    block = bench.block()
    assert bench.propose(block) == []
    assert bench.votes(Kind.PREPARE, block_hash(block.header)) == []
    assert bench.take(Tick(), 9_000) == []
    assert kinds(bench.votes(Kind.COMMIT, block_hash(block.header))) == ["Execute"]


def test_observe_is_said_once() -> None:
    bench = Bench()
    vote = bench.sign(Kind.COMMIT, 3, HASH)
    first = bench.take(Heard("peer0", bench.status(highest=vote)))
    second = bench.take(Heard("peer1", bench.status(highest=vote)))
    assert [type(e) for e in (*first, *second)] == [Observe]


def test_segment_begun_while_the_ledger_catches_up_keeps_votes_of_later_heights() -> None:
    """The ledger lost two blocks, the log did not: a second crash must not lose the votes."""
    bench = Bench()
    votes = [pack(Voted(Kind.PREPARE, 0, height, 0, HASH)) for height in (2, 3)]
    bench.state = replica.start(bench.config, bench.ledger.tip, votes, None)
    assert bench.state.low == 2
    block = bench.block()
    digest = block_hash(block.header)
    (effect,) = bench.take(Decided(block, bench.certificate(Kind.COMMIT, digest)))
    assert isinstance(effect, Execute)
    for kept in (heights.surviving(bench.state, 1), heights.checkpoint(bench.state)):
        again = replica.start(bench.config, bench.ledger.tip, kept, None)
        assert again.low == 2
        assert sorted(again.memories) == [2, 3]
        assert again.memories[3].voted == {(Kind.PREPARE, 0): HASH}
