"""Votes of this replica's own keys that others show: one its log does not hold was forgotten.

Whoever forgot one vote may have forgotten others, so it signs nothing for a while. They are shown
in STATUS, as the latest one a peer heard, in certificates, which every node keeps on disk, and in
a NEW_VIEW.
Knows: the log's memory, what was shown. Must not know: how, or by whom.
Source: docs/spec/pbft.md, "Start".
"""

from prsm.consensus.pbft.effects import Observe
from prsm.consensus.pbft.observer import observe
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.state import State, emit
from prsm.protocol.certificates import Certificate
from prsm.protocol.signing import Kind, sha256
from prsm.protocol.validators import ValidatorSet


def is_remembered(state: State, kind: Kind, *, height: int, view: int, body: bytes) -> bool:
    """Does the log hold this message of mine, or nothing any more of its height?

    Args:
        state: of the replica.
        kind: of the message.
        height: of it.
        view: of it.
        body: of a vote the block's hash, of a NEW_VIEW its digest.
    """
    if height <= state.dropped:  # not the low mark: a certificate that others made raises that, too
        return True
    instance = state.instance
    if height == instance.height:
        voted, left = instance.voted, instance.view
        entered = None if instance.new_view is None else instance.new_view.digest
    else:
        memory = state.memories.get(height)
        if memory is None:
            return False
        voted, left = memory.voted, memory.view
        entered = None if memory.new_view is None else sha256(memory.new_view.body)
    match kind:
        case Kind.VIEW_CHANGE:
            return view <= left
        case Kind.NEW_VIEW:
            return view < left or (view == left and body == entered)
        case _:
            return voted.get((kind, view)) == body


def check_own(state: State, opened: Opened) -> None:
    """Observe if a message of mine that comes back, by itself or in a NEW_VIEW, was forgotten.

    Peers give a NEW_VIEW from their own logs to who is late, so these outlast their restarts.
    """
    message = opened.message
    kind, height, view = message.kind, message.height, message.view
    if not is_remembered(state, kind, height=height, view=view, body=opened.digest):
        what = f"my {kind.name} of height {height}, view {view}"
        forget(state, height, f"{what} came back, and my log does not have it")


def check_certificate_for_own(
    state: State, certificate: Certificate, validators: ValidatorSet
) -> None:
    """Observe if a certificate that holds has a vote of mine that the log does not.

    A log that is blank looks like a new validator's: blocks that others decided with its votes
    tell the two apart, also where every peer has forgotten what it heard.
    """
    reason = shown_by(state, certificate, validators)
    if reason:
        forget(state, certificate.height, reason)


def shown_by(state: State, certificate: Certificate, validators: ValidatorSet) -> str:
    """Name the vote of mine in a certificate that holds and that the log lacks, or nothing."""
    kind, height, view = certificate.kind, certificate.height, certificate.view
    signers = (validators.validators[index].consensus for index in certificate.signer_indexes())
    if state.config.keys.isdisjoint(signers):
        return ""
    if is_remembered(state, kind, height=height, view=view, body=certificate.block_hash):
        return ""
    return f"a certificate has my {kind.name} of height {height}, view {view}, and my log does not"


def forget(state: State, height: int, reason: str) -> None:
    """Sign nothing for a while: a vote of mine of this height was shown that the log lacks."""
    if state.observer is None:
        observe(state, reason, Probation(max(height, state.low, *state.memories)), forgot=True)
    elif state.probation is not None:
        state.probation.voted = max(state.probation.voted, height)
        if not state.is_told:  # what made the observer may be gone at the next start
            emit(state, Observe(reason, forgot=True))
    state.is_told = True
