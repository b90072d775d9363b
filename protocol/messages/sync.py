"""Catching up, and handing transactions around: calls between nodes.

Answers are believed by certificates and roots only, never by their sender.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record
from prsm.protocol.headers import Block, Header
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import (
    BLOCK_TRANSACTIONS_MAX,
    BUCKET_BYTES_MAX,
    EPOCH_HEADERS_MAX,
    SNAPSHOT_CHUNKS_MAX,
    SYNC_BLOCKS_MAX,
    TREE_BITS_MAX,
)
from prsm.protocol.validators import Members


class GetBlocks(Record, frozen=True):
    """Call on bulk: committed blocks from `first`, at most `count` and 960 KiB."""

    first: Annotated[int, msgspec.Meta(ge=1)]
    count: Annotated[int, msgspec.Meta(ge=1, le=SYNC_BLOCKS_MAX)]


class Certified(Record, frozen=True):
    """A committed block and the certificate that shows it."""

    block: Block
    certificate: Certificate


class GotBlocks(Record, frozen=True):
    """Answer to `GetBlocks`: successive blocks; each is encoded by itself, so bounds hold."""

    blocks: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=SYNC_BLOCKS_MAX)]  # Certified


class GetBlockByHash(Record, frozen=True):
    """Call on bulk: a proposed, not yet committed block a new view must carry on."""

    height: UInt
    block_hash: Bytes32


class GotBlock(Record, frozen=True):
    """Answer to `GetBlockByHash`."""

    block: Block | None


class GetEpochHeaders(Record, frozen=True):
    """Call on bulk: one header of epoch `first` and of each epoch after it, at most `count`."""

    first: U32
    count: Annotated[int, msgspec.Meta(ge=1, le=EPOCH_HEADERS_MAX)]


class EpochProof(Record, frozen=True):
    """What shows the set of the epoch after: a header that announces it, who signed that."""

    header: Header
    certificate: Certificate
    members: Members  # of the header's epoch


class GotEpochHeaders(Record, frozen=True):
    """Answer to `GetEpochHeaders`: successive epochs, fewer when there are no more."""

    epochs: Annotated[tuple[EpochProof, ...], msgspec.Meta(max_length=EPOCH_HEADERS_MAX)]


class GetSnapshot(Record, frozen=True):
    """Call on bulk: what proves the snapshot of a height."""

    height: Annotated[int, msgspec.Meta(ge=1)]


class SnapshotMeta(Record, frozen=True):
    """Answer to `GetSnapshot`; the tail is a canonical `Snapshot`."""

    height: UInt


class ChunkHead(Record, frozen=True):
    """A chunk in the list of a snapshot: the root of a subtree of 2^level buckets."""

    level: Annotated[int, msgspec.Meta(ge=0, le=TREE_BITS_MAX)]
    root: Bytes32


class Snapshot(Record, frozen=True):
    """The state after height H, and what a node needs to go on from there.

    Only `header` is signed: its `state_root` is that of the chunks, its `prev_hash` names the
    block, its `receipts_root` the receipts.
    """

    header: Header  # of H + 1
    certificate: Certificate  # of H + 1
    block: Block  # of H
    block_certificate: Certificate  # of H, by the set of its epoch
    receipts: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]  # of H
    chunks: Annotated[
        tuple[ChunkHead, ...], msgspec.Meta(min_length=1, max_length=SNAPSHOT_CHUNKS_MAX)
    ]


class GetChunk(Record, frozen=True):
    """Call on bulk: a chunk of the snapshot of a height, by its place in the list."""

    height: Annotated[int, msgspec.Meta(ge=1)]
    index: Annotated[int, msgspec.Meta(ge=0, lt=SNAPSHOT_CHUNKS_MAX)]


class GotChunk(Record, frozen=True):
    """Answer to `GetChunk`; the tail is the chunk, or the first `SYNC_BYTES_MAX` of its bytes."""

    height: UInt
    index: UInt


class GetChunkPart(Record, frozen=True):
    """Call on bulk: more of a chunk whose first part filled a tail."""

    height: Annotated[int, msgspec.Meta(ge=1)]
    index: Annotated[int, msgspec.Meta(ge=0, lt=SNAPSHOT_CHUNKS_MAX)]
    offset: Annotated[int, msgspec.Meta(ge=1, lt=BUCKET_BYTES_MAX)]


class GotChunkPart(Record, frozen=True):
    """Answer to `GetChunkPart`; the tail goes on at `offset`, and ends the chunk if it is short."""

    height: UInt
    index: UInt
    offset: UInt


class Submit(Record, frozen=True):
    """One-way on ctl: transactions for the receiver's mempool."""

    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    20: GetBlocks,
    21: GotBlocks,
    22: GetBlockByHash,
    23: GotBlock,
    24: GetEpochHeaders,
    25: GotEpochHeaders,
    26: GetSnapshot,
    27: SnapshotMeta,
    28: GetChunk,
    29: GotChunk,
    30: GetChunkPart,
    31: GotChunkPart,
    40: Submit,
}
