"""What a replica knows: the chain's tip, its standing at one height, and what came too early.

Invariants: `low` never falls and is at least `tip.height`; a vote in `voted` was made durable
before it left; `locked` is the highest view in which this replica sent COMMIT at the height;
every table here has a bound (`load` counts them, the simulator watches it).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from prsm.consensus.pbft.config import BODIES_MAX, HEIGHTS_PAST_MAX, Config
from prsm.consensus.pbft.effects import Effect, Persist
from prsm.consensus.pbft.evidence import Past
from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.probation import Probation
from prsm.consensus.pbft.records import LogRecord, Memory, pack
from prsm.consensus.pbft.tip import Tip
from prsm.consensus.pbft.transitions import Fact, Phase, after
from prsm.consensus.pbft.votes import Tally
from prsm.protocol.certificates import Certificate
from prsm.protocol.ed25519 import Signer
from prsm.protocol.headers import Block
from prsm.protocol.messages.consensus import Prepared
from prsm.protocol.schedule import Schedule
from prsm.protocol.signing import Kind
from prsm.protocol.validators import ValidatorSet


@dataclass(slots=True)
class Instance:
    """Agreement on one height."""

    height: int
    schedule: Schedule
    own: int | None  # own signer index in this height's set
    signer: Signer | None  # its key
    view: int = 0
    phase: Phase = Phase.WAITING
    # The block of the current view, once accepted.
    block: Block | None = None
    block_hash: bytes = b""
    verdict: bool | None = None
    refused_view: int = -1  # the view whose proposal breaks a rule
    # Why this view: its NEW_VIEW, and what that demands (None: a free choice).
    new_view: Opened | None = None
    demanded: Prepared | None = None
    # What was said.
    voted: dict[tuple[Kind, int], bytes] = field(default_factory=dict)
    sent: dict[tuple[Kind, int], Opened] = field(default_factory=dict)
    restated: bool = True  # False after a restart until own votes are counted again
    locked: Prepared | None = None
    tallies: dict[tuple[Kind, int], Tally] = field(default_factory=dict)
    view_changes: dict[int, Opened] = field(default_factory=dict)  # the highest of each signer
    proposals: dict[int, Opened] = field(default_factory=dict)  # the first of each view
    bodies: dict[bytes, Block] = field(default_factory=dict)
    held: set[bytes] = field(default_factory=set)  # of these, by hash, those that the log has
    certificate: Certificate | None = None  # of COMMIT votes: the height is decided
    # Times, monotonic ms.
    is_pressed: bool = False  # somebody proposed or wants another view: the timer runs
    deadline_ms: int | None = None
    resend_at_ms: int | None = None
    resend_span_ms: int = 0  # how long it was waited last
    payload_at_ms: int = 0  # ask for a payload not before
    body_at_ms: int = 0  # ask for a missing body not before

    def tally(self, kind: Kind, view: int) -> Tally:
        """The votes of a kind in a view."""
        found = self.tallies.get((kind, view))
        if found is None:
            found = self.tallies[kind, view] = Tally()
        return found


@dataclass(slots=True)
class State:
    """One replica; owned by its driver, changed by `step` only."""

    config: Config
    tip: Tip
    low: int
    instance: Instance
    observer: str | None
    memories: dict[int, Memory]  # of heights above the tip, from the log
    probation: Probation | None = None  # of an observer that may sign again some time
    proof: Certificate | None = None  # of height `low`, while its block is not here
    dropped: int = 0  # the log may lack own votes up to here; below `low` where that has a proof
    is_told: bool = False  # do log and guard know that a vote was shown that they lack?
    now_ms: int = 0
    out: list[Effect] = field(default_factory=list)
    # Indexes change with the epoch, so what outlives a height is kept by peer id or key.
    claims: dict[str, int] = field(default_factory=dict)  # highest height in a STATUS of a member
    settled: int = 0  # members of a weak quorum claim it: an honest one has executed it
    is_ready: bool = False  # they weigh a quorum: the first signature is allowed
    waiting: bool = False
    applied_at_ms: int | None = None
    # By height, epoch, kind, view, signer.
    ahead: dict[tuple[int, int, Kind, int, int], Opened] = field(default_factory=dict)
    highest: dict[bytes, Opened] = field(default_factory=dict)  # vote of each consensus key
    heard_at_ms: dict[str, int] = field(default_factory=dict)  # by peer id
    past: deque[Past] = field(default_factory=lambda: deque(maxlen=HEIGHTS_PAST_MAX))
    checked: dict[bytes, None] = field(default_factory=dict)  # hashes of certificates that hold
    behind_since_ms: int | None = None
    fetch_to: int = 0  # a committed height that is missing here
    fetch_peers: tuple[str, ...] = ()
    fetch_last: int = 0  # end of the range that was asked for
    fetch_at_ms: int = 0  # fetch not before
    timer_ms: int | None = None

    @property
    def validators(self) -> ValidatorSet:
        """The set of the current height."""
        return self.tip.epoch.validators

    @property
    def rests_since_ms(self) -> int:
        """Monotonic time at which the last block was executed here, or the first step taken."""
        assert self.applied_at_ms is not None, "no step was taken yet"
        return self.applied_at_ms

    @property
    def parent_time_ms(self) -> int:
        """Block time that a new block must lie behind."""
        block = self.tip.block
        return self.config.genesis_time_ms if block is None else block.header.time_ms


def seated(state: State, peers: Iterable[str]) -> list[int]:
    """Indexes in the current set of the members with these peer ids."""
    known = set(peers)
    members = state.validators.validators
    return [index for index, member in enumerate(members) if member.peer_id in known]


def enter_epoch(state: State) -> None:
    """Forget who is in no known set any more, and count again who was heard of."""
    sets = state.tip.sets
    peers = {member.peer_id for known in sets for member in known.validators}
    keys = {member.consensus for known in sets for member in known.validators}
    for peer in [peer for peer in state.claims if peer not in peers]:
        del state.claims[peer]
    if state.probation is not None:
        claims = state.probation.claims
        for peer in [peer for peer in claims if peer not in peers]:
            del claims[peer]
    for peer in [peer for peer in state.heard_at_ms if peer not in peers]:
        del state.heard_at_ms[peer]
    for key in [key for key in state.highest if key not in keys]:
        del state.highest[key]
    state.is_ready = False
    weigh_claims(state)


def weigh_claims(state: State) -> None:
    """What the claims allow: signatures at all once a quorum spoke, none where it is over."""
    members = seated(state, state.claims)
    own = state.instance.own
    if not state.is_ready:
        state.is_ready = state.validators.is_quorum(members if own is None else [*members, own])
    validators, weight = state.validators.validators, 0
    others = (index for index in members if index != own)
    ranked = sorted((-state.claims[validators[index].peer_id], index) for index in others)
    for height, index in ranked:
        weight += validators[index].stake
        if weight >= state.validators.weak_quorum:
            state.settled = max(state.settled, -height)
            return


def emit(state: State, effect: Effect) -> None:
    """Add an order to this step."""
    state.out.append(effect)


def persist(state: State, record: LogRecord) -> None:
    """Order a record; whatever is emitted later leaves after it is durable."""
    state.out.append(Persist(pack(record)))


def move(state: State, fact: Fact) -> None:
    """Change the phase along the transition table."""
    state.instance.phase = after(state.instance.phase, fact)


def may_sign(state: State) -> bool:
    """May this replica sign anything at its height?

    Not as observer, not before peers of a quorum said what they heard of it, and never at or
    below the low mark. Nor where more than a third say that it is decided: a log that lost a vote
    of it would sign another one, and nobody needs either.
    """
    instance = state.instance
    return (
        state.is_ready
        and state.observer is None
        and instance.own is not None
        and instance.height > state.low
        and instance.height > state.settled
    )


def keep_body(state: State, digest: bytes, block: Block) -> None:
    """Keep a block of this height by its hash, dropping the oldest that nothing refers to.

    Those that were voted for go last: somebody may show yet that one was prepared.
    """
    instance = state.instance
    if digest in instance.bodies:
        return
    instance.bodies[digest] = block
    if len(instance.bodies) > BODIES_MAX:
        named = (instance.locked, instance.demanded, instance.certificate)
        needed = {each.block_hash for each in named if each is not None}
        needed |= {digest, instance.block_hash}
        free = [known for known in instance.bodies if known not in needed]
        dropped = next((known for known in free if known not in instance.held), free[0])
        del instance.bodies[dropped]
        instance.held.discard(dropped)


def load(state: State) -> dict[str, int]:
    """Sizes of every table that a peer can fill; the simulator holds them to their bounds."""
    instance = state.instance
    return {
        "ahead": len(state.ahead),
        "bodies_ahead": sum(1 for key in state.ahead if key[2] is Kind.PROPOSE),
        "bodies": len(instance.bodies),
        "tallies": len(instance.tallies),
        "proposals": len(instance.proposals),
        "view_changes": len(instance.view_changes),
        "checked": len(state.checked),
        "memories": len(state.memories),
        "claims": len(state.claims),
        "probation": 0 if state.probation is None else len(state.probation.claims),
        "heard": len(state.heard_at_ms),
        "highest": len(state.highest),
    }
