"""Certificates: any flaw of shape, weight or signature is refused."""

import msgspec
import pytest

from prsm.protocol.certificates import (
    Certificate,
    certificate_hash,
    certify,
    check_certificate,
)
from prsm.protocol.codec import decode, encode
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.errors import BadSignature, RemoteError, WireError
from prsm.protocol.signing import Kind, statement
from prsm.protocol.validators import Members, Validator, ValidatorSet
from prsm.testnet.chain import signer_of

CHAIN = b"chain-id"
SET = ValidatorSet(
    Members(
        epoch=2,
        validators=tuple(
            Validator(
                operator=bytes([i]) * 32,
                consensus=signer_of(i).public_key,
                peer_id="p",
                stake=stake,
            )
            for i, stake in enumerate((3, 2, 2, 2))
        ),
    )
)


def certificate(*signers: int, kind: Kind = Kind.COMMIT, view: int = 1) -> Certificate:
    message = statement(CHAIN, kind, epoch=2, height=9, view=view, digest=bytes(32))
    votes = {i: signer_of(i).sign(message) for i in signers}
    return certify(kind, epoch=2, height=9, view=view, block_hash=bytes(32), votes=votes)


def check(found: Certificate, kind: Kind = Kind.COMMIT, chain: bytes = CHAIN) -> None:
    check_certificate(found, SET, chain_id=chain, verifier=Ed25519Verifier(), kind=kind)


def test_quorum_by_stake_is_accepted_in_any_order_of_votes() -> None:
    for signers in ((0, 1, 2), (3, 1, 0), (0, 1, 2, 3)):
        found = certificate(*signers)
        check(found)
        assert found.signer_indexes() == tuple(sorted(signers))
        assert decode(encode(found), Certificate, size_max=1_000) == found
    check(certificate(0, 1, 2, kind=Kind.PREPARE), Kind.PREPARE)


GOOD = certificate(0, 1, 2)


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (certificate(1, 2, 3), WireError),  # weight 6 of 9
        (certificate(), WireError),
        (certificate(0, 1, 2, kind=Kind.PREPARE), WireError),
        (msgspec.structs.replace(GOOD, epoch=1), WireError),
        (msgspec.structs.replace(GOOD, signers=0b1_0011), WireError),
        (msgspec.structs.replace(GOOD, signers=0b1111), WireError),
        (msgspec.structs.replace(GOOD, signatures=(*GOOD.signatures, bytes(64))), WireError),
        (msgspec.structs.replace(GOOD, signatures=GOOD.signatures[:-1]), WireError),
        (msgspec.structs.replace(GOOD, signers=0b1011), BadSignature),
        (msgspec.structs.replace(GOOD, signatures=GOOD.signatures[::-1]), BadSignature),
        (msgspec.structs.replace(GOOD, height=8), BadSignature),
        (msgspec.structs.replace(GOOD, view=0), BadSignature),
        (msgspec.structs.replace(GOOD, block_hash=b"x" * 32), BadSignature),
    ],
)
def test_every_flaw_is_refused(found: Certificate, error: type[RemoteError]) -> None:
    with pytest.raises(error) as refused:
        check(found)
    assert refused.value.penalty == 100


def test_signatures_of_another_network_or_kind_do_not_count() -> None:
    with pytest.raises(BadSignature):
        check(GOOD, chain=b"other-id")
    relabelled = msgspec.structs.replace(certificate(0, 1, 2, kind=Kind.PREPARE), kind=Kind.COMMIT)
    with pytest.raises(BadSignature):
        check(relabelled)


def test_hash_of_no_certificate_is_zero() -> None:
    assert certificate_hash(None) == bytes(32)
    assert certificate_hash(GOOD) != certificate_hash(certificate(0, 1, 3))
