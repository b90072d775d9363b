"""Evidence judged by the set of its epoch, inside the unbonding period, once for a height."""

import msgspec
import pytest

from prsm.consensus.ledger.records import DoubleVote, double_key
from prsm.consensus.ledger.state import read
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import TREASURY
from prsm.protocol.messages.consensus import Prepared, SignedMessage, ViewChange
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import Offence, condense, evidence_of, offence_of
from prsm.protocol.transactions.membership import Leave, Stake
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import FTNS, Chain
from tests.tools.members import (
    UNBONDING_MS,
    done,
    join_of,
    key,
    roll,
    rotate_of,
    short_chain,
    weights,
)
from tests.tools.votes import vote_of

X, Y = b"x" * 32, b"y" * 32


@pytest.fixture
def chain() -> Chain:
    return short_chain()


def doubled(chain: Chain, kind: Kind = Kind.PREPARE, **place: int) -> Evidence:
    signer = place.pop("signer", 2)
    secret = place.pop("key", signer)
    first, second = (
        vote_of(chain, kind, body, signer=signer, key=secret, **place) for body in (X, Y)
    )
    return evidence_of(first, second)


def view_change(chain: Chain, view: int, prepared_view: int | None) -> SignedMessage:
    prepared = None
    if prepared_view is not None:
        certificate = Certificate(1, Kind.PREPARE, 0, 5, prepared_view, X, 0, ())
        prepared = Prepared(prepared_view, X, certificate)
    body = encode(ViewChange(tip_cert=None, prepared=prepared))
    return vote_of(chain, Kind.VIEW_CHANGE, body, signer=2, view=view)


def offence(chain: Chain, evidence: Evidence) -> Offence | None:
    members = chain.genesis.first_validators()
    return offence_of(evidence, members, Ed25519Verifier(), chain.genesis.chain_id)


def test_what_each_pair_is(chain: Chain) -> None:
    assert offence(chain, doubled(chain, Kind.PREPARE)) is Offence.DOUBLE_PREPARE
    assert offence(chain, doubled(chain, Kind.COMMIT)) is Offence.DOUBLE_COMMIT


def test_hidden_prepare_needs_a_later_view_and_an_older_claim(chain: Chain) -> None:
    commit = vote_of(chain, Kind.COMMIT, X, signer=2, view=3)
    for view, prepared_view, expected in (
        (4, None, Offence.HIDDEN_PREPARE),
        (4, 2, Offence.HIDDEN_PREPARE),
        (9, 0, Offence.HIDDEN_PREPARE),
        (4, 3, None),
        (9, 8, None),
        (3, None, None),
        (2, None, None),
    ):
        change = view_change(chain, view, prepared_view)
        evidence = evidence_of(change, commit)
        assert evidence == evidence_of(commit, change)
        assert evidence.first.kind is Kind.COMMIT
        assert offence(chain, evidence) is expected


def test_hidden_prepare_that_proves_nothing(chain: Chain) -> None:
    commit = vote_of(chain, Kind.COMMIT, X, signer=2, view=3)
    change = view_change(chain, 4, None)
    other = vote_of(chain, Kind.VIEW_CHANGE, change.body, signer=1, view=4)
    higher = vote_of(chain, Kind.VIEW_CHANGE, change.body, signer=2, view=4, height=6)
    prepare = vote_of(chain, Kind.PREPARE, X, signer=2, view=3)
    junk = vote_of(chain, Kind.VIEW_CHANGE, b"junk", signer=2, view=4)
    replace = msgspec.structs.replace
    for evidence in (
        Evidence(first=change, second=commit),
        Evidence(first=commit, second=other),
        Evidence(first=commit, second=higher),
        Evidence(first=prepare, second=change),
        Evidence(first=commit, second=junk),
        Evidence(first=commit, second=condense(change)),
        Evidence(first=commit, second=replace(change, signature=commit.signature)),
        Evidence(first=replace(commit, signature=change.signature), second=change),
        Evidence(first=replace(commit, body=X + X), second=change),
    ):
        assert offence(chain, evidence) is None
    assert offence(chain, Evidence(first=commit, second=change)) is Offence.HIDDEN_PREPARE


def test_only_what_decides_blocks_is_tombstoned(chain: Chain) -> None:
    done(chain.send(64, doubled(chain, Kind.PREPARE), step_ms=1).code)
    bond = chain.ledger.view.membership(key(34))
    assert bond is not None
    assert (bond.stake, bond.target, bond.tombstoned) == (90 * FTNS, 100 * FTNS, False)
    hidden = evidence_of(
        vote_of(chain, Kind.COMMIT, X, signer=2, view=3, height=6),
        vote_of(
            chain,
            Kind.VIEW_CHANGE,
            encode(ViewChange(tip_cert=None, prepared=None)),
            signer=2,
            view=4,
            height=6,
        ),
    )
    done(chain.send(64, hidden, step_ms=1).code)
    bond = chain.ledger.view.membership(key(34))
    assert bond is not None
    assert (bond.stake, bond.target, bond.tombstoned) == (81 * FTNS, 0, True)


