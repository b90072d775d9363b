"""A unit is over: who gets what of its reserve, and what becomes of its job.

Must not know why the verdict is what it is. Source: docs/spec/work.md, "Settlement".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit
from prsm.consensus.ledger.binding import unbind
from prsm.consensus.ledger.context import Effect, Settled
from prsm.consensus.ledger.escrow import close_if_done, release, save
from prsm.consensus.ledger.records import Job, Opinion, Verdict
from prsm.consensus.ledger.reputation import note_settled
from prsm.consensus.ledger.state import State
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.results import Payment


@dataclass(frozen=True, slots=True)
class Reward:
    """What an auditor gets at most, out of the treasury's part."""

    auditor: bytes
    amount_max: int


def finish(
    state: State,
    job: Job,
    unit: int,
    verdict: Verdict,
    gross: Sequence[int],
    reward: Reward | None = None,
) -> Effect:
    """Move the money of a unit and write its verdict; the job closes if it was the last.

    Args:
        state: written to.
        job: open.
        unit: without a verdict.
        verdict: whose `returned` is the reserve without what is paid.
        gross: micro-FTNS of each opinion, before the parts of others.
        reward: for an audit that found nothing.
    """
    paid, spent = split(job, verdict.opinions, gross), sum(gross)
    if reward is not None:
        paid, verdict = _rewarded(paid, verdict, reward)
    for payment in paid:
        credit(state, payment.account, payment.amount, job.asset)
    add_totals(state, locked=-spent)
    for opinion, amount in zip(verdict.opinions, gross, strict=True):
        if opinion.paid:
            alone = amount if job.is_sampled(unit) else None
            note_settled(state, opinion.worker, alone=alone)
    unbind(state, job, unit)
    job = msgspec.structs.replace(
        job,
        locked=job.locked - spent,
        verdicts=(*job.verdicts[:unit], verdict, *job.verdicts[unit + 1 :]),
    )
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


def split(job: Job, opinions: Sequence[Opinion], gross: Sequence[int]) -> tuple[Payment, ...]:
    """Who gets what: each worker its part, the treasury and the shares theirs, by account."""
    amounts: Counter[bytes] = Counter()
    for opinion, amount in zip(opinions, gross, strict=True):
        others = parts(job, amount)
        assert opinion.paid + sum(others.values()) == amount
        amounts[opinion.worker] += opinion.paid
        amounts.update(others)
    return _listed(amounts)


def parts(job: Job, amount: int) -> Counter[bytes]:
    """The treasury's part and the shares, each rounded down: the worker keeps the rounding."""
    found: Counter[bytes] = Counter({TREASURY: amount * job.treasury_bps // 10_000})
    for share in job.shares:
        found[share.account] += amount * share.bps // 10_000
    return found


def _rewarded(
    paid: tuple[Payment, ...], verdict: Verdict, reward: Reward
) -> tuple[tuple[Payment, ...], Verdict]:
    """Move the reward from the treasury's part to the auditor."""
    amounts = Counter({payment.account: payment.amount for payment in paid})
    amount = min(amounts[TREASURY], reward.amount_max)
    amounts[TREASURY] -= amount
    amounts[reward.auditor] += amount
    changed = msgspec.structs.replace(verdict, auditor=reward.auditor, reward=amount)
    return _listed(amounts), changed


def _listed(amounts: Counter[bytes]) -> tuple[Payment, ...]:
    return tuple(
        Payment(account=account, amount=amount)
        for account, amount in sorted(amounts.items())
        if amount
    )
