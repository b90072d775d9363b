"""Paid work: bind to a receipt before it is shown, then pay for what enough workers hold.

Nobody's consent is needed: anyone may send the receipts. What is right is decided in `tally`,
what a receipt must be in `showing`, who is paid what in `payout`; work nobody compares waits for
`audits`. Source: docs/spec/work.md, "Settlement".
"""

from collections.abc import Sequence
from dataclasses import replace

from prsm.consensus.ledger.audit_records import Case, case_key
from prsm.consensus.ledger.audits import drawn_batch, is_contradicted, may_settle, sampled
from prsm.consensus.ledger.binding import bind
from prsm.consensus.ledger.cases import close_case, contradict, is_outweighed
from prsm.consensus.ledger.context import Bound, CaseClosed, Context, Effect, Event
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import open_job, place_of
from prsm.consensus.ledger.payout import Reward, finish, parts
from prsm.consensus.ledger.records import (
    Committed,
    Flow,
    Job,
    Opinion,
    Verdict,
    WorkFault,
    committed_key,
    fault_key,
    flow_key,
)
from prsm.consensus.ledger.reputation import note_fault
from prsm.consensus.ledger.showing import Shown, check_left_out, read_feeds, read_receipts
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.tally import Ruling, charge, flow_of, rule_on
from prsm.protocol import merkle
from prsm.protocol.receipts import Feed
from prsm.protocol.transactions.payloads import Commit, CommitRow, Settle, Unit
from prsm.protocol.transactions.results import Code


def commit(state: State, payload: Commit, context: Context) -> Effect:
    """Bind the sender to receipts nobody has seen; each counts from the next block on."""
    events: list[Event] = []
    for row in payload.rows:
        job = open_job(state, row.job)
        spec = unsettled(job, row.unit)
        if context.sender not in spec.workers:
            raise Failed(Code.NOT_WORKER)
        if not _may_commit(state, row, spec, context.sender):
            raise Failed(Code.ALREADY_COMMITTED)
        if not _is_said(row, job):
            raise Failed(Code.BAD_RECEIPT)
        bind(state, job, row, context)
        if job.is_sampled(row.unit):
            events.append(Bound(row.job, row.unit, context.sender))
    return Effect(events=tuple(events))


def settle(state: State, payload: Settle, context: Context) -> Effect:
    """Tally the receipts of one unit, pay who was right, note who was not, return the rest."""
    job = open_job(state, payload.job)
    spec = unsettled(job, payload.unit)
    case = _undecided_case(state, job, payload.unit, context)
    if case is not None and is_outweighed(case.jurors):
        return close_case(state, job, payload.unit, case, context)
    shown = read_receipts(state, job, payload, context)
    feeds = read_feeds(job, payload, context)
    ruling = rule_on([entry.receipt for entry in shown], feeds, spec)
    if not ruling.torn and not _is_enough(ruling, job):
        raise Failed(Code.UNDECIDED)
    check_left_out(state, job, payload.unit, shown, context)
    flow = Flow(*flow_of(ruling, spec))
    if not ruling.torn and not _is_chained(state, job, payload.unit, flow, feeds):
        raise Failed(Code.CHAIN_BROKEN)
    reward = None
    if job.is_sampled(payload.unit) and case is None:
        found = sampled(state, job, payload.unit, context)
        if not may_settle(found, job, sender=context.sender, time_ms=context.time_ms):
            raise Failed(Code.TOO_EARLY)
        if found.audited is not None and found.draw is not None:
            named = drawn_batch(shown[0].receipt, found.draw)
            if is_contradicted(found.audited, named, feeds):
                return contradict(state, job, shown[0], found, context)
            if found.audited.batch == named.index:
                reward = Reward(found.audited.auditor, named.rows * spec.price_per_row)
    gross = [
        0 if worth.wrong else charge(entry.receipt, spec, worth.rows)
        for entry, worth in zip(shown, ruling.worths, strict=True)
    ]
    _note_faults(state, shown, ruling, context)
    if _is_read(job, payload.unit):
        state.write(flow_key(job.job, payload.unit), flow)
    verdict = _verdict(job, shown, ruling, gross, flow, context)
    done = finish(state, job, payload.unit, verdict, gross, reward)
    closed = () if case is None else (CaseClosed(job.job, payload.unit, 0),)
    return replace(done, events=(*done.events, *closed))


