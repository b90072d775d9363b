"""Paid work: bind to a receipt before it is shown, then pay on two equal opinions.

Right is, batch by batch, the (input root, output root) two distinct workers hold. Nobody's
consent is needed: anyone may send the receipts. Source: docs/spec/work.md, "Settlement".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.context import DONE, Context, Effect, Settled
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.escrow import close_if_done, open_job, release, save
from prsm.consensus.ledger.records import (
    Committed,
    Job,
    Opinion,
    Verdict,
    WorkFault,
    committed_key,
    fault_key,
)
from prsm.consensus.ledger.state import State
from prsm.protocol import merkle
from prsm.protocol.codec import decode
from prsm.protocol.errors import WireError
from prsm.protocol.genesis import TREASURY
from prsm.protocol.ids import Digest
from prsm.protocol.limits import TRANSACTION_BYTES_MAX
from prsm.protocol.receipts import WorkReceipt, is_signed
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.payloads import Commit, Settle
from prsm.protocol.transactions.results import Code, Payment

Pair = tuple[bytes, bytes]  # input root, output root


@dataclass(frozen=True, slots=True)
class Shown:
    """A receipt as shown for settlement, with the hash it was committed by."""

    receipt: WorkReceipt
    digest: Digest


def commit(state: State, payload: Commit, context: Context) -> Effect:
    """Bind the sender to receipts nobody has seen; each counts from the next block on."""
    for row in payload.rows:
        job = open_job(state, row.job)
        if row.unit >= len(job.units):
            raise Failed(Code.UNKNOWN_UNIT)
        if job.verdicts[row.unit] is not None:
            raise Failed(Code.UNIT_SETTLED)
        if context.sender not in job.units[row.unit].workers:
            raise Failed(Code.NOT_WORKER)
        key = committed_key(context.sender, row.receipt_hash)
        if state.get(key) is not None:
            raise Failed(Code.ALREADY_COMMITTED)
        state.write(key, Committed(job=row.job, unit=row.unit, height=context.height))
    return DONE


def settle(state: State, payload: Settle, context: Context) -> Effect:
    """Tally the receipts of one unit, pay who was right, note who was not, return the rest."""
    job = open_job(state, payload.job)
    if payload.unit >= len(job.units):
        raise Failed(Code.UNKNOWN_UNIT)
    if job.verdicts[payload.unit] is not None:
        raise Failed(Code.UNIT_SETTLED)
    shown = _read_receipts(state, job, payload, context)
    right = tally([entry.receipt for entry in shown], len(job.batch_rows))
    if right is None:
        raise Failed(Code.UNDECIDED)
    inputs = merkle.root([pair[0] for pair in right])
    outputs = merkle.root([pair[1] for pair in right])
    if not _is_chained(job, payload.unit, inputs=inputs, outputs=outputs):
        raise Failed(Code.CHAIN_BROKEN)
    opinions, gross = _judge_opinions(state, job, shown, right, context)
    paid = split(job, opinions, gross)
    spent = sum(gross)
    for payment in paid:
        credit(state, payment.account, payment.amount, job.asset)
    add_totals(state, locked=-spent)
    rest = job.reserve(payload.unit) - spent
    verdict = Verdict(
        height=context.height, inputs=inputs, outputs=outputs, opinions=opinions, returned=rest
    )
    job = msgspec.structs.replace(
        job,
        locked=job.locked - spent,
        verdicts=(*job.verdicts[: payload.unit], verdict, *job.verdicts[payload.unit + 1 :]),
    )
    job = release(state, job, amount=rest)
    save(state, job)
    left = job.locked
    closed = close_if_done(state, job)
    faulty = tuple(opinion.worker for opinion in opinions if opinion.wrong)
    return Effect(
        paid=paid,
        returned=rest + (left if closed else 0),
        detail=len(right),
        events=(Settled(job.job, payload.unit, paid, faulty), *closed),
    )


def tally(receipts: Sequence[WorkReceipt], batches: int) -> tuple[Pair, ...] | None:
    """The right pair of every batch: the one two distinct workers hold.

    Args:
        receipts: one a worker, at most three, so at most one pair of a batch has two holders.
        batches: of the job.

    Returns:
        One pair a batch, or None while a batch is undecided.
    """
    held: list[Counter[Pair]] = [Counter() for _ in range(batches)]
    for receipt in receipts:
        for batch in receipt.batches:
            held[batch.index][batch.input_root, batch.output_root] += 1
    agreed = [next((pair for pair, n in votes.items() if n >= 2), None) for votes in held]
    decided = tuple(pair for pair in agreed if pair is not None)
    return decided if len(decided) == batches else None


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


def _read_receipts(state: State, job: Job, payload: Settle, context: Context) -> list[Shown]:
    shown = [_read_receipt(raw, job, payload.unit, context) for raw in payload.receipts]
    if len({entry.receipt.worker for entry in shown}) != len(shown):
        raise Failed(Code.WORKER_TWICE)
    for entry in shown:
        key = committed_key(entry.receipt.worker, entry.digest)
        found = state.read(key, Committed)
        if found is None or (found.job, found.unit) != (job.job, payload.unit):
            raise Failed(Code.NOT_COMMITTED)
        if found.height >= context.height:
            raise Failed(Code.NOT_COMMITTED)
    return shown


def _read_receipt(raw: bytes, job: Job, unit: int, context: Context) -> Shown:
    try:
        receipt = decode(raw, WorkReceipt, size_max=TRANSACTION_BYTES_MAX)
    except WireError as error:
        raise Failed(Code.BAD_RECEIPT) from error
    spec = job.units[unit]
    place = (receipt.chain_id, receipt.job, receipt.unit)
    if place != (context.chain_id, job.job, unit) or receipt.worker not in spec.workers:
        raise Failed(Code.FOREIGN_RECEIPT)
    terms = (receipt.kind, receipt.model, receipt.stages, receipt.stage, receipt.price_per_row)
    if terms != (spec.kind, spec.model, spec.stages, spec.stage, spec.price_per_row):
        raise Failed(Code.BAD_RECEIPT)
    previous = -1
    for batch in receipt.batches:
        if not previous < batch.index < len(job.batch_rows):
            raise Failed(Code.BAD_RECEIPT)
        if batch.rows != job.batch_rows[batch.index]:
            raise Failed(Code.BAD_RECEIPT)
        previous = batch.index
    if not is_signed(receipt, context.verifier):
        raise Failed(Code.BAD_RECEIPT_SIGNATURE)
    return Shown(receipt, sha256(raw))


def _is_chained(job: Job, unit: int, *, inputs: bytes, outputs: bytes) -> bool:
    """Do the outputs of each settled stage go unchanged into the settled stage after it?"""
    spec = job.units[unit]
    for other, verdict in zip(job.units, job.verdicts, strict=True):
        if verdict is None or (other.kind, other.model, other.stages) != (
            spec.kind,
            spec.model,
            spec.stages,
        ):
            continue
        if other.stage == spec.stage - 1 and verdict.outputs != inputs:
            return False
        if other.stage == spec.stage + 1 and verdict.inputs != outputs:
            return False
    return True


def _judge_opinions(
    state: State, job: Job, shown: Sequence[Shown], right: tuple[Pair, ...], context: Context
) -> tuple[tuple[Opinion, ...], list[int]]:
    """Compare each receipt with the right pairs; a wrong one is paid nothing and recorded."""
    opinions, gross = [], []
    for entry in shown:
        receipt = entry.receipt
        rows = sum(batch.rows for batch in receipt.batches)
        wrong = tuple(
            batch.index
            for batch in receipt.batches
            if (batch.input_root, batch.output_root) != right[batch.index]
        )
        amount = 0 if wrong else rows * receipt.price_per_row
        gross.append(amount)
        opinions.append(
            Opinion(
                worker=receipt.worker,
                receipt_hash=entry.digest,
                rows=rows,
                wrong=len(wrong),
                paid=amount - sum(_parts(job, amount).values()),
            )
        )
        if wrong:
            state.write(
                fault_key(receipt.worker, job.job, receipt.unit),
                WorkFault(
                    worker=receipt.worker,
                    job=job.job,
                    unit=receipt.unit,
                    batches=wrong,
                    receipt_hash=entry.digest,
                    height=context.height,
                ),
            )
    return tuple(opinions), gross
