"""What the state holds: the keys, and the record behind each; canonical msgpack both ways.

Source: docs/spec/ledger.md, "State". A key is one letter and fixed-width fields, so no key is
the beginning of another kind's. A balance of zero has no entry. Decisions are in `proposals`.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import LEAVING_MAX, ROSTER_MAX
from prsm.protocol.messages.models import CidBytes, Name
from prsm.protocol.transactions.conditions import Hold
from prsm.protocol.transactions.membership import PeerText
from prsm.protocol.transactions.payloads import Share, Unit
from prsm.protocol.validators import Members

JOB_DEPTH_MAX: Final = 5
TOTALS_KEY: Final = b"t"
TURNS_KEY: Final = b"p"
EPOCH_KEY: Final = b"E"
ROSTER_KEY: Final = b"r"
ACCOUNT, NONCE, BOND, MODEL, VERSION, OWNER, JOB, COMMITTED, FAULT, DOUBLE, HALT, HELD = (
    bytes([letter]) for letter in b"anbmvojwfdhc"
)
EPOCH_SET, KEY_USE, FLOW = b"e", b"k", b"u"


class Balance(Record, frozen=True):
    """Micro-FTNS an account can spend, of one asset."""

    amount: UInt


class Nonce(Record, frozen=True):
    """The nonce an account's next transaction must have."""

    next: UInt


class Leaving(Record, frozen=True):
    """A part of a bond that weighs nothing any more; slashing still takes from it."""

    amount: UInt
    release_ms: UInt  # block time from which it may be withdrawn


class Bond(Record, frozen=True):
    """What an operator has at stake, and what it wants; never deleted."""

    stake: UInt  # all that is bonded, `leaving` too: what slashing takes from
    target: UInt  # what it wants to weigh; 0: nothing
    consensus: Bytes32  # the key of the next set that is computed
    peer_id: PeerText
    order: UInt  # of its last change of target among all operators'
    leaving: Annotated[tuple[Leaving, ...], msgspec.Meta(max_length=LEAVING_MAX)]
    tombstoned: bool  # convicted of what no mishap explains: weighs nothing for ever

    @property
    def held(self) -> int:
        """What may weigh."""
        return self.stake - sum(part.amount for part in self.leaving)


class Roster(Record, frozen=True):
    """Operators whose bond may weigh: members, and who waits to become one."""

    operators: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=ROSTER_MAX)]  # ascending
    changes: UInt  # `Bond.order` of the next change


class KeyUse(Record, frozen=True):
    """Who brought a consensus key; nobody brings it again."""

    operator: Bytes32


class EpochRecord(Record, frozen=True):
    """The epoch of the next height."""

    number: U32
    first_height: UInt
    first_time_ms: UInt  # block time of its first block; 0 before it
    oldest: U32  # epochs before it have no record any more


class EpochSet(Record, frozen=True):
    """The members of an epoch: the present one, the next, and those evidence may name."""

    members: Members
    first_height: UInt | None  # None: it has not begun
    ended_ms: UInt | None  # block time of its last block; None: it has not ended


class Model(Record, frozen=True):
    """A registered manifest."""

    manifest: CidBytes
    name: Name
    semver: str
    publisher: Bytes32
    pinned_sha256: Bytes32
    total_bytes: UInt
    parents: tuple[CidBytes, ...]
    height: UInt


class Pointer(Record, frozen=True):
    """From name and version to a manifest."""

    manifest: CidBytes


class Owner(Record, frozen=True):
    """Who may register further versions of a name: its first publisher."""

    publisher: Bytes32


class JobStatus(IntEnum):
    """Where an escrow stands."""

    OPEN = 1
    SETTLED = 2
    REFUNDED = 3


class Opinion(Record, frozen=True):
    """One worker's receipt in a settled unit."""

    worker: Bytes32
    receipt_hash: Bytes32
    committed_height: UInt  # lower than the verdict's
    rows: UInt
    wrong: U32  # batches that differ from what is right
    paid: UInt  # after the treasury's part and the shares


class Verdict(Record, frozen=True):
    """How a unit was settled: the right roots and who held them."""

    height: UInt
    decided: U32  # batches that have a right result
    inputs: Bytes32  # Merkle root over the right input roots by batch, nothing where undecided
    outputs: Bytes32  # the same of the output roots
    opinions: tuple[Opinion, ...]  # as the receipts stood in the transaction
    returned: UInt  # of the unit's reserve, to the requester or the parent's budget
    auditor: Bytes32 | None  # whom the treasury paid for an audit of it
    reward: UInt  # so much of its part


