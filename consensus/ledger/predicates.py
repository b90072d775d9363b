"""Conditions and schedules as pure functions: no state, no order of evaluation, no loops.

Knows what a claim showed and the block's time. Must not know money. More shown never makes a
predicate false, and time only goes forward, so what is met stays met.
Source: docs/spec/ledger.md, "Holds".
"""

from dataclasses import dataclass

from prsm.protocol.limits import CONDITION_DEPTH_MAX, CONDITION_STEPS_MAX
from prsm.protocol.transactions.conditions import (
    After,
    HashLock,
    Predicate,
    Signers,
    Vesting,
    depth_of,
    steps_of,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a predicate is asked about: the time, and what the claim proved."""

    time_ms: int  # of the block
    digests: frozenset[bytes]  # sha256 of the preimages
    approved: frozenset[bytes]  # keys whose signature holds


def is_sound(condition: Predicate) -> bool:
    """Is it small enough to run, does every count lie within its list, is no key listed twice?"""
    if depth_of(condition) > CONDITION_DEPTH_MAX or steps_of(condition) > CONDITION_STEPS_MAX:
        return False
    return _is_well_formed(condition)


def is_met(condition: Predicate, shown: Shown) -> bool:
    """Does what was shown meet a sound predicate?"""
    match condition:
        case After():
            return shown.time_ms >= condition.time_ms
        case HashLock():
            return condition.digest in shown.digests
        case Signers():
            return sum(key in shown.approved for key in condition.keys) >= condition.least
        case _:
            return sum(is_met(part, shown) for part in condition.parts) >= condition.least


def vested(schedule: Vesting, amount: int, *, time_ms: int) -> int:
    """Micro-FTNS of `amount` that may have left by this block time, rounded down."""
    if time_ms < schedule.cliff_ms:
        return 0
    if time_ms >= schedule.end_ms:
        return amount
    return amount * (time_ms - schedule.start_ms) // (schedule.end_ms - schedule.start_ms)


def is_ordered(schedule: Vesting) -> bool:
    """Does the cliff lie within start and end, and is there time between these?"""
    return schedule.start_ms <= schedule.cliff_ms <= schedule.end_ms > schedule.start_ms


def _is_well_formed(condition: Predicate) -> bool:
    match condition:
        case After() | HashLock():
            return True
        case Signers():
            is_set = len(set(condition.keys)) == len(condition.keys)
            return is_set and condition.least <= len(condition.keys)
        case _:
            parts = all(_is_well_formed(part) for part in condition.parts)
            return parts and condition.least <= len(condition.parts)
