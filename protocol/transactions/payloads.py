"""Payloads of the transaction kinds; each has one rule in `consensus/ledger`.

Amounts are micro-FTNS of an asset (0 is FTNS); deadlines are block time in ms.
"""

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import (
    BATCH_RESULT_BYTES_MAX,
    RECEIPT_HEAD_BYTES_MAX,
    SETTLE_HEAD_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
    UNIT_WORKERS_MAX,
    WORK_BATCHES_MAX,
    WORK_STAGES_MAX,
)
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.messages.models import CidBytes, Name
from prsm.protocol.receipts import Feed, WorkKind
from prsm.protocol.registry import Registry
from prsm.protocol.transactions.audits import Audit, Dispute, Judge, Pledge, Redeem, Seal
from prsm.protocol.transactions.conditions import Claim, Hold, Reclaim
from prsm.protocol.transactions.custody import Accept, Entrust, Lapse, Prove, Release
from prsm.protocol.transactions.evaluations import Draw, RecordScore
from prsm.protocol.transactions.governance import Ballot, Delegate, Enact, Propose
from prsm.protocol.transactions.membership import Join, Leave, Rotate, Stake, Withdraw
from prsm.protocol.transactions.registry import RegisterDataset, SetCard, SetChannel, Yank

UNITS_MAX: Final = 64
OPINIONS_MAX: Final = UNIT_WORKERS_MAX
NEEDED_MAX: Final = (UNIT_WORKERS_MAX + 1) // 2
FEEDS_MAX: Final = 2 * UNIT_WORKERS_MAX  # of one settlement
_Memo = Annotated[bytes, msgspec.Meta(max_length=64)]
_Bps = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class Transfer(Record, frozen=True):
    """Move an amount to another account."""

    asset: U32
    to: Bytes32
    amount: Annotated[int, msgspec.Meta(ge=1)]
    memo: _Memo


class RegisterModel(Record, frozen=True):
    """Bind name and version to a manifest; the sender is the publisher."""

    manifest: CidBytes
    name: Name
    semver: Annotated[str, msgspec.Meta(min_length=5, max_length=32)]
    pinned_sha256: Bytes32
    total_bytes: UInt
    parents: Annotated[tuple[CidBytes, ...], msgspec.Meta(max_length=16)]


class Share(Record, frozen=True):
    """A party that gets a part of each payment, in basis points."""

    account: Bytes32
    bps: _Bps


class Rates(Record, frozen=True):
    """Prices of what was measured, micro-FTNS each; `Unit.price_per_row` bounds their sum."""

    row: UInt
    cpu_ms: UInt
    mib: UInt  # moved, both ways together


class Unit(Record, frozen=True):
    """One unit of paid work: a stage of a model over some batches of the job, and who may do it.

    A result is right when `needed` distinct workers hold it. Fewer than 2 x needed are named, so
    no two results are right. One of one is not compared; it is checked by sampling.
    """

    kind: WorkKind
    model: CidBytes
    stages: Annotated[int, msgspec.Meta(ge=1, le=WORK_STAGES_MAX)]
    stage: Annotated[int, msgspec.Meta(ge=0, le=WORK_STAGES_MAX)]
    first: U32  # index of its first batch in the job
    count: Annotated[int, msgspec.Meta(ge=1, le=WORK_BATCHES_MAX)]
    needed: Annotated[int, msgspec.Meta(ge=1, le=NEEDED_MAX)]
    price_per_row: UInt  # the most a row costs: what is locked for it, for each worker
    rates: Rates | None  # None: price_per_row for every row
    workers: Annotated[tuple[Bytes32, ...], msgspec.Meta(min_length=1, max_length=OPINIONS_MAX)]

    @property
    def batches(self) -> range:
        """Indexes of its batches in the job."""
        return range(self.first, self.first + self.count)

    @property
    def is_sampled(self) -> bool:
        """Is it checked by audits, because nobody compares it and it costs something?"""
        return self.needed == 1 and self.price_per_row > 0

    def bits_of(self, batches: Iterable[int]) -> bytes:
        """Some of its batches as bits: that of `first` is the lowest of the first byte."""
        bits = sum(1 << index - self.first for index in batches)
        return bits.to_bytes(self._bits_bytes, "little")

    def batches_in(self, bits: bytes) -> tuple[int, ...]:
        """Indexes of the batches that bits name, ascending; none where they are not well formed."""
        named = int.from_bytes(bits, "little")
        if len(bits) != self._bits_bytes or named >> self.count:
            return ()
        return tuple(index for index in self.batches if named >> index - self.first & 1)

    @property
    def _bits_bytes(self) -> int:
        return -(-self.count // 8)


def unit_batches_max(workers: int) -> int:
    """Most batches of a unit with so many workers: all their receipts fit one settlement."""
    each = (TRANSACTION_BYTES_MAX - SETTLE_HEAD_BYTES_MAX) // workers - RECEIPT_HEAD_BYTES_MAX
    return min(WORK_BATCHES_MAX, each // BATCH_RESULT_BYTES_MAX)


class Lock(Record, frozen=True):
    """Put the highest price of a job into escrow: every worker of every unit, every row.

    With a parent, the budget is drawn from that job's unspent escrow instead of the sender's
    balance (depth at most 5); the sender must have opened the parent. Without units and batches
    it is a budget alone, for children of it.
    """

    job: Bytes32  # chosen by the sender at random
    tenant: Annotated[bytes, msgspec.Meta(max_length=32)]
    asset: U32
    parent: Bytes32 | None
    batch_rows: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=1_000_000)], ...],
        msgspec.Meta(max_length=WORK_BATCHES_MAX),
    ]
    units: Annotated[tuple[Unit, ...], msgspec.Meta(max_length=UNITS_MAX)]
    budget: UInt  # further amount for child jobs
    shares: Annotated[tuple[Share, ...], msgspec.Meta(max_length=8)]
    deadline_ms: UInt
    is_open_ended: bool  # batches nobody did, and rows they lack, are not missing


