"""Keyed BLAKE2b behind the Signer and Verifier ports: unforgeable inside one run, and fast.

Knows: one secret per signer. Must not know: messages. Never used outside the simulator.
"""

import hashlib
from typing import final

from prsm.protocol.ids import PublicKey


@final
class KeyedSigner:
    """Signs with a secret that only the run's verifier also holds."""

    def __init__(self, seed: int, index: int) -> None:
        self.secret = hashlib.blake2b(b"secret %d %d" % (seed, index), digest_size=64).digest()
        self.public_key = PublicKey(hashlib.sha256(self.secret).digest())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return hashlib.blake2b(message, key=self.secret).digest()


@final
class KeyedVerifier:
    """Knows the secrets of all signers of a run."""

    def __init__(self, signers: list[KeyedSigner]) -> None:
        self._secrets = {signer.public_key: signer.secret for signer in signers}

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the key's signature of the message?"""
        secret = self._secrets.get(PublicKey(public_key))
        return secret is not None and hashlib.blake2b(message, key=secret).digest() == signature
