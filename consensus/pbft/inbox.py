"""Messages of validators sorted by height and view: too late, now, or kept for their time.

Kept ahead: heights h + 1 .. h + 4 and views up to 4, one of each kind per signer, height and
view, two PROPOSEs and two NEW_VIEWs of h + 1, two PROPOSEs of later views of h; of VIEW_CHANGEs the
highest of a signer. The rest is dropped: it is sent again.
Source: docs/spec/pbft.md, "Messages".
"""

from prsm.consensus.pbft.catchup import on_certificate
from prsm.consensus.pbft.config import (
    BODIES_AHEAD_MAX,
    HEIGHTS_AHEAD_MAX,
    VIEWS_AHEAD_MAX,
    VIEWS_BEHIND_MAX,
)
from prsm.consensus.pbft.effects import Accuse, Send
from prsm.consensus.pbft.evidence import VOTES, accusation, find, late
from prsm.consensus.pbft.forgotten import check_own
from prsm.consensus.pbft.normal import count
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.state import State, emit
from prsm.consensus.pbft.statuses import note_highest
from prsm.consensus.pbft.transitions import AT_REST
from prsm.consensus.pbft.viewchange import on_new_view, on_view_change
from prsm.protocol.messages.consensus import SignedMessage
from prsm.protocol.signing import Kind


def receive(state: State, opened: Opened) -> None:
    """Take a message of another validator."""
    message = opened.message
    validators = state.tip.set_of(message.height, message.epoch)
    if validators is None or message.signer >= len(validators.validators):
        return
    member = validators.validators[message.signer]
    if member.consensus in state.config.keys:
        check_own(state, opened)
        return
    state.heard_at_ms[member.peer_id] = state.now_ms
    note_highest(state, member.consensus, opened)
    height = state.instance.height
    if message.height == height:
        _current(state, opened)
    elif message.height > height:
        _early(state, opened)
    else:
        _accuse(state, late(state.past, opened))
        _answer(state, opened, member.peer_id)


def is_late(state: State, message: SignedMessage) -> bool:
    """Is a PREPARE or COMMIT of no use any more, but as evidence and as a question?

    Its height is decided, or it is a PREPARE of a view in which a quorum of them was seen. Whoever
    asks may leave such a vote until there is time for it; `receive` takes it all the same.
    """
    instance, kind = state.instance, message.kind
    if kind not in VOTES:
        return False
    if message.height != instance.height:
        return message.height < instance.height
    if instance.certificate is not None:
        return True
    return kind is Kind.PREPARE and (Kind.COMMIT, message.view) in instance.voted


def take_ahead(state: State) -> None:
    """Hand out what was kept for the height that has just begun; forget what is past."""
    height = state.instance.height
    for key in sorted(key for key in state.ahead if key[0] <= height):
        opened = state.ahead.pop(key)
        if key[0] == height:
            _current(state, opened)


def _early(state: State, opened: Opened) -> None:
    """Use the certificate of an earlier height inside it, then keep it if there is room."""
    message = opened.message
    certificate = None
    if opened.proposal is not None:
        certificate = opened.proposal.block.body.prev_cert
    elif opened.view_change is not None:
        certificate = opened.view_change.tip_cert
    if certificate is not None and certificate.height == message.height - 1:
        on_certificate(state, certificate)
    if message.height > state.instance.height + HEIGHTS_AHEAD_MAX:
        return
    # VIEW_CHANGEs are bounded by signer, not by view: a replica far behind must see how far.
    is_change = message.kind is Kind.VIEW_CHANGE
    view = 0 if is_change else message.view
    key = (message.height, message.epoch, message.kind, view, message.signer)
    if is_change:
        known = state.ahead.get(key)
        if known is None or known.message.view < message.view:
            state.ahead[key] = opened
    elif message.view <= VIEWS_AHEAD_MAX and _has_room(state, opened):
        state.ahead.setdefault(key, opened)


def _has_room(state: State, opened: Opened) -> bool:
    kind = opened.message.kind
    if kind not in (Kind.PROPOSE, Kind.NEW_VIEW):
        return True
    if opened.message.height != state.instance.height + 1:
        return False
    return sum(1 for key in state.ahead if key[2] is kind) < BODIES_AHEAD_MAX


def _current(state: State, opened: Opened) -> None:
    message = opened.message
    instance = state.instance
    if instance.phase in AT_REST:
        _accuse(state, accusation(opened, instance.tallies, instance.view_changes))
        return
    if message.epoch != state.validators.epoch:  # kept ahead, for an epoch that has not come yet
        return
    kind = message.kind
    if kind in VOTES:
        if -VIEWS_BEHIND_MAX <= message.view - instance.view <= VIEWS_AHEAD_MAX:
            _accuse(state, accusation(opened, instance.tallies, instance.view_changes))
            count(state, opened)
    elif kind is Kind.PROPOSE:
        _on_proposal(state, opened)
    elif kind is Kind.VIEW_CHANGE:
        if on_view_change(state, opened):
            _accuse(state, accusation(opened, instance.tallies, instance.view_changes))
    else:
        assert kind is Kind.NEW_VIEW
        # A liar may have shown its VIEW_CHANGE to the proposer alone.
        for part in opened.view_changes if on_new_view(state, opened) else ():
            _accuse(state, accusation(part, instance.tallies, instance.view_changes))


def _on_proposal(state: State, opened: Opened) -> None:
    """Keep the first proposal of a view that its proposer may make."""
    instance = state.instance
    view = opened.message.view
    if opened.message.signer != instance.schedule.at(view) or view < instance.view:
        return
    first = instance.proposals.get(view)
    if first is not None:
        if first.digest != opened.digest:
            _accuse(state, Accuse(first.message, opened.message))
        return
    later = sum(1 for known in instance.proposals if known > instance.view)
    if view > instance.view and (
        view > instance.view + VIEWS_AHEAD_MAX or later >= BODIES_AHEAD_MAX
    ):
        return
    instance.proposals[view] = opened
    instance.is_pressed = True


def _answer(state: State, opened: Opened, peer: str) -> None:
    """Who says its PREPARE again at a decided height, or leaves a view there, gets my COMMIT.

    It lacks some, and nobody says them again by himself once he went on: one lost message cost
    it a timeout, and the next height another where its vote is needed. Nothing answers a COMMIT,
    so two replicas never answer each other.
    """
    message = opened.message
    kept = find(state.past, message.height, message.epoch)
    if kept is None or message.kind not in (Kind.PREPARE, Kind.VIEW_CHANGE):
        return
    if message.kind is Kind.PREPARE:
        tally = kept.tallies.get((message.kind, message.view))
        if tally is None or message.signer not in tally.votes:
            return
    validators = state.tip.set_of(message.height, message.epoch)
    assert validators is not None
    own, _ = state.config.signer_in(validators)
    if own is None:
        return
    left = kept.view_changes.get(own)
    first = 0 if left is None else left.message.view
    said = {
        view: tally.votes[own].message
        for (kind, view), tally in kept.tallies.items()
        if kind is Kind.COMMIT and view >= first and own in tally.votes
    }
    if said:
        emit(state, Send(peer, said[max(said)]))


def _accuse(state: State, found: Accuse | None) -> None:
    if found is not None:
        emit(state, found)
