"""The phases of one height and the only ways between them; docs/spec/pbft.md prints this table.

Knows: names. Must not know: messages, votes, time.
"""

from enum import Enum
from typing import Final


class Phase(Enum):
    """Where a replica stands at its height."""

    WAITING = "waiting"  # in an active view, no proposal accepted
    JUDGING = "judging"  # proposal accepted, its PREPARE not sent
    PREPARING = "preparing"  # PREPARE sent
    COMMITTING = "committing"  # prepared certificate durable, COMMIT sent
    CHANGING = "changing"  # VIEW_CHANGE sent, the view is not active
    EXECUTING = "executing"  # decided; the ledger has the block
    HALTED = "halted"  # own state is proved wrong, or the network broke its fault bound

    # Members are single objects; Enum's own, in Python, hashes the name with each look-up.
    __hash__ = object.__hash__


# For what runs with each message: in Python 3.11 to read a member off its class takes 200 ns, ten
# times as long as a name of a module.
WAITING: Final = Phase.WAITING
JUDGING: Final = Phase.JUDGING
CHANGING: Final = Phase.CHANGING
EXECUTING: Final = Phase.EXECUTING
HALTED: Final = Phase.HALTED


class Fact(Enum):
    """What moves a replica from phase to phase."""

    ACCEPTED = "accepted"  # a proposal that meets every rule
    VOTED = "voted"  # PREPARE sent
    PREPARED = "prepared"  # COMMIT sent
    LEFT = "left"  # VIEW_CHANGE sent, by timeout or by joining
    ENTERED = "entered"  # a valid NEW_VIEW
    DECIDED = "decided"  # a commit certificate and its block
    APPLIED = "applied"  # the ledger is done: next height
    FAILED = "failed"


AT_REST: Final = (Phase.EXECUTING, Phase.HALTED)  # no rule acts, no timer runs
_ANYWHERE: Final = {
    Fact.LEFT: Phase.CHANGING,
    Fact.ENTERED: Phase.WAITING,
    Fact.DECIDED: Phase.EXECUTING,
    Fact.FAILED: Phase.HALTED,
}
TRANSITIONS: Final[dict[Phase, dict[Fact, Phase]]] = {
    Phase.WAITING: {Fact.ACCEPTED: Phase.JUDGING, **_ANYWHERE},
    Phase.JUDGING: {Fact.VOTED: Phase.PREPARING, Fact.PREPARED: Phase.COMMITTING, **_ANYWHERE},
    Phase.PREPARING: {Fact.PREPARED: Phase.COMMITTING, **_ANYWHERE},
    Phase.COMMITTING: dict(_ANYWHERE),
    Phase.CHANGING: dict(_ANYWHERE),
    Phase.EXECUTING: {Fact.APPLIED: Phase.WAITING, Fact.FAILED: Phase.HALTED},
    Phase.HALTED: {},
}


def after(phase: Phase, fact: Fact) -> Phase:
    """The phase that follows; a missing entry is a bug of ours."""
    following = TRANSITIONS[phase].get(fact)
    assert following is not None, f"{fact.value} while {phase.value}"
    return following
