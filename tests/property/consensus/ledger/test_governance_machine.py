"""Random decisions against a serial model that counts them anew from what was said.

The model keeps every ballot and delegation as it was ordered, in a list, and decides a vote by
walking through it: other data, other code than the record the ledger keeps.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.invariants import assert_sound
from prsm.consensus.ledger.proposals import ProposalStatus
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.genesis import Parameters
from prsm.protocol.governance import Category, Rules
from prsm.protocol.transactions.governance import (
    Ballot,
    Choice,
    Delegate,
    Enact,
    ParameterChange,
    Propose,
    proposal_id,
)
from prsm.protocol.transactions.membership import Stake
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import FTNS, Chain
from tests.tools.decisions import LOCK, SMALL, VOTING, voting_chain
from tests.tools.members import key

OPERATORS: Final = (32, 33, 34, 35)
CATEGORIES: Final = st.sampled_from((Category.ECONOMIC, Category.CONSTITUTIONAL))
STEPS: Final = st.sampled_from((1, 500, LOCK, VOTING))
CHANGES: Final = st.dictionaries(
    st.sampled_from(("fee_base", "treasury_bps", "economic.quorum_bps")),
    st.sampled_from((0, 5, 4_000, 20_000)),
    max_size=2,
)


@dataclass
class Modelled:
    """What was said of one proposal, in the order it was said."""

    category: Category
    changes: dict[str, int]
    rules: Rules
    opened_ms: int
    weights: dict[int, int]
    delegates: dict[int, int]
    said: list[tuple[int, Choice]] = field(default_factory=list)
    status: ProposalStatus = ProposalStatus.OPEN

    def decide(self) -> ProposalStatus:
        """Count what was said last, delegates for who said nothing."""
        last = dict(self.said)
        for operator, delegate in self.delegates.items():
            if operator not in last and delegate in dict(self.said):
                last[operator] = dict(self.said)[delegate]
        sums = dict.fromkeys(Choice, 0)
        for operator, choice in last.items():
            sums[choice] += self.weights[operator]
        yes, no = sums[Choice.YES], sums[Choice.NO]
        if sum(sums.values()) / sum(self.weights.values()) < self.rules.quorum_bps / 10_000:
            return ProposalStatus.NO_QUORUM
        if yes == 0 or yes / (yes + no) < self.rules.threshold_bps / 10_000:
            return ProposalStatus.REJECTED
        return ProposalStatus.ENACTED


class GovernanceMachine(RuleBasedStateMachine):
    """One chain, a follower, and what was said."""

    proposals: Bundle[bytes] = Bundle("proposals")

    def __init__(self) -> None:
        super().__init__()
        self.chain: Chain = voting_chain()
        self.follower = Ledger(self.chain.genesis, {}, verifier=Ed25519Verifier(), tip=None)
        self.known: dict[bytes, Modelled] = {}
        self.delegates: dict[tuple[int, Category], int] = {}
        self.parameters: Parameters = SMALL
        self.count = 0

    def send(self, sender: int, payload: Record, step_ms: int) -> TxReceipt:
        made = self.chain.add(self.chain.order(sender, payload), step_ms=step_ms)
        self.follower.commit(self.follower.apply(made.block))
        return made.receipts()[0]

    @property
    def now(self) -> int:
        return self.chain.ledger.tip.time_ms

    @rule(target=proposals, category=CATEGORIES, changes=CHANGES, ms=STEPS)
    def propose(self, category: Category, changes: dict[str, int], ms: int) -> bytes:
        self.count += 1
        listed = tuple(ParameterChange(name, value) for name, value in changes.items())
        payload = Propose(self.count.to_bytes(32, "big"), category, "text", listed, None)
        members = self.chain.ledger.epoch.validators.validators
        code = self.send(64, payload, ms).code
        identity = proposal_id(self.chain.genesis.chain_id, key(64), payload)
        if code is not Code.DONE:
            assert self.chain.ledger.view.proposal(identity) is None
            is_foreign = category is Category.ECONOMIC and "economic.quorum_bps" in changes
            assert is_foreign or not self.fits(changes) or code is Code.INSUFFICIENT_FUNDS
            return identity
        assert self.fits(changes)
        numbers = {key(number): number for number in OPERATORS}
        weights = {numbers[each.operator]: each.stake for each in members}
        self.known[identity] = Modelled(
            category=category,
            changes=changes,
            rules=SMALL.constitutional
            if category is Category.CONSTITUTIONAL
            else self.parameters.economic,
            opened_ms=self.now,
            weights=weights,
            delegates={one: to for (one, about), to in self.delegates.items() if about is category},
        )
        return identity

    def fits(self, changes: dict[str, int]) -> bool:
        return (
            changes.get("treasury_bps", 0) <= 10_000
            and 1 <= changes.get("economic.quorum_bps", 1) <= 10_000
        )

    @rule(
        proposal=proposals,
        operator=st.sampled_from((*OPERATORS, 64)),
        choice=st.sampled_from(Choice),
        ms=STEPS,
    )
    def vote(self, proposal: bytes, operator: int, choice: Choice, ms: int) -> None:
        code = self.send(operator, Ballot(proposal, choice), ms).code
        model = self.known.get(proposal)
        is_open = model is not None and model.status is ProposalStatus.OPEN
        in_time = model is not None and self.now < model.opened_ms + model.rules.voting_ms
        again = model is not None and dict(model.said).get(operator) is choice
        assert (code is Code.DONE) is (is_open and in_time and operator != 64 and not again)
        if code is Code.DONE:
            assert model is not None
            model.said.append((operator, choice))

    @rule(
        operator=st.sampled_from(OPERATORS),
        to=st.sampled_from((*OPERATORS, None)),
        category=CATEGORIES,
        ms=STEPS,
    )
    def delegate(self, operator: int, to: int | None, category: Category, ms: int) -> None:
        code = self.send(operator, Delegate(category, None if to is None else key(to)), ms).code
        place = (operator, category)
        passed_on = {one for one, about in self.delegates if about is category}
        given = {to for (_, about), to in self.delegates.items() if about is category}
        if to is None:
            assert (code is Code.DONE) is (place in self.delegates)
            self.delegates.pop(place, None)
            return
        fits = to != operator and to not in passed_on and operator not in given
        assert (code is Code.DONE) is (fits and self.delegates.get(place) != to)
        if code is Code.DONE:
            self.delegates[place] = to

    @rule(proposal=proposals, ms=STEPS)
    def enact(self, proposal: bytes, ms: int) -> None:
        view = self.chain.ledger.view
        before = view.account(key(64))
        code = self.send(65, Enact(proposal), ms).code
        model = self.known.get(proposal)
        if model is None or model.status is not ProposalStatus.OPEN:
            assert code in {Code.UNKNOWN_PROPOSAL, Code.PROPOSAL_CLOSED}
            return
        status, past = model.decide(), self.now - model.opened_ms - model.rules.voting_ms
        is_early = past < (model.rules.timelock_ms if status is ProposalStatus.ENACTED else 0)
        assert (code is Code.TOO_EARLY) is is_early
        if is_early:
            return
        if status is ProposalStatus.ENACTED:
            if past >= model.rules.timelock_ms + model.rules.voting_ms:
                status = ProposalStatus.LAPSED
            else:
                self.change(model.changes)
        model.status = status
        returned = 0 if status is ProposalStatus.NO_QUORUM else 20 * FTNS
        assert view.account(key(64)) - before == returned

    @rule(proposal=proposals, voters=st.lists(st.sampled_from(OPERATORS), unique=True), ms=STEPS)
    def carry(self, proposal: bytes, voters: list[int], ms: int) -> None:
        """Vote and enact without anything between: most decisions come to their end this way."""
        for operator in voters:
            self.vote(proposal, operator, Choice.YES, 1)
        self.enact(proposal, VOTING)
        self.enact(proposal, ms)

    def change(self, changes: dict[str, int]) -> None:
        for name, value in changes.items():
            if name == "economic.quorum_bps":
                rules = msgspec.structs.replace(self.parameters.economic, quorum_bps=value)
                self.parameters = msgspec.structs.replace(self.parameters, economic=rules)
            else:
                self.parameters = msgspec.structs.replace(self.parameters, **{name: value})

    @rule(operator=st.sampled_from(OPERATORS), ftns=st.sampled_from((1_000, 1_050)), ms=STEPS)
    def stake(self, operator: int, ftns: int, ms: int) -> None:
        """Weights move between proposals, never inside one."""
        self.send(operator, Stake(ftns * FTNS), ms)

    @invariant()
    def ledger_agrees(self) -> None:
        ledger = self.chain.ledger
        assert ledger.parameters == self.parameters == ledger.view.parameters()
        for identity, model in self.known.items():
            found = ledger.view.proposal(identity)
            assert found is not None
            assert found.status is model.status
            assert found.deposit == (20 * FTNS if model.status is ProposalStatus.OPEN else 0)
        waiting = sum(model.status is ProposalStatus.OPEN for model in self.known.values())
        assert ledger.view.supply().locked == waiting * 20 * FTNS
        assert_sound(ledger._state)
        assert self.follower.state_root == ledger.state_root


TestGovernance = pytest.mark.slow(GovernanceMachine.TestCase)
TestGovernance.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
