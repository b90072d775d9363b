"""What a replica orders, and the one rule in which order it may be done.

`order` is shared by the driver and the simulator: within one list every `Persist` is durable
before any later element leaves. No second `step` may run between a list and its records.
Source: etcd-raft's Ready rule; docs/spec/pbft.md, "Persist before send".
"""

from collections.abc import Iterable

from msgspec import Struct

from prsm.protocol.certificates import Certificate
from prsm.protocol.headers import Block
from prsm.protocol.messages.consensus import SignedMessage


class Persist(Struct, frozen=True):
    """Append a record to the consensus log and make it durable."""

    record: bytes


class Broadcast(Struct, frozen=True):
    """Send to every other member of the message's epoch."""

    message: SignedMessage


class Send(Struct, frozen=True):
    """Send to one validator."""

    peer: str  # its peer id
    message: SignedMessage


class NeedPayload(Struct, frozen=True):
    """Draft a block; answered by `Payload`."""

    height: int
    view: int


class Validate(Struct, frozen=True):
    """Would the ledger execute this block, and is its time in the window? See `Verdict`."""

    block: Block
    block_hash: bytes


class Execute(Struct, frozen=True):
    """Execute a decided block; answered by `Applied` once all of it is durable together."""

    block: Block
    block_hash: bytes
    certificate: Certificate


class Fetch(Struct, frozen=True):
    """Get blocks from peers.

    With `block_hash`: one block that is proposed but not committed (`Fetched`). Without: the
    committed blocks first..last in order (`Decided`, one after each `Applied`). `peers` are
    validators that have them, by peer id; empty means anybody who claims to.
    """

    first: int
    last: int
    block_hash: bytes | None
    peers: tuple[str, ...]


class Accuse(Struct, frozen=True):
    """Two messages that no honest validator signs both."""

    first: SignedMessage
    second: SignedMessage


class SetTimer(Struct, frozen=True):
    """Send `Tick` at this monotonic time; replaces the timer set before."""

    at_ms: int


class Observe(Struct, frozen=True):
    """From now on this node signs nothing; the reason is for people.

    With `forgot`, log and guard look whole and are not: they must make an observer of the next
    start too, before any later effect is carried out, since what showed it may not be shown again.
    """

    reason: str
    forgot: bool = False


class Resume(Struct, frozen=True):
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


class Batch(Struct, frozen=True):
    """Make all records durable by one write and one fdatasync, then do the effects in order."""

    records: tuple[bytes, ...]
    effects: tuple[Effect, ...]


def order(effects: Iterable[Effect]) -> list[Batch]:
    """Split effects into what need not wait for the disk, and the rest.

    All records of a list share one fdatasync: writing one earlier than its place is safe. Not
    where a forgotten vote was shown: a low mark above it would hide it from a node that died
    between the sync and its guard, so records behind it make a batch of their own.
    """
    batches: list[Batch] = []
    records: list[bytes] = []
    waiting: list[Effect] = []
    is_closed = False
    for effect in effects:
        if not isinstance(effect, Persist):
            waiting.append(effect)
            is_closed = is_closed or (isinstance(effect, Observe) and effect.forgot)
            continue
        if waiting and (is_closed or not records):
            batches.append(Batch(tuple(records), tuple(waiting)))
            records, waiting, is_closed = [], [], False
        records.append(effect.record)
    if records or waiting:
        batches.append(Batch(tuple(records), tuple(waiting)))
    return batches
