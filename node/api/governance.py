"""Handlers of governance_: what is decided, and this home's part in it.

Knows: ledger view, the home's wallets. Must not know: how votes are counted (consensus/ledger).
"""

import secrets

import msgspec

from prsm.consensus.ledger.proposals import Proposal, ProposalStatus
from prsm.node.chain.driver import Driver
from prsm.node.chain.wallet import Wallet
from prsm.node.chain.wallets import Wallets
from prsm.node.clock import utc_text
from prsm.node.keys import OPERATOR
from prsm.node.rpc.dispatch import Handler
from prsm.node.rpc.methods import governance as api
from prsm.node.rpc.spec import Caller, NoParams
from prsm.protocol.codec import Record
from prsm.protocol.errors import LocalError
from prsm.protocol.governance import Category, Rules
from prsm.protocol.ids import address_text, parse_hex
from prsm.protocol.limits import INT_MAX
from prsm.protocol.transactions.envelope import decode_transaction
from prsm.protocol.transactions.governance import (
    CHANGES_MAX,
    Ballot,
    Choice,
    Delegate,
    Enact,
    HaltOrder,
    ParameterChange,
    Propose,
    proposal_id,
)
from prsm.protocol.transactions.payloads import PAYLOADS
from prsm.storage.cid import parse_cid
from prsm.storage.errors import NotFound

_STATUS: dict[ProposalStatus, api.StatusWord] = {
    ProposalStatus.OPEN: "open",
    ProposalStatus.ENACTED: "enacted",
    ProposalStatus.REJECTED: "rejected",
    ProposalStatus.NO_QUORUM: "no_quorum",
    ProposalStatus.LAPSED: "lapsed",
}
_CHOICE: dict[Choice, api.ChoiceWord] = {
    Choice.YES: "yes",
    Choice.NO: "no",
    Choice.ABSTAIN: "abstain",
}
_CATEGORY: dict[Category, api.CategoryWord] = {
    Category.CONSTITUTIONAL: "constitutional",
    Category.ECONOMIC: "economic",
    Category.TECHNICAL: "technical",
    Category.SAFETY: "safety",
    Category.OPERATIONAL: "operational",
    Category.COMMUNITY: "community",
    Category.EMERGENCY: "emergency",
}


