"""Custody: a holder proves round by round that it keeps a file, is paid for it, or loses.

Money of a deal is the client's `locked` and the holder's `collateral`; both count as locked.
A round is judged once: proven when its right answer stands in a block of it, missed when it is
over without one. Rounds that are over are judged when the deal is next touched, at most five of
them before it breaks, so no block does work for deals nobody speaks of.
Source: docs/spec/ledger.md, "Custody".
"""

from typing import Final

import msgspec

from prsm.consensus.ledger.accounts import add_totals, balance, credit, debit
from prsm.consensus.ledger.context import Context, DealChanged, Effect
from prsm.consensus.ledger.custody_records import (
    Deal,
    DealStatus,
    GrantUse,
    Round,
    deal_key,
    grant_key,
)
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.halts import is_halted
from prsm.consensus.ledger.proposals import Proposal, ProposalStatus, proposal_key
from prsm.consensus.ledger.rounds import begin_deal, end_deal, read_round, round_ms
from prsm.consensus.ledger.state import State
from prsm.protocol.custody import asked, is_shown
from prsm.protocol.genesis import TREASURY, Parameters
from prsm.protocol.transactions.custody import (
    Accept,
    Entrust,
    Lapse,
    Prove,
    Release,
    deal_id,
    grant_text,
)
from prsm.protocol.transactions.results import Code, Payment

REWARD_PER_GB_EPOCH: Final = 100_000  # micro-FTNS, of a grant
GB: Final = 10**9
COLLATERAL_ROUNDS_MIN: Final = 10  # of pay: a round of luck is worth less than one of bad luck
MISSED_IN_A_ROW_MAX: Final = 5
WRONG_FACTOR: Final = 5  # a wrong answer costs as much as five missed rounds
PENALTY_BPS_MAX: Final = 5_000  # of the collateral, for one event
CLIENT_BPS: Final = 7_000  # of a penalty: it is the client whose file was not there


def entrust(state: State, payload: Entrust, context: Context) -> Effect:
    """Offer a deal and lock what its rounds may cost."""
    _check_terms(state, payload, context)
    identity = deal_id(context.chain_id, context.sender, payload)
    if state.get(deal_key(identity)) is not None:
        raise Failed(Code.DEAL_EXISTS)
    amount = payload.price * payload.rounds
    debit(state, context.sender, amount)
    add_totals(state, locked=amount)
    deal = Deal(
        deal=identity,
        client=context.sender,
        terms=payload,
        status=DealStatus.OFFERED,
        opened_height=context.height,
        first=0,
        judged=0,
        proven=0,
        missed=0,
        missed_in_a_row=0,
        paid=0,
        slashed=0,
        locked=amount,
        collateral=0,
    )
    return _saved(state, deal)


def accept(state: State, payload: Accept, context: Context) -> Effect:
    """Lock the holder's collateral; the next round is the deal's first."""
    deal = _open(state, payload.deal, DealStatus.OFFERED)
    if context.sender != deal.terms.holder:
        raise Failed(Code.NOT_HOLDER)
    if is_halted(state, deal.terms.root):
        raise Failed(Code.MODEL_HALTED)
    _use_grant(state, deal.terms)
    debit(state, context.sender, deal.terms.collateral)
    add_totals(state, locked=deal.terms.collateral)
    first = begin_deal(state, height=context.height, time_ms=context.time_ms)
    return _saved(
        state,
        msgspec.structs.replace(
            deal, status=DealStatus.ACTIVE, first=first, collateral=deal.terms.collateral
        ),
    )


