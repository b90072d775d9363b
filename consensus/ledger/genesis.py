"""The state before the first block: balances, bonds and totals of the genesis document."""

from prsm.consensus.ledger.accounts import credit
from prsm.consensus.ledger.records import TOTALS_KEY, TURNS_KEY, Bond, Totals, bond_key
from prsm.consensus.ledger.state import Change, State
from prsm.protocol.genesis import Genesis
from prsm.protocol.schedule import first_turns


def genesis_changes(genesis: Genesis) -> list[Change]:
    """All entries of the first state, ascending by key; store them with the genesis itself."""
    state = State({})
    for allocation in genesis.allocations:
        credit(state, allocation.account, allocation.amount)
    for validator in genesis.validators:
        state.write(bond_key(validator.operator), Bond(stake=validator.stake))
    bonded = sum(validator.stake for validator in genesis.validators)
    state.write(TOTALS_KEY, Totals(minted=genesis.minted, locked=0, bonded=bonded, burnt=0))
    state.write(TURNS_KEY, first_turns(genesis.first_validators()))
    return state.changes()
