"""From one height to the next: after a block, a snapshot or a restart, with what the log says.

The log's records of a height become its `Instance` here, and an `Instance` the records that a new
segment begins with. Knows: tip, memories, low mark. Must not know: files, messages on their way.
Source: docs/spec/pbft.md, "Start" and "Persist before send".
"""

from prsm.consensus.pbft import inbox, normal, viewchange
from prsm.consensus.pbft.catchup import raise_low
from prsm.consensus.pbft.config import BODIES_MAX, Config
from prsm.consensus.pbft.events import Applied, Installed
from prsm.consensus.pbft.evidence import Past
from prsm.consensus.pbft.observer import distrust, end_probation
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.records import Entered, Held, Left, Locked, LowMark, Memory, Voted, pack
from prsm.consensus.pbft.state import Instance, State, enter_epoch, may_sign, move
from prsm.consensus.pbft.tip import Tip
from prsm.consensus.pbft.transitions import Fact, Phase
from prsm.protocol.certificates import Certificate
from prsm.protocol.ids import Digest
from prsm.protocol.messages.consensus import Prepared
from prsm.protocol.signing import Kind


def begin(config: Config, tip: Tip, memory: Memory | None, proof: Certificate | None) -> Instance:
    """The next height, with what was said there before a restart."""
    own, signer = config.signer_in(tip.validators)
    instance = Instance(tip.height + 1, tip.epoch.schedule(tip.height + 1), own, signer)
    # Seen before its height it was believed by the epoch it names; now the chain says which it is.
    if proof is not None and (proof.height, proof.epoch) == (instance.height, tip.epoch.number):
        instance.certificate = proof
    if memory is None:
        return instance
    instance.view = memory.view
    instance.voted = memory.voted
    instance.restated = False
    instance.is_pressed = memory.view > 0
    if not memory.active:
        instance.phase = Phase.CHANGING
    if memory.new_view is not None:
        instance.new_view = open_message(memory.new_view)
        instance.demanded = viewchange.demanded_by(instance.new_view)
    kept = list(memory.bodies)[-BODIES_MAX:]
    if memory.locked is not None:
        locked, digest = memory.locked, memory.locked.certificate.block_hash
        instance.locked = Prepared(locked.view, Digest(digest), locked.certificate)
        # As `keep_body` dropped the others while this was locked: the oldest first.
        others = [each for each in memory.bodies if each != digest]
        kept = [digest, *others[-(BODIES_MAX - 1) :]]
    instance.bodies = {each: memory.bodies[each] for each in kept}
    instance.held = set(kept)
    return instance


def restate(state: State) -> bool:
    """After a restart, once signing is allowed: say again what the log holds of this view."""
    instance = state.instance
    if instance.restated or not may_sign(state):
        return False
    instance.restated = True
    if instance.phase is Phase.CHANGING:
        viewchange.say_view_change(state)
        return True
    for kind in (Kind.PREPARE, Kind.COMMIT):
        digest = instance.voted.get((kind, instance.view))
        if digest is not None:
            normal.vote(state, kind, digest)
    locked = instance.locked
    if locked is not None and locked.view == instance.view:
        instance.block, instance.block_hash = instance.bodies[locked.block_hash], locked.block_hash
        if instance.phase is Phase.WAITING:
            move(state, Fact.ACCEPTED)
        move(state, Fact.PREPARED)
    return True


def on_applied(state: State, applied: Applied) -> None:
    """The ledger has the block: move the tip and begin the next height."""
    instance = state.instance
    certificate = instance.certificate
    assert instance.phase is Phase.EXECUTING
    assert certificate is not None
    assert (applied.height, applied.block_hash) == (instance.height, certificate.block_hash)
    block = instance.bodies[certificate.block_hash]
    epoch = state.tip.epoch.number
    state.past.append(Past(applied.height, epoch, instance.tallies, instance.view_changes))
    tip = state.tip.after(
        block,
        certificate,
        state_root=applied.state_root,
        receipts_root=applied.receipts_root,
        epoch=applied.epoch,
    )
    move(state, Fact.APPLIED)
    _go_on(state, tip)
    if tip.epoch.number != epoch:
        end_probation(state)
    if applied.height >= state.fetch_last:
        state.fetch_at_ms = 0
    inbox.take_ahead(state)


def on_installed(state: State, installed: Installed) -> None:
    """A snapshot took the ledger's place: go on above it, and above its certified header."""
    tip = installed.tip
    assert state.instance.phase is not Phase.EXECUTING
    assert installed.certificate.height - 1 == tip.height > state.tip.height
    if installed.observer is not None:
        distrust(state, installed.observer, installed.certificate.height)
    raise_low(state, installed.certificate)
    _go_on(state, tip)
    state.fetch_at_ms = 0
    inbox.take_ahead(state)


def _go_on(state: State, tip: Tip) -> None:
    """Stand on a new tip, at the height above it, and forget what the log held below."""
    ended, state.tip = state.tip.epoch.number, tip
    state.low, state.dropped = max(state.low, tip.height), max(state.dropped, tip.height)
    state.applied_at_ms = state.now_ms
    state.behind_since_ms = None
    memory = state.memories.pop(tip.height + 1, None)
    state.memories = {h: kept for h, kept in state.memories.items() if h > tip.height}
    state.instance = begin(state.config, tip, memory, state.proof)
    if state.proof is not None and state.proof.height <= tip.height:
        state.proof = None
    if tip.epoch.number != ended:
        enter_epoch(state)


def surviving(state: State, height: int) -> tuple[bytes, ...]:
    """The records that outlive a height whose block is durable in the ledger.

    For a log segment begun between `Execute` and `Applied`: the low mark, and what was said at
    later heights while the ledger stood below the log. The mark is in a record, not in the
    segment's head alone: a ledger that is found below it must not lead to a second vote there.

    Args:
        state: the replica.
        height: nothing is signed there or below any more, as the ledger has it.
    """
    low = LowMark(state.low, state.proof) if state.low >= height else LowMark(height, None)
    records: list[bytes] = [pack(low)]
    if low.certificate is not None:  # others made it: votes below it are not dropped for that
        records.append(pack(LowMark(max(state.dropped, height), None)))
    for _, memory in sorted(state.memories.items()):
        records.extend(memory.raws)
    return tuple(records)


def checkpoint(state: State) -> tuple[bytes, ...]:
    """The records a log segment begun now, between two steps, must begin with."""
    instance = state.instance
    epoch, height = state.validators.epoch, instance.height
    records: list[bytes] = list(surviving(state, state.tip.height))
    locked = instance.locked
    for digest, block in instance.bodies.items():
        if digest in instance.held:
            records.append(pack(Held(height, block)))
    for (kind, view), digest in sorted(instance.voted.items()):
        # Also COMMITs of views before the lock: a peer that shows one the log forgot proves a loss.
        if kind is not Kind.COMMIT or locked is None or view != locked.view:
            records.append(pack(Voted(kind, epoch, height, view, digest)))
    if locked is not None:
        records.append(pack(Locked(epoch, height, locked.view, locked.certificate, None)))
    if instance.view > 0:
        # Also where NEW_VIEW came since: the guard's last word may be that VIEW_CHANGE.
        records.append(pack(Left(epoch, height, instance.view)))
    if instance.new_view is not None:
        records.append(pack(Entered(instance.new_view.message)))
    return tuple(records)
