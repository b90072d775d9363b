"""Cases: somebody says a bound result is wrong, a committee computes it again, one side loses.

The committee is drawn by stake among the operators of the block's validators. More than two
thirds of its weight decide; if they do not in time, nobody loses and nobody earns.
Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import msgspec

from prsm.consensus.ledger import pledges
from prsm.consensus.ledger.accounts import add_totals, credit, debit
from prsm.consensus.ledger.audit_records import (
    Case,
    Juror,
    audited_key,
    case_key,
)
from prsm.consensus.ledger.audits import Sampling, drawn_batch, sampled
from prsm.consensus.ledger.context import CaseClosed, CaseOpened, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import open_job
from prsm.consensus.ledger.payout import finish, parts
from prsm.consensus.ledger.records import (
    Committed,
    Job,
    Opinion,
    Verdict,
    WorkFault,
    committed_key,
    fault_key,
)
from prsm.consensus.ledger.reputation import note_fault
from prsm.consensus.ledger.showing import Shown, read_receipt
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.tally import charge, flow_of, rule_on
from prsm.protocol import merkle
from prsm.protocol.limits import JURORS_MAX
from prsm.protocol.receipts import BatchResult
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Dispute, Finding, Judge, is_judged_by
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import ValidatorSet


def dispute(state: State, payload: Dispute, context: Context) -> Effect:
    """The requester stands for it with a deposit that a batch of a receipt is wrong."""
    job = open_job(state, payload.job)
    if context.sender != job.requester:
        raise Failed(Code.NOT_REQUESTER)
    found = sampled(state, job, payload.unit, context)
    if found.has_case:
        raise Failed(Code.CASE_OPEN)
    if found.beacon is None:
        raise Failed(Code.TOO_EARLY)
    if context.time_ms >= found.until_ms:
        raise Failed(Code.TOO_LATE)
    receipt = read_receipt(payload.receipt, job, payload.unit, context)
    digest = sha256(payload.receipt)
    if found.committed.receipt_hash != digest or found.committed.height >= context.height:
        raise Failed(Code.NOT_COMMITTED)
    named = next((batch for batch in receipt.batches if batch.index == payload.batch), None)
    if named is None:
        raise Failed(Code.BAD_RECEIPT)
    deposit = context.parameters.case_deposit
    debit(state, context.sender, deposit)
    add_totals(state, locked=deposit)
    shown = Shown(receipt, digest, found.committed.height)
    case = new_case(job, shown, named, found.beacon, context)
    challenged = msgspec.structs.replace(case, challenger=context.sender, deposit=deposit)
    return _open(state, job, payload.unit, challenged)


def contradict(state: State, job: Job, shown: Shown, found: Sampling, context: Context) -> Effect:
    """An auditor's opinion differs from the receipt that is now shown: its deposit stands for it.

    Args:
        state: with the audit; written to.
        job: open.
        shown: the receipt.
        found: with what the auditor said.
        context: of the settlement.
    """
    unit, audited = shown.receipt.unit, found.audited
    assert audited is not None
    assert found.draw is not None
    assert found.beacon is not None
    named = drawn_batch(shown.receipt, found.draw)
    state.delete(audited_key(job.job, unit))
    case = msgspec.structs.replace(
        new_case(job, shown, named, found.beacon, context),
        challenger=audited.auditor,
        is_auditor=True,
        deposit=audited.deposit,
    )
    return _open(state, job, unit, case)


def judge(state: State, payload: Judge, context: Context) -> Effect:
    """Take one juror's finding; the one that makes it more than two thirds closes the case."""
    job = open_job(state, payload.job)
    case = state.read(case_key(payload.job, payload.unit), Case)
    if case is None:
        raise Failed(Code.UNKNOWN_CASE)
    if context.time_ms >= case.until_ms:
        raise Failed(Code.TOO_LATE)
    juror = next((one for one in case.jurors if one.operator == payload.operator), None)
    if juror is None or not is_judged_by(
        payload,
        juror.consensus,
        chain_id=context.chain_id,
        receipt_hash=case.receipt_hash,
        verifier=context.verifier,
    ):
        raise Failed(Code.NOT_JUROR)
    if juror.finding:
        raise Failed(Code.ALREADY_VOTED)
    jurors = tuple(
        msgspec.structs.replace(one, finding=int(payload.finding)) if one is juror else one
        for one in case.jurors
    )
    case = msgspec.structs.replace(case, jurors=jurors)
    state.write(case_key(payload.job, payload.unit), case)
    outcome = outcome_of(jurors)
    if outcome is None and not all(one.finding for one in jurors):
        return Effect()
    return close_case(state, job, payload.unit, case, outcome, context)


def outcome_of(jurors: Sequence[Juror]) -> Finding | None:
    """What more than two thirds of a committee's weight found; None while or if they do not.

    Who found the same bits and who found them close enough agree that the worker is right; that
    it is EQUAL needs more weight than CLOSE.
    """
    weights = dict.fromkeys(Finding, 0)
    for one in jurors:
        if one.finding:
            weights[Finding(one.finding)] += one.weight
    total = sum(one.weight for one in jurors)
    right = weights[Finding.EQUAL] + weights[Finding.CLOSE]
    if 3 * right > 2 * total:
        is_equal = weights[Finding.EQUAL] > weights[Finding.CLOSE]
        return Finding.EQUAL if is_equal else Finding.CLOSE
    for finding in (Finding.DIFFERENT, Finding.UNSERVED):
        if 3 * weights[finding] > 2 * total:
            return finding
    return None


