"""The proposer's part: when to ask for a payload, and the block made from it.

Source: docs/spec/pbft.md, "Proposing".
"""

from typing import Final

from prsm.consensus.pbft.certificates import peers_of
from prsm.consensus.pbft.config import RESEND_MS
from prsm.consensus.pbft.effects import Broadcast, Fetch, NeedPayload
from prsm.consensus.pbft.events import Draft
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.records import Voted
from prsm.consensus.pbft.sending import blank, sign_own
from prsm.consensus.pbft.state import State, emit, may_sign, persist
from prsm.consensus.pbft.timeouts import has_work
from prsm.consensus.pbft.transitions import WAITING
from prsm.protocol import merkle
from prsm.protocol.certificates import certificate_hash
from prsm.protocol.codec import encode
from prsm.protocol.headers import Block, Body, Header, block_hash
from prsm.protocol.messages.consensus import Prepared, Proposal
from prsm.protocol.signing import Kind

_PROPOSE: Final = Kind.PROPOSE


def propose(state: State) -> bool:
    """As proposer of this view, propose what is demanded, or ask for a payload when it is time."""
    instance = state.instance
    assert instance.phase is WAITING
    if instance.own != instance.schedule.at(instance.view):
        return False
    if (_PROPOSE, instance.view) in instance.voted or not may_sign(state):
        return False
    if instance.demanded is not None:
        return _propose_again(state)
    if _is_time(state):
        instance.payload_at_ms = state.now_ms + RESEND_MS
        emit(state, NeedPayload(instance.height, instance.view))
    return False


def on_payload(state: State, height: int, view: int, draft: Draft | None) -> None:
    """Make the block, unless the height or view it was meant for is over."""
    instance = state.instance
    if (instance.height, instance.view) != (height, view) or draft is None:
        return
    is_open = instance.phase is WAITING and instance.demanded is None
    if not is_open or instance.own != instance.schedule.at(view) or not may_sign(state):
        return
    if (_PROPOSE, view) not in instance.voted:
        _send_proposal(state, _assemble(state, draft))


def _is_time(state: State) -> bool:
    """A later view exists because somebody wanted a block; view 0 waits for work and the gap."""
    instance = state.instance
    if state.now_ms < instance.payload_at_ms:
        return False
    if instance.view > 0:
        return True
    gap_ms = state.config.parameters.block_gap_min_ms
    is_gap_over = state.tip.height == 0 or state.now_ms >= state.rests_since_ms + gap_ms
    return is_gap_over and has_work(state)


def _propose_again(state: State) -> bool:
    instance = state.instance
    demanded = instance.demanded
    assert demanded is not None
    block = instance.bodies.get(demanded.block_hash)
    if block is not None:
        _send_proposal(state, block)
        return True
    if state.now_ms >= instance.body_at_ms:
        instance.body_at_ms = state.now_ms + RESEND_MS
        height = instance.height
        emit(state, Fetch(height, height, demanded.block_hash, _holders(state, demanded)))
    return False


def _holders(state: State, demanded: Prepared) -> tuple[str, ...]:
    """Who to ask for the demanded block, whoever has it on disk first.

    A VIEW_CHANGE that shows it was said after block and certificate were durable together; who
    only signed PREPARE had it in memory, and a power cut leaves the hash.
    """
    new_view, members = state.instance.new_view, state.validators.validators
    assert new_view is not None
    locked = [
        members[part.message.signer].peer_id
        for part in new_view.view_changes
        if part.view_change is not None
        and part.view_change.prepared is not None
        and part.view_change.prepared.block_hash == demanded.block_hash
    ]
    return tuple(dict.fromkeys((*locked, *peers_of(state, demanded.certificate))))


def _assemble(state: State, draft: Draft) -> Block:
    """A block on the tip; roots are those of the state after the tip."""
    instance = state.instance
    tip = state.tip
    assert instance.own is not None
    header = Header(
        version=1,
        chain_id=state.config.chain_id,
        height=instance.height,
        view=instance.view,
        epoch=state.validators.epoch,
        prev_hash=tip.block_hash,
        prev_cert_hash=certificate_hash(tip.certificate),
        tx_root=merkle.root(draft.transactions),
        state_root=tip.state_root,
        receipts_root=tip.receipts_root,
        validators_hash=tip.validators.digest,
        next_validators_hash=tip.epoch.following_hash,
        evidence_root=merkle.root(draft.evidence),
        time_ms=max(draft.time_ms, state.parent_time_ms + 1),
        proposer=instance.own,
    )
    return Block(header, Body(tip.certificate, draft.evidence, draft.transactions))


def _send_proposal(state: State, block: Block) -> None:
    instance = state.instance
    assert may_sign(state)
    digest = block_hash(block.header)
    new_view = instance.new_view.digest if instance.new_view else None
    proposal = Proposal(block, new_view)
    persist(
        state,
        Voted(Kind.PROPOSE, state.validators.epoch, instance.height, instance.view, digest),
    )
    instance.voted[Kind.PROPOSE, instance.view] = digest
    message = blank(state, Kind.PROPOSE, encode(proposal))
    opened = sign_own(state, Opened(message, digest, proposal=proposal))
    instance.proposals[instance.view] = opened
    emit(state, Broadcast(opened.message))
