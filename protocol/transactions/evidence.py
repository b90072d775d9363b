"""Evidence against a validator: two statements of one height and view that exclude each other.

A signature covers only the 62-byte statement, so evidence carries each message with the digest
in place of its body and stays under 300 bytes, whatever was proposed.
"""

from typing import Final

import msgspec

from prsm.protocol.ed25519 import Verifier
from prsm.protocol.messages.consensus import SignedMessage, message_digest
from prsm.protocol.signing import Kind, statement
from prsm.protocol.transactions.payloads import Evidence
from prsm.protocol.validators import ValidatorSet

DOUBLE_KINDS: Final = (Kind.PROPOSE, Kind.PREPARE, Kind.COMMIT)


def condense(message: SignedMessage) -> SignedMessage:
    """Put the digest of its signed statement in place of a message's body.

    Raises:
        WireError: a body that is none of its kind.
    """
    return msgspec.structs.replace(message, body=message_digest(message.kind, message.body))


def evidence_of(first: SignedMessage, second: SignedMessage) -> Evidence:
    """Join two messages as received into evidence; the smaller digest stands first.

    Raises:
        WireError: a body that is none of its kind.
    """
    low, high = sorted((condense(first), condense(second)), key=lambda message: message.body)
    return Evidence(first=low, second=high)


def is_double(
    evidence: Evidence, validators: ValidatorSet, verifier: Verifier, chain: bytes
) -> bool:
    """Did one validator of this set sign both, and does no honest one do so?

    Total: any decoded evidence gives True or False.
    """
    first, second = evidence.first, evidence.second
    if (first.kind, first.epoch, first.height, first.view, first.signer) != (
        second.kind,
        second.epoch,
        second.height,
        second.view,
        second.signer,
    ):
        return False
    if first.kind not in DOUBLE_KINDS or first.epoch != validators.epoch:
        return False
    if first.signer >= len(validators) or not len(first.body) == len(second.body) == 32:
        return False
    if first.body >= second.body:  # equal, or the second spelling of the same evidence
        return False
    key = validators.validators[first.signer].consensus
    return all(
        verifier.verify(
            key,
            statement(
                chain,
                message.kind,
                epoch=message.epoch,
                height=message.height,
                view=message.view,
                digest=message.body,
            ),
            message.signature,
        )
        for message in (first, second)
    )