class GovernanceApi:
    """Answers about decisions, and orders of this home's keys."""

    def __init__(self, wallets: Wallets, driver: Driver) -> None:
        self._wallets = wallets
        self._driver = driver

    def handlers(self) -> dict[str, Handler]:
        """Method name -> handler."""
        return {
            "governance_getParameters": self.parameters,
            "governance_getProposal": self.proposal,
            "governance_getProposals": self.proposals,
            "governance_propose": self.propose,
            "governance_vote": self.vote,
            "governance_delegate": self.delegate,
            "governance_enact": self.enact,
        }

    async def parameters(self, _params: NoParams, _caller: Caller) -> api.Parameters:
        """All of the present, as text: some exceed what a double holds."""
        ledger = self._driver.ledger
        fields = msgspec.structs.asdict(ledger.parameters)
        return api.Parameters(
            height=ledger.height,
            values={name: str(value) for name, value in fields.items() if isinstance(value, int)},
            categories={
                name: {rule: str(number) for rule, number in msgspec.structs.asdict(value).items()}
                for name, value in fields.items()
                if isinstance(value, Rules)
            },
        )

    async def proposal(self, params: api.ProposalParams, _caller: Caller) -> api.ProposalInfo:
        """One proposal by its id."""
        return _info(self._find(params.proposal))

    async def proposals(self, params: api.ProposalsParams, _caller: Caller) -> api.Proposals:
        """All, the latest first."""
        found = self._driver.ledger.view.proposals()[::-1]
        return api.Proposals(
            height=self._driver.ledger.height,
            items=tuple(_info(each) for each in found[: params.limit]),
            more=len(found) > params.limit,
        )

    async def propose(self, params: api.ProposeParams, _caller: Caller) -> api.Sent:
        """Open a vote; any key of the home may pay the deposit."""
        halt = None
        if params.halt is not None:
            halt = HaltOrder(cid=parse_cid(params.halt).raw, lift=params.lift)
        payload = Propose(
            salt=secrets.token_bytes(32),
            category=Category[params.category.upper()],
            text=params.text,
            changes=_changes(params.changes),
            halt=halt,
        )
        wallet = self._wallets.get(params.name)
        chain_id = self._driver.ledger.genesis.chain_id
        return await self._order(wallet, payload, proposal_id(chain_id, wallet.address, payload))

    async def vote(self, params: api.VoteParams, _caller: Caller) -> api.Sent:
        """Vote with the operator's key."""
        found = self._find(params.proposal)
        payload = Ballot(proposal=found.proposal, choice=Choice[params.choice.upper()])
        return await self._order(self._wallets.get(OPERATOR), payload, found.proposal)

    async def delegate(self, params: api.DelegateParams, _caller: Caller) -> api.Sent:
        """Name a delegate with the operator's key."""
        to = None if params.to is None else parse_hex(params.to, size=32, what="operator")
        payload = Delegate(category=Category[params.category.upper()], to=to)
        return await self._order(self._wallets.get(OPERATOR), payload, None)

    async def enact(self, params: api.EnactParams, _caller: Caller) -> api.Sent:
        """Close a vote with any key of the home."""
        found = self._find(params.proposal)
        payload = Enact(proposal=found.proposal)
        return await self._order(self._wallets.get(params.name), payload, found.proposal)

    def _find(self, text: str) -> Proposal:
        found = self._driver.ledger.view.proposal(parse_hex(text, size=32, what="proposal"))
        if found is None:
            raise NotFound(f"no proposal {text}", hint="see: prsm governance list")
        return found

    async def _order(self, wallet: Wallet, payload: Record, proposal: bytes | None) -> api.Sent:
        tx_id = await wallet.submit(PAYLOADS.number(type(payload)), payload)
        raw = wallet.pending(tx_id)
        assert raw is not None, "just submitted"
        return api.Sent(
            tx_id=address_text(tx_id),
            sender=address_text(wallet.address),
            fee=str(decode_transaction(raw).fee),
            proposal=None if proposal is None else address_text(proposal),
        )


def _changes(text: str) -> tuple[ParameterChange, ...]:
    """Read `name=value,name=value`."""
    changes = []
    for part in text.split(",") if text else ():
        name, _, number = part.strip().partition("=")
        ok = 0 < len(name) <= 64 and number.isascii() and number.isdecimal() and len(number) < 20
        if not ok or int(number) > INT_MAX:
            raise LocalError(
                f"{part[:80]!r} is no change", hint="write it as fee_base=500, names by commas"
            )
        changes.append(ParameterChange(name=name, value=int(number)))
    if len(changes) > CHANGES_MAX:
        raise LocalError(f"{len(changes)} changes, at most {CHANGES_MAX}")
    return tuple(changes)


def _info(found: Proposal) -> api.ProposalInfo:
    terms, votes = found.terms, found.tally()
    return api.ProposalInfo(
        proposal=address_text(found.proposal),
        proposer=address_text(found.proposer),
        category=_CATEGORY[terms.category],
        text=terms.text,
        changes={change.name: str(change.value) for change in terms.changes},
        halt=None if terms.halt is None else "0x" + terms.halt.cid.hex(),
        lift=terms.halt is not None and terms.halt.lift,
        status=_STATUS[found.status],
        would_be=_STATUS[found.outcome()],
        votes=api.Votes(
            yes=str(votes.yes), no=str(votes.no), abstain=str(votes.abstain), total=str(votes.total)
        ),
        quorum_bps=found.rules.quorum_bps,
        threshold_bps=found.rules.threshold_bps,
        opened_height=found.opened_height,
        closes=utc_text(found.closes_ms),
        enactable=utc_text(found.enacts_ms),
        lapses=utc_text(found.lapses_ms),
        deposit=str(found.deposit),
        electors=tuple(
            api.ElectorInfo(
                operator=address_text(each.operator),
                weight=str(each.weight),
                delegate=(
                    None
                    if each.delegate is None
                    else address_text(found.electors[each.delegate].operator)
                ),
                choice=None if each.choice is None else _CHOICE[each.choice],
            )
            for each in found.electors
        ),
    )
