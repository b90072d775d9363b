"""Random orders of operators over many epochs, against a model of what bonds must hold.

The model keeps its own books: what each operator bonded, lost and withdrew, who brought which
key, and which sets evidence may still name. It never asks the ledger why.
"""

from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from prsm.consensus.ledger.apply import Ledger
from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.codec import Record
from prsm.protocol.ed25519 import Ed25519Verifier
from prsm.protocol.signing import Kind
from prsm.protocol.transactions.evidence import evidence_of
from prsm.protocol.transactions.membership import Leave, Stake, Withdraw
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.protocol.validators import ValidatorSet
from prsm.testnet.chain import FTNS, Chain
from tests.tools.members import join_of, key, rotate_of, short_chain
from tests.tools.votes import vote_of

OPERATORS: Final = (32, 33, 34, 35, 64, 65, 66)
KEYS: Final = range(32)  # all that `Chain` can certify with
NUMBER_OF: Final = {key(number): number for number in (*KEYS, *OPERATORS)}
AMOUNTS: Final = st.sampled_from((5, 10, 60, 100, 300))
UNBONDING_MS: Final = 3_000  # three epochs: much is released, much is too old
STEPS: Final = st.sampled_from((1, 100, 500, 1_000))


@dataclass
class Book:
    """What one operator's bond must hold."""

    bonded: int
    target: int
    is_convicted: bool = False


