"""The light client believes certificates and proofs, and nothing else."""

from itertools import pairwise

import msgspec
import pytest

from prsm.consensus.ledger.records import Balance, account_key
from prsm.consensus.light import Trust
from prsm.protocol import merkle
from prsm.protocol.certificates import certify
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import BadSignature, WireError, WrongChain
from prsm.protocol.genesis import Parameters
from prsm.protocol.headers import Header, block_hash
from prsm.protocol.proofs import BadProof, InclusionProof, ProvenState, ProvenTransaction
from prsm.protocol.signing import Kind, statement
from prsm.protocol.transactions.membership import Stake
from prsm.protocol.transactions.payloads import Transfer
from prsm.protocol.validators import Members, Validator, ValidatorSet
from prsm.testnet.chain import FTNS, Chain, Made, signer_of, small_genesis
from prsm.testnet.jobs import epochs_of

KEY = account_key(signer_of(90).public_key, 0)


@pytest.fixture
def chain() -> Chain:
    chain = Chain(small_genesis())
    for amount in (5, 7, 9):
        chain.send(64, Transfer(asset=0, to=signer_of(90).public_key, amount=amount, memo=b""))
    return chain


@pytest.fixture
def trust(chain: Chain) -> Trust:
    return Trust.of_genesis(chain.genesis, Ed25519Verifier())


def proven_state(chain: Chain, key: bytes = KEY) -> ProvenState:
    proof, last = chain.ledger.prove_certified(key), chain.made[-1]
    assert proof is not None
    return ProvenState(proof=proof, header=last.block.header, certificate=last.certificate)


def test_state_is_that_before_the_proven_header(chain: Chain, trust: Trust) -> None:
    raw = trust.check_state(proven_state(chain))
    assert raw is not None
    assert decode(raw, Balance, size_max=64).amount == 5 + 7
    assert trust.check_state(proven_state(chain, b"a" + bytes(36))) is None


def test_proof_of_the_committed_state_meets_the_next_header(chain: Chain, trust: Trust) -> None:
    proof = chain.ledger.prove(KEY)
    made = chain.add()
    proven = ProvenState(proof=proof, header=made.block.header, certificate=made.certificate)
    raw = trust.check_state(proven)
    assert raw is not None
    assert decode(raw, Balance, size_max=64).amount == 21


def test_transaction_and_its_receipt_are_found(chain: Chain, trust: Trust) -> None:
    made, following = chain.made[1], chain.made[2]
    [raw] = made.block.body.transactions
    place = InclusionProof(index=0, count=1, path=merkle.proof([raw], 0))
    proven = ProvenTransaction(
        transaction=raw, place=place, header=made.block.header, certificate=made.certificate
    )
    trust.check_transaction(proven)
    [receipt] = made.outcome.receipts
    trust.check_receipt(receipt, place, following.block.header, following.certificate)
    with pytest.raises(BadProof):
        trust.check_receipt(receipt + b"x", place, following.block.header, following.certificate)
    with pytest.raises(BadProof):
        trust.check_transaction(msgspec.structs.replace(proven, transaction=raw + b"x"))


def other(chain: Chain, made: Made, **changes: object) -> tuple[Header, Made]:
    header = msgspec.structs.replace(made.block.header, **changes)
    block = msgspec.structs.replace(made.block, header=header)
    return header, Made(block, chain.certify(header), made.outcome)


def test_headers_nobody_trusted_signed_are_refused(chain: Chain, trust: Trust) -> None:
    last = chain.made[-1]
    header, certificate = last.block.header, last.certificate
    trust.check_header(header, certificate)
    trust.check_header(header, chain.certify(header, signers=(0, 2, 3)))
    with pytest.raises(WireError, match="quorum"):
        trust.check_header(header, chain.certify(header, signers=(0, 3)))
    with pytest.raises(BadProof, match="another block"):
        trust.check_header(header, chain.made[0].certificate)
    with pytest.raises(BadProof, match="another block"):
        trust.check_header(msgspec.structs.replace(header, time_ms=1), certificate)
    forged = msgspec.structs.replace(certificate, signatures=certificate.signatures[::-1])
    with pytest.raises(BadSignature):
        trust.check_header(header, forged)
    for changes, error in (
        ({"chain_id": bytes(8)}, WrongChain),
        ({"epoch": 1}, BadProof),
        ({"validators_hash": bytes(32)}, BadProof),
    ):
        changed, made = other(chain, last, **changes)
        with pytest.raises(error):
            trust.check_header(changed, made.certificate)


def test_another_set_is_not_trusted(chain: Chain, trust: Trust) -> None:
    members = trust.validators.members
    strangers = ValidatorSet(Members(epoch=0, validators=members.validators[:3]))
    doubting = Trust(trust.chain_id, strangers, trust.verifier)
    with pytest.raises(BadProof, match="another validator set"):
        doubting.check_state(proven_state(chain))


