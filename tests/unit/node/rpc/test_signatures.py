"""Signed requests: what any change does to them, and how often one counts."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from prsm.node.rpc.signatures import (
    NONCE_BYTES,
    WINDOW_S,
    Claim,
    Nonces,
    Request,
    digest_of,
    is_signed,
    read_claim,
    sign,
)
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier

SIGNER = Ed25519Signer(b"\3" * 32)
ASKED = Request("POST", "node.test:8480", "/rpc", "a=1", digest_of(b"{}"))
VERIFIER = Ed25519Verifier()


def claim_of(headers: dict[str, str]) -> Claim | None:
    return read_claim([headers["Signature-Input"]], [headers["Signature"]])


def signed(request: Request = ASKED, *, at: int = 1_000, nonce: int = 1) -> Claim:
    headers = sign(request, SIGNER, created_s=at, nonce=bytes([nonce]) * NONCE_BYTES)
    claim = claim_of(headers)
    assert claim is not None
    return claim


def test_a_signature_is_of_this_request_alone() -> None:
    claim = signed()
    assert is_signed(ASKED, claim, VERIFIER)
    assert is_signed(replace(ASKED, authority="NODE.test:8480"), claim, VERIFIER)
    for other in (
        replace(ASKED, verb="GET"),
        replace(ASKED, authority="other.test:8480"),
        replace(ASKED, path="/"),
        replace(ASKED, query=""),
        replace(ASKED, query="a=2"),
        replace(ASKED, digest=digest_of(b"[]")),
    ):
        assert not is_signed(other, claim, VERIFIER), other
    for forged in (
        replace(claim, created_s=claim.created_s + 1),
        replace(claim, nonce=signed(nonce=2).nonce),
        replace(claim, public_key=Ed25519Signer(b"\4" * 32).public_key),
        replace(claim, signature=bytes(64)),
    ):
        assert not is_signed(ASKED, forged, VERIFIER), forged


def test_the_headers_are_those_of_the_specification() -> None:
    """A golden one: other programs sign the same bytes. RFC 9421, 2.5; RFC 9530."""
    headers = sign(ASKED, SIGNER, created_s=1_000, nonce=b"\1" * NONCE_BYTES)
    key = SIGNER.public_key.hex()
    assert headers["Content-Digest"] == ("sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:")
    assert headers["Signature-Input"] == (
        'prsm=("@method" "@authority" "@path" "@query" "content-digest");created=1000;'
        f'nonce="AQEBAQEBAQEBAQEBAQEBAQ==";keyid="0x{key}";alg="ed25519";tag="prsm-rpc"'
    )
    base = "\n".join(
        [
            '"@method": POST',
            '"@authority": node.test:8480',
            '"@path": /rpc',
            '"@query": ?a=1',
            f'"content-digest": {headers["Content-Digest"]}',
            f'"@signature-params": {headers["Signature-Input"].removeprefix("prsm=")}',
        ]
    )
    claim = claim_of(headers)
    assert claim is not None
    assert claim.signature == SIGNER.sign(base.encode())


@given(st.data())
def test_headers_in_another_form_are_no_signature(data: st.DataObject) -> None:
    """Any one character changed, dropped or added: refused, or the signature fails."""
    headers = sign(ASKED, SIGNER, created_s=1_000, nonce=b"\1" * NONCE_BYTES)
    name = data.draw(st.sampled_from(["Signature-Input", "Signature"]))
    text = headers[name]
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.characters(max_codepoint=255) | st.just(""))
    changed = text[:at] + put + text[at + data.draw(st.integers(0, 1)) :]
    claim = claim_of({**headers, name: changed})
    assert changed == text or claim is None or not is_signed(ASKED, claim, VERIFIER)


def test_two_signatures_or_none_are_none() -> None:
    headers = sign(ASKED, SIGNER, created_s=1_000, nonce=b"\1" * NONCE_BYTES)
    one, mark = headers["Signature-Input"], headers["Signature"]
    for inputs, marks in (([], [mark]), ([one], []), ([one, one], [mark]), ([one], [mark, mark])):
        assert read_claim(inputs, marks) is None


def test_a_nonce_counts_once_within_its_minute() -> None:
    nonces = Nonces(500)
    claim = signed(at=1_000)
    assert nonces.take(claim, 1_000) == ""
    assert "before" in nonces.take(claim, 1_010)
    for now in (1_000 + WINDOW_S + 1, 1_000 - WINDOW_S - 1):
        assert "clock" in nonces.take(signed(at=1_000, nonce=9), now)
    assert nonces.take(signed(at=1_000, nonce=9), 1_000 + WINDOW_S) == ""
    assert "started" in Nonces(1_001).take(claim, 1_010)


def test_places_are_bounded_and_come_back_with_time() -> None:
    nonces = Nonces(0, places=2)
    assert nonces.take(signed(at=1_000, nonce=1), 1_000) == ""
    assert nonces.take(signed(at=1_000, nonce=2), 1_000) == ""
    assert "more than 2" in nonces.take(signed(at=1_000, nonce=3), 1_000)
    later = 1_000 + WINDOW_S + 1
    assert nonces.take(signed(at=later, nonce=3), later) == ""
    # Forgotten means too old, never new again.
    assert "clock" in nonces.take(signed(at=1_000, nonce=1), later)
