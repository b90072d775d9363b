"""STATUS: what a peer is told of this replica and of its own latest vote, and what it tells.

A vote of mine that a peer holds and my log does not proves that the log lost it. Knows: heights,
votes as they are shown. Must not know: when a STATUS is due, the network.
Source: docs/spec/pbft.md, "Messages" and "Start".
"""

from typing import Final

from msgspec import structs

from prsm.consensus.pbft.catchup import follow
from prsm.consensus.pbft.forgotten import forget, is_remembered
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.records import ORDER
from prsm.consensus.pbft.state import State, weigh_claims
from prsm.protocol.errors import WireError
from prsm.protocol.messages.consensus import SignedMessage, Status, message_digest, statement_of
from prsm.protocol.signing import Kind

_LARGE: Final = (Kind.PROPOSE, Kind.NEW_VIEW)


def status_for(state: State, receiver: str, held: tuple[int, int] = (0, 1)) -> Status:
    """Where this replica stands, and the highest vote it holds of the receiver, by peer id.

    Args:
        state: of the replica.
        receiver: peer id.
        held: heights of the latest snapshot this node serves (0: none) and of its first block.
    """
    keys = {key: None for known in state.tip.sets for key in known.keys_of.get(receiver, ())}
    votes = [state.highest[key] for key in keys if key in state.highest]
    vote = max(votes, key=_rank, default=None)
    return Status(
        height=state.tip.height,
        view=state.instance.view,
        tip_hash=state.tip.block_hash,
        low_mark=state.low,
        snapshot_height=held[0],
        first_height=held[1],
        your_highest=None if vote is None else vote.message,
    )


def on_status(state: State, peer: str, status: Status) -> None:
    """A peer stands somewhere: it may be ahead, and it may remember a vote of mine."""
    if status.your_highest is not None:
        _check_own_vote(state, status.your_highest)
    if any(peer in known.keys_of for known in state.tip.sets):
        state.heard_at_ms[peer] = state.now_ms
        claimed = state.claims.get(peer, -1)
        state.claims[peer] = max(status.height, claimed)
        if state.probation is not None:
            state.probation.claims.setdefault(peer, status.height)
        if status.height > claimed or not state.is_ready:
            weigh_claims(state)
    follow(state, peer, status.height)


def note_highest(state: State, key: bytes, opened: Opened) -> None:
    """Remember the latest vote of a consensus key, as its owner will be shown it."""
    known = state.highest.get(key)
    if known is None or _is_later(opened.message, known.message):
        state.highest[key] = _echo_of(opened)


def _rank(opened: Opened) -> tuple[int, int, int]:
    """Which of a validator's votes is the later one: a log that holds it holds those before it."""
    message = opened.message
    return message.height, message.view, ORDER.index(message.kind)


def _is_later(message: SignedMessage, known: SignedMessage) -> bool:
    """Compare ranks; heights nearly always tell."""
    if message.height != known.height:
        return message.height > known.height
    if message.view != known.view:
        return message.view > known.view
    return ORDER.index(message.kind) > ORDER.index(known.kind)


def _echo_of(opened: Opened) -> Opened:
    """What is shown of a vote in a STATUS: of a large one the digest stands for the body."""
    if opened.message.kind not in _LARGE:
        return opened
    message = structs.replace(opened.message, body=bytes(opened.digest))
    return Opened(message, opened.digest)


def _check_own_vote(state: State, message: SignedMessage) -> None:
    """Observe if a peer holds a vote of mine that my log does not: then the log lost it."""
    kind, height, view = message.kind, message.height, message.view
    if is_remembered(state, kind, height=height, view=view, body=message.body):
        return
    try:
        # As `_echo_of` made it; PREPARE and COMMIT have their digest as body anyway.
        digest = message_digest(Kind.PREPARE if kind in _LARGE else kind, message.body)
    except WireError:
        return
    signed = statement_of(message, digest, state.config.chain_id)
    # By key, not by place in a set: the vote may be of an epoch that is not known here yet.
    verify = state.config.verifier.verify
    keys = [signer.public_key for signer in state.config.signers]
    if any(verify(key, signed, message.signature) for key in keys):
        shown = f"a peer holds my {kind.name} of height {height}, view {view}"
        forget(state, height, f"{shown}, and my log does not")
