"""What a replica says itself: signed once it may, kept, and said again while it is of use.

Knows: its key, the messages of its view. Must not know: why they are said.
Source: docs/spec/pbft.md, "Timeouts".
"""

from typing import Final

from prsm.consensus.pbft.config import RESEND_FIRST_MS, RESEND_MS, RESEND_SOON_BYTES_MAX
from prsm.consensus.pbft.effects import Broadcast, Send
from prsm.consensus.pbft.evidence import VOTES
from prsm.consensus.pbft.opened import Opened, sign
from prsm.consensus.pbft.state import State, emit, may_sign
from prsm.consensus.pbft.transitions import AT_REST, CHANGING
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind

_CHANGE: Final = (Kind.VIEW_CHANGE,)
_PROPOSALS: Final = (Kind.NEW_VIEW, Kind.PROPOSE)


def blank(state: State, kind: Kind, body: bytes) -> SignedMessage:
    """A message of mine for the current height and view, not signed yet."""
    instance = state.instance
    assert instance.own is not None
    return SignedMessage(
        kind=kind,
        epoch=state.validators.epoch,
        height=instance.height,
        view=instance.view,
        body=body,
        signer=instance.own,
        signature=b"",
    )


def sign_own(state: State, unsigned: Opened) -> Opened:
    """Sign a message of mine and keep it for sending again; the caller emits it."""
    assert may_sign(state)
    assert state.instance.signer is not None
    opened = sign(unsigned, state.instance.signer, state.config.chain_id)
    state.instance.sent[opened.message.kind, opened.message.view] = opened
    state.instance.resend_span_ms = RESEND_FIRST_MS
    state.instance.resend_at_ms = state.now_ms + RESEND_FIRST_MS
    return opened


def resend(state: State) -> None:
    """Say again what is still of use in the current view: after 50 ms, then ever more rarely."""
    instance = state.instance
    due = instance.resend_at_ms
    if due is None or state.now_ms < due or not may_sign(state) or instance.phase in AT_REST:
        return
    instance.resend_span_ms = min(RESEND_MS, 2 * instance.resend_span_ms)
    instance.resend_at_ms = state.now_ms + instance.resend_span_ms
    for kind in _CHANGE if instance.phase is CHANGING else VOTES:
        opened = instance.sent.get((kind, instance.view))
        if opened is not None:
            emit(state, Broadcast(opened.message))
    _resend_proposal(state)


def _resend_proposal(state: State) -> None:
    """To those whose COMMIT is missing: a PREPARE alone does not say that they kept the block."""
    instance = state.instance
    messages = [instance.sent.get((kind, instance.view)) for kind in _PROPOSALS]
    if messages == [None, None]:
        return
    tally = instance.tallies.get((Kind.COMMIT, instance.view))
    for opened in messages:
        if opened is None:
            continue
        is_first = instance.resend_span_ms <= 2 * RESEND_FIRST_MS
        if is_first and len(opened.message.body) > RESEND_SOON_BYTES_MAX:
            continue
        for signer, member in enumerate(state.validators.validators):
            if signer != instance.own and (tally is None or signer not in tally.votes):
                emit(state, Send(member.peer_id, opened.message))
