"""Blocks that others have and this replica lacks: certificates seen, the low mark, fetching.

The low mark is the rule that no height at or below it is ever proposed, prepared or committed
again here; such blocks are fetched. It stands alone wherever the tip can be lower: a ledger
behind the log, an installed snapshot, a certificate seen before its block.
Source: docs/spec/pbft.md, "Low mark".
"""

from prsm.consensus.pbft.certificates import is_certified, peers_of
from prsm.consensus.pbft.config import (
    BEHIND_GRACE_MS,
    FETCH_BLOCKS_MAX,
    FETCH_RETRY_MS,
    RESEND_MS,
)
from prsm.consensus.pbft.effects import Fetch
from prsm.consensus.pbft.observer import halt
from prsm.consensus.pbft.records import LowMark
from prsm.consensus.pbft.state import State, emit, keep_body, persist
from prsm.consensus.pbft.transitions import AT_REST, Phase
from prsm.protocol.certificates import Certificate
from prsm.protocol.headers import Block, block_hash, is_bound
from prsm.protocol.signing import Kind


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
    if instance.phase in AT_REST:
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
    """Fetch committed blocks up to `last` from these peers, unless it goes further already."""
    if last > state.fetch_to:
        state.fetch_to, state.fetch_peers = last, peers
    ask(state)


def ask(state: State) -> None:
    """Fetch what is wanted: one range in flight, asked for again when it stalls."""
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


def follow(state: State, peer: str, height: int) -> None:
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
            ask(state)
        else:
            want(state, height, (peer,))
            state.fetch_to = proven
