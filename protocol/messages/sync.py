"""Catching up, and handing transactions around: calls between nodes.

Answers are believed by certificates and roots only, never by their sender.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import Record
from prsm.protocol.headers import Block
from prsm.protocol.ids import Bytes32, UInt
from prsm.protocol.limits import BLOCK_TRANSACTIONS_MAX, SYNC_BLOCKS_MAX


class GetBlocks(Record, frozen=True):
    """Call on bulk: committed blocks from `first`, at most `count` and 4 MiB."""

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


class Submit(Record, frozen=True):
    """One-way on ctl: transactions for the receiver's mempool."""

    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    20: GetBlocks,
    21: GotBlocks,
    22: GetBlockByHash,
    23: GotBlock,
    40: Submit,
}
