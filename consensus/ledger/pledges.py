"""Pledges: what workers put up for work nobody compares, and auditors for their word.

A pledge is in one account's name; unsettled work and open audits hold parts of it, the rest may
be redeemed at any time. All of it counts as locked. Must not know what is right.
Source: docs/spec/work.md, "Audits".
"""

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit, debit
from prsm.consensus.ledger.audit_records import (
    PLEDGERS_KEY,
    Pledged,
    Pledger,
    Pledgers,
    pledged_key,
)
from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.limits import PLEDGERS_MAX
from prsm.protocol.transactions.audits import Pledge, Redeem
from prsm.protocol.transactions.results import Code, Payment


def pledge(state: State, payload: Pledge, context: Context) -> Effect:
    """Move an amount from the sender's balance into its pledge."""
    debit(state, context.sender, payload.amount)
    add_totals(state, locked=payload.amount)
    found = pledged(state, context.sender)
    record = Pledged(amount=found.amount + payload.amount, held=found.held)
    _save(state, context.sender, record, context)
    return DONE


def redeem(state: State, payload: Redeem, context: Context) -> Effect:
    """Move an amount that nothing holds back to the sender's balance."""
    found = pledged(state, context.sender)
    if payload.amount > found.amount - found.held:
        raise Failed(Code.NO_PLEDGE)
    credit(state, context.sender, payload.amount)
    add_totals(state, locked=-payload.amount)
    record = Pledged(amount=found.amount - payload.amount, held=found.held)
    _save(state, context.sender, record, context)
    return Effect(paid=(Payment(account=context.sender, amount=payload.amount),))


def pledged(reader: Reader, account: bytes) -> Pledged:
    """What an account has pledged."""
    found = read(reader, pledged_key(account), Pledged)
    return Pledged(amount=0, held=0) if found is None else found


def pledgers(reader: Reader) -> tuple[Pledger, ...]:
    """Who may be drawn as an auditor, ascending by account."""
    found = read(reader, PLEDGERS_KEY, Pledgers)
    return () if found is None else found.listed


def hold(state: State, account: bytes, amount: int) -> None:
    """Hold a part of a pledge that nothing else holds.

    Raises:
        Failed: NO_PLEDGE, there is not so much.
    """
    found = pledged(state, account)
    if amount > found.amount - found.held:
        raise Failed(Code.NO_PLEDGE)
    _write(state, account, msgspec.structs.replace(found, held=found.held + amount))


def free(state: State, account: bytes, amount: int) -> None:
    """Let a held part go."""
    found = pledged(state, account)
    assert amount <= found.held
    _write(state, account, msgspec.structs.replace(found, held=found.held - amount))


def forfeit(state: State, account: bytes, amount: int, context: Context) -> None:
    """Take a held part for good; the caller credits it to others."""
    found = pledged(state, account)
    assert amount <= found.held
    record = Pledged(amount=found.amount - amount, held=found.held - amount)
    _save(state, account, record, context)
    add_totals(state, locked=-amount)


def _save(state: State, account: bytes, record: Pledged, context: Context) -> None:
    """Write a pledge, and whether its account may be drawn."""
    _write(state, account, record)
    listed = pledgers(state)
    is_listed = any(entry.account == account for entry in listed)
    if record.amount >= context.parameters.pledge_min and record.amount:
        # A larger pledge takes nobody's place: it would end the audits those are drawn for, and
        # whoever wants none could redeem it a block later.
        if is_listed or len(listed) >= PLEDGERS_MAX:
            return
        grown = (*listed, Pledger(account=account, since=context.height))
        listed = tuple(sorted(grown, key=lambda entry: entry.account))
    elif is_listed:
        listed = tuple(entry for entry in listed if entry.account != account)
    else:
        return
    if listed:
        state.write(PLEDGERS_KEY, Pledgers(listed))
    else:
        state.delete(PLEDGERS_KEY)


def _write(state: State, account: bytes, record: Pledged) -> None:
    assert 0 <= record.held <= record.amount
    if record.amount:
        state.write(pledged_key(account), record)
    else:
        state.delete(pledged_key(account))
