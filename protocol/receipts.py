"""One receipt format for all a peer did for another: what was computed, from what, for how much.

Signed by the worker under its own domain tag; its hash goes to the ledger before its content.
What went in is signed by the requester, batch by batch: a `Feed`. Both are checked by the ledger
and by `scripts/verify_receipt.py`. Source: docs/spec/work.md, "Receipt".
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol import merkle
from prsm.protocol.codec import Record, encode
from prsm.protocol.ed25519 import Signer, Verifier
from prsm.protocol.ids import U32, Bytes32, ChainId, Digest, Signature, UInt
from prsm.protocol.limits import WORK_BATCHES_MAX
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.signing import RECEIPT_TAG, RECORD_TAG, sha256
from prsm.protocol.tensors import TensorHead


class WorkKind(IntEnum):
    """What kind of work a unit is; the receipt is the same for all."""

    INFER = 1
    EVALUATE = 2  # accuracy of a model on a registered dataset
    GENERATE = 3  # tokens of a session; a batch is a chunk of its steps


RECEIPT_VERSION: Final = 2


class BatchResult(Record, frozen=True):
    """One micro-batch: Merkle roots over its rows, before and after."""

    index: U32
    rows: Annotated[int, msgspec.Meta(ge=1)]
    input_root: Bytes32  # stage 0: over all inputs; a later one: of the cut tensor
    side_root: Bytes32  # over the graph inputs beside the cut tensor; of none: `EMPTY_ROOT`
    output_root: Bytes32

    @property
    def stated(self) -> "Stated":
        """What is compared between workers."""
        return (self.rows, self.input_root, self.side_root, self.output_root)


Stated = tuple[int, bytes, bytes, bytes]  # rows, input root, side root, output root


class Measured(Record, frozen=True):
    """What the work cost its worker, as it measured."""

    cpu_ms: UInt
    rows: UInt
    bytes_in: UInt
    bytes_out: UInt


class WorkReceipt(Record, frozen=True):
    """What one worker did for one unit of a job; `signature` covers everything before it."""

    version: Annotated[int, msgspec.Meta(ge=RECEIPT_VERSION, le=RECEIPT_VERSION)]
    chain_id: ChainId
    job: Bytes32
    unit: U32  # index into the lock's units
    kind: WorkKind
    worker: Bytes32  # payment key of the signer
    model: CidBytes  # CID of the manifest
    stages: U32
    stage: U32
    class_id: Bytes32  # determinism class, docs/spec/work.md
    batches: Annotated[
        tuple[BatchResult, ...], msgspec.Meta(min_length=1, max_length=WORK_BATCHES_MAX)
    ]
    measured: Measured
    price_per_row: UInt  # micro-FTNS
    started_height: UInt
    ended_height: UInt
    signature: Signature


def receipt_statement(receipt: WorkReceipt) -> bytes:
    """Bytes the worker signs: the tag and the canonical array without its last element."""
    return RECEIPT_TAG + encode(msgspec.structs.astuple(receipt)[:-1])


def receipt_hash(receipt: WorkReceipt) -> Digest:
    """What `Commit` puts on the ledger before the receipt is shown."""
    return sha256(encode(receipt))


def sign_receipt(receipt: WorkReceipt, signer: Signer) -> WorkReceipt:
    """Return the receipt with the worker's signature in place of whatever stood there."""
    assert receipt.worker == signer.public_key
    return msgspec.structs.replace(receipt, signature=signer.sign(receipt_statement(receipt)))


def is_signed(receipt: WorkReceipt, verifier: Verifier) -> bool:
    """Does the signature hold?"""
    return verifier.verify(receipt.worker, receipt_statement(receipt), receipt.signature)


class Feed(Record, frozen=True):
    """What a requester pushed as one micro-batch: it answers for it with its account.

    A requester signs one feed for a batch of a unit, whoever of its workers gets it; a worker
    computes nothing without one and keeps it until the unit is settled.
    """

    job: Bytes32
    unit: U32
    batch: U32
    input_root: Bytes32
    side_root: Bytes32
    signature: Signature


def feed_statement(feed: Feed, *, chain_id: bytes) -> bytes:
    """Bytes the account that locked the job signs: bound to the network."""
    fields = msgspec.structs.astuple(feed)[:-1]
    return RECORD_TAG + encode(("work.feed", chain_id, *fields))


def sign_feed(feed: Feed, signer: Signer, *, chain_id: bytes) -> Feed:
    """Return the feed with the requester's signature in place of whatever stood there."""
    signature = signer.sign(feed_statement(feed, chain_id=chain_id))
    return msgspec.structs.replace(feed, signature=signature)


def is_fed(feed: Feed, requester: bytes, *, chain_id: bytes, verifier: Verifier) -> bool:
    """Did this account sign this feed?"""
    return verifier.verify(requester, feed_statement(feed, chain_id=chain_id), feed.signature)


def rows_root(head: TensorHead, data: bytes) -> Digest:
    """Merkle root over the rows (first axis) of one tensor.

    A leaf is sha256(0x00 | canonical [dtype, row shape] | row bytes), so neither a reshape nor a
    cast keeps the root. A tensor without rows has the root of no leaves.
    """
    rows = head.shape[0] if head.shape else 1
    prefix = encode((int(head.dtype), head.shape[1:]))
    size = len(data) // rows if rows else 0
    view = memoryview(data)
    return merkle.root_of_leaves(
        [merkle.leaf_hash(prefix + view[i * size : (i + 1) * size]) for i in range(rows)]
    )
