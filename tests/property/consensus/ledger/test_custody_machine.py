"""Deals under random answers, misses and reports, against a ledger kept by hand.

The model notes round by round what happened to each deal and counts money from that list alone.
"""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.custody_records import DealStatus
from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.transactions.custody import Accept, Lapse, Release, deal_id
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, small_genesis
from tests.tools.keepers import ANYBODY, CLIENT, HOLDER, File, answer_of, key, terms_of, turn

FILE = File(20_000)
PRICE, COLLATERAL = 1_000, 10_000


@dataclass
class Kept:
    """One deal: a letter for each judged round, P proven, M missed; W and G end it."""

    rounds: int
    first: int = 0
    said: str = ""
    status: DealStatus = DealStatus.OFFERED
    fees: list[int] = field(default_factory=list)

    def catch_up(self, present: int) -> int:
        """Note what was missed before the present round; returns how many."""
        before = len(self.said)
        while self.status is DealStatus.ACTIVE and self.first + len(self.said) < min(
            present, self.first + self.rounds
        ):
            self.said += "M"
            self.settle()
        return len(self.said) - before

    def settle(self) -> None:
        if self.said.endswith("MMMMM"):
            self.status = DealStatus.BROKEN
        elif len(self.said) == self.rounds:
            self.status = DealStatus.ENDED

    @property
    def slashed(self) -> int:
        wanted = self.said.count("M") * 1_000 + self.said.count("G") * 1_000
        return min(wanted + self.said.count("W") * 5_000, COLLATERAL)


class CustodyMachine(RuleBasedStateMachine):
    """One client, one holder, several deals, and a second ledger that only applies the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain(small_genesis())
        self.follower = Ledger(self.chain.genesis, {}, verifier=Ed25519Verifier(), tip=None)
        self.deals: dict[bytes, Kept] = {}

    def deal(self, status: DealStatus, data: st.DataObject) -> bytes | None:
        known = sorted(deal for deal, kept in self.deals.items() if kept.status is status)
        return data.draw(st.sampled_from(known)) if known else None

    @property
    def present(self) -> int:
        found = self.chain.ledger.view.custody_round()
        assert found is not None
        return found.number

    @rule(rounds=st.integers(1, 12))
    def entrust(self, rounds: int) -> None:
        salt = len(self.deals).to_bytes(32, "big")
        terms = terms_of(FILE, salt=salt, rounds=rounds, price=PRICE, collateral=COLLATERAL)
        assert self.chain.send(CLIENT, terms).code is Code.DONE
        self.deals[deal_id(self.chain.genesis.chain_id, key(CLIENT), terms)] = Kept(rounds)

    @rule(data=st.data(), gives_up=st.booleans())
    def accept(self, data: st.DataObject, gives_up: bool) -> None:
        deal = self.deal(DealStatus.OFFERED, data)
        if deal is None:
            return
        if gives_up:
            assert self.chain.send(CLIENT, Release(deal)).code is Code.DONE
            self.deals[deal].status = DealStatus.WITHDRAWN
            return
        assert self.chain.send(HOLDER, Accept(deal)).code is Code.DONE
        self.deals[deal].first = self.present + 1
        self.deals[deal].status = DealStatus.ACTIVE

    @precondition(lambda self: any(k.status is DealStatus.ACTIVE for k in self.deals.values()))
    @rule(rounds=st.sampled_from((1, 1, 1, 2, 4)))
    def turn(self, rounds: int) -> None:
        turn(self.chain, rounds)

    @rule(data=st.data(), is_right=st.sampled_from((True, True, False)))
    def prove(self, data: st.DataObject, is_right: bool) -> None:
        deal = self.deal(DealStatus.ACTIVE, data)
        if deal is None:
            return
        kept, present = self.deals[deal], self.present
        answer = answer_of(self.chain, FILE, deal)
        if not is_right:
            answer = msgspec.structs.replace(answer, cells=b"\xff" + answer.cells[1:])
        receipt = self.chain.send(HOLDER, answer)
        if present < kept.first:
            assert receipt.code is Code.TOO_EARLY
        elif present < kept.first + len(kept.said):
            assert receipt.code is Code.ALREADY_PROVEN
        else:
            assert receipt.code is Code.DONE
            kept.catch_up(present)
            if kept.status is DealStatus.ACTIVE and is_right:
                kept.said += "P"
                kept.settle()
            elif kept.status is DealStatus.ACTIVE:
                kept.said, kept.status = kept.said + "W", DealStatus.BROKEN

    @rule(data=st.data(), sender=st.sampled_from((ANYBODY, CLIENT, HOLDER)))
    def lapse(self, data: st.DataObject, sender: int) -> None:
        deal = self.deal(DealStatus.ACTIVE, data)
        if deal is not None:
            receipt = self.chain.send(sender, Lapse(deal))
            missed = self.deals[deal].catch_up(self.present)
            assert (receipt.code, receipt.detail) == (
                (Code.DONE, missed) if missed else (Code.NOTHING_LAPSED, 0)
            )

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        deal = self.deal(DealStatus.ACTIVE, data)
        if deal is not None:
            assert self.chain.send(HOLDER, Release(deal)).code is Code.DONE
            kept = self.deals[deal]
            kept.catch_up(self.present)
            if kept.status is DealStatus.ACTIVE:
                kept.said, kept.status = kept.said + "G", DealStatus.WITHDRAWN

    @invariant()
    def deals_are_as_kept_by_hand(self) -> None:
        for identity, kept in self.deals.items():
            deal = self.chain.ledger.view.deal(identity)
            assert deal is not None
            assert deal.status is kept.status
            assert (deal.proven, deal.missed) == (kept.said.count("P"), kept.said.count("M"))
            assert deal.paid == PRICE * kept.said.count("P")
            assert deal.slashed == kept.slashed
            is_open = kept.status in {DealStatus.OFFERED, DealStatus.ACTIVE}
            assert deal.locked == (PRICE * (kept.rounds - len(kept.said)) if is_open else 0)
            active = kept.status is DealStatus.ACTIVE
            assert deal.collateral == (COLLATERAL - kept.slashed if active else 0)

    @invariant()
    def money_is_conserved_and_a_follower_agrees(self) -> None:
        assert_sound(self.chain.ledger._state)
        for made in self.chain.made[self.follower.height :]:
            self.follower.commit(self.follower.apply(made.block))
        assert self.follower.state_root == self.chain.ledger.state_root


CustodyMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)
TestCustody = pytest.mark.slow(CustodyMachine.TestCase)