def prove(state: State, payload: Prove, context: Context) -> Effect:
    """Judge an answer to the present round: pay a right one, break the deal on a wrong one.

    A right answer also gets back what its bytes cost as a fee, so that proving is not dearer
    than keeping; a wrong one, and one at the wrong time, do not.
    """
    deal = _open(state, payload.deal, DealStatus.ACTIVE)
    if context.sender != deal.terms.holder:
        raise Failed(Code.NOT_HOLDER)
    present = _present(state)
    if payload.round != present.number:
        raise Failed(Code.WRONG_ROUND)
    if present.number < deal.first:
        raise Failed(Code.TOO_EARLY)
    if present.number < deal.next_round:
        raise Failed(Code.ALREADY_PROVEN)
    deal = _judge_missed(state, deal, present, context)
    if not deal.is_active:
        return _saved(state, deal)
    if not _is_right(deal, payload, present):
        bps = min(WRONG_FACTOR * context.parameters.slash_bps, PENALTY_BPS_MAX)
        deal = _penalise(state, deal, bps, context)
        return _saved(state, _close(state, deal, DealStatus.BROKEN))
    back = _bytes_fee(payload, context.parameters)
    debit(state, TREASURY, back)  # before a grant empties it: it holds this transaction's fee
    credit(state, context.sender, back)
    deal, pay = _pay(state, deal, context.parameters)
    if deal.next_round == deal.end_round:
        deal = _close(state, deal, DealStatus.ENDED)
    effect = _saved(state, deal)
    return Effect(
        paid=(Payment(account=context.sender, amount=pay + back),),
        detail=1,
        events=effect.events,
    )


def lapse(state: State, payload: Lapse, context: Context) -> Effect:
    """Judge the rounds that are over; the sender gets a share of the penalty."""
    deal = _open(state, payload.deal, DealStatus.ACTIVE)
    judged = _judge_missed(state, deal, _present(state), context)
    if judged.judged == deal.judged:
        raise Failed(Code.NOTHING_LAPSED)
    share = _share(judged.slashed - deal.slashed, deal, context)
    return Effect(
        paid=(Payment(account=context.sender, amount=share),) if share else (),
        detail=judged.missed - deal.missed,
        events=_saved(state, judged).events,
    )


def release(state: State, payload: Release, context: Context) -> Effect:
    """Give a deal up: for nothing before it was accepted, for the price of a miss later."""
    deal = state.read(deal_key(payload.deal), Deal)
    if deal is None:
        raise Failed(Code.UNKNOWN_DEAL)
    if deal.status is DealStatus.OFFERED:
        if context.sender != deal.client:
            raise Failed(Code.NOT_HOLDER)
        return _saved(state, _close(state, deal, DealStatus.WITHDRAWN))
    if not deal.is_active:
        raise Failed(Code.DEAL_CLOSED)
    if context.sender != deal.terms.holder:
        raise Failed(Code.NOT_HOLDER)
    deal = _judge_missed(state, deal, _present(state), context)
    if deal.is_active:
        deal = _penalise(state, deal, context.parameters.slash_bps, context)
        deal = _close(state, deal, DealStatus.WITHDRAWN)
    return _saved(state, deal)


def grant_reward(terms: Entrust, parameters: Parameters) -> int:
    """What a grant pays for one proven round, in micro-FTNS: 0.1 FTNS for each GB and epoch."""
    span_ms = round_ms(parameters)
    return REWARD_PER_GB_EPOCH * terms.size * span_ms // (GB * parameters.epoch_ms)


def _check_terms(state: State, payload: Entrust, context: Context) -> None:
    if is_halted(state, payload.root):
        raise Failed(Code.MODEL_HALTED)
    if (payload.price == 0) is (payload.grant is None):
        raise Failed(Code.BAD_TERMS)
    if payload.grant is not None:
        _check_grant(state, payload)
    pay = payload.price or grant_reward(payload, context.parameters)
    if payload.collateral < COLLATERAL_ROUNDS_MIN * pay:
        raise Failed(Code.BAD_TERMS)


def _check_grant(state: State, terms: Entrust) -> tuple[bytes, ...]:
    """Refuse what no vote decided; returns the holders the grant pays already."""
    assert terms.grant is not None
    proposal = state.read(proposal_key(terms.grant.proposal), Proposal)
    if proposal is None or proposal.status is not ProposalStatus.ENACTED:
        raise Failed(Code.BAD_GRANT)
    if proposal.terms.text != grant_text(terms, terms.grant.copies):
        raise Failed(Code.BAD_GRANT)
    use = state.read(grant_key(terms.grant.proposal), GrantUse)
    holders = () if use is None else use.holders
    if len(holders) >= terms.grant.copies or terms.holder in holders:
        raise Failed(Code.BAD_GRANT)
    return holders


def _use_grant(state: State, terms: Entrust) -> None:
    if terms.grant is not None:
        holders = _check_grant(state, terms)
        use = GrantUse(holders=tuple(sorted((*holders, terms.holder))))
        state.write(grant_key(terms.grant.proposal), use)


