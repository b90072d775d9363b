"""A proposal as the state holds it, and what its votes make of it.

Pure: the tally reads the record alone. Source: docs/spec/ledger.md, "Governance".
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record
from prsm.protocol.governance import Category, Rules
from prsm.protocol.ids import U32, Bytes32, UInt
from prsm.protocol.limits import VALIDATORS_MAX
from prsm.protocol.transactions.governance import Choice, Propose

PARAMETERS_KEY: Final = b"g"
PROPOSAL, DELEGATION = b"P", b"D"


class Delegation(Record, frozen=True):
    """Whose vote counts for an operator's in a category, and for how many others its own does."""

    to: Bytes32 | None
    received: U32


class Elector(Record, frozen=True):
    """Who may vote on a proposal, as of its opening."""

    operator: Bytes32
    weight: UInt  # micro-FTNS in the set of that epoch
    delegate: U32 | None  # place of the elector whose vote counts if there is none
    choice: Choice | None


class ProposalStatus(IntEnum):
    """Where a proposal stands."""

    OPEN = 1
    ENACTED = 2
    REJECTED = 3
    NO_QUORUM = 4  # its deposit is lost
    LAPSED = 5  # accepted, but nobody enacted it in time


class Tally(Record, frozen=True):
    """Weights by what was said."""

    yes: UInt
    no: UInt
    abstain: UInt
    total: UInt  # of all electors


class Proposal(Record, frozen=True):
    """A decision under way or taken; the rules are those of its opening."""

    proposal: Bytes32
    proposer: Bytes32
    terms: Propose
    rules: Rules
    halt_bps: U32
    opened_height: UInt
    closes_ms: UInt  # votes count before it
    enacts_ms: UInt
    lapses_ms: UInt
    electors: Annotated[tuple[Elector, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]
    status: ProposalStatus
    deposit: UInt  # still held

    def index_of(self, operator: bytes) -> int | None:
        """Place of an elector, None for a stranger."""
        found = (i for i, elector in enumerate(self.electors) if elector.operator == operator)
        return next(found, None)

    def tally(self) -> Tally:
        """Count each elector's own vote, or its delegate's where it has none."""
        sums = dict.fromkeys(Choice, 0)
        for elector in self.electors:
            choice = elector.choice
            if choice is None and elector.delegate is not None:
                choice = self.electors[elector.delegate].choice
            if choice is not None:
                sums[choice] += elector.weight
        total = sum(elector.weight for elector in self.electors)
        return Tally(sums[Choice.YES], sums[Choice.NO], sums[Choice.ABSTAIN], total)

    def outcome(self) -> ProposalStatus:
        """What the votes so far make of it once the vote is over."""
        votes = self.tally()
        voted = votes.yes + votes.no + votes.abstain
        if voted * 10_000 < self.rules.quorum_bps * votes.total:
            return ProposalStatus.NO_QUORUM
        decided = votes.yes + votes.no
        accepted = 0 < decided * self.rules.threshold_bps <= votes.yes * 10_000
        if self.terms.halt is not None:  # never cheaper than the direct vote of operators
            accepted = accepted and votes.yes * 10_000 >= self.halt_bps * votes.total
        return ProposalStatus.ENACTED if accepted else ProposalStatus.REJECTED


def proposal_key(proposal: bytes) -> bytes:
    """Key of a `Proposal`."""
    return PROPOSAL + proposal


def delegation_key(operator: bytes, category: Category) -> bytes:
    """Key of a `Delegation`."""
    return DELEGATION + operator + bytes([category])
