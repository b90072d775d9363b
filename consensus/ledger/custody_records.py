"""What the state holds of custody: deals, the present round, copies a grant has paid for.

Letters q, R and G of docs/spec/ledger.md, "State". A deal stays when it is over, so that no id
is opened twice.
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import COPIES_MAX
from prsm.protocol.transactions.custody import Entrust

DEAL, GRANT_USE = b"q", b"G"
ROUND_KEY: Final = b"R"


class DealStatus(IntEnum):
    """Where a deal stands."""

    OFFERED = 1
    ACTIVE = 2
    ENDED = 3  # all rounds are over
    BROKEN = 4  # a wrong answer, or too many rounds in a row without one
    WITHDRAWN = 5  # by its client before it was accepted, or by its holder


class Deal(Record, frozen=True):
    """A file in somebody's keeping: what was agreed, what is locked, what was proven."""

    deal: Bytes32
    client: Bytes32
    terms: Entrust
    status: DealStatus
    opened_height: UInt
    first: UInt  # number of its first round; 0 before it is accepted
    judged: U32  # rounds from the first one on that are proven or missed
    proven: U32
    missed: U32
    missed_in_a_row: U32
    paid: UInt  # to the holder, for what was proven
    slashed: UInt  # of the collateral
    locked: UInt  # of the client's, for rounds not judged yet
    collateral: UInt  # of the holder's, still locked

    @property
    def is_active(self) -> bool:
        """Does it ask its holder for answers?"""
        return self.status is DealStatus.ACTIVE

    @property
    def next_round(self) -> int:
        """Number of the first round that is not judged."""
        return self.first + self.judged

    @property
    def end_round(self) -> int:
        """Number of the round after its last one."""
        return self.first + self.terms.rounds


class Round(Record, frozen=True):
    """The present round."""

    number: UInt
    began_ms: UInt  # block time of its first block
    began_height: UInt
    seed: Bytes32
    deals: U32  # active ones


class GrantUse(Record, frozen=True):
    """Whom a grant pays; a holder keeps one copy."""

    holders: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=COPIES_MAX)]


def deal_key(deal: bytes) -> bytes:
    """Key of a `Deal`."""
    return DEAL + deal


def grant_key(proposal: bytes) -> bytes:
    """Key of a `GrantUse`."""
    return GRANT_USE + proposal
