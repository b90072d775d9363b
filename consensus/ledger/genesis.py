"""The state before the first block: balances, bonds and totals of the genesis document."""

from prsm.consensus.ledger.accounts import credit
from prsm.consensus.ledger.epochs import begin_first
from prsm.consensus.ledger.proposals import PARAMETERS_KEY
from prsm.consensus.ledger.records import (
    ROSTER_KEY,
    TOTALS_KEY,
    Bond,
    KeyUse,
    Roster,
    Totals,
    bond_key,
    key_use_key,
)
from prsm.consensus.ledger.state import Change, State
from prsm.protocol.epochs import EpochState
from prsm.protocol.genesis import Genesis


def genesis_changes(genesis: Genesis) -> list[Change]:
    """All entries of the first state, ascending by key; store them with the genesis itself."""
    state = State({})
    for allocation in genesis.allocations:
        credit(state, allocation.account, allocation.amount)
    for order, validator in enumerate(genesis.validators):
        bond = Bond(
            stake=validator.stake,
            target=validator.stake,
            consensus=validator.consensus,
            peer_id=validator.peer_id,
            order=order,
            leaving=(),
            tombstoned=False,
        )
        state.write(bond_key(validator.operator), bond)
        state.write(key_use_key(validator.consensus), KeyUse(operator=validator.operator))
    operators = tuple(sorted(validator.operator for validator in genesis.validators))
    state.write(ROSTER_KEY, Roster(operators=operators, changes=len(operators)))
    bonded = sum(validator.stake for validator in genesis.validators)
    state.write(TOTALS_KEY, Totals(minted=genesis.minted, locked=0, bonded=bonded, burnt=0))
    state.write(PARAMETERS_KEY, genesis.parameters)
    begin_first(state, EpochState.genesis(genesis))
    return state.changes()
