"""Escrow: lock the highest price of a job, give back what is left, close.

Money of a job is `locked`: the reserves of its unsettled units and its `budget`. A child job
draws on its parent's budget and gives its leftover back to it, so a tree of jobs conserves what
its root locked. Source: docs/spec/ledger.md, "Escrow".
"""

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit, debit
from prsm.consensus.ledger.binding import unbind, waits_until
from prsm.consensus.ledger.closings import note_closed
from prsm.consensus.ledger.context import Closed, Context, Effect, Event, Locked
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.evaluations import read_evaluation
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.records import (
    JOB_DEPTH_MAX,
    Job,
    JobStatus,
    flow_key,
    is_distinct,
    job_key,
)
from prsm.consensus.ledger.state import State
from prsm.protocol.ids import FTNS
from prsm.protocol.receipts import WorkKind
from prsm.protocol.transactions.payloads import Lock, Refund, Unit, unit_batches_max
from prsm.protocol.transactions.results import Code

Place = tuple[int, bytes, int, int]  # kind, model, stages, stage


def lock(state: State, payload: Lock, context: Context) -> Effect:
    """Open a job and put price x rows x workers of every unit, and the budget, into escrow."""
    _check_terms(state, payload, context)
    parent = None if payload.parent is None else _parent(state, payload.parent, payload, context)
    job = Job(
        job=payload.job,
        requester=context.sender,
        tenant=payload.tenant,
        asset=payload.asset,
        parent=payload.parent,
        depth=1 if parent is None else parent.depth + 1,
        batch_rows=payload.batch_rows,
        units=payload.units,
        shares=payload.shares,
        treasury_bps=context.parameters.treasury_bps,
        deadline_ms=payload.deadline_ms,
        opened_height=context.height,
        status=JobStatus.OPEN,
        locked=0,
        budget=payload.budget,
        children=0,
        verdicts=(None,) * len(payload.units),
        is_open_ended=payload.is_open_ended,
    )
    amount = payload.budget + sum(job.reserve(i) for i in range(len(job.units)))
    if parent is None:
        debit(state, context.sender, amount, payload.asset)
        add_totals(state, locked=amount)
    else:
        if parent.budget < amount:
            raise Failed(Code.BUDGET_EXCEEDED)
        parent = msgspec.structs.replace(
            parent,
            budget=parent.budget - amount,
            locked=parent.locked - amount,
            children=parent.children + 1,
        )
        save(state, parent)
    save(state, msgspec.structs.replace(job, locked=amount))
    return Effect(events=(Locked(payload.job, amount),))


def refund(state: State, payload: Refund, context: Context) -> Effect:
    """Return everything left after the deadline and close the job; children first.

    Who was bound before the deadline has its time to be paid.

    Of a budget alone nobody earns but its children: its requester has it back at any time.
    """
    job = open_job(state, payload.job)
    is_given_back = not job.units and context.sender == job.requester
    if context.time_ms <= job.deadline_ms and not is_given_back:
        raise Failed(Code.TOO_EARLY)
    if job.children:
        raise Failed(Code.CHILD_OPEN)
    if context.time_ms < waits_until(state, job, context.parameters):
        raise Failed(Code.TOO_EARLY)
    left = job.locked
    return Effect(returned=left, events=close(state, job, JobStatus.REFUNDED))


def load(state: State, job: bytes) -> Job | None:
    """A job, open or closed."""
    return state.read(job_key(job), Job)


def save(state: State, job: Job) -> None:
    """Write a job back."""
    assert 0 <= job.budget <= job.locked
    assert job.is_open or job.locked == 0
    state.write(job_key(job.job), job)


def open_job(state: State, job: bytes) -> Job:
    """A job that can still be settled or refunded.

    Raises:
        Failed: there is none, or it is closed.
    """
    found = load(state, job)
    if found is None:
        raise Failed(Code.UNKNOWN_JOB)
    if not found.is_open:
        raise Failed(Code.JOB_CLOSED)
    return found


