"""What a replica orders, and the one rule in which order it may be done.

`order` is shared by the driver and the simulator: within one list every `Persist` is durable
before any later element leaves. No second `step` may run between a list and its records.
Source: etcd-raft's Ready rule; docs/spec/pbft.md, "Persist before send".
"""

from collections.abc import Iterable
from dataclasses import dataclass

from prsm.protocol.certificates import Certificate
from prsm.protocol.headers import Block
from prsm.protocol.messages.consensus import SignedMessage


@dataclass(frozen=True, slots=True)
class Persist:
    """Append a record to the consensus log and make it durable."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other member of the message's epoch."""

    message: SignedMessage


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one validator."""

    peer: str  # its peer id
    message: SignedMessage


@dataclass(frozen=True, slots=True)
class NeedPayload:
    """Draft a block; answered by `Payload`."""

    height: int
    view: int


@dataclass(frozen=True, slots=True)
class Validate:
    """Would the ledger execute this block, and is its time in the window? See `Verdict`."""

    block: Block
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Execute:
    """Execute a decided block; answered by `Applied` once all of it is durable together."""

    block: Block
    block_hash: bytes
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get blocks from peers.

    With `block_hash`: one block that is proposed but not committed (`Fetched`). Without: the
    committed blocks first..last in order (`Decided`, one after each `Applied`). `peers` are
    validators that have them, by peer id; empty means anybody who claims to.
    """

    first: int
    last: int
    block_hash: bytes | None
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accuse:
    """Two messages that no honest validator signs both."""

    first: SignedMessage
    second: SignedMessage


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send `Tick` at this monotonic time; replaces the timer set before."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Observe:
    """From now on this node signs nothing; the reason is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Begin log and guard afresh: nothing was or will be signed below this height any more.

    Kept in the fresh log is what `heights.surviving` says then; answered by `Resumed`.
    """

    height: int


Effect = (
    Persist
    | Broadcast
    | Send
    | NeedPayload
    | Validate
    | Execute
    | Fetch
    | Accuse
    | SetTimer
    | Observe
    | Resume
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Make all records durable by one write and one fdatasync, then do the effects in order."""

    records: tuple[bytes, ...]
    effects: tuple[Effect, ...]


def order(effects: Iterable[Effect]) -> list[Batch]:
    """Split effects into at most two batches: what need not wait for the disk, and the rest.

    All records of a list share one fdatasync: writing one earlier than its place is always safe.
    """
    free: list[Effect] = []
    records: list[bytes] = []
    waiting: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Persist):
            records.append(effect.record)
        elif records:
            waiting.append(effect)
        else:
            free.append(effect)
    batches = [Batch((), tuple(free))] if free else []
    if records:
        batches.append(Batch(tuple(records), tuple(waiting)))
    return batches
