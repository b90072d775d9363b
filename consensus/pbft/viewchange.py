"""Leaving a view, entering the next, and what must survive: the prepared block.

The rule: if any VIEW_CHANGE of a NEW_VIEW holds a prepared certificate, the proposal must be
the block of the highest prepared view; otherwise it is free. Everybody recomputes it.
Source: Castro and Liskov 1999, section 4.4; docs/spec/pbft.md, "View change".
"""

from collections.abc import Iterable
from typing import Final

from prsm.consensus.pbft.effects import Broadcast, Send
from prsm.consensus.pbft.normal import blank, sign_own, vote
from prsm.consensus.pbft.opened import Opened, is_signed
from prsm.consensus.pbft.records import Entered, Left
from prsm.consensus.pbft.state import (
    State,
    emit,
    halt,
    is_certified,
    may_sign,
    move,
    persist,
)
from prsm.consensus.pbft.timeouts import restart_timer
from prsm.consensus.pbft.transitions import Fact, Phase
from prsm.protocol.certificates import Certificate
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import NewView, Prepared, ViewChange
from prsm.protocol.signing import Kind, sha256

VIEWS_KEPT: Final = 4  # votes of older views of a height are dropped


def leave(state: State, view: int) -> None:
    """Go to a later view: no vote in an older one from here on, and say so."""
    instance = state.instance
    assert view > instance.view
    assert may_sign(state)
    persist(state, Left(state.validators.epoch, instance.height, view))
    _reset(state, view)
    move(state, Fact.LEFT)
    say_view_change(state)


def say_view_change(state: State) -> None:
    """Broadcast VIEW_CHANGE for the current view, and count it."""
    instance = state.instance
    assert instance.own is not None
    change = ViewChange(tip_cert=state.tip.certificate, prepared=instance.locked)
    body = encode(change)
    unsigned = Opened(blank(state, Kind.VIEW_CHANGE, body), sha256(body), view_change=change)
    opened = instance.view_changes[instance.own] = sign_own(state, unsigned)
    emit(state, Broadcast(opened.message))


def resume(state: State) -> bool:
    """After a restart, once signing is allowed: say again what the log holds of this view."""
    instance = state.instance
    if instance.restated or not may_sign(state):
        return False
    instance.restated = True
    if instance.phase is Phase.CHANGING:
        say_view_change(state)
        return True
    for kind in (Kind.PREPARE, Kind.COMMIT):
        digest = instance.voted.get((kind, instance.view))
        if digest is not None:
            vote(state, kind, digest)
    locked = instance.locked
    if locked is not None and locked.view == instance.view:
        instance.block, instance.block_hash = instance.bodies[locked.block_hash], locked.block_hash
        if instance.phase is Phase.WAITING:
            move(state, Fact.ACCEPTED)
        move(state, Fact.PREPARED)
    return True


def on_view_change(state: State, opened: Opened) -> bool:
    """Keep the highest VIEW_CHANGE of a signer; answer a late one with the NEW_VIEW.

    False if it does not prove what it claims.
    """
    instance = state.instance
    message = opened.message
    if not _is_valid(state, opened):
        return False
    earlier = instance.view_changes.get(message.signer)
    if earlier is None or earlier.message.view < message.view:
        instance.view_changes[message.signer] = opened
    if message.view > instance.view:
        instance.is_pressed = True
    elif instance.new_view is not None and (earlier or message.view < instance.view):
        # A first one for this view only crossed the NEW_VIEW; a repeated one never got it.
        peer = state.validators.validators[message.signer].peer_id
        emit(state, Send(peer, instance.new_view.message))
    return True


def join(state: State) -> bool:
    """Go to the highest view that signers holding more than a third of the stake have reached.

    One of them is honest, so the view is wanted; waiting for one's own timer would leave
    replicas a view apart for as long as the longest timeout.
    """
    instance = state.instance
    if not instance.view_changes:
        return False
    reached = sorted(
        (
            (-opened.message.view, state.validators.validators[signer].stake)
            for signer, opened in instance.view_changes.items()
            if opened.message.view > instance.view
        ),
    )
    if not reached or not may_sign(state):
        return False
    weight = 0
    for view, stake in reached:
        weight += stake
        if weight >= state.validators.weak_quorum:
            leave(state, -view)
            return True
    return False


