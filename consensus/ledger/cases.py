"""Cases: somebody says a bound result is wrong, a committee computes it again, one side loses.

The committee is drawn by stake among the operators of the block's validators; its findings are
sealed before any is shown (`seals`). More than two thirds of its weight decide, and who found so
is paid out of what the other side loses. If they do not in time, nobody loses: the worker is paid
unless most of the weight that spoke is against it.
Source: docs/spec/work.md, "Audits".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

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
from prsm.consensus.ledger.seals import case_of, has_all_spoken, juror_of, opened, seals_until
from prsm.consensus.ledger.showing import Shown, is_bound, read_receipt
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.tally import charge, flow_of, rule_on
from prsm.protocol import merkle
from prsm.protocol.genesis import TREASURY
from prsm.protocol.limits import JURORS_MAX
from prsm.protocol.receipts import BatchResult
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.audits import Dispute, Finding, Judge
from prsm.protocol.transactions.results import Code
from prsm.protocol.validators import ValidatorSet

CHALLENGER_BPS: Final = 7_000  # of the bond a wrong result loses
JURORS_BPS: Final = 3_000  # of the deposit, and at most of what the losing side loses
assert CHALLENGER_BPS + JURORS_BPS <= 10_000
_RIGHT: Final = frozenset({Finding.EQUAL, Finding.CLOSE})  # both say that the worker is right


@dataclass(frozen=True, slots=True)
class _Challenge:
    """Who says that which batch of a receipt is wrong, and what it stands for."""

    batch: BatchResult
    beacon: bytes  # drawn after the receipt was bound: no side chooses the committee
    account: bytes
    deposit: int  # of its pledge if it is an auditor, else of its balance
    is_auditor: bool


def dispute(state: State, payload: Dispute, context: Context) -> Effect:
    """The requester stands for it with a deposit that a batch of a receipt is wrong."""
    job = open_job(state, payload.job)
    if context.sender != job.requester:
        raise Failed(Code.NOT_REQUESTER)
    found = sampled(state, job, payload.unit, context)
    if found.case is not None:
        raise Failed(Code.CASE_OPEN)
    if found.beacon is None:
        raise Failed(Code.TOO_EARLY)
    if context.time_ms >= found.until_ms:
        raise Failed(Code.TOO_LATE)
    receipt = read_receipt(payload.receipt, job, payload.unit, context)
    digest = sha256(payload.receipt)
    if not is_bound(found.committed, job, receipt, digest, context):
        raise Failed(Code.NOT_COMMITTED)
    named = next((batch for batch in receipt.batches if batch.index == payload.batch), None)
    if named is None:
        raise Failed(Code.BAD_RECEIPT)
    deposit = context.parameters.case_deposit
    debit(state, context.sender, deposit)
    add_totals(state, locked=deposit)
    challenge = _Challenge(named, found.beacon, context.sender, deposit, is_auditor=False)
    shown = Shown(receipt, digest, found.committed.height)
    return _open(state, job, shown, challenge, context)


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
    challenge = _Challenge(named, found.beacon, audited.auditor, audited.deposit, is_auditor=True)
    return _open(state, job, shown, challenge, context)


def judge(state: State, payload: Judge, context: Context) -> Effect:
    """Take what a juror sealed; the finding that makes it more than two thirds closes the case."""
    job = open_job(state, payload.job)
    case = case_of(state, payload)
    if context.time_ms >= case.until_ms:
        raise Failed(Code.TOO_LATE)
    case = opened(case, juror_of(case, payload, context), payload, time_ms=context.time_ms)
    state.write(case_key(payload.job, payload.unit), case)
    if outcome_of(case.jurors) is None and not has_all_spoken(case):
        return Effect()
    return close_case(state, job, payload.unit, case, context)


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
    right = sum(weights[finding] for finding in _RIGHT)
    if 3 * right > 2 * total:
        is_equal = weights[Finding.EQUAL] > weights[Finding.CLOSE]
        return Finding.EQUAL if is_equal else Finding.CLOSE
    for finding in (Finding.DIFFERENT, Finding.UNSERVED):
        if 3 * weights[finding] > 2 * total:
            return finding
    return None


def is_outweighed(jurors: Sequence[Juror]) -> bool:
    """Of those who spoke, has more weight found the worker wrong than anything else?"""
    spoke = sum(one.weight for one in jurors if one.finding)
    against = sum(one.weight for one in jurors if one.finding == Finding.DIFFERENT)
    return 2 * against > spoke


def close_case(state: State, job: Job, unit: int, case: Case, context: Context) -> Effect:
    """Slash or pay, pay the jurors who found so, and end the unit.

    If the committee did not decide nobody loses, and the worker is paid unless it is outweighed.

    Args:
        state: written to.
        job: open.
        unit: with the case.
        case: decided, heard to the end, or over.
        context: of the closing transaction.
    """
    outcome = outcome_of(case.jurors)
    is_wrong = outcome is Finding.DIFFERENT
    is_paid = not (is_wrong or (outcome is None and is_outweighed(case.jurors)))
    gross = case.gross if is_paid else 0
    slashed = _slash(state, job, unit, case, context) if is_wrong else 0
    if loses := _is_challenger_wrong(case, outcome):
        _lose_deposit(state, job, unit, case, context)
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
    if outcome is not None and not is_wrong and not loses:
        debit(state, TREASURY, _pay_jurors(state, case, parts(job, gross)[TREASURY]))
    closed = CaseClosed(job.job, unit, slashed)
    return replace(done, events=(*done.events, closed))


def draw_jurors(validators: ValidatorSet, seed: bytes, *, apart: set[bytes]) -> tuple[Juror, ...]:
    """Draw a committee by stake, without putting one back; the parties are no jurors."""
    left = [one for one in validators.validators if one.operator not in apart]
    drawn: list[Juror] = []
    while left and len(drawn) < JURORS_MAX:
        ticket = int.from_bytes(sha256(seed, bytes([len(drawn)])), "big")
        ticket %= sum(one.stake for one in left)
        ends = accumulate(one.stake for one in left)
        one = left.pop(next(index for index, end in enumerate(ends) if ticket < end))
        drawn.append(Juror(one.operator, one.consensus, one.stake, 0, None))
    return tuple(drawn)


def _open(state: State, job: Job, shown: Shown, challenge: _Challenge, context: Context) -> Effect:
    """Write the case on a batch of a receipt, with its committee."""
    receipt = shown.receipt
    spec = job.units[receipt.unit]
    ruling = rule_on([receipt], (), spec)
    inputs, outputs = flow_of(ruling, spec)
    jurors = draw_jurors(
        context.validators,
        sha256(b"prsm1 committee", challenge.beacon, shown.digest),
        apart={receipt.worker, job.requester, challenge.account},
    )
    case = Case(
        worker=receipt.worker,
        receipt_hash=shown.digest,
        committed_height=shown.committed_height,
        class_id=receipt.class_id,
        batch=challenge.batch,
        rows=sum(batch.rows for batch in receipt.batches),
        gross=charge(receipt, spec, ruling.worths[0].rows),
        decided=len(ruling.right),
        inputs=merkle.root(inputs),
        outputs=merkle.root(outputs),
        challenger=challenge.account,
        is_auditor=challenge.is_auditor,
        deposit=challenge.deposit,
        jurors=jurors,
        opened_height=context.height,
        opens_ms=seals_until(context),
        until_ms=context.time_ms + context.parameters.case_window_ms,
    )
    state.write(case_key(job.job, receipt.unit), case)
    return Effect(events=(CaseOpened(job.job, receipt.unit),))


def _is_challenger_wrong(case: Case, outcome: Finding | None) -> bool:
    """Was the worker right, or did the requester keep the inputs back in its own dispute?"""
    return outcome is Finding.EQUAL or (outcome is Finding.UNSERVED and not case.is_auditor)


def _lose_deposit(state: State, job: Job, unit: int, case: Case, context: Context) -> None:
    """What the challenger stood for goes to the jurors and to the worker."""
    if case.is_auditor:
        pledges.forfeit(state, case.challenger, case.deposit, context)
    else:
        add_totals(state, locked=-case.deposit)
    state.delete(case_key(job.job, unit))
    spent = _pay_jurors(state, case, case.deposit)
    credit(state, case.worker, case.deposit - spent)


def _slash(state: State, job: Job, unit: int, case: Case, context: Context) -> int:
    """Take the worker's bond, and write down what it signed; returns the bond."""
    key = committed_key(job.job, unit, case.worker)
    committed = state.read(key, Committed)
    assert committed is not None, "a case without its commitment"
    bond = committed.bond
    pledges.forfeit(state, case.worker, bond, context)
    state.write(key, msgspec.structs.replace(committed, bond=0))
    prize = 0 if case.challenger == case.worker else bond * CHALLENGER_BPS // 10_000
    spent = _pay_jurors(state, case, _jurors_part(bond))
    credit(state, case.challenger, prize)
    credit(state, TREASURY, bond - prize - spent)
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
    return bond


def _pay_jurors(state: State, case: Case, most: int) -> int:
    """Pay every juror who found as the committee did; returns what all of them got.

    What one of them gets hangs neither on who else spoke nor on how much a liar had at stake, as
    long as what the other side loses suffices.
    """
    outcome = outcome_of(case.jurors)
    said = _RIGHT if outcome in _RIGHT else {outcome}
    heard = [one for one in case.jurors if one.finding in said]
    each = min(_jurors_part(case.deposit), most) // len(case.jurors)
    for one in heard:
        credit(state, one.operator, each)
    return each * len(heard)


def _jurors_part(amount: int) -> int:
    return amount * JURORS_BPS // 10_000
