"""Payloads by which operators become validators, weigh more or less, change keys and leave.

The sender is the operator. What they order acts at the border of an epoch, never at once.
Source: docs/spec/ledger.md, "Epochs".
"""

from typing import Annotated

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.ids import Bytes32, Signature
from prsm.protocol.signing import POSSESSION_TAG
from prsm.protocol.validators import STAKE_TOTAL_MAX

PeerText = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Weight = Annotated[int, msgspec.Meta(ge=1, le=STAKE_TOTAL_MAX)]


class Join(Record, frozen=True):
    """Bond `stake` micro-FTNS and ask to validate with this key."""

    consensus: Bytes32
    peer_id: PeerText
    stake: _Weight
    possession: Signature  # of `possession_statement`, by `consensus`


class Stake(Record, frozen=True):
    """Ask to weigh `target` micro-FTNS from now on.

    What the bond lacks is taken from the balance at once; what it has too much leaves it when
    the weight has fallen, and can be withdrawn after the unbonding period.
    """

    target: _Weight


class Leave(Record, frozen=True):
    """Ask to weigh nothing."""


class Rotate(Record, frozen=True):
    """Sign with another consensus key, from another peer, from the epoch after next on."""

    consensus: Bytes32
    peer_id: PeerText
    possession: Signature


class Withdraw(Record, frozen=True):
    """Return to the balance what has left the bond and waited for the unbonding period."""


def possession_statement(chain_id: bytes, operator: bytes, consensus: bytes) -> bytes:
    """Bytes a consensus key signs to show that the operator has it."""
    return POSSESSION_TAG + encode((chain_id, operator, consensus))


def prove_possession(signer: Signer, chain_id: bytes, operator: bytes) -> bytes:
    """Sign with a new consensus key that it works for an operator."""
    return signer.sign(possession_statement(chain_id, operator, signer.public_key))


def has_possession(
    payload: Join | Rotate, *, chain_id: bytes, operator: bytes, verifier: Verifier
) -> bool:
    """Does the proof of a payload hold for its sender?"""
    statement = possession_statement(chain_id, operator, payload.consensus)
    return verifier.verify(payload.consensus, statement, payload.possession)
