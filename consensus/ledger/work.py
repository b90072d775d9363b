"""Paid work: bind to a receipt before it is shown, then pay for what enough workers hold.

Nobody's consent is needed: anyone may send the receipts. What is right is decided in `tally`,
what a receipt must be in `showing`. Source: docs/spec/work.md, "Settlement".
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.context import DONE, Context, Effect, Settled
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import (
    close_if_done,
    forget_commitments,
    open_job,
    place_of,
    release,
    save,
)
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
from prsm.consensus.ledger.showing import Shown, check_left_out, read_feeds, read_receipts
from prsm.consensus.ledger.state import State
from prsm.consensus.ledger.tally import Ruling, charge, rule_on
from prsm.protocol import merkle
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.payloads import Commit, CommitRow, Settle, Unit
from prsm.protocol.transactions.results import Code, Payment


def commit(state: State, payload: Commit, context: Context) -> Effect:
    """Bind the sender to receipts nobody has seen; each counts from the next block on."""
    for row in payload.rows:
        job = open_job(state, row.job)
        spec = unsettled(job, row.unit)
        if context.sender not in spec.workers:
            raise Failed(Code.NOT_WORKER)
        if not _may_commit(state, row, spec, context.sender):
            raise Failed(Code.ALREADY_COMMITTED)
        state.write(
            committed_key(row.job, row.unit, context.sender),
            Committed(
                receipt_hash=row.receipt_hash, height=context.height, time_ms=context.time_ms
            ),
        )
    return DONE


def settle(state: State, payload: Settle, context: Context) -> Effect:
    """Tally the receipts of one unit, pay who was right, note who was not, return the rest."""
    job = open_job(state, payload.job)
    spec = unsettled(job, payload.unit)
    shown = read_receipts(state, job, payload, context)
    feeds = read_feeds(job, payload, context)
    receipts = [entry.receipt for entry in shown]
    ruling = rule_on(receipts, feeds, spec)
    if not ruling.torn and not _is_enough(ruling, job):
        raise Failed(Code.UNDECIDED)
    check_left_out(state, job, payload.unit, shown, context)
    flow = _flow(ruling, spec)
    if not ruling.torn and not _is_chained(state, job, payload.unit, flow):
        raise Failed(Code.CHAIN_BROKEN)
    gross = [
        0 if worth.wrong else charge(entry.receipt, spec, worth.rows)
        for entry, worth in zip(shown, ruling.worths, strict=True)
    ]
    _note_faults(state, shown, ruling, context)
    return _pay(state, job, payload.unit, _verdict(job, shown, ruling, gross, context), gross, flow)


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


def split(job: Job, opinions: Sequence[Opinion], gross: Sequence[int]) -> tuple[Payment, ...]:
    """Who gets what: each worker its part, the treasury and the shares theirs, by account."""
    amounts: Counter[bytes] = Counter()
    for opinion, amount in zip(opinions, gross, strict=True):
        parts = _parts(job, amount)
        assert opinion.paid + sum(parts.values()) == amount
        amounts[opinion.worker] += opinion.paid
        amounts.update(parts)
    return tuple(
        Payment(account=account, amount=amount)
        for account, amount in sorted(amounts.items())
        if amount
    )


def _parts(job: Job, amount: int) -> Counter[bytes]:
    """The treasury's part and the shares, each rounded down: the worker keeps the rounding."""
    parts: Counter[bytes] = Counter({TREASURY: amount * job.treasury_bps // 10_000})
    for share in job.shares:
        parts[share.account] += amount * share.bps // 10_000
    return parts


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


def _flow(ruling: Ruling, spec: Unit) -> Flow:
    stated = [ruling.right.get(index) for index in spec.batches]
    return Flow(
        inputs=tuple(b"" if one is None else one[1] for one in stated),
        outputs=tuple(b"" if one is None else one[3] for one in stated),
    )


def _is_chained(state: State, job: Job, unit: int, flow: Flow) -> bool:
    """Do the outputs of each settled stage go unchanged into the settled stage after it?"""
    spec = job.units[unit]
    for other, step in _beside(job, unit):
        found = state.read(flow_key(job.job, other), Flow)
        if found is None:
            continue
        theirs = job.units[other]
        for index in _common(spec, theirs):
            mine, its = index - spec.first, index - theirs.first
            before, after = (
                (found.outputs[its], flow.inputs[mine])
                if step < 0
                else (flow.outputs[mine], found.inputs[its])
            )
            if before and after and before != after:
                return False
    return True


def _beside(job: Job, unit: int) -> list[tuple[int, int]]:
    """Units of the stages before (-1) and after (+1) that share a batch with this one."""
    kind, model, stages, stage = place_of(job.units[unit])
    places = {(kind, model, stages, stage - 1): -1, (kind, model, stages, stage + 1): 1}
    return [
        (index, places[place_of(other)])
        for index, other in enumerate(job.units)
        if place_of(other) in places and _common(job.units[unit], other)
    ]


def _common(one: Unit, other: Unit) -> range:
    first = max(one.first, other.first)
    return range(first, min(one.first + one.count, other.first + other.count))


def _verdict(
    job: Job, shown: Sequence[Shown], ruling: Ruling, gross: Sequence[int], context: Context
) -> Verdict:
    opinions = tuple(
        Opinion(
            worker=entry.receipt.worker,
            receipt_hash=entry.digest,
            committed_height=entry.committed_height,
            rows=sum(batch.rows for batch in entry.receipt.batches),
            wrong=len(worth.wrong),
            paid=amount - sum(_parts(job, amount).values()),
        )
        for entry, worth, amount in zip(shown, ruling.worths, gross, strict=True)
    )
    flow = _flow(ruling, job.units[shown[0].receipt.unit])
    return Verdict(
        height=context.height,
        decided=len(ruling.right),
        inputs=merkle.root(flow.inputs),
        outputs=merkle.root(flow.outputs),
        opinions=opinions,
        returned=job.reserve(shown[0].receipt.unit) - sum(gross),
    )


def _note_faults(state: State, shown: Sequence[Shown], ruling: Ruling, context: Context) -> None:
    for entry, worth in zip(shown, ruling.worths, strict=True):
        if worth.lies:
            receipt = entry.receipt
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


def _pay(
    state: State, job: Job, unit: int, verdict: Verdict, gross: Sequence[int], flow: Flow
) -> Effect:
    """Move the money of a unit and write its verdict; the job closes if it was the last."""
    paid, spent = split(job, verdict.opinions, gross), sum(gross)
    for payment in paid:
        credit(state, payment.account, payment.amount, job.asset)
    add_totals(state, locked=-spent)
    job = msgspec.structs.replace(
        job,
        locked=job.locked - spent,
        verdicts=(*job.verdicts[:unit], verdict, *job.verdicts[unit + 1 :]),
    )
    forget_commitments(state, job.job, unit, job.units[unit])
    if any(job.verdicts[other] is None for other, _ in _beside(job, unit)):
        state.write(flow_key(job.job, unit), flow)
    job = release(state, job, amount=verdict.returned)
    save(state, job)
    left = job.locked
    closed = close_if_done(state, job)
    faulty = tuple(opinion.worker for opinion in verdict.opinions if opinion.wrong)
    return Effect(
        paid=paid,
        returned=verdict.returned + (left if closed else 0),
        detail=verdict.decided,
        events=(Settled(job.job, unit, paid, faulty), *closed),
    )
