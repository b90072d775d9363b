"""The light client believes certificates and proofs, and nothing else."""

import msgspec
import pytest

from prsm.consensus.ledger.records import Balance, account_key
from prsm.consensus.light import Trust
from prsm.protocol import merkle
from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import BadSignature, WireError, WrongChain
from prsm.protocol.headers import Header
from prsm.protocol.proofs import BadProof, InclusionProof, ProvenState, ProvenTransaction
from prsm.protocol.transactions.payloads import Transfer
from prsm.protocol.validators import Members, ValidatorSet
from prsm.testnet.chain import Chain, Made, signer_of, small_genesis

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
