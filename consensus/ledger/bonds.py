"""Bonds and the roster of operators, as the rules of membership read and write them.

A bond's money moves in three steps: bonded, leaving, withdrawn; slashing reaches the first two.
Must not know: epochs, evidence.
"""

from itertools import pairwise

import msgspec

from prsm.consensus.ledger.records import ROSTER_KEY, Bond, Leaving, Roster, bond_key
from prsm.consensus.ledger.state import Reader, State, read
from prsm.protocol.limits import LEAVING_MAX


def read_bond(reader: Reader, operator: bytes) -> Bond | None:
    """An operator's bond; None for an account that never had one."""
    return read(reader, bond_key(operator), Bond)


def read_roster(reader: Reader) -> Roster:
    """Operators whose bond may weigh."""
    roster = read(reader, ROSTER_KEY, Roster)
    assert roster is not None, "a state without roster"
    return roster


def roster_bonds(reader: Reader) -> dict[bytes, Bond]:
    """The bonds of the roster, by operator, ascending."""
    found = ((operator, read_bond(reader, operator)) for operator in read_roster(reader).operators)
    bonds = {operator: bond for operator, bond in found if bond is not None}
    assert len(bonds) == len(read_roster(reader).operators), "an operator without bond"
    return bonds


def save_bond(state: State, operator: bytes, bond: Bond) -> None:
    """Write a bond; what leaves is a part of it."""
    assert 0 <= bond.held <= bond.stake, "more leaves than was bonded"
    state.write(bond_key(operator), bond)


def next_order(state: State) -> int:
    """Draw the next number in the queue of changes."""
    roster = read_roster(state)
    state.write(ROSTER_KEY, msgspec.structs.replace(roster, changes=roster.changes + 1))
    return roster.changes


def slashed(bond: Bond, bps: int) -> tuple[Bond, int]:
    """Take basis points of all that is bonded, of what leaves as of the rest.

    Returns:
        The bond, and the penalty in micro-FTNS. What leaves is rounded down and the penalty
        too, so the rest is never negative.
    """
    penalty = bond.stake * bps // 10_000
    leaving = (
        Leaving(amount=part.amount * (10_000 - bps) // 10_000, release_ms=part.release_ms)
        for part in bond.leaving
    )
    changed = msgspec.structs.replace(
        bond, stake=bond.stake - penalty, leaving=tuple(part for part in leaving if part.amount)
    )
    return changed, penalty


def parted(bond: Bond, amount: int, release_ms: int) -> Bond:
    """Let an amount of what may weigh leave; beyond 16 parts the two nearest in time are one.

    The joined part is released at the later of both times.
    """
    assert 0 < amount <= bond.held
    parts = [*bond.leaving, Leaving(amount=amount, release_ms=release_ms)]
    parts.sort(key=lambda part: part.release_ms)
    if len(parts) > LEAVING_MAX:
        gaps = [
            (later.release_ms - sooner.release_ms, index)
            for index, (sooner, later) in enumerate(pairwise(parts))
        ]
        index = min(gaps)[1]
        joined = parts[index].amount + parts[index + 1].amount
        parts[index : index + 2] = [Leaving(joined, parts[index + 1].release_ms)]
    return msgspec.structs.replace(bond, leaving=tuple(parts))


def matured(bond: Bond, time_ms: int) -> tuple[Bond, int]:
    """Take out of a bond what may be withdrawn at a block time; returns it and the amount."""
    amount = sum(part.amount for part in bond.leaving if part.release_ms <= time_ms)
    left = tuple(part for part in bond.leaving if part.release_ms > time_ms)
    return msgspec.structs.replace(bond, stake=bond.stake - amount, leaving=left), amount
