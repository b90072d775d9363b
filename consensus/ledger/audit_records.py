"""What the state holds of audits: pledges, beacons, opinions, cases, and how workers have done.

Letters W, V, B, A, K and S of docs/spec/ledger.md, "State". All but pledges and standings go when
the unit they are about is settled.
"""

from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import JURORS_MAX, PLEDGERS_MAX
from prsm.protocol.receipts import BatchResult

PLEDGED, BEACON, AUDITED, CASE, STANDING = b"W", b"B", b"A", b"K", b"S"
PLEDGERS_KEY: Final = b"V"
AWAITED_KEY: Final = b"Z"


class Pledged(Record, frozen=True):
    """What a worker has put up: wrong results are taken from it."""

    amount: UInt
    held: UInt  # of it, by unsettled work and open audits


class Pledger(Record, frozen=True):
    """An account that has pledged enough to be drawn as an auditor."""

    account: Bytes32
    since: UInt  # height


class Pledgers(Record, frozen=True):
    """Who may be drawn as an auditor, ascending by account."""

    listed: Annotated[tuple[Pledger, ...], msgspec.Meta(max_length=PLEDGERS_MAX)]


class Beacon(Record, frozen=True):
    """The first block after a height, and the first one by another proposer than that."""

    wanted: U32  # by so many: it goes with the last
    first: Bytes32 | None
    proposer: Bytes32 | None  # operator who proposed the first
    second: Bytes32 | None


class Awaited(Record, frozen=True):
    """Heights whose beacon is not complete, ascending."""

    heights: tuple[UInt, ...]


class Audited(Record, frozen=True):
    """What the first drawn auditor says of the drawn batch."""

    auditor: Bytes32
    batch: U32
    input_root: Bytes32
    side_root: Bytes32
    output_root: Bytes32
    deposit: UInt  # held of its pledge


class Juror(Record, frozen=True):
    """A member of a committee, and what it found."""

    operator: Bytes32
    consensus: Bytes32  # key of the time the case was opened
    weight: UInt
    finding: U32  # 0: none yet, else a `Finding`
    seal: Bytes32 | None  # hash of its finding, before it is shown


class Case(Record, frozen=True):
    """Somebody says a batch of a shown receipt is wrong."""

    worker: Bytes32
    receipt_hash: Bytes32
    committed_height: UInt
    class_id: Bytes32  # of the receipt
    batch: BatchResult  # as the receipt states it
    rows: UInt  # of the whole receipt
    gross: UInt  # what the worker earns if it is right
    decided: U32  # batches of the receipt
    inputs: Bytes32  # as in the verdict
    outputs: Bytes32
    challenger: Bytes32
    is_auditor: bool  # its deposit is of its pledge, else of its balance
    deposit: UInt
    jurors: Annotated[tuple[Juror, ...], msgspec.Meta(max_length=JURORS_MAX)]
    opened_height: UInt
    opens_ms: UInt  # block time from which nothing is sealed any more, and findings are shown
    until_ms: UInt


class Standing(Record, frozen=True):
    """How a worker has done: its rate of audits follows from it."""

    settled: UInt  # units it was paid for
    faults: UInt
    clean: UInt  # units it did alone since the last fault
    earned: UInt  # micro-FTNS they were paid with, all parts; it stops at `EARNED_MAX`


def pledged_key(account: bytes) -> bytes:
    """Key of a `Pledged`."""
    return PLEDGED + account


def beacon_key(height: int) -> bytes:
    """Key of a `Beacon`."""
    return BEACON + height.to_bytes(8, "big")


def audited_key(job: bytes, unit: int) -> bytes:
    """Key of an `Audited`."""
    return AUDITED + job + unit.to_bytes(4, "big")


def case_key(job: bytes, unit: int) -> bytes:
    """Key of a `Case`: one at a time for a unit."""
    return CASE + job + unit.to_bytes(4, "big")


def standing_key(worker: bytes) -> bytes:
    """Key of a `Standing`."""
    return STANDING + worker
