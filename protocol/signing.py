"""What is signed, for each kind of statement; nothing is ever signed without its domain.

Consensus statements are one fixed 62-byte string; everything else is a domain tag and
canonical bytes, always longer than 62. Source: docs/spec/wire.md, "Signed bytes".
"""

import hashlib
import struct
from enum import IntEnum
from typing import Final

from prsm.protocol.ids import Digest

CONSENSUS_TAG: Final = b"prsm1"
TRANSACTION_TAG: Final = b"prsm1tx"
RECEIPT_TAG: Final = b"prsm1rc"
RECORD_TAG: Final = b"prsm1gs"  # gossip records: capacity beacons, announcements
APPROVAL_TAG: Final = b"prsm1ap"  # consent to a branch of a hold
POSSESSION_TAG: Final = b"prsm1pk"  # a new consensus key agrees to sign for an operator
MESSAGE_TAG: Final = b"prsm1ms"  # a message a person signs with a payment key
MANIFEST_TAG: Final = b"prsm1mf"
CARD_TAG: Final = b"prsm1cd"  # what is said about a model or a dataset
PROPOSAL_TAG: Final = b"prsm1gp"  # hashed, never signed: the id of a proposal
CUSTODY_TAG: Final = b"prsm1cs"  # hashed, never signed: the samples of a round
DEAL_TAG: Final = b"prsm1dl"  # hashed, never signed: the id of a deal
HOLD_TAG: Final = b"prsm1hd"  # hashed, never signed: the id of a hold
_STATEMENT: Final = struct.Struct(">5s8sBIQI32s")
STATEMENT_BYTES: Final = 62
assert _STATEMENT.size == STATEMENT_BYTES


class Kind(IntEnum):
    """What a consensus message states; part of its signed bytes."""

    PROPOSE = 1
    PREPARE = 2
    COMMIT = 3
    VIEW_CHANGE = 4
    NEW_VIEW = 5


def sha256(*parts: bytes) -> Digest:
    """The network's hash over the concatenation of the parts."""
    return Digest(hashlib.sha256(b"".join(parts)).digest())


def message_statement(address: bytes, message: bytes) -> bytes:
    """Return the 71 bytes an account signs to sign a message: never those of anything else."""
    assert len(address) == 32
    return MESSAGE_TAG + address + sha256(message)


def statement(
    chain_id: bytes, kind: Kind, *, epoch: int, height: int, view: int, digest: bytes
) -> bytes:
    """Return the 62 bytes a validator signs.

    Args:
        chain_id: 8 bytes naming the network.
        kind: what is stated; without it one signature would serve two statements.
        epoch: names the validator set.
        height: of the block.
        view: of the vote.
        digest: block hash for PROPOSE, PREPARE, COMMIT; sha256 of the body otherwise.
    """
    assert len(chain_id) == 8
    assert len(digest) == 32
    return _STATEMENT.pack(CONSENSUS_TAG, chain_id, kind, epoch, height, view, digest)
