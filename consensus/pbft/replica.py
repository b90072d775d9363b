"""One replica: an event and the time in, orders out. Knows the parts; decides nothing itself.

`step` hands the event to its leaf, lets the rules act until none can, and sets the timer. No
clock, dice, disk or log: the same state and events give the same orders, byte for byte.
"""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from prsm.consensus.pbft import catchup, inbox, normal, propose, timeouts, viewchange
from prsm.consensus.pbft.config import Config, Tip
from prsm.consensus.pbft.effects import Accuse, Effect, Observe, Resume
from prsm.consensus.pbft.events import (
    Applied,
    Decided,
    Event,
    Fetched,
    Heard,
    Installed,
    Payload,
    Received,
    Resumed,
    Tick,
    Verdict,
    Waiting,
)
from prsm.consensus.pbft.evidence import Past
from prsm.consensus.pbft.opened import open_message
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import (
    Entered,
    Left,
    Locked,
    LowMark,
    Memory,
    Replayed,
    Voted,
    pack,
    replay,
)
from prsm.consensus.pbft.state import (
    Instance,
    State,
    emit,
    enter_epoch,
    may_sign,
    move,
    observe,
    weigh_claims,
)
from prsm.consensus.pbft.transitions import Fact, Phase
from prsm.protocol.certificates import Certificate
from prsm.protocol.errors import RemoteError
from prsm.protocol.headers import Block, block_hash
from prsm.protocol.messages.consensus import Prepared, Status
from prsm.protocol.signing import Kind


def start(
    config: Config,
    tip: Tip,
    records: Sequence[bytes],
    observer: str | None,
    *,
    voted: int | None = None,
) -> State:
    """Build a replica from what is durable.

    Args:
        config: network, key and times.
        tip: where the ledger stands.
        records: the consensus log, in the order it was written.
        observer: why this node must not sign, if the log or guard showed damage.
        voted: the highest height of which ledger, log or guard speak, so that this can end; None
            if it must not end by itself.
    """
    found = Replayed(tip.height)
    try:
        found = replay(records, committed=tip.height)
    except RemoteError as error:
        observer = observer or f"consensus log cannot be read: {error.what}"
    instance = _begin(config, tip, found.heights.pop(tip.height + 1, None), found.proof)
    probation = None
    if observer is not None and voted is not None:
        probation = Probation(max(voted, found.low, instance.height - 1, *found.heights))
    state = State(config, tip, found.low, instance, observer, found.heights, probation, found.proof)
    if found.low > tip.height:
        state.fetch_to = found.low
    weigh_claims(state)
    return state


def step(state: State, event: Event, now_ms: int) -> list[Effect]:
    """Take one event at one time of the monotonic clock; return what must be done, in order.

    The caller makes each `Persist` durable before any later effect leaves (`effects.order`),
    and takes no second step before that.
    """
    state.now_ms = now_ms
    out: list[Effect] = []
    state.out = out
    if state.applied_at_ms is None:
        state.applied_at_ms = now_ms
    if _is_halted(state):
        return out
    _dispatch(state, event)
    _advance(state)
    if _is_halted(state):
        # What was said before the contradiction was found must not leave.
        return [effect for effect in out if isinstance(effect, Observe | Accuse)]
    timeouts.arm(state)
    return out


def status(state: State, receiver: str, held: tuple[int, int] = (0, 1)) -> Status:
    """Where this replica stands, and the highest vote it holds of the receiver, by peer id.

    Args:
        state: of the replica.
        receiver: peer id.
        held: heights of the latest snapshot this node serves (0: none) and of its first block.
    """
    members = (member for known in state.tip.sets for member in known.validators)
    keys = {member.consensus: None for member in members if member.peer_id == receiver}
    votes = [state.highest[key] for key in keys if key in state.highest]
    vote = max(votes, key=catchup.rank, default=None)
    return Status(
        height=state.tip.height,
        view=state.instance.view,
        tip_hash=state.tip.block_hash,
        low_mark=state.low,
        snapshot_height=held[0],
        first_height=held[1],
        your_highest=None if vote is None else vote.message,
    )


def body(state: State, height: int, digest: bytes) -> Block | None:
    """A proposed block of the current height, for a peer that must propose it again."""
    return state.instance.bodies.get(digest) if height == state.instance.height else None


def silence(state: State) -> str:
    """Why this replica signs nothing and until when, for people; empty if it may sign."""
    why, probation = state.observer, state.probation
    if why is None or probation is None:
        return why or ""
    first = probation.first_height(state.validators, state.instance.own)
    if first is None:
        return f"{why}; ends after validators of a quorum said where they stand"
    return f"{why}; ends with the first epoch that begins at height {first} or above"


def surviving(state: State) -> tuple[bytes, ...]:
    """The records that outlive the present height, once its block is durable in the ledger.

    For a log segment begun between `Execute` and `Applied`: the low mark, and what was said at
    later heights while the ledger stood below the log.
    """
    records: list[bytes] = [pack(LowMark(state.low, state.proof))]
    for _, memory in sorted(state.memories.items()):
        records.extend(memory.raws)
    return tuple(records)


def checkpoint(state: State) -> tuple[bytes, ...]:
    """The records a log segment begun now, between two steps, must begin with."""
    instance = state.instance
    epoch, height = state.validators.epoch, instance.height
    records: list[bytes] = list(surviving(state))
    for (kind, view), digest in sorted(instance.voted.items()):
        if kind is not Kind.COMMIT:
            records.append(pack(Voted(kind, epoch, height, view, digest)))
    if instance.locked is not None:
        locked = instance.locked
        block = instance.bodies[locked.block_hash]
        records.append(pack(Locked(epoch, height, locked.view, locked.certificate, block)))
    if instance.new_view is not None:
        records.append(pack(Entered(instance.new_view.message)))
    elif instance.view > 0:
        records.append(pack(Left(epoch, height, instance.view)))
    return tuple(records)