def unsettled(job: Job, unit: int) -> Unit:
    """Terms of a unit that has no verdict yet.

    Raises:
        Failed: UNKNOWN_UNIT or UNIT_SETTLED.
    """
    if unit >= len(job.units):
        raise Failed(Code.UNKNOWN_UNIT)
    if job.verdicts[unit] is not None:
        raise Failed(Code.UNIT_SETTLED)
    return job.units[unit]


def _undecided_case(state: State, job: Job, unit: int, context: Context) -> Case | None:
    """The case whose committee let its time pass; None without a case.

    Raises:
        Failed: CASE_OPEN, it still sits.
    """
    case = state.read(case_key(job.job, unit), Case)
    if case is not None and context.time_ms < case.until_ms:
        raise Failed(Code.CASE_OPEN)
    return case


def _is_said(row: CommitRow, job: Job) -> bool:
    """Does the commitment name batches where one of them is drawn, and nothing elsewhere?"""
    named = job.units[row.unit].batches_in(row.batches)
    return row.batches == job.bits_of(row.unit, named) and bool(named) == bool(row.batches)


def _may_commit(state: State, row: CommitRow, spec: Unit, sender: bytes) -> bool:
    """A worker may commit to another receipt while nobody else of the unit is bound.

    Receipts are shown to co-workers that are bound, so later it could be a copy. One of one is
    drawn for an audit by its hash, so it stays with its first.
    """
    own = state.read(committed_key(row.job, row.unit, sender), Committed)
    if own is None:
        return True
    if own.receipt_hash == row.receipt_hash or spec.needed == 1:
        return False
    others = (worker for worker in spec.workers if worker != sender)
    return all(state.get(committed_key(row.job, row.unit, other)) is None for other in others)


def _is_enough(ruling: Ruling, job: Job) -> bool:
    return bool(ruling.right) and (job.is_open_ended or not ruling.missing)


def _is_chained(state: State, job: Job, unit: int, flow: Flow, feeds: Sequence[Feed]) -> bool:
    """Did the unit read what the settled stage before it wrote, or what it was fed instead?"""
    spec = job.units[unit]
    kind, model, stages, stage = place_of(spec)
    fed: set[tuple[int, bytes]] = {(feed.batch, feed.input_root) for feed in feeds}
    for index, other in enumerate(job.units):
        if place_of(other) != (kind, model, stages, stage - 1):
            continue
        found = state.read(flow_key(job.job, index), Flow)
        for batch in _common(spec, other) if found is not None else ():
            assert found is not None
            wrote, read = found.outputs[batch - other.first], flow.inputs[batch - spec.first]
            if wrote and read and wrote != read and (batch, read) not in fed:
                return False
    return True


def _is_read(job: Job, unit: int) -> bool:
    """Is there an unsettled unit of the stage after it, over some of its batches?"""
    kind, model, stages, stage = place_of(job.units[unit])
    return any(
        place_of(other) == (kind, model, stages, stage + 1)
        and job.verdicts[index] is None
        and _common(job.units[unit], other)
        for index, other in enumerate(job.units)
    )


def _common(one: Unit, other: Unit) -> range:
    first = max(one.first, other.first)
    return range(first, min(one.first + one.count, other.first + other.count))


def _verdict(
    job: Job,
    shown: Sequence[Shown],
    ruling: Ruling,
    gross: Sequence[int],
    flow: Flow,
    context: Context,
) -> Verdict:
    return Verdict(
        height=context.height,
        decided=len(ruling.right),
        inputs=merkle.root(flow.inputs),
        outputs=merkle.root(flow.outputs),
        opinions=tuple(
            Opinion(
                worker=entry.receipt.worker,
                receipt_hash=entry.digest,
                committed_height=entry.committed_height,
                rows=sum(batch.rows for batch in entry.receipt.batches),
                wrong=len(worth.wrong),
                paid=amount - sum(parts(job, amount).values()),
            )
            for entry, worth, amount in zip(shown, ruling.worths, gross, strict=True)
        ),
        returned=job.reserve(shown[0].receipt.unit) - sum(gross),
        auditor=None,
        reward=0,
    )


def _note_faults(state: State, shown: Sequence[Shown], ruling: Ruling, context: Context) -> None:
    for entry, worth in zip(shown, ruling.worths, strict=True):
        if worth.lies:
            receipt = entry.receipt
            note_fault(state, receipt.worker)
            state.write(
                fault_key(receipt.worker, receipt.job, receipt.unit),
                WorkFault(
                    worker=receipt.worker,
                    job=receipt.job,
                    unit=receipt.unit,
                    batches=worth.lies,
                    receipt_hash=entry.digest,
                    height=context.height,
                ),
            )
