"""One replica: an event and the time in, orders out. Knows the parts; decides nothing itself.

`step` hands the event to its leaf, lets the rules act until none can, and sets the timer. No
clock, dice, disk or log: the same state and events give the same orders, byte for byte.
"""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from prsm.consensus.pbft import (
    catchup,
    heights,
    inbox,
    normal,
    propose,
    sending,
    statuses,
    timeouts,
    viewchange,
)
from prsm.consensus.pbft.config import Config
from prsm.consensus.pbft.effects import Accuse, Effect, Observe
from prsm.consensus.pbft.events import (
    Applied,
    Decided,
    Distrusted,
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
from prsm.consensus.pbft.observer import distrust, on_resumed
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import Replayed, replay
from prsm.consensus.pbft.state import State, may_sign, weigh_claims
from prsm.consensus.pbft.tip import Tip
from prsm.consensus.pbft.transitions import AT_REST, HALTED, Phase
from prsm.protocol.errors import RemoteError
from prsm.protocol.headers import Block


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
    found = Replayed(tip.height, tip.height)
    try:
        found = replay(records, committed=tip.height)
    except RemoteError as error:
        observer = observer or f"consensus log cannot be read: {error.what}"
    probation = None
    if observer is not None and voted is not None:
        probation = Probation(max(voted, found.low, *found.heights))
    instance = heights.begin(config, tip, found.heights.pop(tip.height + 1, None), found.proof)
    state = State(config, tip, found.low, instance, observer, found.heights, probation, found.proof)
    state.dropped, state.fetch_to = found.dropped, found.low
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
    phase = state.instance.phase
    if phase is HALTED:
        return out
    _dispatch(state, event)
    _advance(state)
    if state.instance.phase is HALTED:
        # What was said before the contradiction was found must not leave.
        return [effect for effect in out if isinstance(effect, Observe | Accuse)]
    timeouts.arm(state)
    return out


def body(state: State, height: int, digest: bytes) -> Block | None:
    """A proposed block of the current height, for a peer that must propose it again."""
    return state.instance.bodies.get(digest) if height == state.instance.height else None


def _dispatch(state: State, event: Event) -> None:  # noqa: C901, PLR0912 - dispatch
    match event:
        case Received(message):
            inbox.receive(state, message)
        case Heard(peer, peer_status):
            statuses.on_status(state, peer, peer_status)
        case Tick():
            _on_tick(state)
        case Waiting(transactions):
            state.waiting = transactions
        case Payload(height, view, draft):
            propose.on_payload(state, height, view, draft)
        case Verdict(digest, ok):
            normal.on_verdict(state, digest, ok=ok)
        case Applied():
            heights.on_applied(state, event)
        case Decided(block, certificate):
            catchup.on_decided(state, block, certificate)
        case Fetched(block):
            catchup.on_fetched(state, block)
        case Installed():
            heights.on_installed(state, event)
        case Distrusted(reason, height):
            distrust(state, reason, height)
        case Resumed(height):
            on_resumed(state, height)
        case _:
            assert_never(event)


_Rules = tuple[Callable[[State], bool], ...]
# In each phase the rules that can act there, in their order: they are tried after every event.
_RULES: Final[dict[Phase, _Rules]] = {
    Phase.WAITING: (propose.propose, normal.accept),
    Phase.JUDGING: (normal.prepare, normal.commit),
    Phase.PREPARING: (normal.commit,),
    Phase.COMMITTING: (),
    Phase.CHANGING: (viewchange.lead,),
}
# Before them, in every phase: what these wait for is seldom there.
_SELDOM: Final[_Rules] = (normal.decide, catchup.miss, heights.restate, viewchange.join)
_ALL: Final = {phase: (*_SELDOM, *rules) for phase, rules in _RULES.items()}


def _advance(state: State) -> None:
    """Let the first rule that can act, then look again; each acts once or so in a view."""
    acted = True
    while acted and (phase := state.instance.phase) not in AT_REST:
        acted = False
        instance = state.instance
        is_stirred = instance.certificate or instance.view_changes or not instance.restated
        for rule in (_ALL if is_stirred else _RULES)[phase]:
            if rule(state):
                acted = True
                break


def _on_tick(state: State) -> None:
    if timeouts.is_expired(state) and may_sign(state):
        viewchange.leave(state, state.instance.view + 1)
    sending.resend(state)
    catchup.ask(state)
