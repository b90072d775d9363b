"""Payloads of conditional money: an amount held until a predicate is met, or its time is over.

A predicate is a small tree without loops or negation, so that more proof never makes it false,
and the number of its steps is known before it runs. Knows its shape and what an approval signs;
the rules are `consensus/ledger/conditions`. Source: docs/spec/ledger.md, "Holds".
"""

from typing import Annotated

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.ids import U32, Bytes32, Digest, Signature, UInt
from prsm.protocol.limits import APPROVALS_MAX, HOLD_BRANCHES_MAX, PREIMAGE_BYTES_MAX, PREIMAGES_MAX
from prsm.protocol.signing import APPROVAL_TAG, HOLD_TAG, sha256

_Least = Annotated[int, msgspec.Meta(ge=1, le=APPROVALS_MAX)]


class After(Record, frozen=True, tag=1):
    """Met from this block time on."""

    time_ms: UInt


class HashLock(Record, frozen=True, tag=2):
    """Met by bytes whose sha256 this is."""

    digest: Bytes32


class Signers(Record, frozen=True, tag=3):
    """Met by approvals of at least so many of these keys."""

    least: _Least
    keys: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=APPROVALS_MAX)]


class AtLeast(Record, frozen=True, tag=4):
    """Met if so many parts are: all of them is "and", one of them is "or"."""

    least: _Least
    parts: Annotated[tuple["Predicate", ...], msgspec.Meta(min_length=1, max_length=APPROVALS_MAX)]


Predicate = After | HashLock | Signers | AtLeast


class Vesting(Record, frozen=True):
    """How much of a hold may have left it: nothing before the cliff, all from the end on.

    Between them the amount grows in proportion to the time since the start, rounded down.
    """

    start_ms: UInt
    cliff_ms: UInt
    end_ms: UInt


class Branch(Record, frozen=True):
    """One way out of a hold: to whom, on what condition, how fast."""

    to: Bytes32
    condition: Predicate
    vesting: Vesting | None


class Fallback(Record, frozen=True):
    """Where what is left goes from this block time on; no branch is open any more."""

    after_ms: UInt
    to: Bytes32


class Hold(Record, frozen=True):
    """Put an amount under conditions; its id is the hash of all of this and the sender."""

    salt: Bytes32  # tells apart two holds of the same terms
    asset: U32
    amount: Annotated[int, msgspec.Meta(ge=1)]
    branches: Annotated[
        tuple[Branch, ...], msgspec.Meta(min_length=1, max_length=HOLD_BRANCHES_MAX)
    ]
    fallback: Fallback | None


class Approval(Record, frozen=True):
    """A key's consent to one branch of one hold, for as long as that holds anything."""

    key: Bytes32
    signature: Signature


class Claim(Record, frozen=True):
    """Pay out by a branch whose condition is met. Anyone may send it: the branch says to whom."""

    hold: Bytes32
    branch: U32
    preimages: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=PREIMAGE_BYTES_MAX)], ...],
        msgspec.Meta(max_length=PREIMAGES_MAX),
    ]
    approvals: Annotated[tuple[Approval, ...], msgspec.Meta(max_length=APPROVALS_MAX)]


class Reclaim(Record, frozen=True):
    """Pay what is left to the fallback after its time. Anyone may send it."""

    hold: Bytes32


def hold_id(chain_id: bytes, sender: bytes, payload: Hold) -> Digest:
    """Name of a hold: it commits to the network, the sender and all terms."""
    return sha256(HOLD_TAG, encode((chain_id, sender, payload)))


def approval_statement(chain_id: bytes, hold: bytes, branch: int) -> bytes:
    """Bytes a key signs to approve a branch; `hold` commits to amount and recipient."""
    return APPROVAL_TAG + encode((chain_id, hold, branch))


def approve(chain_id: bytes, hold: bytes, branch: int, signer: Signer) -> Approval:
    """Sign an approval."""
    signature = signer.sign(approval_statement(chain_id, hold, branch))
    return Approval(key=signer.public_key, signature=signature)


def is_approved(
    approval: Approval, verifier: Verifier, *, chain_id: bytes, hold: bytes, branch: int
) -> bool:
    """Does an approval's signature hold?"""
    message = approval_statement(chain_id, hold, branch)
    return verifier.verify(approval.key, message, approval.signature)


def steps_of(condition: Predicate) -> int:
    """What a predicate costs at most to evaluate: its nodes and its keys."""
    match condition:
        case After() | HashLock():
            return 1
        case Signers():
            return 1 + len(condition.keys)
        case _:
            return 1 + sum(steps_of(part) for part in condition.parts)


def depth_of(condition: Predicate) -> int:
    """Nodes on the longest way down; 1 for a leaf."""
    if not isinstance(condition, AtLeast):
        return 1
    return 1 + max(depth_of(part) for part in condition.parts)