def grown(*, stake: int = 0) -> Chain:
    """Into epoch 3; the first operator's stake counts from epoch 2 on, if it asks for one."""
    chain = Chain(small_genesis(parameters=Parameters(tree_bits=8, epoch_ms=1_000, stake_min=1)))
    if stake:
        chain.send(32, Stake(target=stake))
    while chain.ledger.epoch.number < 3:
        chain.add()
    chain.add()
    return chain


def test_trust_goes_along_one_header_of_each_epoch() -> None:
    chain = grown(stake=107 * FTNS)
    walk = epochs_of(chain)
    trust = Trust.of_genesis(chain.genesis, Ed25519Verifier())
    last = chain.made[-1]
    with pytest.raises(BadProof, match="another validator set"):
        trust.check_header(last.block.header, last.certificate)
    for known, after in pairwise(walk):
        trust = trust.advance(known.header, known.certificate, after.members)
    assert trust.validators.epoch == 3
    assert trust.time_ms == walk[2].header.time_ms
    assert trust.validators.validators[0].stake == 107 * FTNS
    trust.check_header(last.block.header, last.certificate)
    # The value under that header is proven as before.
    assert trust.check_state(proven_state(chain)) is None


def test_other_members_than_announced_are_refused() -> None:
    chain = grown(stake=107 * FTNS)
    walk = epochs_of(chain)
    trust = Trust.of_genesis(chain.genesis, Ed25519Verifier())
    first = walk[0]
    twice = (*walk[1].members.validators, walk[1].members.validators[0])
    for wrong in (
        walk[0].members,
        walk[2].members,
        Members(epoch=1, validators=walk[1].members.validators[:3]),
        Members(epoch=1, validators=twice),
    ):
        with pytest.raises(BadProof):
            trust.advance(first.header, first.certificate, wrong)
    with pytest.raises(BadProof):  # a header of an epoch that is not trusted yet
        trust.advance(walk[1].header, walk[1].certificate, walk[2].members)
    weak = chain.certify(first.header, signers=(0, 1))
    with pytest.raises(WireError, match="a quorum is"):
        trust.advance(first.header, weak, walk[1].members)


def test_trust_skips_epochs_while_it_is_young_and_enough_of_it_signed() -> None:
    chain = grown()
    walk = epochs_of(chain)
    trust = Trust.of_genesis(chain.genesis, Ed25519Verifier())
    third = walk[3]
    now, period = trust.time_ms + 999, 1_000
    skipped = trust.skip(
        third.header, third.certificate, third.members, now_ms=now, period_ms=period
    )
    assert skipped.validators.epoch == 3
    assert skipped.time_ms == third.header.time_ms
    with pytest.raises(BadProof, match="1000 ms old, good for 1000"):
        trust.skip(third.header, third.certificate, third.members, now_ms=now + 1, period_ms=period)
    with pytest.raises(BadProof, match="trusted is 3"):
        skipped.skip(
            walk[2].header, walk[2].certificate, walk[2].members, now_ms=now, period_ms=period
        )
    with pytest.raises(BadProof, match="names another validator set"):
        trust.skip(third.header, third.certificate, walk[2].members, now_ms=now, period_ms=period)
    weak = chain.certify(third.header, signers=(0, 1))
    with pytest.raises(WireError, match="a quorum is"):
        trust.skip(third.header, weak, third.members, now_ms=now, period_ms=period)


@pytest.mark.parametrize(("known", "accepted"), [((0, 1), True), ((0,), False), ((), False)])
def test_skip_counts_trusted_keys_by_their_trusted_stake(
    known: tuple[int, ...], accepted: bool
) -> None:
    """Of three equal old members so many are in the new set; whatever stake they have there."""
    chain = grown()
    old = chain.genesis.first_validators().members.validators[:3]
    trust = Trust(
        chain.genesis.chain_id, ValidatorSet(Members(epoch=0, validators=old)), Ed25519Verifier(), 1
    )
    strangers = tuple(
        Validator(
            operator=signer_of(10 + i).public_key,
            consensus=signer_of(20 + i).public_key,
            peer_id=f"stranger{i}",
            stake=1,
        )
        for i in range(3)
    )
    heavy = tuple(msgspec.structs.replace(old[i], stake=10**9) for i in known)
    members = Members(epoch=2, validators=(*strangers, *heavy))
    theirs = ValidatorSet(members)
    header = msgspec.structs.replace(
        chain.made[-1].block.header, epoch=2, validators_hash=theirs.digest, time_ms=500
    )
    message = statement(
        header.chain_id,
        Kind.COMMIT,
        epoch=2,
        height=header.height,
        view=0,
        digest=block_hash(header),
    )
    votes = {
        i: chain.signers[member.consensus].sign(message)
        for i, member in enumerate(members.validators)
    }
    certificate = certify(
        Kind.COMMIT,
        epoch=2,
        height=header.height,
        view=0,
        block_hash=block_hash(header),
        votes=votes,
    )
    if accepted:
        later = trust.skip(header, certificate, members, now_ms=9, period_ms=10)
        assert later.validators == theirs
        return
    with pytest.raises(BadProof, match="of the trusted stake"):
        trust.skip(header, certificate, members, now_ms=9, period_ms=10)
