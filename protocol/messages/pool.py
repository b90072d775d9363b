"""Transactions by id: what waits at a peer, and what of it is missing here.

Ids are hints; a transaction that is handed over is checked like any other. Source:
docs/spec/wire.md, "Transactions".
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import Bytes32
from prsm.protocol.limits import PENDING_IDS_MAX, PULLED_MAX


class Pending(Record, frozen=True):
    """One-way on ctl: ids of transactions that have waited at the sender for a while."""

    ids: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=PENDING_IDS_MAX)]


class GetTransactions(Record, frozen=True):
    """Call on bulk: the transactions of these ids."""

    ids: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=PULLED_MAX)]


class GotTransactions(Record, frozen=True):
    """Answer to `GetTransactions`: those of them that wait there, as many as `PULLED_BYTES_MAX`."""

    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=PULLED_MAX)]


KINDS: Final[dict[int, type[Record]]] = {
    41: Pending,
    42: GetTransactions,
    43: GotTransactions,
}
