"""What a certificate proves to this replica, and who signed it; one that held is not checked again.

Knows: sets, signatures. Must not know: what is done with the proof.
Source: docs/spec/pbft.md, "Quorums" and "Epochs".
"""

from prsm.consensus.pbft.config import CERTIFICATES_CHECKED_MAX
from prsm.consensus.pbft.forgotten import check_certificate_for_own
from prsm.consensus.pbft.observer import halt
from prsm.consensus.pbft.state import State
from prsm.protocol.certificates import Certificate, certificate_hash, check_certificate
from prsm.protocol.errors import RemoteError
from prsm.protocol.signing import Kind


def is_certified(
    state: State, certificate: Certificate, kind: Kind, *, height: int, block_hash: bytes
) -> bool:
    """Does a certificate hold: of this kind, for this block, by the set of this height?"""
    named = (certificate.kind, certificate.height, certificate.block_hash)
    if named != (kind, height, block_hash):
        return False
    validators = state.tip.set_of(height, certificate.epoch)
    if validators is None:
        return False
    digest = certificate_hash(certificate)
    if digest in state.checked:
        return True
    try:
        check_certificate(
            certificate,
            validators,
            chain_id=state.config.chain_id,
            verifier=state.config.verifier,
            kind=kind,
        )
    except RemoteError:
        return False
    note_checked(state, digest)
    check_certificate_for_own(state, certificate, validators)
    return True


def proves_parent(state: State, certificate: Certificate | None) -> bool:
    """Is my tip what this certificate commits; is there none where there can be none?

    One that holds for another block of that height proves my state wrong: this replica halts.
    """
    tip = state.tip
    if tip.height == 0 or certificate is None:
        return tip.height == 0 and certificate is None
    if certificate == tip.certificate:
        return True
    block_hash = certificate.block_hash
    if not is_certified(state, certificate, Kind.COMMIT, height=tip.height, block_hash=block_hash):
        return False
    if block_hash != tip.block_hash:
        halt(state, f"another block than mine is certified at height {tip.height}")
        return False
    return True


def note_checked(state: State, digest: bytes) -> None:
    """Remember a certificate that holds, dropping the oldest beyond the bound."""
    state.checked[digest] = None
    if len(state.checked) > CERTIFICATES_CHECKED_MAX:
        del state.checked[next(iter(state.checked))]


def peers_of(state: State, certificate: Certificate) -> tuple[str, ...]:
    """Peer ids of those who signed a certificate that holds."""
    validators = state.tip.set_of(certificate.height, certificate.epoch)
    assert validators is not None
    return tuple(validators.validators[i].peer_id for i in certificate.signer_indexes())
