"""Headers, bodies and blocks, and the digests that bind them together.

`state_root` and `receipts_root` of a header speak of the state after the block before it. A
header keeps the view and proposer of its *first* proposal; a re-proposal keeps every byte.
"""

from typing import Annotated

import msgspec

from prsm.protocol import merkle
from prsm.protocol.certificates import Certificate, certificate_hash
from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, ChainId, Digest, UInt
from prsm.protocol.limits import BLOCK_EVIDENCE_MAX, BLOCK_TRANSACTIONS_MAX
from prsm.protocol.signing import sha256


class Header(Record, frozen=True):
    """What validators sign, by its hash."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    chain_id: ChainId
    height: Annotated[int, msgspec.Meta(ge=1)]
    view: U32
    epoch: U32
    prev_hash: Bytes32  # the genesis digest before height 1
    prev_cert_hash: Bytes32
    tx_root: Bytes32
    state_root: Bytes32  # after height - 1
    receipts_root: Bytes32  # of height - 1
    validators_hash: Bytes32
    next_validators_hash: Bytes32
    evidence_root: Bytes32
    time_ms: UInt
    proposer: U32  # signer index


class Body(Record, frozen=True):
    """What a header commits to: the parent's certificate, evidence, transactions as bytes."""

    prev_cert: Certificate | None  # None only at height 1
    evidence: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=BLOCK_EVIDENCE_MAX)]
    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


class Block(Record, frozen=True):
    """A header and its body."""

    header: Header
    body: Body


def block_hash(header: Header) -> Digest:
    """The hash that names a block."""
    return sha256(encode(header))


def is_bound(block: Block) -> bool:
    """Do the header's three body digests match the body?"""
    header, body = block.header, block.body
    return (
        header.prev_cert_hash == certificate_hash(body.prev_cert)
        and header.evidence_root == merkle.root(body.evidence)
        and header.tx_root == merkle.root(body.transactions)
    )
