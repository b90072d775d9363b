"""Findings of a committee, sealed before any is shown: no juror can wait and repeat another's.

A juror first puts the hash of its signed finding on the ledger. Findings are shown once all have
sealed or the time for sealing is over, and count only as they were sealed. Must not know what a
verdict is, nor who is paid. Source: docs/spec/work.md, "Audits".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.audit_records import Case, Juror, case_key
from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import open_job
from prsm.consensus.ledger.state import State
from prsm.protocol.transactions.audits import Judge, Seal, is_signed_by_juror, sealed
from prsm.protocol.transactions.results import Code

# Computing takes most of a case's window; to show what was sealed takes a block or two.
SEALING_QUARTERS: Final = 3


def seal(state: State, payload: Seal, context: Context) -> Effect:
    """Bind a juror of a case to a finding nobody sees yet, once."""
    open_job(state, payload.job)
    case = case_of(state, payload)
    if context.time_ms >= case.opens_ms:
        raise Failed(Code.TOO_LATE)
    juror = juror_of(case, payload, context)
    if juror.seal is not None:
        raise Failed(Code.ALREADY_VOTED)
    bound = msgspec.structs.replace(juror, seal=payload.digest)
    state.write(case_key(payload.job, payload.unit), _with(case, juror, bound))
    return DONE


def case_of(state: State, paper: Seal | Judge) -> Case:
    """The case a juror's paper is about.

    Raises:
        Failed: UNKNOWN_CASE.
    """
    case = state.read(case_key(paper.job, paper.unit), Case)
    if case is None:
        raise Failed(Code.UNKNOWN_CASE)
    return case


def juror_of(case: Case, paper: Seal | Judge, context: Context) -> Juror:
    """The juror who signed a paper of this case.

    Raises:
        Failed: NOT_JUROR, whoever it names sits not on the case or did not sign it.
    """
    juror = next((one for one in case.jurors if one.operator == paper.operator), None)
    if juror is None or not is_signed_by_juror(
        paper,
        juror.consensus,
        chain_id=context.chain_id,
        receipt_hash=case.receipt_hash,
        verifier=context.verifier,
    ):
        raise Failed(Code.NOT_JUROR)
    return juror


def opened(case: Case, juror: Juror, judge: Judge, *, time_ms: int) -> Case:
    """The case with a finding that its juror sealed.

    Args:
        case: open, before its end.
        juror: of it, whose signature the finding has.
        judge: the finding.
        time_ms: of the block.

    Raises:
        Failed: TOO_EARLY, others may still seal; NOT_SEALED, it is not what the juror sealed;
            ALREADY_VOTED.
    """
    if not may_open(case, time_ms=time_ms):
        raise Failed(Code.TOO_EARLY)
    if juror.finding:
        raise Failed(Code.ALREADY_VOTED)
    if juror.seal != sealed(judge):
        raise Failed(Code.NOT_SEALED)
    return _with(case, juror, msgspec.structs.replace(juror, finding=int(judge.finding)))


def may_open(case: Case, *, time_ms: int) -> bool:
    """Can nobody seal any more, so that findings may be shown?"""
    return time_ms >= case.opens_ms or all(one.seal is not None for one in case.jurors)


def has_all_spoken(case: Case) -> bool:
    """Has every juror that sealed shown its finding? Asked once findings may be shown."""
    return all(one.finding for one in case.jurors if one.seal is not None)


def seals_until(context: Context) -> int:
    """Block time at which the sealing of a case ends that is opened now."""
    return context.time_ms + context.parameters.case_window_ms * SEALING_QUARTERS // 4


def _with(case: Case, old: Juror, new: Juror) -> Case:
    jurors = tuple(new if one is old else one for one in case.jurors)
    return msgspec.structs.replace(case, jurors=jurors)
