"""What a rule knows beside the state and its payload, and what it hands back."""

from dataclasses import dataclass, field
from typing import Final

from prsm.protocol.ed25519 import Verifier
from prsm.protocol.genesis import Parameters
from prsm.protocol.ids import Height, Millis
from prsm.protocol.transactions.results import Payment
from prsm.protocol.validators import ValidatorSet


@dataclass(frozen=True, slots=True)
class Registered:
    """A model stands in the registry."""

    manifest: bytes
    name: str
    semver: str


@dataclass(frozen=True, slots=True)
class ChannelMoved:
    """A channel of a name points to another version, or is gone (None)."""

    name: str
    channel: str
    semver: str | None


@dataclass(frozen=True, slots=True)
class YankChanged:
    """A version was withdrawn, or that was taken back."""

    name: str
    semver: str
    yanked: bool


@dataclass(frozen=True, slots=True)
class Locked:
    """A job has an escrow of `amount` micro-FTNS."""

    job: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class Settled:
    """A unit was paid for; `faulty` workers were outvoted."""

    job: bytes
    unit: int
    paid: tuple[Payment, ...]
    faulty: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A worker committed to a receipt of a unit that may be drawn for an audit."""

    job: bytes
    unit: int
    worker: bytes


@dataclass(frozen=True, slots=True)
class CaseOpened:
    """A committee must say whether a batch of a receipt is right."""

    job: bytes
    unit: int


@dataclass(frozen=True, slots=True)
class CaseClosed:
    """It has, or its time is over; `slashed` micro-FTNS of the worker's pledge are gone."""

    job: bytes
    unit: int
    slashed: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A job's escrow is empty for good."""

    job: bytes
    is_refund: bool


@dataclass(frozen=True, slots=True)
class Punished:
    """An operator lost `penalty` micro-FTNS of its bond."""

    operator: bytes
    penalty: int


@dataclass(frozen=True, slots=True)
class HaltChanged:
    """The operators halted an object, or allowed it again."""

    cid: bytes
    halted: bool


@dataclass(frozen=True, slots=True)
class HoldOpened:
    """An account put `amount` micro-FTNS under conditions."""

    hold: bytes
    holder: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class HoldPaid:
    """A hold paid `amount` micro-FTNS by a branch, or by its fallback (None); `left` remain."""

    hold: bytes
    branch: int | None
    to: bytes
    amount: int
    left: int


@dataclass(frozen=True, slots=True)
class DealChanged:
    """A deal of custody is new, or where it stands has changed; `status` is a `DealStatus`."""

    deal: bytes
    status: int
    proven: int
    missed: int
    paid: int
    slashed: int


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """The next block is the first of this epoch."""

    epoch: int
    first_height: int
    members: int
    total: int  # their weight


@dataclass(frozen=True, slots=True)
class FewValidators:
    """The set of an epoch to come has fewer members than can stand a fault."""

    epoch: int
    members: int


@dataclass(frozen=True, slots=True)
class ProposalOpened:
    """A vote has begun."""

    proposal: bytes
    proposer: bytes
    category: int


@dataclass(frozen=True, slots=True)
class ProposalClosed:
    """A vote is over; `status` is a `ProposalStatus`."""

    proposal: bytes
    status: int


@dataclass(frozen=True, slots=True)
class ParametersChanged:
    """These parameters are others from the next block on."""

    names: tuple[str, ...]


Event = (
    Registered
    | ChannelMoved
    | YankChanged
    | Locked
    | Settled
    | Bound
    | CaseOpened
    | CaseClosed
    | Closed
    | Punished
    | HaltChanged
    | HoldOpened
    | HoldPaid
    | DealChanged
    | EpochBegan
    | FewValidators
    | ProposalOpened
    | ProposalClosed
    | ParametersChanged
)


@dataclass(frozen=True, slots=True)
class Context:
    """Where and by whose order a rule runs."""

    sender: bytes
    height: Height
    time_ms: Millis  # of the block
    chain_id: bytes
    parameters: Parameters
    validators: ValidatorSet  # of the block's epoch
    verifier: Verifier


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule did beside writing state; part of the transaction's receipt."""

    paid: tuple[Payment, ...] = ()
    returned: int = 0
    detail: int = 0
    events: tuple[Event, ...] = field(default=())


DONE: Final = Effect()
