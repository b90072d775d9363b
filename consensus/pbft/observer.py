"""A replica that signs nothing: why, for how long, and how that ends by itself.

Knows: reasons, the probation. Must not know: votes, files.
Source: docs/spec/pbft.md, "Observer".
"""

from prsm.consensus.pbft.effects import Observe, Resume
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.state import State, emit, move
from prsm.consensus.pbft.transitions import Fact, Phase


def observe(
    state: State, reason: str, probation: Probation | None, *, forgot: bool = False
) -> None:
    """Sign nothing from here on, for good or until a probation ends."""
    state.probation = probation
    if state.observer is None:
        state.observer = reason
        emit(state, Observe(reason, forgot))


def distrust(state: State, reason: str, height: int) -> None:
    """Sign nothing for a while: the log knows no past, and a vote of it may be at this height."""
    known = state.probation
    observe(state, reason, Probation(height if known is None else max(height, known.voted)))


def halt(state: State, reason: str) -> None:
    """Stop for good: what this replica holds contradicts a certificate."""
    observe(state, reason, None)
    move(state, Fact.FAILED)


def silence(state: State) -> str:
    """Why this replica signs nothing and until when, for people; empty if it may sign."""
    why, probation = state.observer, state.probation
    if why is None or probation is None:
        return why or ""
    first = probation.first_height(state.validators, state.instance.own)
    if first is None:
        return f"{why}; ends after validators of a quorum said where they stand"
    return f"{why}; ends with the first epoch that begins at height {first} or above"


def has_halted(state: State) -> bool:
    """Has this replica ended for good, its data kept for a person?"""
    return state.instance.phase is Phase.HALTED


def end_probation(state: State) -> None:
    """At an epoch's first height an observer may begin to sign, if it forgot no vote there."""
    probation = state.probation
    if probation is None or probation.is_ending:
        return
    first = probation.first_height(state.validators, state.instance.own)
    if first is not None and state.instance.height >= first:
        probation.is_ending = True
        state.is_told = False  # what is shown from here on, the fresh ones do not know
        emit(state, Resume(state.instance.height))


def on_resumed(state: State, height: int) -> None:
    """Sign again, unless something else has been learnt since the fresh log was ordered."""
    probation = state.probation
    if probation is None or not probation.is_ending:  # another reason came in between
        return
    probation.is_ending = False
    if probation.voted < height:  # or a peer has shown a vote there since
        state.observer, state.probation = None, None
