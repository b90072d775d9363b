"""Who weighs what in the set after next: slashing at once, wishes a third of the stake a time.

More than a third of a set stays in every quorum of the set after it, so a light client may skip
and the chain does not lose its quorum to a rush. Pure: bonds in, members out. Source:
docs/spec/ledger.md, "Succession".
"""

from collections.abc import Mapping
from typing import Final

from prsm.consensus.ledger.records import Bond
from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.validators import Members, Validator, ValidatorSet

_CHANGE_PART: Final = 3  # at most one part in so many of the weight comes, and goes, at a time


def members_after(base: ValidatorSet, bonds: Mapping[bytes, Bond], operator_cap: int) -> Members:
    """The set of the epoch after `base`'s.

    Args:
        base: the last set that is fixed.
        bonds: of the whole roster, which holds every member of `base`.
        operator_cap: micro-FTNS of one operator that count at most.
    """
    wants = _wants(bonds, operator_cap)
    weights = _reduced(base, bonds)
    queue = sorted(bonds, key=lambda operator: bonds[operator].order)
    if wants:  # if nobody wanted to stay, the last would leave a chain without validators
        room = base.total // _CHANGE_PART
        for operator in queue:
            down = min(room, max(0, weights.get(operator, 0) - wants.get(operator, 0)))
            room -= down
            weights = _moved(weights, operator, -down)
    room = base.total // _CHANGE_PART
    for operator in queue:
        if operator not in weights and len(weights) >= VALIDATORS_MAX:
            continue
        up = min(room, max(0, wants.get(operator, 0) - weights.get(operator, 0)))
        room -= up
        weights = _moved(weights, operator, up)
    return Members(epoch=base.epoch + 1, validators=_ordered(base, bonds, weights))


def _wants(bonds: Mapping[bytes, Bond], operator_cap: int) -> dict[bytes, int]:
    """What the 32 heaviest would weigh if nothing had to wait; ties by operator."""
    wants = {
        operator: min(bond.target, bond.held, operator_cap)
        for operator, bond in bonds.items()
        if not bond.tombstoned
    }
    heaviest = sorted(
        (operator for operator, want in wants.items() if want),
        key=lambda operator: (-wants[operator], operator),
    )
    return {operator: wants[operator] for operator in heaviest[:VALIDATORS_MAX]}


def _reduced(base: ValidatorSet, bonds: Mapping[bytes, Bond]) -> dict[bytes, int]:
    """Weights of the set less what slashing took; the tombstoned weigh nothing.

    If that would leave nobody it is not done: a chain needs somebody to heal it.
    """
    weights = {}
    for member in base.validators:
        bond = bonds[member.operator]
        weight = 0 if bond.tombstoned else min(member.stake, bond.held)
        if weight:
            weights[member.operator] = weight
    return weights or {member.operator: member.stake for member in base.validators}


def _moved(weights: dict[bytes, int], operator: bytes, change: int) -> dict[bytes, int]:
    weight = weights.get(operator, 0) + change
    rest = {other: held for other, held in weights.items() if other != operator}
    return {**rest, operator: weight} if weight else rest


def _ordered(
    base: ValidatorSet, bonds: Mapping[bytes, Bond], weights: Mapping[bytes, int]
) -> tuple[Validator, ...]:
    """Members in the order of the set before, newcomers behind them by operator."""
    stayed = [each.operator for each in base.validators if each.operator in weights]
    return tuple(
        Validator(
            operator=operator,
            consensus=bonds[operator].consensus,
            peer_id=bonds[operator].peer_id,
            stake=weights[operator],
        )
        for operator in (*stayed, *sorted(set(weights) - set(stayed)))
    )
