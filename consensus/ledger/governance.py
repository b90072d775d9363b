"""Decisions: an electorate fixed when a proposal is opened, votes by its stake, a timelock.

The electors are the members of the present epoch with their weights: linear, because a root of
the stake would reward whoever splits it (docs/adr/0008). All that decides is in the proposal's
record from its first block on, so nothing that happens later changes a vote that is over.
Source: docs/spec/ledger.md, "Governance".
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit, debit, totals
from prsm.consensus.ledger.bonds import read_roster
from prsm.consensus.ledger.context import (
    DONE,
    Context,
    Effect,
    Event,
    HaltChanged,
    ParametersChanged,
    ProposalClosed,
    ProposalOpened,
)
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.parameters import changed, check_governed, parameters_of, rules_of
from prsm.consensus.ledger.proposals import (
    PARAMETERS_KEY,
    Delegation,
    Elector,
    Proposal,
    ProposalStatus,
    delegation_key,
    proposal_key,
)
from prsm.consensus.ledger.records import HaltRecord, halt_key
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.genesis import TREASURY, Parameters
from prsm.protocol.governance import HALTING, Category
from prsm.protocol.transactions.governance import (
    Ballot,
    Delegate,
    Enact,
    HaltOrder,
    ParameterChange,
    Propose,
    proposal_id,
)
from prsm.protocol.transactions.results import Code, Payment
from prsm.protocol.validators import ValidatorSet

DEPOSIT_PARTS: Final = 100  # a deposit is at most one part in so many of all money


def propose(state: State, payload: Propose, context: Context) -> Effect:
    """Open a vote; the deposit waits in the proposal."""
    check_governed(payload.changes, payload.category)
    _decided(state, payload.changes, context)
    if payload.halt is not None:
        _check_halt(state, payload.halt, payload.category)
    identity = proposal_id(context.chain_id, context.sender, payload)
    if state.get(proposal_key(identity)) is not None:
        raise Failed(Code.PROPOSAL_EXISTS)
    electors = _electorate(state, payload.category, context)
    if not electors:
        raise Failed(Code.NO_ELECTORS)
    rules = rules_of(context.parameters, payload.category)
    deposit = context.parameters.proposal_deposit
    debit(state, context.sender, deposit)
    add_totals(state, locked=deposit)
    closes_ms = context.time_ms + rules.voting_ms
    opened = Proposal(
        proposal=identity,
        proposer=context.sender,
        terms=payload,
        rules=rules,
        halt_bps=context.parameters.halt_bps,
        opened_height=context.height,
        closes_ms=closes_ms,
        enacts_ms=closes_ms + rules.timelock_ms,
        lapses_ms=closes_ms + rules.timelock_ms + rules.voting_ms,
        electors=electors,
        status=ProposalStatus.OPEN,
        deposit=deposit,
    )
    state.write(proposal_key(identity), opened)
    return Effect(events=(ProposalOpened(identity, context.sender, payload.category),))


def ballot(state: State, payload: Ballot, context: Context) -> Effect:
    """Vote, or vote otherwise, while the vote is open."""
    proposal = _open(state, payload.proposal)
    if context.time_ms >= proposal.closes_ms:
        raise Failed(Code.TOO_LATE)
    index = proposal.index_of(context.sender)
    if index is None:
        raise Failed(Code.NOT_OPERATOR)
    elector = proposal.electors[index]
    if elector.choice is payload.choice:
        raise Failed(Code.ALREADY_VOTED)
    voted = msgspec.structs.replace(elector, choice=payload.choice)
    electors = (*proposal.electors[:index], voted, *proposal.electors[index + 1 :])
    state.write(
        proposal_key(payload.proposal), msgspec.structs.replace(proposal, electors=electors)
    )
    return DONE


def delegate(state: State, payload: Delegate, context: Context) -> Effect:
    """Let another operator's vote count for the sender's; nobody passes on what he was given."""
    operators = read_roster(state).operators
    if context.sender not in operators:
        raise Failed(Code.NOT_OPERATOR)
    own = _delegation(state, context.sender, payload.category)
    if payload.to == own.to:
        raise Failed(Code.NO_CHANGE)
    if payload.to is not None:
        other = _delegation(state, payload.to, payload.category)
        is_chain = other.to is not None or own.received > 0
        if payload.to == context.sender or payload.to not in operators or is_chain:
            raise Failed(Code.BAD_DELEGATE)
        _count(state, payload.to, payload.category, 1)
    if own.to is not None:
        _count(state, own.to, payload.category, -1)
    _save(state, context.sender, payload.category, msgspec.structs.replace(own, to=payload.to))
    return DONE


def forget_delegations(state: State, operator: bytes) -> None:
    """Take back what an operator delegated: it leaves the roster, and may not do so itself then."""
    for category in Category:
        own = _delegation(state, operator, category)
        if own.to is not None:
            _count(state, own.to, category, -1)
            _save(state, operator, category, msgspec.structs.replace(own, to=None))


def enact(state: State, payload: Enact, context: Context) -> Effect:
    """Close a vote that is over; what was accepted takes effect after its timelock."""
    proposal = _open(state, payload.proposal)
    if context.time_ms < proposal.closes_ms:
        raise Failed(Code.TOO_EARLY)
    status = proposal.outcome()
    events: tuple[Event, ...] = ()
    if status is ProposalStatus.ENACTED:
        if context.time_ms < proposal.enacts_ms:
            raise Failed(Code.TOO_EARLY)
        if context.time_ms >= proposal.lapses_ms:
            status = ProposalStatus.LAPSED
        else:
            events = _take_effect(state, proposal, context)
    to = TREASURY if status is ProposalStatus.NO_QUORUM else proposal.proposer
    add_totals(state, locked=-proposal.deposit)
    credit(state, to, proposal.deposit)
    state.write(
        proposal_key(payload.proposal),
        msgspec.structs.replace(proposal, status=status, deposit=0),
    )
    paid = (Payment(account=to, amount=proposal.deposit),) if proposal.deposit else ()
    return Effect(paid=paid, events=(ProposalClosed(proposal.proposal, status), *events))


def delegation_of(reader: Reader, operator: bytes, category: Category) -> bytes | None:
    """Whose vote counts for an operator that does not vote in a category."""
    record = read(reader, delegation_key(operator, category), Delegation)
    return None if record is None else record.to


def _open(state: State, identity: bytes) -> Proposal:
    proposal = state.read(proposal_key(identity), Proposal)
    if proposal is None:
        raise Failed(Code.UNKNOWN_PROPOSAL)
    if proposal.status is not ProposalStatus.OPEN:
        raise Failed(Code.PROPOSAL_CLOSED)
    return proposal


def _check_halt(state: State, order: HaltOrder, category: Category) -> None:
    if category not in HALTING:
        raise Failed(Code.WRONG_CATEGORY)
    if is_halted(state, order.cid) is not order.lift:
        raise Failed(Code.NOTHING_TO_VOTE)


def _electorate(state: State, category: Category, context: Context) -> tuple[Elector, ...]:
    """The members with enough weight, and whose vote counts for whom."""
    members = [
        member
        for member in context.validators.validators
        if member.stake >= context.parameters.vote_min
    ]
    places = {member.operator: index for index, member in enumerate(members)}
    return tuple(
        Elector(
            operator=member.operator,
            weight=member.stake,
            delegate=places.get(delegation_of(state, member.operator, category) or b""),
            choice=None,
        )
        for member in members
    )


def _decided(state: State, changes: Iterable[ParameterChange], context: Context) -> Parameters:
    """The parameters as changes make them, if those who decide could undo it.

    Raises:
        Failed: BAD_VALUE, for nobody could pay a higher deposit, or more lose their vote than a
            quorum can do without; or what `changed` refuses.
    """
    now = parameters_of(state)
    then = changed(now, changes)
    is_dearer = then.proposal_deposit > now.proposal_deposit
    if is_dearer and then.proposal_deposit * DEPOSIT_PARTS > totals(state).minted:
        raise Failed(Code.BAD_VALUE)
    able = _able(context.validators, then)
    if able < min(_able(context.validators, now), context.validators.quorum):
        raise Failed(Code.BAD_VALUE)
    return then


def _able(validators: ValidatorSet, parameters: Parameters) -> int:
    """Weight of the members who have a vote, once `operator_cap` has taken effect."""
    least, cap = parameters.vote_min, parameters.operator_cap
    return sum(each.stake for each in validators.validators if min(each.stake, cap) >= least)


def _take_effect(state: State, proposal: Proposal, context: Context) -> tuple[Event, ...]:
    """Write what was decided; parameters are checked against those of now."""
    terms = proposal.terms
    events: list[Event] = []
    if terms.changes:
        state.write(PARAMETERS_KEY, _decided(state, terms.changes, context))
        events.append(ParametersChanged(tuple(change.name for change in terms.changes)))
    if terms.halt is not None:
        halted = not terms.halt.lift
        record = HaltRecord(cid=terms.halt.cid, halted=halted, votes=(), reason="by vote")
        state.write(halt_key(terms.halt.cid), record)
        events.append(HaltChanged(terms.halt.cid, halted))
    return tuple(events)


def _delegation(state: State, operator: bytes, category: Category) -> Delegation:
    found = state.read(delegation_key(operator, category), Delegation)
    return found or Delegation(to=None, received=0)


def _count(state: State, operator: bytes, category: Category, change: int) -> None:
    own = _delegation(state, operator, category)
    _save(state, operator, category, msgspec.structs.replace(own, received=own.received + change))


def _save(state: State, operator: bytes, category: Category, own: Delegation) -> None:
    key = delegation_key(operator, category)
    if own.to is None and not own.received:
        state.delete(key)
    else:
        state.write(key, own)
