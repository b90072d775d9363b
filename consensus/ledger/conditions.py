"""Holds: money under conditions leaves by a branch that is met, later by the fallback.

Money of a hold is `left` and counts as `locked`. Before the fallback's time only claims pay,
from then on only the reclaim: there is no time at which both could.
Source: docs/spec/ledger.md, "Holds".
"""

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit, debit
from prsm.consensus.ledger.context import Context, Effect, HoldOpened, HoldPaid
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.predicates import Shown, is_met, is_ordered, is_sound, vested
from prsm.consensus.ledger.records import Held, held_key, is_distinct
from prsm.consensus.ledger.state import State
from prsm.protocol.ids import FTNS
from prsm.protocol.signing import sha256
from prsm.protocol.transactions.conditions import (
    Branch,
    Claim,
    Hold,
    Reclaim,
    hold_id,
    is_approved,
)
from prsm.protocol.transactions.results import Code, Payment


def hold(state: State, payload: Hold, context: Context) -> Effect:
    """Put an amount of the sender under conditions."""
    if payload.asset != FTNS:
        raise Failed(Code.UNKNOWN_ASSET)
    if not all(_is_sound(branch) for branch in payload.branches):
        raise Failed(Code.BAD_CONDITION)
    if payload.fallback is not None and payload.fallback.after_ms <= context.time_ms:
        raise Failed(Code.BAD_DEADLINE)
    identity = hold_id(context.chain_id, context.sender, payload)
    if state.get(held_key(identity)) is not None:
        raise Failed(Code.HOLD_EXISTS)
    debit(state, context.sender, payload.amount, payload.asset)
    add_totals(state, locked=payload.amount)
    held = Held(
        hold=identity,
        holder=context.sender,
        terms=payload,
        opened_height=context.height,
        left=payload.amount,
        reclaimed=False,
    )
    state.write(held_key(identity), held)
    return Effect(events=(HoldOpened(identity, context.sender, payload.amount),))


def claim(state: State, payload: Claim, context: Context) -> Effect:
    """Pay what a branch lets out now to whom it names."""
    held = _open(state, payload.hold)
    fallback = held.terms.fallback
    if fallback is not None and context.time_ms >= fallback.after_ms:
        raise Failed(Code.TOO_LATE)
    if payload.branch >= len(held.terms.branches):
        raise Failed(Code.UNKNOWN_BRANCH)
    branch = held.terms.branches[payload.branch]
    if not is_met(branch.condition, _shown(payload, context)):
        raise Failed(Code.CONDITION_UNMET)
    amount = due(held, branch, time_ms=context.time_ms)
    if amount == 0:
        raise Failed(Code.NOTHING_VESTED)
    left = _pay(state, held, branch.to, amount)
    return Effect(
        paid=(Payment(account=branch.to, amount=amount),),
        events=(HoldPaid(held.hold, payload.branch, branch.to, amount, left),),
    )


def reclaim(state: State, payload: Reclaim, context: Context) -> Effect:
    """Pay all that is left to the fallback, once its time has come."""
    held = _open(state, payload.hold)
    fallback = held.terms.fallback
    if fallback is None:
        raise Failed(Code.NO_FALLBACK)
    if context.time_ms < fallback.after_ms:
        raise Failed(Code.TOO_EARLY)
    amount = held.left
    _pay(state, msgspec.structs.replace(held, reclaimed=True), fallback.to, amount)
    return Effect(returned=amount, events=(HoldPaid(held.hold, None, fallback.to, amount, 0),))


def due(held: Held, branch: Branch, *, time_ms: int) -> int:
    """What a branch lets out once it is met: all, or what has vested less what has left already."""
    if branch.vesting is None:
        return held.left
    gone = held.terms.amount - held.left
    return max(0, vested(branch.vesting, held.terms.amount, time_ms=time_ms) - gone)


def _open(state: State, identity: bytes) -> Held:
    held = state.read(held_key(identity), Held)
    if held is None:
        raise Failed(Code.UNKNOWN_HOLD)
    if not held.left:
        raise Failed(Code.HOLD_CLOSED)
    return held


def _is_sound(branch: Branch) -> bool:
    ordered = branch.vesting is None or is_ordered(branch.vesting)
    return ordered and is_sound(branch.condition)


def _shown(payload: Claim, context: Context) -> Shown:
    """Check every signature, whether the branch needs it or not: a forged one is never paid for."""
    if not is_distinct(approval.key for approval in payload.approvals):
        raise Failed(Code.BAD_APPROVAL)
    for approval in payload.approvals:
        if not is_approved(
            approval,
            context.verifier,
            chain_id=context.chain_id,
            hold=payload.hold,
            branch=payload.branch,
        ):
            raise Failed(Code.BAD_APPROVAL)
    return Shown(
        time_ms=context.time_ms,
        digests=frozenset(sha256(preimage) for preimage in payload.preimages),
        approved=frozenset(approval.key for approval in payload.approvals),
    )


def _pay(state: State, held: Held, to: bytes, amount: int) -> int:
    """Move money out of a hold; returns what is left in it."""
    assert 0 < amount <= held.left
    left = held.left - amount
    state.write(held_key(held.hold), msgspec.structs.replace(held, left=left))
    add_totals(state, locked=-amount)
    credit(state, to, amount, held.terms.asset)
    return left