def release(state: State, job: Job, *, amount: int) -> Job:
    """Give back part of a job's escrow: to the requester, or to the budget of its parent."""
    assert amount <= job.locked
    if job.parent is None:
        credit(state, job.requester, amount, job.asset)
        add_totals(state, locked=-amount)
    else:
        parent = load(state, job.parent)
        assert parent is not None, "a child without its parent"
        assert parent.is_open, "a parent closed before its child"
        save(
            state,
            msgspec.structs.replace(
                parent, locked=parent.locked + amount, budget=parent.budget + amount
            ),
        )
    return msgspec.structs.replace(job, locked=job.locked - amount)


def close(state: State, job: Job, status: JobStatus) -> tuple[Event, ...]:
    """Empty a job for good; its parent closes with it when that was the last thing open."""
    assert not job.children
    for unit in range(len(job.units)):
        state.delete(flow_key(job.job, unit))
        if job.verdicts[unit] is None:
            unbind(state, job, unit)
    emptied = release(state, job, amount=job.locked)
    save(state, msgspec.structs.replace(emptied, status=status, budget=0))
    note_closed(state, job.job)
    events: tuple[Event, ...] = (Closed(job.job, status is JobStatus.REFUNDED),)
    if job.parent is None:
        return events
    parent = load(state, job.parent)
    assert parent is not None, "a child without its parent"
    parent = msgspec.structs.replace(parent, children=parent.children - 1)
    save(state, parent)
    return events + close_if_done(state, parent)


def close_if_done(state: State, job: Job) -> tuple[Event, ...]:
    """Close a job whose units are all settled and whose children are all closed.

    A budget alone stays: its requester says when it needs no more children.
    """
    if job.children or None in job.verdicts or not job.units:
        return ()
    return close(state, job, JobStatus.SETTLED)


def _check_terms(state: State, payload: Lock, context: Context) -> None:
    if payload.asset != FTNS:
        raise Failed(Code.UNKNOWN_ASSET)
    if load(state, payload.job) is not None:
        raise Failed(Code.JOB_EXISTS)
    if bool(payload.units) != bool(payload.batch_rows) or not (payload.units or payload.budget):
        raise Failed(Code.BAD_UNITS)
    _check_units(state, payload)
    given = sum(share.bps for share in payload.shares) + context.parameters.treasury_bps
    if given > 10_000 or not is_distinct(share.account for share in payload.shares):
        raise Failed(Code.BAD_SHARES)
    ahead = payload.deadline_ms - context.time_ms
    if not 0 < ahead <= context.parameters.escrow_ms_max:
        raise Failed(Code.BAD_DEADLINE)


def _check_units(state: State, payload: Lock) -> None:
    covered: dict[Place, int] = {}  # batches of a place, as bits
    for unit in payload.units:
        named = len(unit.workers)
        if unit.stage >= unit.stages or not is_distinct(unit.workers):
            raise Failed(Code.BAD_UNITS)
        if not unit.needed <= named < 2 * unit.needed or unit.count > unit_batches_max(named):
            raise Failed(Code.BAD_UNITS)
        if unit.first + unit.count > len(payload.batch_rows):
            raise Failed(Code.BAD_UNITS)
        bits = ((1 << unit.count) - 1) << unit.first
        if covered.get(place := place_of(unit), 0) & bits:
            raise Failed(Code.BAD_UNITS)
        covered[place] = covered.get(place, 0) | bits
        if any(is_halted(state, cid) for cid in _objects(state, payload.job, unit)):
            raise Failed(Code.MODEL_HALTED)


def _objects(state: State, job: bytes, unit: Unit) -> tuple[bytes, ...]:
    """What a unit reads: its model, and the dataset its evaluators were drawn for."""
    evaluation = read_evaluation(state, job) if unit.kind == WorkKind.EVALUATE else None
    return (unit.model,) if evaluation is None else (unit.model, evaluation.dataset)


def place_of(unit: Unit) -> Place:
    """What a unit computes of a batch; two units of one job never compute the same."""
    return (unit.kind, unit.model, unit.stages, unit.stage)


def _parent(state: State, parent: bytes, payload: Lock, context: Context) -> Job:
    found = load(state, parent)
    if found is None or not found.is_open:
        raise Failed(Code.PARENT_CLOSED)
    if found.requester != context.sender:
        raise Failed(Code.NOT_REQUESTER)
    if found.depth >= JOB_DEPTH_MAX:
        raise Failed(Code.TOO_DEEP)
    if payload.deadline_ms > found.deadline_ms:
        raise Failed(Code.BAD_DEADLINE)
    return found
