"""The normal case: propose, prepare, commit, decide. Each rule acts if it may, and says whether.

Rules look at the state alone, so it does not matter in which order messages came, or whether
they came before a restart. Source: Castro and Liskov 1999, section 4.2; docs/spec/pbft.md.
"""

from typing import Final

from prsm.consensus.pbft.certificates import note_checked, proves_parent
from prsm.consensus.pbft.effects import Broadcast, Execute, Validate
from prsm.consensus.pbft.evidence import second_vote
from prsm.consensus.pbft.observer import halt
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.records import Held, Locked, Voted
from prsm.consensus.pbft.sending import blank, sign_own
from prsm.consensus.pbft.state import State, emit, keep_body, may_sign, move, persist
from prsm.consensus.pbft.transitions import JUDGING, WAITING, Fact, Phase
from prsm.protocol.certificates import certificate_hash, certify
from prsm.protocol.codec import encode
from prsm.protocol.headers import Block, Header
from prsm.protocol.ids import Digest
from prsm.protocol.limits import BLOCK_BODY_BYTES_MAX
from prsm.protocol.messages.consensus import Prepared
from prsm.protocol.signing import Kind

_PROPOSED: Final = (Phase.JUDGING, Phase.PREPARING)
_PREPARE: Final = Kind.PREPARE
_COMMIT: Final = Kind.COMMIT


def accept(state: State) -> bool:
    """Take the proposal of the current view if it meets every rule; judge a fresh one."""
    instance = state.instance
    assert instance.phase is WAITING
    opened = instance.proposals.get(instance.view)
    if opened is None or instance.refused_view == instance.view:
        return False
    assert opened.proposal is not None
    block = opened.proposal.block
    keep_body(state, opened.digest, block)
    if not proves_parent(state, block.body.prev_cert) or not _is_acceptable(state, opened):
        instance.refused_view = instance.view
        return False
    instance.block, instance.block_hash = block, opened.digest
    move(state, Fact.ACCEPTED)
    # A quorum prepared what a NEW_VIEW demands: an honest part of it judged the block, and a
    # time window on it now would block the very view change that must carry it on.
    instance.verdict = True if instance.demanded is not None else None
    if instance.verdict is None and instance.own is not None and state.observer is None:
        emit(state, Validate(block, opened.digest))
    return True


def on_verdict(state: State, block_hash: bytes, *, ok: bool) -> None:
    """The ledger judged a block; of use only while it is the one proposed."""
    instance = state.instance
    if instance.phase is JUDGING and instance.block_hash == block_hash:
        instance.verdict = ok


def prepare(state: State) -> bool:
    """Send PREPARE for a block that was judged good, once in a view."""
    instance = state.instance
    assert instance.phase is JUDGING
    if not instance.verdict or not may_sign(state):
        return False
    key = (_PREPARE, instance.view)
    digest = instance.block_hash
    said = instance.voted.get(key)
    if said not in (None, digest):
        return False
    _hold(state, instance.block)  # an earlier program may have voted, and its log has no block
    if said is None:
        epoch = state.validators.epoch
        persist(state, Voted(Kind.PREPARE, epoch, instance.height, instance.view, digest))
        instance.voted[key] = digest
        vote(state, Kind.PREPARE, digest)
    move(state, Fact.VOTED)
    return True


def commit(state: State) -> bool:
    """Send COMMIT for a block that a quorum prepared, its certificate and body durable first."""
    instance = state.instance
    assert instance.phase in _PROPOSED
    if (_COMMIT, instance.view) in instance.voted:
        return False
    tally = instance.tallies.get((_PREPARE, instance.view))
    digest = instance.block_hash
    if tally is None or tally.weight(digest) < state.validators.quorum or not may_sign(state):
        return False
    assert instance.block is not None
    epoch = state.validators.epoch
    certificate = certify(
        Kind.PREPARE,
        epoch=epoch,
        height=instance.height,
        view=instance.view,
        block_hash=digest,
        votes=tally.signatures(digest),
    )
    note_checked(state, certificate_hash(certificate))
    _hold(state, instance.block)
    persist(state, Locked(epoch, instance.height, instance.view, certificate, None))
    instance.voted[Kind.COMMIT, instance.view] = digest
    instance.locked = Prepared(instance.view, digest, certificate)
    vote(state, Kind.COMMIT, digest)
    move(state, Fact.PREPARED)
    return True


