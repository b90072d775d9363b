"""governance_: parameters of the present, proposals, and votes of this home's operator."""

from typing import Annotated, Final, Literal

import msgspec

from prsm.node.rpc.spec import (
    AmountText,
    CidText,
    Count,
    Hex32,
    HexBytes,
    KeyName,
    Method,
    NoParams,
    Ordinal,
    Params,
    Result,
    Scope,
    ShortText,
)

PROPOSALS_LISTED_MAX: Final = 100
CategoryWord = Literal[
    "constitutional",
    "economic",
    "technical",
    "safety",
    "operational",
    "community",
    "emergency",
]
ChoiceWord = Literal["yes", "no", "abstain"]
StatusWord = Literal["open", "enacted", "rejected", "no_quorum", "lapsed"]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=PROPOSALS_LISTED_MAX)]
_Id = Annotated[Hex32, msgspec.Meta(description="the proposal's id")]
_Key = Annotated[KeyName, msgspec.Meta(description="key of this home that signs")]
_Category = Annotated[CategoryWord, msgspec.Meta(description="what it is about")]
_EXAMPLE: Final = "0x" + "00" * 32


class Parameters(Result, frozen=True):
    """What the next block runs under; `categories` are the rules of decisions."""

    height: Count
    values: dict[str, AmountText]
    categories: dict[str, dict[str, AmountText]]


class ProposalParams(Params, frozen=True):
    """A proposal."""

    proposal: _Id


class ProposalsParams(Params, frozen=True):
    """How many, the latest first."""

    limit: Annotated[_Limit, msgspec.Meta(description="how many at most")] = PROPOSALS_LISTED_MAX


class ProposeParams(Params, frozen=True):
    """A decision: a text, with changes of parameters or a halt."""

    category: _Category
    text: Annotated[ShortText, msgspec.Meta(min_length=1, description="what and why")]
    changes: Annotated[
        ShortText, msgspec.Meta(description="changes such as fee_base=500,economic.quorum_bps=1000")
    ] = ""
    halt: Annotated[CidText | None, msgspec.Meta(description="CID nobody may execute")] = None
    lift: Annotated[bool, msgspec.Meta(description="allow the CID again instead")] = False
    name: _Key = "default"


class VoteParams(Params, frozen=True):
    """A vote of this home's operator."""

    proposal: _Id
    choice: Annotated[ChoiceWord, msgspec.Meta(description="yes, no or abstain")]


class DelegateParams(Params, frozen=True):
    """Whose vote counts where this home's operator does not vote; nobody's if left out."""

    category: _Category
    to: Annotated[Hex32 | None, msgspec.Meta(description="operator; nobody if left out")] = None


class EnactParams(Params, frozen=True):
    """A proposal whose vote is over."""

    proposal: _Id
    name: _Key = "default"


class Votes(Result, frozen=True):
    """Weights so far, delegates counted; `total` is that of all electors."""

    yes: AmountText
    no: AmountText
    abstain: AmountText
    total: AmountText


class ElectorInfo(Result, frozen=True):
    """Who may vote, and what was said."""

    operator: Hex32
    weight: AmountText
    delegate: Hex32 | None
    choice: ChoiceWord | None


class ProposalInfo(Result, frozen=True):
    """A decision under way or taken; `would_be` is what the votes so far make of it."""

    proposal: Hex32
    proposer: Hex32
    category: CategoryWord
    text: str
    changes: dict[str, AmountText]
    halt: HexBytes | None
    lift: bool
    status: StatusWord
    would_be: StatusWord
    votes: Votes
    quorum_bps: Count
    threshold_bps: Count
    opened_height: Ordinal
    closes: str
    enactable: str
    lapses: str
    deposit: AmountText
    electors: tuple[ElectorInfo, ...]


class Proposals(Result, frozen=True):
    """Proposals, the latest first; `more` if the limit left some out."""

    height: Count
    items: tuple[ProposalInfo, ...]
    more: bool


class Sent(Result, frozen=True):
    """An order on its way; `proposal` is the one it opens or concerns."""

    tx_id: Hex32
    sender: Hex32
    fee: AmountText
    proposal: Hex32 | None


METHODS: Final = (
    Method(
        "governance_getParameters",
        NoParams,
        Parameters,
        Scope.READ,
        "The network's parameters as they are now.",
        words=("governance", "parameters"),
        path="/params",
    ),
    Method(
        "governance_getProposal",
        ProposalParams,
        ProposalInfo,
        Scope.READ,
        "A proposal, its votes and its times.",
        words=("governance", "show"),
        positional=("proposal",),
        example=ProposalParams(_EXAMPLE),
    ),
    Method(
        "governance_getProposals",
        ProposalsParams,
        Proposals,
        Scope.READ,
        "Proposals, the latest first.",
        words=("governance", "list"),
    ),
    Method(
        "governance_propose",
        ProposeParams,
        Sent,
        Scope.SIGN,
        "Put a decision to the vote, with a deposit.",
        words=("governance", "propose"),
        positional=("category", "text"),
        example=ProposeParams("community", "a text"),
    ),
    Method(
        "governance_vote",
        VoteParams,
        Sent,
        Scope.SIGN,
        "Vote as this home's operator.",
        words=("governance", "vote"),
        positional=("proposal", "choice"),
        example=VoteParams(_EXAMPLE, "yes"),
    ),
    Method(
        "governance_delegate",
        DelegateParams,
        Sent,
        Scope.SIGN,
        "Let another operator's vote count for this home's.",
        words=("governance", "delegate"),
        positional=("category", "to"),
        example=DelegateParams("community", _EXAMPLE),
    ),
    Method(
        "governance_enact",
        EnactParams,
        Sent,
        Scope.SIGN,
        "Close a vote that is over, and put it into effect if it was accepted.",
        words=("governance", "enact"),
        positional=("proposal",),
        example=EnactParams(_EXAMPLE),
    ),
)