def test_lesser_offence_reported_first_does_not_save_from_the_tombstone(chain: Chain) -> None:
    """The second report of a height costs no money and earns none."""
    done(chain.send(64, doubled(chain, Kind.PREPARE), step_ms=1).code)
    assert chain.send(64, doubled(chain, Kind.PREPARE), step_ms=1).code is Code.ALREADY_PUNISHED
    treasury = chain.ledger.view.account(TREASURY)
    receipt = chain.send(65, doubled(chain, Kind.COMMIT), step_ms=1)
    done(receipt.code)
    assert receipt.paid == ()
    assert chain.ledger.view.account(TREASURY) == treasury + receipt.fee
    bond = chain.ledger.view.membership(key(34))
    assert bond is not None
    assert (bond.stake, bond.tombstoned) == (90 * FTNS, True)
    assert chain.send(65, doubled(chain, Kind.COMMIT), step_ms=1).code is Code.ALREADY_PUNISHED
    raw = read(chain.ledger._state, double_key(key(34), 5), DoubleVote)
    assert raw is not None
    assert (raw.kind, raw.penalty) == (Offence.DOUBLE_COMMIT, 10 * FTNS)


def test_rotated_key_does_not_hide_its_operator(chain: Chain) -> None:
    """A vote of epoch 0 is checked with the key of epoch 0, a vote of epoch 2 with the new one."""
    done(chain.send(34, rotate_of(chain, 34, 9), step_ms=1).code)
    roll(chain, 2)
    new_key_old_epoch = doubled(chain, Kind.PREPARE, key=9)
    old_key_new_epoch = doubled(chain, Kind.PREPARE, epoch=2, height=40)
    for wrong in (new_key_old_epoch, old_key_new_epoch):
        assert chain.send(64, wrong, step_ms=1).code is Code.BAD_EVIDENCE
    done(chain.send(64, doubled(chain, Kind.PREPARE), step_ms=1).code)
    done(chain.send(64, doubled(chain, Kind.PREPARE, epoch=2, height=40, key=9), step_ms=1).code)
    assert chain.ledger.view.bond(key(34)) == 81 * FTNS


def test_index_means_the_set_of_the_epoch(chain: Chain) -> None:
    """After member 0 has left, index 2 is another operator."""
    done(chain.send(32, Leave(), step_ms=1).code)
    roll(chain, 2)
    assert weights(chain) == {33: 100, 34: 100, 35: 100}
    done(chain.send(64, doubled(chain, Kind.PREPARE, epoch=0, signer=2), step_ms=1).code)
    assert chain.ledger.view.bond(key(34)) == 90 * FTNS
    done(
        chain.send(
            64, doubled(chain, Kind.PREPARE, epoch=2, signer=2, key=3, height=40), step_ms=1
        ).code
    )
    assert chain.ledger.view.bond(key(35)) == 90 * FTNS


def test_evidence_holds_until_the_unbonding_period_of_its_epoch_is_over(chain: Chain) -> None:
    """Until then the bond holds what the operator took out of it: `stake` counts what leaves."""
    done(chain.send(34, Leave(), step_ms=1).code)
    roll(chain)
    ended = chain.ledger.tip.time_ms
    roll(chain)
    left = ended + UNBONDING_MS - chain.ledger.tip.time_ms
    done(chain.send(64, doubled(chain, Kind.COMMIT), step_ms=left).code)
    bond = chain.ledger.view.membership(key(34))
    assert bond is not None
    assert (bond.stake, bond.leaving[0].amount) == (90 * FTNS, 90 * FTNS)
    late = doubled(chain, Kind.COMMIT, height=6)
    assert chain.send(64, late, step_ms=1).code is Code.EVIDENCE_TOO_OLD
    roll(chain)
    assert chain.ledger.view.epoch_set(0) is None
    assert chain.send(64, late, step_ms=1).code is Code.EVIDENCE_TOO_OLD
    future = doubled(chain, Kind.COMMIT, epoch=9)
    assert chain.send(64, future, step_ms=1).code is Code.BAD_EVIDENCE


def test_slashed_weight_falls_in_the_next_set_whatever_others_want(chain: Chain) -> None:
    done(chain.send(32, Stake(230 * FTNS), step_ms=1).code)
    done(chain.send(64, join_of(chain, 64, 8, 50 * FTNS), step_ms=1).code)
    for height in range(1, 4):
        done(chain.send(65, doubled(chain, Kind.PREPARE, height=height), step_ms=1).code)
    roll(chain)
    assert weights(chain, following=True) == {32: 230, 33: 100, 34: 72, 35: 100, 64: 3}
