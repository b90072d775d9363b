"""Operators join, weigh more or less, change keys, leave, and take their money out.

Nothing here moves a weight: the border of an epoch does (`succession`). Money enters a bond at
once and leaves it after the unbonding period.
"""

import msgspec

from prsm.consensus.ledger.accounts import add_totals, credit, debit
from prsm.consensus.ledger.bonds import (
    matured,
    next_order,
    read_bond,
    read_roster,
    roster_bonds,
    save_bond,
)
from prsm.consensus.ledger.context import DONE, Context, Effect
from prsm.consensus.ledger.errors import Failed
from prsm.consensus.ledger.records import ROSTER_KEY, Bond, KeyUse, key_use_key
from prsm.consensus.ledger.state import State
from prsm.protocol.limits import ROSTER_MAX
from prsm.protocol.transactions.membership import (
    Join,
    Leave,
    Rotate,
    Stake,
    Withdraw,
    has_possession,
)
from prsm.protocol.transactions.results import Code, Payment


def join(state: State, payload: Join, context: Context) -> Effect:
    """Bond a stake and wait for a place in the set; who has left for good may come again."""
    operator = context.sender
    earlier = read_bond(state, operator)
    if earlier is not None and earlier.tombstoned:
        raise Failed(Code.TOMBSTONED)
    roster = read_roster(state)
    if operator in roster.operators:
        raise Failed(Code.ALREADY_VALIDATOR)
    if len(roster.operators) >= ROSTER_MAX:
        raise Failed(Code.ROSTER_FULL)
    if payload.stake < context.parameters.stake_min:
        raise Failed(Code.STAKE_TOO_SMALL)
    _take_key(state, payload, context)
    _bond_more(state, operator, payload.stake)
    bond = Bond(
        stake=payload.stake + (0 if earlier is None else earlier.stake),
        target=payload.stake,
        consensus=payload.consensus,
        peer_id=payload.peer_id,
        order=next_order(state),
        leaving=() if earlier is None else earlier.leaving,
        tombstoned=False,
    )
    save_bond(state, operator, bond)
    entered = tuple(sorted((*roster.operators, operator)))
    state.write(ROSTER_KEY, msgspec.structs.replace(read_roster(state), operators=entered))
    return DONE


def stake(state: State, payload: Stake, context: Context) -> Effect:
    """Want another weight; what the bond lacks for it is taken from the balance."""
    bond = _own_bond(state, context.sender)
    if payload.target < context.parameters.stake_min:
        raise Failed(Code.STAKE_TOO_SMALL)
    lacks = max(0, payload.target - bond.held)
    if not lacks and payload.target == bond.target:
        raise Failed(Code.NO_CHANGE)
    _bond_more(state, context.sender, lacks)
    _want(state, context.sender, bond, target=payload.target, lacks=lacks)
    return DONE


def leave(state: State, _payload: Leave, context: Context) -> Effect:
    """Want to weigh nothing."""
    bond = _own_bond(state, context.sender)
    if bond.target == 0:
        raise Failed(Code.NO_CHANGE)
    _want(state, context.sender, bond, target=0, lacks=0)
    return DONE


def rotate(state: State, payload: Rotate, context: Context) -> Effect:
    """Give the validator another key; the sets that are fixed keep the old one."""
    bond = _own_bond(state, context.sender)
    _take_key(state, payload, context)
    changed = msgspec.structs.replace(bond, consensus=payload.consensus, peer_id=payload.peer_id)
    save_bond(state, context.sender, changed)
    return DONE


def withdraw(state: State, _payload: Withdraw, context: Context) -> Effect:
    """Return what has left the bond for long enough; a conviction does not keep it."""
    bond = read_bond(state, context.sender)
    if bond is None:
        raise Failed(Code.NOT_VALIDATOR)
    bond, amount = matured(bond, context.time_ms)
    if not amount:
        raise Failed(Code.NOTHING_MATURED)
    save_bond(state, context.sender, bond)
    add_totals(state, bonded=-amount)
    credit(state, context.sender, amount)
    return Effect(paid=(Payment(account=context.sender, amount=amount),))


def _own_bond(state: State, operator: bytes) -> Bond:
    """The bond of an operator in the roster."""
    bond = read_bond(state, operator)
    if bond is not None and bond.tombstoned:
        raise Failed(Code.TOMBSTONED)
    if bond is None or operator not in read_roster(state).operators:
        raise Failed(Code.NOT_VALIDATOR)
    return bond


def _take_key(state: State, payload: Join | Rotate, context: Context) -> None:
    """Check key and peer, and note the key as used, for ever."""
    if state.get(key_use_key(payload.consensus)) is not None:
        raise Failed(Code.KEY_USED)
    others = (each for each in roster_bonds(state).items() if each[0] != context.sender)
    if any(bond.peer_id == payload.peer_id for _, bond in others):
        raise Failed(Code.PEER_USED)
    if not has_possession(
        payload,
        chain_id=context.chain_id,
        operator=context.sender,
        verifier=context.verifier,
    ):
        raise Failed(Code.BAD_POSSESSION)
    state.write(key_use_key(payload.consensus), KeyUse(operator=context.sender))


def _bond_more(state: State, operator: bytes, amount: int) -> None:
    debit(state, operator, amount)
    add_totals(state, bonded=amount)


def _want(state: State, operator: bytes, bond: Bond, *, target: int, lacks: int) -> None:
    changed = msgspec.structs.replace(
        bond, stake=bond.stake + lacks, target=target, order=next_order(state)
    )
    save_bond(state, operator, changed)
