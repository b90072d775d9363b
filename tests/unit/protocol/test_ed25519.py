"""Keys and signatures by libsodium: total, and strict about sizes."""

import pytest

from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier


def test_signature_holds_for_its_message_and_key_only() -> None:
    signer, other = Ed25519Signer(bytes(32)), Ed25519Signer(b"\x01" * 32)
    signature = signer.sign(b"message")
    verifier = Ed25519Verifier()
    assert verifier.verify(signer.public_key, b"message", signature)
    assert not verifier.verify(signer.public_key, b"massage", signature)
    assert not verifier.verify(other.public_key, b"message", signature)


@pytest.mark.parametrize(
    ("key_bytes", "signature_bytes"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)]
)
def test_other_sizes_are_false_not_an_error(key_bytes: int, signature_bytes: int) -> None:
    assert not Ed25519Verifier().verify(bytes(key_bytes), b"", bytes(signature_bytes))


def test_rfc_8032_test_1() -> None:
    """RFC 8032, section 7.1, TEST 1."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    signer = Ed25519Signer(seed)
    assert signer.public_key.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert signer.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )
