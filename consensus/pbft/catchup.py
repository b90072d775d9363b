"""Blocks that others have and this replica lacks: the low mark, certificates seen, STATUS.

The low mark is the rule that no height at or below it is ever proposed, prepared or committed
again here; such blocks are fetched. It stands alone wherever the tip can be lower: a ledger
behind the log, an installed snapshot, a certificate seen before its block.
Source: docs/spec/pbft.md, "Low mark".
"""

from typing import Final

from msgspec import structs

from prsm.consensus.pbft.config import (
    BEHIND_GRACE_MS,
    FETCH_BLOCKS_MAX,
    FETCH_RETRY_MS,
    RESEND_MS,
)
from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.normal import keep_body
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import LowMark
from prsm.consensus.pbft.state import (
    State,
    emit,
    halt,
    is_certified,
    observe,
    peers_of,
    persist,
    weigh_claims,
)
from prsm.consensus.pbft.transitions import Phase
from prsm.protocol.certificates import Certificate
from prsm.protocol.errors import WireError
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.messages.consensus import SignedMessage, Status, message_digest
from prsm.protocol.signing import Kind, sha256, statement

# Votes of one view in the order an honest validator says them.
_ORDER: Final = {
    Kind.VIEW_CHANGE: 0,
    Kind.NEW_VIEW: 1,
    Kind.PROPOSE: 2,
    Kind.PREPARE: 3,
    Kind.COMMIT: 4,
}
_LARGE: Final = (Kind.PROPOSE, Kind.NEW_VIEW)


def rank(opened: Opened) -> tuple[int, int, int]:
    """Which of a validator's votes is the later one: a log that holds it holds those before it."""
    message = opened.message
    return message.height, message.view, _ORDER[message.kind]


def echo_of(opened: Opened) -> Opened:
    """What is shown of a vote in a STATUS: of a large one the digest stands for the body."""
    if opened.message.kind not in _LARGE:
        return opened
    message = structs.replace(opened.message, body=bytes(opened.digest))
    return Opened(message, opened.digest)


def on_status(state: State, peer: str, status: Status) -> None:
    """A peer stands somewhere: it may be ahead, and it may remember a vote of mine."""
    if status.your_highest is not None:
        _check_own_vote(state, status.your_highest)
    if any(peer == member.peer_id for known in state.tip.sets for member in known.validators):
        state.heard_at_ms[peer] = state.now_ms
        state.claims[peer] = max(status.height, state.claims.get(peer, 0))
        if state.probation is not None:
            state.probation.claims.setdefault(peer, status.height)
        weigh_claims(state)
    _follow(state, peer, status.height)


def on_certificate(state: State, certificate: Certificate) -> None:
    """Use a commit certificate that came inside some message."""
    instance = state.instance
    height = certificate.height
    block_hash = certificate.block_hash
    known = instance.certificate if height == instance.height else None
    if height < instance.height or (known is not None and known.block_hash == block_hash):
        return
    if instance.height < height <= state.low:
        return
    if not is_certified(state, certificate, Kind.COMMIT, height=height, block_hash=block_hash):
        return
    if known is not None:
        halt(state, f"two blocks are certified at height {height}")
    elif height == instance.height:
        instance.certificate = certificate
    else:
        raise_low(state, certificate)
        want(state, height, peers_of(state, certificate))


def on_decided(state: State, block: Block, certificate: Certificate) -> None:
    """A peer showed the next block: believed by its certificate only."""
    instance = state.instance
    if instance.phase in (Phase.EXECUTING, Phase.HALTED):
        return
    digest = block_hash(block.header)
    if block.header.height != instance.height or not is_bound(block):
        return
    if not is_certified(state, certificate, Kind.COMMIT, height=instance.height, block_hash=digest):
        return
    known = instance.certificate
    if known is not None and known.block_hash != digest:
        halt(state, f"two blocks are certified at height {instance.height}")
        return
    instance.certificate = certificate
    keep_body(state, digest, block)


def on_fetched(state: State, block: Block) -> None:
    """A peer sent a body that was asked for by hash; it is what its hash says."""
    instance = state.instance
    digest = block_hash(block.header)
    named = {held.block_hash for held in (instance.demanded, instance.certificate) if held}
    if block.header.height == instance.height and digest in named and is_bound(block):
        keep_body(state, digest, block)