def _hold(state: State, block: Block | None) -> None:
    """Have the log keep the accepted block before the first vote for it."""
    instance = state.instance
    assert block is not None
    if instance.block_hash not in instance.held:
        instance.held.add(instance.block_hash)
        persist(state, Held(instance.height, block))


def count(state: State, opened: Opened) -> None:
    """Count a PREPARE or COMMIT, the first of its signer in its view."""
    instance = state.instance
    message = opened.message
    tally = instance.tally(message.kind, message.view)
    stake = state.validators.validators[message.signer].stake
    tally.add(opened, stake)
    if message.kind is not _COMMIT or tally.weight(opened.digest) < state.validators.quorum:
        return
    known = instance.certificate
    if known is not None and known.block_hash != opened.digest:
        halt(state, f"two blocks are certified at height {instance.height}")
    elif known is None:
        instance.certificate = certify(
            Kind.COMMIT,
            epoch=state.validators.epoch,
            height=instance.height,
            view=message.view,
            block_hash=opened.digest,
            votes=tally.signatures(opened.digest),
        )
        note_checked(state, certificate_hash(instance.certificate))


def decide(state: State) -> bool:
    """Execute the block that a commit certificate names, if it is here."""
    instance = state.instance
    certificate = instance.certificate
    if certificate is None:
        return False
    block = instance.bodies.get(certificate.block_hash)
    if block is None:
        return False
    wrong = contradiction(state, block.header)
    if wrong:
        halt(state, f"block {instance.height} is certified, but my {wrong} differs")
        return True
    move(state, Fact.DECIDED)
    # The low mark stays: the ledger's transaction makes height and block durable together. If it
    # never comes, whoever is started again votes at this height by the ordinary rules; a log
    # segment begun now that forbade it would leave the network without this vote for ever.
    emit(state, Execute(block, certificate.block_hash, certificate))
    return True


def vote(state: State, kind: Kind, digest: bytes) -> None:
    """Sign, count and broadcast a PREPARE or COMMIT of the current view."""
    opened = sign_own(state, Opened(blank(state, kind, digest), Digest(digest)))
    tallies = state.instance.tallies
    assert second_vote(tallies, opened) is None, "a second vote of my own"
    count(state, opened)
    emit(state, Broadcast(opened.message))


def contradiction(state: State, header: Header) -> str:
    """Name what the header says of the chain so far that differs here, or nothing."""
    tip = state.tip
    for what, theirs, mine in (
        ("parent", header.prev_hash, tip.block_hash),
        ("state root", header.state_root, tip.state_root),
        ("receipts root", header.receipts_root, tip.receipts_root),
        ("validator set", header.validators_hash, tip.validators.digest),
        ("next validator set", header.next_validators_hash, tip.epoch.following_hash),
    ):
        if theirs != mine:
            return what
    return ""


def _is_acceptable(state: State, opened: Opened) -> bool:
    instance = state.instance
    proposal = opened.proposal
    assert proposal is not None
    header = proposal.block.header
    return (
        instance.height > state.low
        and header.chain_id == state.config.chain_id
        and header.epoch == state.validators.epoch
        and proposal.new_view == (instance.new_view.digest if instance.new_view else None)
        and _is_demanded(state, opened, header)
        and header.time_ms > state.parent_time_ms
        and not contradiction(state, header)
        and len(encode(proposal.block.body)) <= BLOCK_BODY_BYTES_MAX
    )


def _is_demanded(state: State, opened: Opened, header: Header) -> bool:
    """Is it the block NEW_VIEW demands or, where it demands none, a fresh one of this view?"""
    instance = state.instance
    if instance.demanded is not None:
        return opened.digest == instance.demanded.block_hash
    return header.view == instance.view and header.proposer == opened.message.signer
