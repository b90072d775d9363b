"""Ed25519 by libsodium: its verification rule is the rule of the network.

Two libraries disagree on small-order keys and points, and two rules split a chain
(docs/adr/0003), so nothing else may verify a signature, and there is no fallback.
"""

from typing import Final, Protocol, final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from prsm.protocol.ids import PublicKey

SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Signer(Protocol):
    """Signs with one key."""

    @property
    def public_key(self) -> PublicKey:
        """The key others check with."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        ...


class Verifier(Protocol):
    """Checks signatures; total: any bytes give True or False."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the key's signature of the message?"""
        ...


@final
class Ed25519Signer:
    """A key in memory, made from its 32-byte seed."""

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES, f"seed of {len(seed)} bytes"
        public, self._secret = crypto_sign_seed_keypair(seed)
        self._public = PublicKey(public)

    @property
    def public_key(self) -> PublicKey:
        """The key others check with."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return bytes(crypto_sign(message, self._secret)[:SIGNATURE_BYTES])


@final
class Ed25519Verifier:
    """libsodium's rule: small-order keys and points, and non-canonical forms, are refused."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the key's signature of the message?"""
        if len(public_key) != 32 or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            crypto_sign_open(signature + message, public_key)
        except BadSignatureError:
            return False
        return True
