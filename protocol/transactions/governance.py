"""Payloads of decisions: propose, vote, let another vote, and put into effect.

Source: docs/spec/ledger.md, "Governance".
"""

from enum import IntEnum
from typing import Annotated, Final

import msgspec

from prsm.protocol.codec import Record, encode
from prsm.protocol.governance import Category
from prsm.protocol.ids import Bytes32, Digest, UInt
from prsm.protocol.limits import TEXT_BYTES_MAX
from prsm.protocol.messages.models import CidBytes
from prsm.protocol.signing import PROPOSAL_TAG, sha256

CHANGES_MAX: Final = 16


class ParameterChange(Record, frozen=True):
    """One parameter, `name` or `category.rule`, and its new value."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    value: UInt


class HaltOrder(Record, frozen=True):
    """Stop an object, or with `lift` allow it again."""

    cid: CidBytes
    lift: bool


class Propose(Record, frozen=True):
    """Put a decision to the vote, with a deposit; without changes and halt it is a text."""

    salt: Bytes32  # tells apart two proposals of the same terms
    category: Category
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_BYTES_MAX)]
    changes: Annotated[tuple[ParameterChange, ...], msgspec.Meta(max_length=CHANGES_MAX)]
    halt: HaltOrder | None


class Choice(IntEnum):
    """What an elector says; abstaining counts for the quorum only."""

    YES = 1
    NO = 2
    ABSTAIN = 3


class Ballot(Record, frozen=True):
    """An elector's vote; until the vote ends a later one takes the place of an earlier."""

    proposal: Bytes32
    choice: Choice


class Delegate(Record, frozen=True):
    """Let another operator's vote count for one's own, in one category; None: no longer.

    It holds for proposals that are opened later, and only where one does not vote oneself.
    """

    category: Category
    to: Bytes32 | None


class Enact(Record, frozen=True):
    """Close a vote that is over: put it into effect, or say that it failed. Anyone may."""

    proposal: Bytes32


def proposal_id(chain_id: bytes, sender: bytes, payload: Propose) -> Digest:
    """Name of a proposal: it commits to the network, the sender and all terms."""
    return sha256(PROPOSAL_TAG, encode((chain_id, sender, payload)))