class CommitRow(Record, frozen=True):
    """The hash of a receipt that will be shown later.

    A sampled unit of an open-ended job says with it which batches the receipt has, so that the
    ledger itself draws one of them; elsewhere there is nothing to say.
    """

    job: Bytes32
    unit: U32
    receipt_hash: Bytes32
    batches: Annotated[bytes, msgspec.Meta(max_length=WORK_BATCHES_MAX // 8)]  # `Unit.bits_of`


class Commit(Record, frozen=True):
    """A worker binds itself to its receipts before anybody has seen them."""

    rows: Annotated[tuple[CommitRow, ...], msgspec.Meta(min_length=1, max_length=UNITS_MAX)]


class Settle(Record, frozen=True):
    """Show receipts of one unit; the ledger pays who holds what is right. Anyone may send it.

    Feeds are only shown where workers differ in what went in: a worker whose feed is the
    requester's own word for its inputs did what it was told.
    """

    job: Bytes32
    unit: U32
    receipts: Annotated[
        tuple[bytes, ...], msgspec.Meta(min_length=1, max_length=OPINIONS_MAX)
    ]  # canonical WorkReceipts
    feeds: Annotated[tuple[Feed, ...], msgspec.Meta(max_length=FEEDS_MAX)]


class Refund(Record, frozen=True):
    """Return what is left of an escrow after its deadline. Anyone may send it."""

    job: Bytes32


class Evidence(Record, frozen=True):
    """Two messages no honest validator signs."""

    first: SignedMessage
    second: SignedMessage


class Halt(Record, frozen=True):
    """A validator's operator votes to stop (or, with `lift`, to allow again) an object."""

    cid: CidBytes
    lift: bool
    reason: Annotated[str, msgspec.Meta(max_length=200)]


TRANSFER: Final = 1
REGISTER_MODEL: Final = 2
LOCK: Final = 3
COMMIT: Final = 4
SETTLE: Final = 5
REFUND: Final = 6
EVIDENCE: Final = 7
HALT: Final = 8
HOLD: Final = 9
CLAIM: Final = 10
RECLAIM: Final = 11
JOIN: Final = 12
STAKE: Final = 13
LEAVE: Final = 14
ROTATE: Final = 15
WITHDRAW: Final = 16
PROPOSE: Final = 20
BALLOT: Final = 21
DELEGATE: Final = 22
ENACT: Final = 23
SET_CHANNEL: Final = 24
YANK: Final = 25
REGISTER_DATASET: Final = 26
SET_CARD: Final = 27
ENTRUST: Final = 30
ACCEPT: Final = 31
PROVE: Final = 32
LAPSE: Final = 33
RELEASE: Final = 34
RECORD_SCORE: Final = 48
DRAW: Final = 49
PLEDGE: Final = 40
REDEEM: Final = 41
AUDIT: Final = 42
DISPUTE: Final = 43
JUDGE: Final = 44
SEAL: Final = 45

PAYLOADS: Final[Registry[Record]] = Registry("transaction kind")
for _number, _cls in (
    (TRANSFER, Transfer),
    (REGISTER_MODEL, RegisterModel),
    (LOCK, Lock),
    (COMMIT, Commit),
    (SETTLE, Settle),
    (REFUND, Refund),
    (EVIDENCE, Evidence),
    (HALT, Halt),
    (HOLD, Hold),
    (CLAIM, Claim),
    (RECLAIM, Reclaim),
    (JOIN, Join),
    (STAKE, Stake),
    (LEAVE, Leave),
    (ROTATE, Rotate),
    (WITHDRAW, Withdraw),
    (PROPOSE, Propose),
    (BALLOT, Ballot),
    (DELEGATE, Delegate),
    (ENACT, Enact),
    (SET_CHANNEL, SetChannel),
    (YANK, Yank),
    (REGISTER_DATASET, RegisterDataset),
    (SET_CARD, SetCard),
    (ENTRUST, Entrust),
    (ACCEPT, Accept),
    (PROVE, Prove),
    (LAPSE, Lapse),
    (RELEASE, Release),
    (RECORD_SCORE, RecordScore),
    (DRAW, Draw),
    (PLEDGE, Pledge),
    (REDEEM, Redeem),
    (AUDIT, Audit),
    (DISPUTE, Dispute),
    (JUDGE, Judge),
    (SEAL, Seal),
):
    PAYLOADS.add(_number, _cls)