def _is_halted(state: State) -> bool:
    return state.instance.phase is Phase.HALTED


def _dispatch(state: State, event: Event) -> None:  # noqa: C901 - dispatch
    match event:
        case Received(message):
            inbox.receive(state, message)
        case Heard(peer, peer_status):
            catchup.on_status(state, peer, peer_status)
        case Tick():
            _on_tick(state)
        case Waiting(transactions):
            state.waiting = transactions
        case Payload(height, view, draft):
            propose.on_payload(state, height, view, draft)
        case Verdict(digest, ok):
            normal.on_verdict(state, digest, ok=ok)
        case Applied():
            _on_applied(state, event)
        case Decided(block, certificate):
            catchup.on_decided(state, block, certificate)
        case Fetched(block):
            catchup.on_fetched(state, block)
        case Installed():
            _on_installed(state, event)
        case Resumed(height):
            _on_resumed(state, height)
        case _:
            assert_never(event)


_AT_REST: Final = (Phase.EXECUTING, Phase.HALTED)
_Rules = tuple[Callable[[State], bool], ...]
_ALWAYS: Final[_Rules] = (normal.decide, catchup.miss, viewchange.resume, viewchange.join)
# In each phase the rules that can act there, in their order: they are tried after every event.
_RULES: Final[dict[Phase, _Rules]] = {
    Phase.WAITING: (*_ALWAYS, propose.propose, normal.accept),
    Phase.JUDGING: (*_ALWAYS, normal.prepare, normal.commit),
    Phase.PREPARING: (*_ALWAYS, normal.commit),
    Phase.COMMITTING: _ALWAYS,
    Phase.CHANGING: (*_ALWAYS, viewchange.lead),
}


def _advance(state: State) -> None:
    """Let the first rule that can act, then look again; each acts once or so in a view."""
    acted = True
    while acted and (phase := state.instance.phase) not in _AT_REST:
        acted = False
        for rule in _RULES[phase]:
            if rule(state):
                acted = True
                break


def _on_tick(state: State) -> None:
    if timeouts.is_expired(state) and may_sign(state):
        viewchange.leave(state, state.instance.view + 1)
    timeouts.resend(state)
    catchup.want(state, state.fetch_to, state.fetch_peers)


def _on_applied(state: State, applied: Applied) -> None:
    """The ledger has the block: move the tip and begin the next height."""
    instance = state.instance
    certificate = instance.certificate
    assert instance.phase is Phase.EXECUTING
    assert certificate is not None
    assert (applied.height, applied.block_hash) == (instance.height, certificate.block_hash)
    block = instance.bodies[certificate.block_hash]
    ended = state.tip.epoch.number
    state.past.append(Past(applied.height, ended, instance.tallies, instance.view_changes))
    state.tip = state.tip.after(
        block,
        certificate,
        state_root=applied.state_root,
        receipts_root=applied.receipts_root,
        epoch=applied.epoch,
    )
    state.low = max(state.low, applied.height)
    state.applied_at_ms = state.now_ms
    state.behind_since_ms = None
    move(state, Fact.APPLIED)
    memory = state.memories.pop(applied.height + 1, None)
    state.instance = _begin(state.config, state.tip, memory, state.proof)
    if state.proof is not None and state.proof.height <= applied.height:
        state.proof = None
    if state.tip.epoch.number != ended:
        enter_epoch(state)
        _end_probation(state)
    if applied.height >= state.fetch_last:
        state.fetch_at_ms = 0
    inbox.take_ahead(state)


def _end_probation(state: State) -> None:
    """At an epoch's first height an observer may begin to sign, if it forgot no vote there."""
    probation = state.probation
    if probation is None or probation.is_ending:
        return
    first = probation.first_height(state.validators, state.instance.own)
    if first is not None and state.instance.height >= first:
        probation.is_ending = True
        emit(state, Resume(state.instance.height))


def _on_resumed(state: State, height: int) -> None:
    probation = state.probation
    if probation is None or not probation.is_ending:  # another reason came in between
        return
    probation.is_ending = False
    if probation.voted < height:  # or a peer has shown a vote there since
        state.observer, state.probation = None, None


def _on_installed(state: State, installed: Installed) -> None:
    """A snapshot took the ledger's place: go on above it, and above its certified header."""
    tip = installed.tip
    assert state.instance.phase is not Phase.EXECUTING
    assert installed.certificate.height - 1 == tip.height > state.tip.height
    ended, state.tip = state.tip.epoch.number, tip
    if installed.observer is not None:
        observe(state, installed.observer, Probation(installed.certificate.height))
    state.low = max(state.low, tip.height)
    if state.proof is not None and state.proof.height <= tip.height:
        state.proof = None
    catchup.raise_low(state, installed.certificate)
    state.applied_at_ms = state.now_ms
    state.behind_since_ms = None
    memory = state.memories.pop(tip.height + 1, None)
    state.memories = {h: kept for h, kept in state.memories.items() if h > tip.height}
    state.instance = _begin(state.config, tip, memory, state.proof)
    if tip.epoch.number != ended:
        enter_epoch(state)
    state.fetch_at_ms = 0
    inbox.take_ahead(state)


def _begin(config: Config, tip: Tip, memory: Memory | None, proof: Certificate | None) -> Instance:
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
        instance.demanded = viewchange.highest_prepared(instance.new_view.view_changes)
    if memory.locked is not None:
        locked = memory.locked
        digest = block_hash(locked.block.header)
        assert digest == locked.certificate.block_hash
        instance.locked = Prepared(locked.view, digest, locked.certificate)
        instance.bodies[digest] = locked.block
    return instance
