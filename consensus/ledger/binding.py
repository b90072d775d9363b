"""A worker bound to its receipt: what it holds until the unit is settled, and how long that may be.

Knows commitments, bonds, beacons, audits and cases only as things that are begun and ended.
Source: docs/spec/work.md, "Audits".
"""

from prsm.consensus.ledger import beacons, pledges
from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.audit_records import Audited, Case, audited_key, case_key
from prsm.consensus.ledger.context import Context
from prsm.consensus.ledger.records import Committed, Job, committed_key
from prsm.consensus.ledger.reputation import audit_bps, standing
from prsm.consensus.ledger.state import State
from prsm.protocol.genesis import Parameters
from prsm.protocol.transactions.payloads import CommitRow


def bind(state: State, job: Job, row: CommitRow, context: Context) -> None:
    """Write the sender's commitment; work nobody compares holds a bond and waits for its draw.

    Raises:
        Failed: NO_PLEDGE, its free pledge is below the bond.
    """
    unit, bond, rate = row.unit, 0, 0
    if job.is_sampled(unit):
        parameters = context.parameters
        reserve = job.reserve(unit)
        bond = parameters.audit_bond_multiple * reserve
        found = standing(state, context.sender)
        rate = audit_bps(found, parameters.audit_bps, reserve=reserve)
        pledges.hold(state, context.sender, bond)
        beacons.want(state, context.height)
    state.write(
        committed_key(job.job, unit, context.sender),
        Committed(
            receipt_hash=row.receipt_hash,
            height=context.height,
            time_ms=context.time_ms,
            bond=bond,
            audit_bps=rate,
            batches=row.batches,
        ),
    )


def unbind(state: State, job: Job, unit: int) -> None:
    """Nobody can show a receipt of the unit any more: everything held for it goes back."""
    for worker in job.units[unit].workers:
        found = state.read(committed_key(job.job, unit, worker), Committed)
        if found is None:
            continue
        if job.is_sampled(unit):
            pledges.free(state, worker, found.bond)
            beacons.forget(state, found.height)
            drop_audit(state, job, unit)
            drop_case(state, job, unit)
        state.delete(committed_key(job.job, unit, worker))


def drop_audit(state: State, job: Job, unit: int) -> None:
    """End an audit; the auditor's deposit is free."""
    audited = state.read(audited_key(job.job, unit), Audited)
    if audited is not None:
        pledges.free(state, audited.auditor, audited.deposit)
        state.delete(audited_key(job.job, unit))


def drop_case(state: State, job: Job, unit: int) -> None:
    """End a case; the challenger has its deposit back."""
    case = state.read(case_key(job.job, unit), Case)
    if case is None:
        return
    if case.is_auditor:
        pledges.free(state, case.challenger, case.deposit)
    else:
        credit(state, case.challenger, case.deposit)
        add_totals(state, locked=-case.deposit)
    state.delete(case_key(job.job, unit))


def waits_until(state: State, job: Job, parameters: Parameters) -> int:
    """Block time before which a refund would take from a worker that is still to be paid."""
    until = 0
    for unit, verdict in enumerate(job.verdicts):
        if verdict is not None:
            continue
        case = state.read(case_key(job.job, unit), Case)
        until = max(until, 0 if case is None else case.until_ms + parameters.settle_grace_ms)
        wait = parameters.settle_grace_ms
        wait += parameters.audit_window_ms if job.is_sampled(unit) else 0
        for worker in job.units[unit].workers:
            found = state.read(committed_key(job.job, unit, worker), Committed)
            if found is not None and found.time_ms <= job.deadline_ms:
                until = max(until, found.time_ms + wait)
    return until
