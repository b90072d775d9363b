"""What a validator stated is checked once: libsodium is asked again for anything else."""

from dataclasses import dataclass

import pytest

from prsm.node.chain import admission as module
from prsm.node.chain.admission import Statements
from prsm.protocol.ed25519 import Ed25519Signer, Ed25519Verifier
from prsm.protocol.signing import Kind, statement

CHAIN = b"testnet1"
KEY = Ed25519Signer(b"k" * 32)


@dataclass
class Counting:
    """libsodium's rule, and how often it was asked."""

    asked: int = 0

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        self.asked += 1
        return Ed25519Verifier().verify(public_key, message, signature)


def stated(height: int, digest: bytes = bytes(32)) -> bytes:
    return statement(CHAIN, Kind.COMMIT, epoch=0, height=height, view=0, digest=digest)


def test_statement_that_held_is_not_checked_again() -> None:
    rule = Counting()
    statements, message = Statements(rule), stated(1)
    signature = KEY.sign(message)
    assert all(statements.verify(KEY.public_key, message, signature) for _ in range(3))
    assert rule.asked == 1


def test_statement_that_differs_in_any_part_is_checked_by_itself() -> None:
    """A remembered signature vouches for its own key, message and bytes, for nothing near them."""
    rule = Counting()
    statements, message = Statements(rule), stated(1)
    signature = KEY.sign(message)
    other = Ed25519Signer(b"o" * 32)
    assert statements.verify(KEY.public_key, message, signature)
    assert not statements.verify(other.public_key, message, signature)
    assert not statements.verify(KEY.public_key, stated(2), signature)
    assert not statements.verify(KEY.public_key, stated(1, b"d" * 32), signature)
    assert not statements.verify(KEY.public_key, message, signature[:-1] + b"x")
    assert not statements.verify(KEY.public_key, message, other.sign(message))
    assert rule.asked == 6


def test_statement_of_an_own_key_is_not_checked() -> None:
    """It comes back in certificates; what else the key signs is checked by whoever asks."""
    rule = Counting()
    statements, other = Statements(rule), b"prsm1tx" + bytes(193)
    own = statements.signer(b"k" * 32)
    assert own.public_key == KEY.public_key
    assert own.sign(stated(1)) == KEY.sign(stated(1))
    assert statements.verify(KEY.public_key, stated(1), KEY.sign(stated(1)))
    assert rule.asked == 0
    assert statements.verify(KEY.public_key, other, own.sign(other))
    assert not statements.verify(KEY.public_key, stated(2), own.sign(stated(1)))
    assert rule.asked == 2


def test_statement_that_did_not_hold_is_checked_each_time() -> None:
    rule = Counting()
    statements = Statements(rule)
    assert not any(statements.verify(KEY.public_key, stated(1), bytes(64)) for _ in range(2))
    assert rule.asked == 2


def test_what_is_no_statement_is_checked_each_time() -> None:
    rule = Counting()
    statements, message = Statements(rule), b"prsm1tx" + bytes(193)
    signature = KEY.sign(message)
    assert all(statements.verify(KEY.public_key, message, signature) for _ in range(2))
    assert rule.asked == 2


def test_statements_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATEMENTS_MAX", 2)
    rule = Counting()
    statements = Statements(rule)
    signed = [(message := stated(height), KEY.sign(message)) for height in range(5)]
    for message, signature in signed:
        assert statements.verify(KEY.public_key, message, signature)
    assert statements.verify(KEY.public_key, *signed[4])
    assert statements.verify(KEY.public_key, *signed[2])
    assert rule.asked == 5
    assert statements.verify(KEY.public_key, *signed[0])
    assert rule.asked == 6