def _open(state: State, identity: bytes, status: DealStatus) -> Deal:
    deal = state.read(deal_key(identity), Deal)
    if deal is None:
        raise Failed(Code.UNKNOWN_DEAL)
    if deal.status is not status:
        raise Failed(Code.DEAL_CLOSED)
    return deal


def _present(state: State) -> Round:
    present = read_round(state)
    assert present is not None, "an active deal without rounds"
    return present


def _saved(state: State, deal: Deal) -> Effect:
    assert deal.is_active or deal.collateral == 0
    assert deal.judged == deal.proven + deal.missed
    state.write(deal_key(deal.deal), deal)
    changed = DealChanged(deal.deal, deal.status, deal.proven, deal.missed, deal.paid, deal.slashed)
    return Effect(events=(changed,))


def _is_right(deal: Deal, payload: Prove, present: Round) -> bool:
    terms = deal.terms
    return is_shown(
        terms.tree,
        size=terms.size,
        places=asked(present.seed, deal.deal, terms.size),
        cells=payload.cells,
        nodes=payload.nodes,
    )


def _pay(state: State, deal: Deal, parameters: Parameters) -> tuple[Deal, int]:
    """Pay the holder for one round; a treasury that has less pays what it has."""
    terms = deal.terms
    if terms.grant is None:
        pay = terms.price
        add_totals(state, locked=-pay)
    else:
        pay = min(grant_reward(terms, parameters), balance(state, TREASURY))
        debit(state, TREASURY, pay)
    credit(state, terms.holder, pay)
    paid = msgspec.structs.replace(
        deal,
        judged=deal.judged + 1,
        proven=deal.proven + 1,
        missed_in_a_row=0,
        paid=deal.paid + pay,
        locked=deal.locked - terms.price,
    )
    return paid, pay


def _bytes_fee(payload: Prove, parameters: Parameters) -> int:
    """What the proof's bytes cost at least, which the treasury got with this transaction."""
    return parameters.fee_per_byte * (len(payload.cells) + len(payload.nodes))


def _judge_missed(state: State, deal: Deal, present: Round, context: Context) -> Deal:
    """Judge the rounds that are over: each was missed, since a proven one is judged at once."""
    while deal.is_active and deal.next_round < present.number:
        deal = _penalise(state, deal, context.parameters.slash_bps, context)
        credit(state, deal.client, deal.terms.price)
        add_totals(state, locked=-deal.terms.price)
        deal = msgspec.structs.replace(
            deal,
            judged=deal.judged + 1,
            missed=deal.missed + 1,
            missed_in_a_row=deal.missed_in_a_row + 1,
            locked=deal.locked - deal.terms.price,
        )
        if deal.missed_in_a_row >= MISSED_IN_A_ROW_MAX:
            deal = _close(state, deal, DealStatus.BROKEN)
        elif deal.next_round == deal.end_round:
            deal = _close(state, deal, DealStatus.ENDED)
    return deal


def _share(penalty: int, deal: Deal, context: Context) -> int:
    """What who reports a penalty gets of it: nothing if it is the holder."""
    is_own = context.sender == deal.terms.holder
    return 0 if is_own else penalty * context.parameters.reporter_bps // 10_000


def _penalise(state: State, deal: Deal, bps: int, context: Context) -> Deal:
    """Take basis points of what the holder once locked: to reporter, client and treasury."""
    penalty = min(deal.terms.collateral * bps // 10_000, deal.collateral)
    share = _share(penalty, deal, context)
    is_victim = deal.terms.grant is None and deal.client != deal.terms.holder
    damages = min(penalty * CLIENT_BPS // 10_000, penalty - share) if is_victim else 0
    credit(state, context.sender, share)
    credit(state, deal.client, damages)
    credit(state, TREASURY, penalty - share - damages)
    add_totals(state, locked=-penalty)
    return msgspec.structs.replace(
        deal, collateral=deal.collateral - penalty, slashed=deal.slashed + penalty
    )


def _close(state: State, deal: Deal, status: DealStatus) -> Deal:
    """Give both what is left of theirs, for good."""
    credit(state, deal.client, deal.locked)
    credit(state, deal.terms.holder, deal.collateral)
    add_totals(state, locked=-deal.locked - deal.collateral)
    if deal.is_active:
        end_deal(state)
    return msgspec.structs.replace(deal, status=status, locked=0, collateral=0)
