"""Payloads of audits: a worker's pledge, an auditor's opinion, a dispute, a juror's finding.

One of one is not compared with another's result: it is drawn for an audit by a later block, and
who says its result is wrong makes a case, decided by a committee of validators' operators. What a
juror found is sealed by its hash before anybody shows a finding, so that none repeats another's.
Amounts are micro-FTNS. The rules are `consensus/ledger/{pledges,audits,cases,seals}`.
Source: docs/spec/work.md, "Audits".
"""

from enum import IntEnum
from typing import Annotated, TypeVar

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.ids import U32, Bytes32, Digest, Signature
from prsm.protocol.signing import RECORD_TAG, sha256

_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Pledge(Record, frozen=True):
    """Put an amount where wrong results of the sender are taken from."""

    amount: _Positive


class Redeem(Record, frozen=True):
    """Take back what no unsettled work holds."""

    amount: _Positive


class Audit(Record, frozen=True):
    """What a drawn auditor computed for the drawn batch, before it could see the receipt."""

    job: Bytes32
    unit: U32
    batch: U32  # index in the job
    input_root: Bytes32
    side_root: Bytes32
    output_root: Bytes32


class Dispute(Record, frozen=True):
    """The requester says that a batch of a shown receipt is wrong, and deposits for it."""

    job: Bytes32
    unit: U32
    batch: U32
    receipt: bytes  # canonical WorkReceipt, as it was committed


class Finding(IntEnum):
    """What a juror found when it computed the batch again; numbers are for ever."""

    EQUAL = 1  # the same bits
    CLOSE = 2  # another determinism class, within the tolerance
    DIFFERENT = 3
    UNSERVED = 4  # nobody gave it the inputs


class Judge(Record, frozen=True):
    """One juror's finding on a case, as it was sealed; anybody may send it."""

    job: Bytes32
    unit: U32
    operator: Bytes32
    finding: Finding
    signature: Signature  # by its consensus key of the time the case was opened


class Seal(Record, frozen=True):
    """The hash of a juror's finding, before anybody may show one; anybody may send it."""

    job: Bytes32
    unit: U32
    operator: Bytes32
    digest: Bytes32  # `sealed` of its Judge
    signature: Signature  # by its consensus key of the time the case was opened


Paper = TypeVar("Paper", Seal, Judge)


def sealed(judge: Judge) -> Digest:
    """The hash under which a signed finding is sealed.

    Its signature is the salt: whoever has not the juror's key cannot try the four findings. All of
    the record is hashed, so that a seal opens as one finding only.
    """
    return sha256(b"prsm1 seal", encode(judge))


def juror_statement(paper: Seal | Judge, *, chain_id: bytes, receipt_hash: bytes) -> bytes:
    """Bytes a juror signs: bound to the network and to the receipt the case is about."""
    label = "work.seal" if isinstance(paper, Seal) else "work.judge"
    fields = msgspec.structs.astuple(paper)[:-1]
    return RECORD_TAG + encode((label, chain_id, receipt_hash, *fields))


def sign_as_juror(paper: Paper, signer: Signer, *, chain_id: bytes, receipt_hash: bytes) -> Paper:
    """Return it with the juror's signature in place of whatever stood there."""
    statement = juror_statement(paper, chain_id=chain_id, receipt_hash=receipt_hash)
    return msgspec.structs.replace(paper, signature=signer.sign(statement))


def is_signed_by_juror(
    paper: Seal | Judge, key: bytes, *, chain_id: bytes, receipt_hash: bytes, verifier: Verifier
) -> bool:
    """Did this consensus key sign this seal, or this finding?"""
    statement = juror_statement(paper, chain_id=chain_id, receipt_hash=receipt_hash)
    return verifier.verify(key, statement, paper.signature)