class Job(Record, frozen=True):
    """An escrow: what was locked, for whom, and what became of it."""

    job: Bytes32
    requester: Bytes32
    tenant: bytes
    asset: U32
    parent: Bytes32 | None
    depth: U32  # 1 for a job without parent
    batch_rows: tuple[UInt, ...]
    units: tuple[Unit, ...]
    shares: tuple[Share, ...]
    treasury_bps: U32  # of the day it was locked
    deadline_ms: UInt
    opened_height: UInt
    status: JobStatus
    locked: UInt  # still in escrow: reserves of unsettled units, and the budget
    budget: UInt  # part of `locked` that child jobs may draw on
    children: U32  # open ones
    verdicts: tuple[Verdict | None, ...]  # by unit
    is_open_ended: bool

    @property
    def rows(self) -> int:
        """Rows of all batches."""
        return sum(self.batch_rows)

    @property
    def is_open(self) -> bool:
        """May it still be settled or refunded?"""
        return self.status is JobStatus.OPEN

    def is_sampled(self, unit: int) -> bool:
        """Is the unit checked by audits, because nobody compares it and it costs something?"""
        return self.units[unit].is_sampled

    def bits_of(self, unit: int, batches: Iterable[int]) -> bytes:
        """What a commitment says of a receipt's batches: nothing where the lock says which."""
        is_said = self.is_open_ended and self.is_sampled(unit)
        return self.units[unit].bits_of(batches) if is_said else b""

    def reserve(self, unit: int) -> int:
        """Micro-FTNS locked for a unit: its price for every row and every worker."""
        spec = self.units[unit]
        rows = sum(self.batch_rows[spec.first : spec.first + spec.count])
        return spec.price_per_row * rows * len(spec.workers)


class Committed(Record, frozen=True):
    """A worker's commitment to a receipt of a unit; it goes when the unit is settled."""

    receipt_hash: Bytes32
    height: UInt
    time_ms: UInt  # of that block
    bond: UInt  # held of the worker's pledge for it
    audit_bps: U32  # how often such a unit is drawn for an audit; 0: it is compared, or free
    batches: bytes  # of the receipt, as `Job.bits_of`


class Flow(Record, frozen=True):
    """Right roots of a settled unit by batch, while a stage beside it is not settled."""

    inputs: tuple[bytes, ...]  # empty where undecided
    outputs: tuple[bytes, ...]


class WorkFault(Record, frozen=True):
    """Visible evidence: a receipt two other workers contradict."""

    worker: Bytes32
    job: Bytes32
    unit: U32
    batches: tuple[U32, ...]  # indexes of the wrong ones
    receipt_hash: Bytes32
    height: UInt


class DoubleVote(Record, frozen=True):
    """A validator's conviction, once for a height."""

    operator: Bytes32
    voted_height: UInt
    kind: U32  # an `Offence`
    penalty: UInt
    height: UInt


class HaltRecord(Record, frozen=True):
    """Votes on an object, and whether executors must refuse it."""

    cid: CidBytes
    halted: bool
    votes: tuple[Bytes32, ...]  # operators who want the opposite of `halted`, ascending
    reason: Annotated[str, msgspec.Meta(max_length=200)]  # of the latest vote


class Held(Record, frozen=True):
    """Money under conditions; it stays when it is empty, so that no id is opened twice."""

    hold: Bytes32
    holder: Bytes32
    terms: Hold
    opened_height: UInt
    left: UInt  # still held
    reclaimed: bool  # by the fallback

    def names(self, account: bytes) -> bool:
        """Does the account hold it, or may any of it be paid to the account?"""
        to = {self.holder, *(branch.to for branch in self.terms.branches)}
        fallback = self.terms.fallback
        return account in to or (fallback is not None and account == fallback.to)


class Totals(Record, frozen=True):
    """Where all micro-FTNS are: balances are minted - locked - bonded - burnt."""

    minted: UInt
    locked: UInt
    bonded: UInt
    burnt: UInt


def account_key(account: bytes, asset: int) -> bytes:
    """Key of a `Balance`."""
    return ACCOUNT + account + asset.to_bytes(4, "big")


def nonce_key(account: bytes) -> bytes:
    """Key of a `Nonce`."""
    return NONCE + account


def bond_key(operator: bytes) -> bytes:
    """Key of a `Bond`."""
    return BOND + operator


def epoch_set_key(epoch: int) -> bytes:
    """Key of an `EpochSet`."""
    return EPOCH_SET + epoch.to_bytes(4, "big")


def key_use_key(consensus: bytes) -> bytes:
    """Key of a `KeyUse`."""
    return KEY_USE + consensus


def model_key(manifest: bytes) -> bytes:
    """Key of a `Model`."""
    return MODEL + manifest


def version_key(name: str, semver: str) -> bytes:
    """Key of a `Pointer`."""
    return VERSION + encode((name, semver))


def owner_key(name: str) -> bytes:
    """Key of an `Owner`."""
    return OWNER + encode(name)


def job_key(job: bytes) -> bytes:
    """Key of a `Job`."""
    return JOB + job


def committed_key(job: bytes, unit: int, worker: bytes) -> bytes:
    """Key of a `Committed`: with the worker, so that nobody can take another's hash."""
    return COMMITTED + job + unit.to_bytes(4, "big") + worker


def flow_key(job: bytes, unit: int) -> bytes:
    """Key of a `Flow`."""
    return FLOW + job + unit.to_bytes(4, "big")


def fault_key(worker: bytes, job: bytes, unit: int) -> bytes:
    """Key of a `WorkFault`."""
    return FAULT + worker + job + unit.to_bytes(4, "big")


def double_key(operator: bytes, height: int) -> bytes:
    """Key of a `DoubleVote`."""
    return DOUBLE + operator + height.to_bytes(8, "big")


def halt_key(cid: bytes) -> bytes:
    """Key of a `HaltRecord`."""
    return HALT + cid


def held_key(hold: bytes) -> bytes:
    """Key of a `Held`."""
    return HELD + hold


def is_distinct(items: Iterable[object]) -> bool:
    """Does no item stand twice?"""
    listed = list(items)
    return len(set(listed)) == len(listed)
