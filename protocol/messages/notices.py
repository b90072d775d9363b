"""What a client of the control stream hears of the transactions it submitted.

A client is an ordinary peer: it says `Watch` once, sends its transactions to every validator as
`Submit`, and believes what validators of weight f+ say alike. Source: docs/spec/wire.md, "Clients".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import BLOCK_TRANSACTIONS_MAX, NAME_BYTES_MAX

_Ids = Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]


class Watch(Record, frozen=True):
    """One-way on ctl: say what becomes of the transactions I submit from now on, or say no more."""

    wanted: bool


class Included(Record, frozen=True):
    """One-way on ctl: a durable block holds these transactions of the receiver's."""

    height: UInt
    block_hash: Bytes32
    transactions: _Ids  # in the order of the block
    failed: Annotated[tuple[U32, ...], msgspec.Meta(max_length=BLOCK_TRANSACTIONS_MAX)]
    # ^ places in `transactions`, ascending, of those that only cost their fee


class Refused(Record, frozen=True):
    """One-way on ctl: these transactions do not wait here, all for one reason."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    retry_after_ms: UInt  # 0: the same bytes will not be taken later either
    transactions: _Ids


KINDS: Final[dict[int, type[Record]]] = {45: Watch, 46: Included, 47: Refused}