def close_case(
    state: State, job: Job, unit: int, case: Case, outcome: Finding | None, context: Context
) -> Effect:
    """Give the deposit to whom it is due, slash or pay, and end the unit.

    Args:
        state: written to.
        job: open.
        unit: with the case.
        case: to be closed.
        outcome: None if the committee did not decide: nobody loses, nobody earns.
        context: of the closing transaction.
    """
    is_wrong = outcome is Finding.DIFFERENT
    if outcome is Finding.EQUAL or (outcome is Finding.UNSERVED and not case.is_auditor):
        _lose_deposit(state, job, unit, case)
    slashed = _slash(state, job, unit, case, context) if is_wrong else 0
    gross = case.gross if outcome is not None and not is_wrong else 0
    opinion = Opinion(
        worker=case.worker,
        receipt_hash=case.receipt_hash,
        committed_height=case.committed_height,
        rows=case.rows,
        wrong=int(is_wrong),
        paid=gross - sum(parts(job, gross).values()),
    )
    verdict = Verdict(
        height=context.height,
        decided=case.decided if gross else 0,
        inputs=case.inputs,
        outputs=case.outputs,
        opinions=(opinion,),
        returned=job.reserve(unit) - gross,
        auditor=None,
        reward=0,
    )
    done = finish(state, job, unit, verdict, [gross])
    closed = CaseClosed(job.job, unit, slashed)
    return replace(done, events=(*done.events, closed))


def new_case(job: Job, shown: Shown, named: BatchResult, beacon: bytes, context: Context) -> Case:
    """A case on a batch of a receipt, without a challenger yet.

    Args:
        job: of the receipt.
        shown: the receipt.
        named: the batch of it.
        beacon: drawn after it was bound: no side chooses the committee.
        context: of the opening transaction.
    """
    unit = shown.receipt.unit
    receipt, spec = shown.receipt, job.units[unit]
    ruling = rule_on([receipt], (), spec)
    inputs, outputs = flow_of(ruling, spec)
    jurors = draw_jurors(
        context.validators,
        sha256(b"prsm1 committee", beacon, shown.digest),
        apart={receipt.worker, job.requester},
    )
    return Case(
        worker=receipt.worker,
        receipt_hash=shown.digest,
        committed_height=shown.committed_height,
        class_id=receipt.class_id,
        batch=named,
        rows=sum(batch.rows for batch in receipt.batches),
        gross=charge(receipt, spec, ruling.worths[0].rows),
        decided=len(ruling.right),
        inputs=merkle.root(inputs),
        outputs=merkle.root(outputs),
        challenger=receipt.worker,
        is_auditor=False,
        deposit=0,
        jurors=jurors,
        opened_height=context.height,
        until_ms=context.time_ms + context.parameters.case_window_ms,
    )


def draw_jurors(validators: ValidatorSet, seed: bytes, *, apart: set[bytes]) -> tuple[Juror, ...]:
    """Draw a committee by stake, without putting one back; the parties are no jurors."""
    left = [one for one in validators.validators if one.operator not in apart]
    drawn: list[Juror] = []
    while left and len(drawn) < JURORS_MAX:
        ticket = int.from_bytes(sha256(seed, bytes([len(drawn)])), "big")
        ticket %= sum(one.stake for one in left)
        ends = accumulate(one.stake for one in left)
        one = left.pop(next(index for index, end in enumerate(ends) if ticket < end))
        drawn.append(Juror(one.operator, one.consensus, one.stake, 0))
    return tuple(drawn)


def _open(state: State, job: Job, unit: int, case: Case) -> Effect:
    state.write(case_key(job.job, unit), case)
    return Effect(events=(CaseOpened(job.job, unit),))


def _lose_deposit(state: State, job: Job, unit: int, case: Case) -> None:
    """The challenger was wrong: the worker gets what it stood for."""
    if case.is_auditor:
        pledges.forfeit(state, case.challenger, case.deposit, to=case.worker, share_bps=10_000)
    else:
        credit(state, case.worker, case.deposit)
        add_totals(state, locked=-case.deposit)
    state.delete(case_key(job.job, unit))


def _slash(state: State, job: Job, unit: int, case: Case, context: Context) -> int:
    """Take the worker's bond, and write down what it signed; returns the bond."""
    key = committed_key(job.job, unit, case.worker)
    committed = state.read(key, Committed)
    assert committed is not None, "a case without its commitment"
    share_bps = pledges.CHALLENGER_BPS
    pledges.forfeit(state, case.worker, committed.bond, to=case.challenger, share_bps=share_bps)
    state.write(key, msgspec.structs.replace(committed, bond=0))
    note_fault(state, case.worker)
    state.write(
        fault_key(case.worker, job.job, unit),
        WorkFault(
            worker=case.worker,
            job=job.job,
            unit=unit,
            batches=(case.batch.index,),
            receipt_hash=case.receipt_hash,
            height=context.height,
        ),
    )
    return committed.bond
