"""Which work nobody compares is computed again, by whom, and what its settlement waits for.

A later block's hash draws, so nobody knew when the receipt was bound; auditors give their roots
before they can see the worker's. Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prsm.consensus.ledger import beacons, pledges
from prsm.consensus.ledger.audit_records import Audited, Case, audited_key, case_key
from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import open_job
from prsm.consensus.ledger.records import Committed, Job, committed_key
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.genesis import Parameters
from prsm.protocol.limits import AUDITORS_MAX
from prsm.protocol.receipts import BatchResult, Feed, WorkReceipt
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Audit
from prsm.protocol.transactions.results import Code


@dataclass(frozen=True, slots=True)
class Draw:
    """What the beacon drew.

    Attributes:
        is_drawn: is a batch to be computed again?
        number: of it, modulo the batches of the receipt.
        auditors: who may, in the order drawn; nobody where it is not drawn.
    """

    is_drawn: bool
    number: int
    auditors: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Where a bound unit that nobody compares stands.

    Attributes:
        worker: whose unit it is.
        committed: its commitment.
        beacon: None while it is not there.
        draw: from it.
        batch: drawn index in the job; None if not drawn.
        until_ms: block time of the end of audits and disputes.
        audited: what an auditor said.
        case: on which a committee sits, or sat without deciding.
    """

    worker: bytes
    committed: Committed
    beacon: bytes | None
    draw: Draw | None
    batch: int | None
    until_ms: int
    audited: Audited | None
    case: Case | None


def sampling(reader: Reader, job: Job, unit: int, parameters: Parameters) -> Sampling | None:
    """Where a unit stands; None if it is compared, free, settled, or its worker not bound."""
    if not job.is_open or job.verdicts[unit] is not None or not job.is_sampled(unit):
        return None
    [worker] = job.units[unit].workers
    committed = read(reader, committed_key(job.job, unit, worker), Committed)
    if committed is None:
        return None
    beacon = beacons.hash_after(reader, committed.height, unlike=worker)
    draw = None if beacon is None else _draw(reader, job, worker, committed, beacon)
    return Sampling(
        worker=worker,
        committed=committed,
        beacon=beacon,
        draw=draw,
        batch=_drawn(job, unit, committed, draw),
        until_ms=committed.time_ms + parameters.audit_window_ms,
        audited=read(reader, audited_key(job.job, unit), Audited),
        case=read(reader, case_key(job.job, unit), Case),
    )


def audit(state: State, payload: Audit, context: Context) -> Effect:
    """Hear the first drawn auditor; its word is worth a deposit of its pledge."""
    job = open_job(state, payload.job)
    found = sampled(state, job, payload.unit, context)
    if found.draw is None or context.sender not in found.draw.auditors:
        raise Failed(Code.NOT_DRAWN)
    if payload.batch != found.batch:
        raise Failed(Code.NOT_DRAWN)
    if found.audited is not None or found.case is not None:
        raise Failed(Code.ALREADY_AUDITED)
    if context.time_ms >= found.until_ms:
        raise Failed(Code.TOO_LATE)
    deposit = context.parameters.case_deposit
    pledges.hold(state, context.sender, deposit)
    state.write(
        audited_key(payload.job, payload.unit),
        Audited(
            auditor=context.sender,
            batch=payload.batch,
            input_root=payload.input_root,
            side_root=payload.side_root,
            output_root=payload.output_root,
            deposit=deposit,
        ),
    )
    return DONE


def sampled(state: State, job: Job, unit: int, context: Context) -> Sampling:
    """Where a unit stands that audits check.

    Raises:
        Failed: UNKNOWN_UNIT, UNIT_SETTLED, NOT_SAMPLED or NOT_COMMITTED.
    """
    if unit >= len(job.units):
        raise Failed(Code.UNKNOWN_UNIT)
    if job.verdicts[unit] is not None:
        raise Failed(Code.UNIT_SETTLED)
    if not job.is_sampled(unit):
        raise Failed(Code.NOT_SAMPLED)
    found = sampling(state, job, unit, context.parameters)
    if found is None:
        raise Failed(Code.NOT_COMMITTED)
    return found


def may_settle(found: Sampling, job: Job, *, sender: bytes, time_ms: int) -> bool:
    """Is a settlement by this account in time, as far as audits go?

    Who has seen an audit or the end of the window need not wait. Before that, the requester may
    accept work that was not drawn. A committee has its time.
    """
    if found.case is not None:
        return time_ms >= found.case.until_ms
    if found.draw is None:
        return False
    if found.audited is not None or time_ms >= found.until_ms:
        return True
    return not found.draw.is_drawn and sender == job.requester


def drawn_batch(receipt: WorkReceipt, draw: Draw) -> BatchResult:
    """The batch of a receipt a draw names."""
    return receipt.batches[draw.number % len(receipt.batches)]


def is_contradicted(audited: Audited, batch: BatchResult, feeds: Sequence[Feed]) -> bool:
    """Does an auditor say otherwise of the drawn batch, and no feed explains it?

    An auditor that computed another batch says nothing. If the requester signed the inputs the
    worker states, and others for the auditor, the worker did what it was told.
    """
    if audited.batch != batch.index:
        return False
    fed = (audited.input_root, audited.side_root)
    own = (batch.input_root, batch.side_root)
    if fed == own:
        return audited.output_root != batch.output_root
    return all(
        feed.batch != batch.index or (feed.input_root, feed.side_root) != own for feed in feeds
    )


def _drawn(job: Job, unit: int, committed: Committed, draw: Draw | None) -> int | None:
    """The batch that was drawn, of those the worker bound itself to."""
    if draw is None or not draw.is_drawn:
        return None
    spec = job.units[unit]
    batches = spec.batches_in(committed.batches) if job.is_open_ended else spec.batches
    return batches[draw.number % len(batches)]


def _draw(reader: Reader, job: Job, worker: bytes, committed: Committed, beacon: bytes) -> Draw:
    seed = sha256(b"prsm1 draw", beacon, committed.receipt_hash)
    number = int.from_bytes(seed[8:16], "big")
    if int.from_bytes(seed[:8], "big") % 10_000 >= committed.audit_bps:
        return Draw(is_drawn=False, number=number, auditors=())
    able = [
        entry.account
        for entry in pledges.pledgers(reader)
        if entry.since <= committed.height and entry.account not in {worker, job.requester}
    ]
    order = sorted(able, key=lambda account: sha256(seed, account))
    return Draw(is_drawn=True, number=number, auditors=tuple(order[:AUDITORS_MAX]))