def lead(state: State) -> bool:
    """As proposer of the view that is wanted: show a quorum of VIEW_CHANGEs."""
    instance = state.instance
    if instance.phase is not Phase.CHANGING or not may_sign(state):
        return False
    if instance.schedule.at(instance.view) != instance.own:
        return False
    parts = tuple(
        opened
        for _, opened in sorted(instance.view_changes.items())
        if opened.message.view == instance.view
    )
    if not state.validators.is_quorum(part.message.signer for part in parts):
        return False
    body = encode(NewView(tuple(part.message for part in parts)))
    unsigned = Opened(blank(state, Kind.NEW_VIEW, body), sha256(body), view_changes=parts)
    opened = sign_own(state, unsigned)
    _enter(state, opened)
    emit(state, Broadcast(opened.message))
    return True


def on_new_view(state: State, opened: Opened) -> bool:
    """Enter a view that its proposer justified; False if it did not, or the view is past."""
    instance = state.instance
    message = opened.message
    is_later = message.view > instance.view
    if not is_later and (message.view < instance.view or instance.phase is not Phase.CHANGING):
        return False
    if message.signer != instance.schedule.at(message.view):
        return False
    if not state.validators.is_quorum(part.message.signer for part in opened.view_changes):
        return False
    if not all(_is_believed(state, part) for part in opened.view_changes):
        return False
    _enter(state, opened)
    return True


def highest_prepared(parts: Iterable[Opened]) -> Prepared | None:
    """The prepared block of the highest view among VIEW_CHANGEs: what must be proposed."""
    found: Prepared | None = None
    for part in parts:
        assert part.view_change is not None
        prepared = part.view_change.prepared
        if prepared is not None and (found is None or prepared.view > found.view):
            found = prepared
    return found


def _enter(state: State, opened: Opened) -> None:
    instance = state.instance
    prepared = [part.view_change.prepared for part in opened.view_changes if part.view_change]
    hashes = {(found.view, found.block_hash) for found in prepared if found is not None}
    if len({view for view, _ in hashes}) != len(hashes):
        halt(state, f"two blocks are prepared in one view of height {instance.height}")
        return
    persist(state, Entered(opened.message))
    _reset(state, opened.message.view)
    instance.new_view = opened
    instance.demanded = highest_prepared(opened.view_changes)
    move(state, Fact.ENTERED)
    restart_timer(state)


def _reset(state: State, view: int) -> None:
    """Forget the block of the old view, and votes too old to matter."""
    instance = state.instance
    instance.view = view
    instance.block, instance.block_hash, instance.verdict = None, b"", None
    instance.new_view, instance.demanded = None, None
    instance.is_pressed = True
    instance.deadline_ms, instance.payload_at_ms, instance.body_at_ms = None, 0, 0
    oldest = view - VIEWS_KEPT
    for key in [key for key in instance.tallies if key[1] < oldest]:
        del instance.tallies[key]
    for key in [key for key in instance.sent if key[1] < view]:
        del instance.sent[key]
    for past in [past for past in instance.proposals if past < view]:
        del instance.proposals[past]


def _is_believed(state: State, part: Opened) -> bool:
    """Is a VIEW_CHANGE inside a NEW_VIEW signed and valid? Those seen before are."""
    known = state.instance.view_changes.get(part.message.signer)
    if known is not None and known.message == part.message:
        return True
    config = state.config
    signed = is_signed(part, state.validators, chain_id=config.chain_id, verifier=config.verifier)
    return signed and _is_valid(state, part)


def _is_valid(state: State, opened: Opened) -> bool:
    """Does a VIEW_CHANGE of this height prove what it claims?"""
    change = opened.view_change
    assert change is not None
    if opened.message.view == 0 or not _shows_parent(state, change.tip_cert):
        return False
    prepared = change.prepared
    if prepared is None:
        return True
    return (
        prepared.view < opened.message.view
        and prepared.view == prepared.certificate.view
        and is_certified(
            state,
            prepared.certificate,
            Kind.PREPARE,
            height=state.instance.height,
            block_hash=prepared.block_hash,
        )
    )


def _shows_parent(state: State, certificate: Certificate | None) -> bool:
    tip = state.tip
    if tip.height == 0 or certificate is None:
        return tip.height == 0 and certificate is None
    block_hash = certificate.block_hash
    if not is_certified(state, certificate, Kind.COMMIT, height=tip.height, block_hash=block_hash):
        return False
    if block_hash != tip.block_hash:
        halt(state, f"another block than mine is certified at height {tip.height}")
        return False
    return True