def miss(state: State) -> bool:
    """Fetch the block of this height if its certificate came first."""
    instance = state.instance
    certificate = instance.certificate
    if certificate is None or certificate.block_hash in instance.bodies:
        return False
    raise_low(state, certificate)
    if state.now_ms >= instance.body_at_ms:
        # By hash: whoever sent COMMIT has it on disk, and perhaps nobody knows it is decided.
        instance.body_at_ms = state.now_ms + RESEND_MS
        height, peers = instance.height, peers_of(state, certificate)
        emit(state, Fetch(height, height, certificate.block_hash, peers))
    return False


def want(state: State, last: int, peers: tuple[str, ...]) -> None:
    """Fetch committed blocks up to `last`: one range in flight, asked again when it stalls."""
    if last > state.fetch_to:
        state.fetch_to, state.fetch_peers = last, peers
    if state.now_ms < state.fetch_at_ms or state.instance.phase is Phase.EXECUTING:
        return
    if state.fetch_to <= state.tip.height:
        return
    first = state.tip.height + 1
    last = min(state.fetch_to, state.tip.height + FETCH_BLOCKS_MAX)
    state.fetch_at_ms, state.fetch_last = state.now_ms + FETCH_RETRY_MS, last
    emit(state, Fetch(first, last, None, state.fetch_peers))


def raise_low(state: State, certificate: Certificate) -> None:
    """Never vote at the height of a commit certificate, or below it, again."""
    if certificate.height > state.low:
        state.low, state.proof = certificate.height, certificate
        persist(state, LowMark(certificate.height, certificate))


def _follow(state: State, peer: str, height: int) -> None:
    """Fetch from a peer that stays ahead: one block is ordinary, and heights are only hints."""
    lag = height - state.tip.height
    if lag <= 0:
        return
    if state.behind_since_ms is None:
        state.behind_since_ms = state.now_ms
    # Who is no member gets no votes: a block is all that comes, and perhaps its epoch is next.
    grace_ms = 0 if state.instance.own is None else BEHIND_GRACE_MS
    if lag > 1 or state.now_ms - state.behind_since_ms >= grace_ms:
        # A hint is not kept as a target: a liar's height would be asked for without end. Nor
        # does it displace one that a certificate proves.
        proven = state.fetch_to
        if proven > state.tip.height:
            want(state, proven, state.fetch_peers)
        else:
            want(state, height, (peer,))
            state.fetch_to = proven


def _check_own_vote(state: State, message: SignedMessage) -> None:
    """Observe if a peer holds a vote of mine that my log does not: then the log lost it."""
    if message.height <= state.low or _is_remembered(state, message):
        return
    try:
        # As `echo_of` made it; PREPARE and COMMIT have their digest as body anyway.
        kind = Kind.PREPARE if message.kind in _LARGE else message.kind
        digest = message_digest(kind, message.body)
    except WireError:
        return
    signed = statement(
        state.config.chain_id,
        message.kind,
        epoch=message.epoch,
        height=message.height,
        view=message.view,
        digest=digest,
    )
    # By key, not by place in a set: the vote may be of an epoch that is not known here yet.
    verify = state.config.verifier.verify
    keys = [signer.public_key for signer in state.config.signers]
    if not any(verify(key, signed, message.signature) for key in keys):
        return
    if state.observer is None:
        observe(
            state,
            f"a peer holds my {message.kind.name} of height {message.height}, view "
            f"{message.view}, and my log does not",
            Probation(max(state.low, message.height, *state.memories)),
        )
    elif state.probation is not None:
        state.probation.voted = max(state.probation.voted, message.height)


def _is_remembered(state: State, message: SignedMessage) -> bool:
    instance = state.instance
    if message.height == instance.height:
        voted, view = instance.voted, instance.view
        entered = None if instance.new_view is None else instance.new_view.digest
    else:
        memory = state.memories.get(message.height)
        if memory is None:
            return False
        voted, view = memory.voted, memory.view
        entered = None if memory.new_view is None else sha256(memory.new_view.body)
    match message.kind:
        case Kind.VIEW_CHANGE:
            return message.view <= view
        case Kind.NEW_VIEW:
            return message.view < view or (message.view == view and message.body == entered)
        case _:
            return voted.get((message.kind, message.view)) == message.body
