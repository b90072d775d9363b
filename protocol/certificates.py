"""A quorum's signatures over one block hash: how it is written, made and checked.

A certificate carries the view of its votes, which may be later than the block's own view.
Two honest nodes may hold different certificates for one block: compare blocks by hash only.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import BadSignature, WireError
from prsm.protocol.ids import U32, Bytes32, Digest, Signature, UInt
from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.signing import Kind, sha256, statement
from prsm.protocol.validators import ValidatorSet


class Certificate(Record, frozen=True):
    """PREPARE votes (a prepared certificate) or COMMIT votes (a commit certificate)."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    kind: Kind
    epoch: U32
    height: UInt
    view: U32
    block_hash: Bytes32
    signers: U32  # bit i is set if validator i signed
    signatures: Annotated[tuple[Signature, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]

    def signer_indexes(self) -> tuple[int, ...]:
        """Indexes of the signers, ascending, as their signatures stand."""
        return tuple(i for i in range(VALIDATORS_MAX) if self.signers >> i & 1)


def certificate_hash(certificate: Certificate | None) -> Digest:
    """`prev_cert_hash` of headers; 32 zero bytes for the first block's missing one."""
    return Digest(bytes(32)) if certificate is None else sha256(encode(certificate))


def certify(
    kind: Kind,
    *,
    epoch: int,
    height: int,
    view: int,
    block_hash: bytes,
    votes: Mapping[int, bytes],
) -> Certificate:
    """Join checked votes (signer index -> signature) into a certificate."""
    signers = sorted(votes)
    return Certificate(
        version=1,
        kind=kind,
        epoch=epoch,
        height=height,
        view=view,
        block_hash=block_hash,
        signers=sum(1 << i for i in signers),
        signatures=tuple(votes[i] for i in signers),
    )


def check_certificate(
    certificate: Certificate,
    validators: ValidatorSet,
    *,
    chain_id: bytes,
    verifier: Verifier,
    kind: Kind,
) -> None:
    """Check shape, weight and every signature against the set of the block's epoch.

    Args:
        certificate: as decoded.
        validators: the set of the *height's* epoch, never "the current set".
        chain_id: the network.
        verifier: libsodium's rule.
        kind: what the caller needs it to be.

    Raises:
        WireError: wrong kind or epoch, signers outside the set, or too little stake.
        BadSignature: a signature that does not hold.
    """
    signers = certificate.signer_indexes()
    if certificate.kind is not kind or certificate.epoch != validators.epoch:
        raise WireError(
            f"certificate of {certificate.kind.name} in epoch {certificate.epoch}, "
            f"expected {kind.name} in epoch {validators.epoch}",
            penalty=100,
        )
    if len(signers) != len(certificate.signatures) or (signers and signers[-1] >= len(validators)):
        raise WireError("certificate whose signatures and signers do not match", penalty=100)
    weight = validators.weight(signers)
    if weight < validators.quorum:
        raise WireError(
            f"certificate of weight {weight}, a quorum is {validators.quorum}", penalty=100
        )
    message = statement(
        chain_id,
        kind,
        epoch=certificate.epoch,
        height=certificate.height,
        view=certificate.view,
        digest=certificate.block_hash,
    )
    for index, signature in zip(signers, certificate.signatures, strict=True):
        if not verifier.verify(validators.validators[index].consensus, message, signature):
            raise BadSignature(
                f"signature of validator {index} in a certificate of height {certificate.height}",
                penalty=100,
            )
