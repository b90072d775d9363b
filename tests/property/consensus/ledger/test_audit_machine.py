"""Audited work under any order of events: money is conserved, honest people lose nothing.

One worker, one auditor drawn at a time, one requester; each is honest or not from the start.
Jurors are honest, as many of them as speak, but one of them may seal nothing and show what others
showed. Steps come in any order and at any time, also the
senseless ones.
"""

from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.receipts import WorkReceipt
from prsm.protocol.transactions.audits import Finding, Pledge, Redeem
from prsm.protocol.transactions.payloads import Refund
from prsm.protocol.transactions.results import Code, TxReceipt
from prsm.testnet.chain import Chain, signer_of
from prsm.testnet.jobs import REQUESTER, Work, commit_of, open_job
from tests.tools.audited import AUDITORS, BOND, GROSS, WORKER, Scene, genesis_of

DEPOSIT: Final = 1_000_000
NET: Final = GROSS * 95 // 100
SEAT: Final = DEPOSIT * 30 // 100 // 4
JURORS: Final = range(32, 36)  # their operators
LIE: Final = Work(WORKER, dict.fromkeys(range(3), "lie"))
STEPS: Final = st.sampled_from((1, 1, 1_000, 31_000, 61_000, 310_000))


class AuditMachine(RuleBasedStateMachine):
    """A scene, and who in it is honest."""

    @initialize(worker=st.booleans(), auditors=st.booleans(), drawn=st.sampled_from((0, 10_000)))
    def begin(self, worker: bool, auditors: bool, drawn: int) -> None:
        self.is_honest, self.are_honest = worker, auditors
        self.scene = Scene(chain=Chain(genesis_of(audit_bps=drawn)))
        for number in (WORKER, *AUDITORS):
            self.scene.chain.send(number, Pledge(5 * DEPOSIT))
        open_job(self.scene.chain, self.scene.lock)
        self.receipt: WorkReceipt | None = None
        self.fees = dict.fromkeys((WORKER, REQUESTER, *AUDITORS), 0)
        self.start = {number: self.wealth(number) for number in self.fees}
        self.has_disputed = self.has_unserved = False
        self.sealed: dict[int, Finding] = {}
        self.seats = {number: self.scene.funds(number) for number in JURORS}
        self.commit()
        self.scene.chain.add()

    def wealth(self, number: int) -> int:
        return self.scene.funds(number) + self.scene.pledge(number)[0]

    def note(self, number: int, result: TxReceipt) -> TxReceipt:
        self.fees[number] += result.fee
        return result

    @rule()
    def commit(self) -> None:
        """The first counts; any later one is refused."""
        receipt = (Work(WORKER) if self.is_honest else LIE).receipt(
            self.scene.chain, self.scene.lock
        )
        result = self.scene.chain.send(WORKER, commit_of(self.scene.lock, receipt))
        if self.note(WORKER, result).code is Code.DONE:
            assert self.receipt is None, "bound twice"
            self.receipt = receipt

    @rule(step_ms=STEPS)
    def wait(self, step_ms: int) -> None:
        self.scene.chain.add(step_ms=step_ms)

    @precondition(lambda self: self.receipt is not None)
    @rule()
    def audit(self) -> None:
        view = self.scene.chain.ledger.view
        found = view.sampling(self.scene.lock.job, 0)
        if found is None or found.draw is None or found.batch is None:
            return
        number = self.scene.auditor()
        self.note(number, self.scene.audit(None if self.are_honest else LIE, sender=number))

    @precondition(lambda self: self.receipt is not None)
    @rule(sender=st.sampled_from((REQUESTER, WORKER, AUDITORS[0])))
    def settle(self, sender: int) -> None:
        assert self.receipt is not None
        self.note(sender, self.scene.settle(self.receipt, sender=sender))

    @precondition(lambda self: self.receipt is not None)
    @rule(batch=st.integers(0, 2))
    def dispute(self, batch: int) -> None:
        assert self.receipt is not None
        result = self.note(REQUESTER, self.scene.dispute(self.receipt, batch))
        self.has_disputed |= result.code is Code.DONE

    @precondition(lambda self: bool(self.scene.chain.ledger.view.cases()))
    @rule(jurors=st.sets(st.integers(0, 3)), is_served=st.sampled_from((1, 1, 1, 0)))
    def seal(self, jurors: set[int], is_served: int) -> None:
        """Each seals once: what it seals later is refused."""
        assert self.receipt is not None
        right = Finding.EQUAL if self.is_honest else Finding.DIFFERENT
        finding = right if is_served else Finding.UNSERVED
        for juror in sorted(jurors):
            if self.scene.seal(self.receipt, juror, finding).code is Code.DONE:
                self.has_unserved |= not is_served
                self.sealed[juror] = finding

    @precondition(lambda self: bool(self.scene.chain.ledger.view.cases()))
    @rule(jurors=st.sets(st.integers(0, 3)), ends_sealing=st.booleans(), lazy=st.integers(0, 3))
    def show(self, jurors: set[int], ends_sealing: bool, lazy: int) -> None:
        """What was sealed counts; what a juror that sealed nothing repeats does not."""
        assert self.receipt is not None
        if ends_sealing:
            self.scene.end_sealing()
        for juror in sorted(jurors):
            if juror in self.sealed:
                self.scene.judge(self.receipt, juror, self.sealed[juror])
        for finding in Finding if lazy not in self.sealed else ():
            assert self.scene.judge(self.receipt, lazy, finding).code is not Code.DONE
            assert self.scene.funds(32 + lazy) == self.seats[32 + lazy]

    @precondition(lambda self: not self.scene.chain.ledger.view.cases())
    @rule(amount=st.sampled_from((1, BOND, 4 * DEPOSIT)), number=st.sampled_from((WORKER, 66)))
    def redeem(self, amount: int, number: int) -> None:
        self.note(number, self.scene.chain.send(number, Redeem(amount)))

    @rule()
    def refund(self) -> None:
        self.note(REQUESTER, self.scene.chain.send(REQUESTER, Refund(self.scene.lock.job)))

    @invariant()
    def money_is_conserved(self) -> None:
        if hasattr(self, "scene"):
            assert_sound(self.scene.chain.ledger._state)

    @invariant()
    def honest_people_lose_nothing(self) -> None:
        """But their fees. What is locked of the requester is its own until somebody has it."""
        if not hasattr(self, "scene"):
            return
        gained = {n: self.wealth(n) - self.start[n] + self.fees[n] for n in self.fees}
        view = self.scene.chain.ledger.view
        if self.is_honest:
            assert gained[WORKER] >= 0
            assert view.faults(signer_of(WORKER).public_key) == []
        if self.are_honest and self.is_honest:
            assert all(gained[number] >= 0 for number in AUDITORS)
        assert all(self.scene.funds(number) >= seat for number, seat in self.seats.items())
        job = view.job(self.scene.lock.job)
        assert job is not None
        if job.verdicts[0] is not None and self.is_honest:
            assert gained[WORKER] >= NET, "an honest worker's unit was ended without its pay"
        if job.is_open:
            return
        assert gained[REQUESTER] >= -DEPOSIT * self.has_disputed
        assert all(self.scene.pledge(number)[1] == 0 for number in (WORKER, *AUDITORS))
        assert not {key[:1] for key in self.scene.chain.ledger._state} & {b"B", b"A", b"K", b"w"}
        if not self.is_honest:
            unserved = {NET + DEPOSIT - n * SEAT for n in (3, 4)} if self.has_unserved else set()
            assert gained[WORKER] in {0, -BOND, NET} | unserved

    @invariant()
    def caught_work_is_not_paid(self) -> None:
        """A fault stands beside a bond that is gone and a price that went back."""
        if not hasattr(self, "scene"):
            return
        view = self.scene.chain.ledger.view
        for _ in view.faults(signer_of(WORKER).public_key):
            gained = self.wealth(WORKER) - self.start[WORKER] + self.fees[WORKER]
            assert gained == -BOND


TestAuditMachine = pytest.mark.slow(AuditMachine.TestCase)
TestAuditMachine.settings = settings(max_examples=30, stateful_step_count=16, deadline=None)