class MembershipMachine(RuleBasedStateMachine):
    """One chain, a follower that only applies its blocks, and the books."""

    def __init__(self) -> None:
        super().__init__()
        self.chain: Chain = short_chain(unbonding_ms=UNBONDING_MS)
        self.follower = Ledger(self.chain.genesis, {}, verifier=Ed25519Verifier(), tip=None)
        self.books = {number: Book(100 * FTNS, 100 * FTNS) for number in range(32, 36)}
        self.owners = {number - 32: number for number in range(32, 36)}  # consensus key -> operator
        self.punished: set[tuple[int, int]] = set()
        self.sets: list[tuple[ValidatorSet, int | None]] = [
            (self.chain.ledger.epoch.validators, None)
        ]  # every epoch that has begun, and when it ended

    def send(self, sender: int, payload: Record, step_ms: int) -> TxReceipt:
        """Commit one order and follow what the block did to the epoch."""
        before = self.chain.ledger.epoch
        made = self.chain.add(self.chain.order(sender, payload), step_ms=step_ms)
        self.follower.commit(self.follower.apply(made.block))
        after = self.chain.ledger.epoch
        if after.number != before.number:
            assert after.number == before.number + 1
            assert after.validators == before.following, "what was announced has come"
            self.sets[-1] = (before.validators, made.block.header.time_ms)
            self.sets.append((after.validators, None))
            self.check_change(before.following, after.following)
        return made.receipts()[0]

    def check_change(self, old: ValidatorSet, new: ValidatorSet) -> None:
        """At most a third of the old weight has come, and as much gone but for slashing."""
        before = {member.operator: member.stake for member in old.validators}
        after = {member.operator: member.stake for member in new.validators}
        moves = {each: after.get(each, 0) - before.get(each, 0) for each in {*before, *after}}
        gone = sum(-move for each, move in moves.items() if move < 0 and not self.was_slashed(each))
        assert 3 * sum(move for move in moves.values() if move > 0) <= old.total
        assert 3 * gone <= old.total

    def was_slashed(self, operator: bytes) -> bool:
        return any(NUMBER_OF[operator] == number for number, _ in self.punished)

    @rule(
        operator=st.sampled_from(OPERATORS), consensus=st.sampled_from(KEYS), ftns=AMOUNTS, ms=STEPS
    )
    def join(self, operator: int, consensus: int, ftns: int, ms: int) -> None:
        code = self.send(operator, join_of(self.chain, operator, consensus, ftns * FTNS), ms).code
        if code is not Code.DONE:
            return
        assert consensus not in self.owners, "a key was taken twice"
        assert ftns >= 10
        self.owners[consensus] = operator
        book = self.books.setdefault(operator, Book(0, 0))
        assert not book.is_convicted
        assert book.target == 0
        book.bonded, book.target = book.bonded + ftns * FTNS, ftns * FTNS

    @rule(operator=st.sampled_from(OPERATORS), ftns=AMOUNTS, ms=STEPS)
    def stake(self, operator: int, ftns: int, ms: int) -> None:
        view = self.chain.ledger.view
        before = view.account(key(operator))
        receipt = self.send(operator, Stake(ftns * FTNS), ms)
        if receipt.code is Code.DONE:
            book = self.books[operator]
            assert not book.is_convicted
            book.target = ftns * FTNS
            book.bonded += before - receipt.fee - view.account(key(operator))

    @rule(operator=st.sampled_from(OPERATORS), ms=STEPS)
    def leave(self, operator: int, ms: int) -> None:
        if self.send(operator, Leave(), ms).code is Code.DONE:
            assert self.books[operator].target > 0
            self.books[operator].target = 0

    @rule(operator=st.sampled_from(OPERATORS), consensus=st.sampled_from(KEYS), ms=STEPS)
    def rotate(self, operator: int, consensus: int, ms: int) -> None:
        code = self.send(operator, rotate_of(self.chain, operator, consensus), ms).code
        if code is Code.DONE:
            assert consensus not in self.owners
            assert not self.books[operator].is_convicted
            self.owners[consensus] = operator

    @rule(operator=st.sampled_from(OPERATORS), ms=STEPS)
    def withdraw(self, operator: int, ms: int) -> None:
        receipt = self.send(operator, Withdraw(), ms)
        if receipt.code is Code.DONE:
            [payment] = receipt.paid
            assert payment.account == key(operator)
            self.books[operator].bonded -= payment.amount

    @rule(
        back=st.integers(0, 6),
        index=st.integers(0, 6),
        height=st.integers(1, 3),
        kind=st.sampled_from((Kind.PREPARE, Kind.COMMIT)),
        ms=STEPS,
    )
    def punish(self, back: int, index: int, height: int, kind: Kind, ms: int) -> None:
        """Somebody of a set of now or the past signs twice; anybody reports it."""
        members, _ = self.sets[max(0, len(self.sets) - 1 - back)]
        signer = index % len(members)
        member = members.validators[signer]
        secret, operator = NUMBER_OF[member.consensus], NUMBER_OF[member.operator]
        place = {"signer": signer, "key": secret, "epoch": members.epoch, "height": height}
        pair = [vote_of(self.chain, kind, body, **place) for body in (b"x" * 32, b"y" * 32)]
        bonded = self.books[operator].bonded
        code = self.send(67, evidence_of(*pair), ms).code
        ended = next(end for found, end in self.sets if found.epoch == members.epoch)
        now = self.chain.ledger.tip.time_ms
        is_late = ended is not None and ended < now and now > ended + UNBONDING_MS
        assert (code is Code.EVIDENCE_TOO_OLD) is is_late
        book = self.books[operator]
        if code is Code.DONE:
            if (operator, height) not in self.punished:
                book.bonded -= bonded // 10
            else:
                assert kind is Kind.COMMIT
                assert not book.is_convicted
            self.punished.add((operator, height))
            if kind is Kind.COMMIT:
                book.is_convicted, book.target = True, 0
        elif code is Code.ALREADY_PUNISHED:
            assert (operator, height) in self.punished

    @rule(ms=STEPS)
    def wait(self, ms: int) -> None:
        """Let an epoch pass, in eleven blocks."""
        for _ in range(11):
            self.send(67, Withdraw(), max(ms // 11, 1))

    @invariant()
    def money_is_conserved_and_books_agree(self) -> None:
        assert_sound(self.chain.ledger._state)
        view = self.chain.ledger.view
        for number, book in self.books.items():
            bond = view.membership(key(number))
            assert bond is not None
            assert (bond.stake, bond.tombstoned) == (book.bonded, book.is_convicted)
            assert bond.target == book.target
            assert 0 <= bond.held <= bond.stake

    @invariant()
    def whoever_may_be_convicted_still_has_his_stake(self) -> None:
        """Each set inside the unbonding period is covered by bonds, but for what slashing took."""
        now, view = self.chain.ledger.tip.time_ms, self.chain.ledger.view
        following = (self.chain.ledger.epoch.following, None)
        for members, ended in (*self.sets, following):
            if ended is not None and now >= ended + UNBONDING_MS:
                continue
            for member in members.validators:
                if not self.was_slashed(member.operator):
                    assert view.bond(member.operator) >= member.stake

    @invariant()
    def keys_name_their_operator_for_ever(self) -> None:
        for members, _ in self.sets:
            for member in members.validators:
                operator = NUMBER_OF[member.operator]
                assert self.owners[NUMBER_OF[member.consensus]] == operator
                assert self.chain.ledger.view.key_owner(member.consensus) == member.operator

    @invariant()
    def follower_agrees(self) -> None:
        ledger = self.chain.ledger
        assert self.follower.state_root == ledger.state_root
        assert self.follower.epoch == ledger.epoch


TestMembership = pytest.mark.slow(MembershipMachine.TestCase)
TestMembership.settings = settings(max_examples=15, stateful_step_count=50, deadline=None)
