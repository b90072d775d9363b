"""What a settlement shows, read and checked: receipts, feeds, and who of the unit is left out.

Everything here is about one sender's claim that a signature or a hash bears out. Must not know
what is right. Source: docs/spec/work.md, "Settlement".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.consensus.ledger.context import Context
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import Committed, Job, committed_key
from prsm.consensus.ledger.state import State
from prsm.protocol.codec import decode
from prsm.protocol.errors import WireError
from prsm.protocol.ids import Digest
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.receipts import BatchResult, Feed, WorkReceipt, is_fed, is_signed
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import Settle
from prsm.protocol.transactions.results import Code


@dataclass(frozen=True, slots=True)
class Shown:
    """A receipt as shown for settlement, and how it was committed."""

    receipt: WorkReceipt
    digest: Digest
    committed_height: int


def read_receipts(state: State, job: Job, payload: Settle, context: Context) -> list[Shown]:
    """Read the receipts of a settlement; each is of this unit, signed and committed earlier.

    Raises:
        Failed: BAD_RECEIPT, FOREIGN_RECEIPT, BAD_RECEIPT_SIGNATURE, WORKER_TWICE, NOT_COMMITTED.
    """
    receipts = [read_receipt(raw, job, payload.unit, context) for raw in payload.receipts]
    if len({receipt.worker for receipt in receipts}) != len(receipts):
        raise Failed(Code.WORKER_TWICE)
    shown = []
    for raw, receipt in zip(payload.receipts, receipts, strict=True):
        found = state.read(committed_key(job.job, payload.unit, receipt.worker), Committed)
        digest = sha256(raw)
        if found is None or not is_bound(found, job, receipt, digest, context):
            raise Failed(Code.NOT_COMMITTED)
        shown.append(Shown(receipt, digest, found.height))
    return shown


def is_bound(
    found: Committed, job: Job, receipt: WorkReceipt, digest: Digest, context: Context
) -> bool:
    """Did the worker bind itself to this receipt, and to its batches, in an earlier block?"""
    batches = job.bits_of(receipt.unit, (batch.index for batch in receipt.batches))
    is_same = (found.receipt_hash, found.batches) == (digest, batches)
    return is_same and found.height < context.height


def read_receipt(raw: bytes, job: Job, unit: int, context: Context) -> WorkReceipt:
    """Read one receipt: of this network, job and unit, on the lock's terms, signed.

    Raises:
        Failed: BAD_RECEIPT, FOREIGN_RECEIPT or BAD_RECEIPT_SIGNATURE.
    """
    try:
        receipt = decode(raw, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    except WireError as error:
        raise Failed(Code.BAD_RECEIPT) from error
    spec = job.units[unit]
    place = (receipt.chain_id, receipt.job, receipt.unit)
    if place != (context.chain_id, job.job, unit) or receipt.worker not in spec.workers:
        raise Failed(Code.FOREIGN_RECEIPT)
    if receipt.started_height < job.opened_height:
        raise Failed(Code.FOREIGN_RECEIPT)  # of an older escrow that had this id
    terms = (receipt.kind, receipt.model, receipt.stages, receipt.stage, receipt.price_per_row)
    if terms != (spec.kind, spec.model, spec.stages, spec.stage, spec.price_per_row):
        raise Failed(Code.BAD_RECEIPT)
    previous = spec.first - 1
    for batch in receipt.batches:
        if not previous < batch.index < spec.first + spec.count or not _fits(batch, job):
            raise Failed(Code.BAD_RECEIPT)
        previous = batch.index
    if not is_signed(receipt, context.verifier):
        raise Failed(Code.BAD_RECEIPT_SIGNATURE)
    return receipt


def read_feeds(job: Job, payload: Settle, context: Context) -> tuple[Feed, ...]:
    """Check the feeds of a settlement: of a batch of this unit, signed by the requester.

    Raises:
        Failed: BAD_FEED.
    """
    batches = job.units[payload.unit].batches
    for feed in payload.feeds:
        if (feed.job, feed.unit) != (job.job, payload.unit) or feed.batch not in batches:
            raise Failed(Code.BAD_FEED)
        verifier = context.verifier
        if not is_fed(feed, job.requester, chain_id=context.chain_id, verifier=verifier):
            raise Failed(Code.BAD_FEED)
    return payload.feeds


def check_left_out(
    state: State, job: Job, unit: int, shown: Sequence[Shown], context: Context
) -> None:
    """Leave nobody out too early: a bound worker has time to show its receipt itself.

    Raises:
        Failed: LEFT_OUT.
    """
    seen = {entry.receipt.worker for entry in shown}
    for worker in job.units[unit].workers:
        found = state.read(committed_key(job.job, unit, worker), Committed)
        if worker in seen or found is None:
            continue
        if context.time_ms < found.time_ms + context.parameters.settle_grace_ms:
            raise Failed(Code.LEFT_OUT)


def _fits(batch: BatchResult, job: Job) -> bool:
    """Has the batch the rows that were locked, or fewer where the end is open?"""
    locked = job.batch_rows[batch.index]
    return batch.rows == locked or (job.is_open_ended and batch.rows < locked)
