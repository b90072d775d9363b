"""Evidence against a validator: two statements of one height that exclude each other.

A signature covers only the 62-byte statement, so evidence carries most messages with the digest
in place of the body and stays under 300 bytes, whatever was proposed. Only what a VIEW_CHANGE
claims must be seen, so it keeps its body. Source: docs/spec/ledger.md, "Evidence".
"""

from enum import IntEnum
from typing import Final

import msgspec

from prsm.protocol.codec import decode
from prsm.protocol.ed25519 import Verifier
from prsm.protocol.errors import WireError
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.messages.consensus import SignedMessage, ViewChange, message_digest, statement_of
from prsm.protocol.signing import Kind, sha256
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.validators import ValidatorSet


class Offence(IntEnum):
    """What an honest validator never does, not after a crash either."""

    DOUBLE_PROPOSE = 1
    DOUBLE_PREPARE = 2
    DOUBLE_COMMIT = 3
    HIDDEN_PREPARE = 4  # COMMIT(h, v), then a VIEW_CHANGE(h, v' > v) that shows nothing of v


_DOUBLE: Final = {
    Kind.PROPOSE: Offence.DOUBLE_PROPOSE,
    Kind.PREPARE: Offence.DOUBLE_PREPARE,
    Kind.COMMIT: Offence.DOUBLE_COMMIT,
}


def condense(message: SignedMessage) -> SignedMessage:
    """Put the digest of its signed statement in place of a message's body.

    Raises:
        WireError: a body that is none of its kind.
    """
    return msgspec.structs.replace(message, body=message_digest(message.kind, message.body))


def evidence_of(first: SignedMessage, second: SignedMessage) -> Evidence:
    """Join two messages as received into evidence.

    Of two equal kinds the smaller digest stands first; of a COMMIT and a VIEW_CHANGE the COMMIT.

    Raises:
        WireError: a body that is none of its kind.
    """
    if {first.kind, second.kind} == {Kind.COMMIT, Kind.VIEW_CHANGE}:
        commit, change = sorted((first, second), key=lambda message: message.kind)
        return Evidence(first=condense(commit), second=change)
    low, high = sorted((condense(first), condense(second)), key=lambda message: message.body)
    return Evidence(first=low, second=high)


def offence_of(
    evidence: Evidence, validators: ValidatorSet, verifier: Verifier, chain: bytes
) -> Offence | None:
    """What one validator of this set did who signed both; None if an honest one may have.

    Total: any decoded evidence gives an answer.

    Args:
        evidence: decoded; only one spelling of a pair convicts.
        validators: of the epoch both messages name.
        verifier: libsodium's rule.
        chain: id of the network.
    """
    first, second = evidence.first, evidence.second
    if (first.epoch, first.height, first.signer) != (second.epoch, second.height, second.signer):
        return None
    if first.epoch != validators.epoch or first.signer >= len(validators):
        return None
    offence = _hidden(first, second) if second.kind is Kind.VIEW_CHANGE else _double(first, second)
    if offence is None:
        return None
    key = validators.validators[first.signer].consensus
    is_signed = all(_is_signed(message, key, verifier, chain) for message in (first, second))
    return offence if is_signed else None


def _double(first: SignedMessage, second: SignedMessage) -> Offence | None:
    """Two different hashes in one view; the smaller first, so that it has one spelling."""
    if (first.kind, first.view) != (second.kind, second.view):
        return None
    if not len(first.body) == len(second.body) == 32 or first.body >= second.body:
        return None
    return _DOUBLE.get(first.kind)


def _hidden(first: SignedMessage, second: SignedMessage) -> Offence | None:
    """A COMMIT says that its signer held a prepared certificate; a later VIEW_CHANGE hides it."""
    if first.kind is not Kind.COMMIT or len(first.body) != 32 or second.view <= first.view:
        return None
    try:
        claim = decode(second.body, ViewChange, size_max=TRANSACTION_BYTES_MAX).prepared
    except WireError:  # an honest validator may refuse it, but nothing is proved by it
        return None
    is_shown = claim is not None and claim.view >= first.view
    return None if is_shown else Offence.HIDDEN_PREPARE


def _is_signed(message: SignedMessage, key: bytes, verifier: Verifier, chain: bytes) -> bool:
    is_whole = message.kind is Kind.VIEW_CHANGE
    digest = sha256(message.body) if is_whole else message.body
    return verifier.verify(key, statement_of(message, digest, chain), message.signature)
