"""The envelope of every transaction: who, in which order, for what fee, until when.

Canonical array; the signature covers `prsm1tx` and everything before it; the id is the sha256
of the whole. The payload is itself canonical bytes of the record its kind names.
"""

from typing import Annotated

import msgspec

from prsm.protocol.codec import Record, decode, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.ids import U32, Bytes32, ChainId, Signature, TxId, UInt
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.signing import TRANSACTION_TAG, sha256


class Transaction(Record, frozen=True):
    """One order to the ledger."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    chain_id: ChainId
    kind: U32
    sender: Bytes32
    nonce: UInt  # equals the sender's next nonce, strictly
    fee: UInt  # micro-FTNS, to the treasury
    payload: bytes
    valid_until_ms: UInt  # block time
    signature: Signature


def transaction_statement(transaction: Transaction) -> bytes:
    """Bytes the sender signs."""
    return TRANSACTION_TAG + encode(msgspec.structs.astuple(transaction)[:-1])


def transaction_id(raw: bytes) -> TxId:
    """Name of a transaction: the hash of its canonical bytes."""
    return TxId(sha256(raw))


def decode_transaction(raw: bytes) -> Transaction:
    """Read canonical bytes; signature and payload are not checked here.

    Raises:
        WireError: not the canonical bytes of a transaction.
    """
    return decode(raw, Transaction, size_max=TRANSACTION_BYTES_MAX)


def is_signed(transaction: Transaction, verifier: Verifier) -> bool:
    """Does the sender's signature hold?"""
    return verifier.verify(
        transaction.sender, transaction_statement(transaction), transaction.signature
    )


def sign_transaction(transaction: Transaction, signer: Signer) -> Transaction:
    """Return the transaction with the sender's signature in place of whatever stood there."""
    assert transaction.sender == signer.public_key
    signature = signer.sign(transaction_statement(transaction))
    return msgspec.structs.replace(transaction, signature=signature)
