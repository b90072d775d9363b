"""What can happen to a replica: facts of the past, handed in with the time.

Knows: names and fields. Must not know: what the replica makes of them.
"""

from msgspec import Struct

from prsm.consensus.pbft.opened import Opened
from prsm.consensus.pbft.tip import Tip
from prsm.protocol.certificates import Certificate
from prsm.protocol.epochs import EpochState
from prsm.protocol.headers import Block
from prsm.protocol.messages.consensus import Status


class Received(Struct, frozen=True):
    """A validator's message: decoded, bounded, its own signature already checked."""

    message: Opened


class Heard(Struct, frozen=True):
    """A peer said where it stands; its id is authentic, what it says is a hint."""

    peer: str
    status: Status


class Tick(Struct, frozen=True):
    """A timer set by `SetTimer` is due, or 250 ms have passed."""


class Waiting(Struct, frozen=True):
    """The mempool has, or no longer has, transactions or evidence for a block."""

    transactions: bool


class Draft(Struct, frozen=True):
    """What a proposer puts into a block; at most the limits of a body, `time_ms` by wall clock."""

    transactions: tuple[bytes, ...]
    evidence: tuple[bytes, ...]
    time_ms: int


class Payload(Struct, frozen=True):
    """Answer to `NeedPayload`; None when nothing can be proposed now (asked again later)."""

    height: int
    view: int
    draft: Draft | None


class Verdict(Struct, frozen=True):
    """Answer to `Validate`: would the ledger execute this block?"""

    block_hash: bytes
    ok: bool


class Applied(Struct, frozen=True):
    """Answer to `Execute`: block, certificate, state and roots are durable together."""

    height: int
    block_hash: bytes
    state_root: bytes
    receipts_root: bytes
    epoch: EpochState  # of height + 1


class Decided(Struct, frozen=True):
    """Answer to `Fetch` of heights: the next committed block, as a peer showed it."""

    block: Block
    certificate: Certificate


class Fetched(Struct, frozen=True):
    """Answer to `Fetch` of a hash: a block that is proposed, not committed."""

    block: Block


class Installed(Struct, frozen=True):
    """The ledger was replaced, durably, by a proven state after a higher height.

    Never said between `Execute` and `Applied`.
    """

    tip: Tip
    certificate: Certificate  # of the height after the tip: it is decided
    observer: str | None  # why nothing may be signed from here on, if the log knows no past


class Distrusted(Struct, frozen=True):
    """Log and guard were given up for a state from peers, and then it was not installed."""

    reason: str  # nothing may be signed from here on
    height: int  # certified; what was signed before may be as high


class Resumed(Struct, frozen=True):
    """Answer to `Resume`: the log of votes is a fresh one."""

    height: int


Event = (
    Received
    | Heard
    | Tick
    | Waiting
    | Payload
    | Verdict
    | Applied
    | Decided
    | Fetched
    | Installed
    | Distrusted
    | Resumed
)
