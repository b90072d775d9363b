"""Leaving a view, entering the next, and what must survive: the prepared block.

The rule: if any VIEW_CHANGE of a NEW_VIEW holds a prepared certificate, the proposal must be
the block of the highest prepared view; otherwise it is free. Everybody recomputes it.
Source: Castro and Liskov 1999, section 4.4; docs/spec/pbft.md, "View change".
"""

from operator import attrgetter

from prsm.consensus.pbft.certificates import is_certified, proves_parent
from prsm.consensus.pbft.config import VIEWS_BEHIND_MAX
from prsm.consensus.pbft.effects import Broadcast, Send
from prsm.consensus.pbft.forgotten import check_own
from prsm.consensus.pbft.observer import halt
from prsm.consensus.pbft.opened import Opened, is_signed
from prsm.consensus.pbft.records import Entered, Left
from prsm.consensus.pbft.sending import blank, sign_own
from prsm.consensus.pbft.state import State, emit, may_sign, move, persist
from prsm.consensus.pbft.timeouts import restart_timer
from prsm.consensus.pbft.transitions import CHANGING, Fact
from prsm.protocol.codec import encode
from prsm.protocol.messages.consensus import NewView, Prepared, ViewChange
from prsm.protocol.signing import Kind, sha256


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
        # The first one of a signer only crossed the NEW_VIEW; a later one means it never came.
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
    current = instance.view
    reached = [
        (-opened.message.view, state.validators.validators[signer].stake)
        for signer, opened in instance.view_changes.items()
        if opened.message.view > current
    ]
    if not reached or not may_sign(state):
        return False
    weight = 0
    for view, stake in sorted(reached):
        weight += stake
        if weight >= state.validators.weak_quorum:
            leave(state, -view)
            return True
    return False


def lead(state: State) -> bool:
    """As proposer of the view that is wanted: show a quorum of VIEW_CHANGEs."""
    instance = state.instance
    assert instance.phase is CHANGING
    if not may_sign(state) or instance.schedule.at(instance.view) != instance.own:
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
    if not is_later and (message.view < instance.view or instance.phase is not CHANGING):
        return False
    if message.signer != instance.schedule.at(message.view):
        return False
    if not state.validators.is_quorum(part.message.signer for part in opened.view_changes):
        return False
    if not all(_is_believed(state, part) for part in opened.view_changes):
        return False
    for part in opened.view_changes:
        if part.message.signer == instance.own:
            check_own(state, part)
    _enter(state, opened)
    return True


def demanded_by(new_view: Opened) -> Prepared | None:
    """The prepared block of the highest view that a NEW_VIEW shows: what must be proposed."""
    return max(_prepared_in(new_view), key=attrgetter("view"), default=None)


def _prepared_in(new_view: Opened) -> list[Prepared]:
    changes = [part.view_change for part in new_view.view_changes]
    return [found for change in changes if change and (found := change.prepared) is not None]


def _enter(state: State, opened: Opened) -> None:
    instance = state.instance
    hashes = {(found.view, found.block_hash) for found in _prepared_in(opened)}
    if len({view for view, _ in hashes}) != len(hashes):
        halt(state, f"two blocks are prepared in one view of height {instance.height}")
        return
    persist(state, Entered(opened.message))
    _reset(state, opened.message.view)
    instance.new_view = opened
    instance.demanded = demanded_by(opened)
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
    oldest = view - VIEWS_BEHIND_MAX
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
    if opened.message.view == 0 or not proves_parent(state, change.tip_cert):
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
