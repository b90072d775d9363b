"""Cases: who opens one, who sits, and who loses what."""

import msgspec
import pytest

from prsm.consensus.ledger.audit_records import Juror
from prsm.consensus.ledger.cases import draw_jurors, outcome_of
from prsm.consensus.ledger.context import CaseClosed, CaseOpened
from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.transactions.audits import Finding
from prsm.protocol.transactions.payloads import Refund
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, Work
from tests.tools.audited import BOND, GROSS, PLEDGE, WORKER, Scene

DEPOSIT = 1_000_000
LIE = Work(WORKER, dict.fromkeys(range(3), "lie"))
NET = GROSS * 95 // 100


@pytest.fixture
def scene() -> Scene:
    return Scene().begin()


def test_caught_liar_loses_its_bond_and_is_not_paid(scene: Scene) -> None:
    lied = scene.bound(LIE)
    auditor = scene.auditor()
    scene.audit()
    opened = scene.settle(lied)
    assert (opened.code, opened.paid, opened.returned) == (Code.DONE, (), 0)
    assert list(scene.chain.made[-1].outcome.events) == [CaseOpened(scene.lock.job, 0)]
    assert scene.settle(lied).code is Code.CASE_OPEN
    before, worker = scene.funds(auditor), scene.funds(WORKER)
    result = scene.verdict(lied, *[Finding.DIFFERENT] * 3)
    assert (result.code, result.paid, result.returned) == (Code.DONE, (), GROSS)
    last: object = scene.chain.made[-1].outcome.events[-1]
    assert last == CaseClosed(scene.lock.job, 0, BOND)
    assert scene.funds(auditor) - before == BOND * 70 // 100
    assert scene.funds(WORKER) == worker
    assert scene.pledge(WORKER) == (PLEDGE - BOND, 0)
    assert scene.pledge(auditor) == (PLEDGE, 0)
    [fault] = scene.chain.ledger.view.faults(signer_of(WORKER).public_key)
    assert len(fault.batches) == 1
    standing = scene.chain.ledger.view.standing(signer_of(WORKER).public_key)
    assert (standing.settled, standing.faults) == (0, 1)
    assert_sound(scene.chain.ledger._state)


def test_lying_auditor_loses_its_deposit_to_the_worker(scene: Scene) -> None:
    receipt = scene.bound()
    auditor = scene.auditor()
    scene.audit(LIE)
    assert scene.settle(receipt).code is Code.DONE
    before = scene.funds(WORKER)
    result = scene.verdict(receipt, *[Finding.EQUAL] * 3)
    assert result.code is Code.DONE
    assert scene.funds(WORKER) - before == NET + DEPOSIT
    assert scene.pledge(auditor) == (PLEDGE - DEPOSIT, 0)
    assert scene.chain.ledger.view.faults(signer_of(WORKER).public_key) == []


# finding -> what worker and requester gain beside what is locked, when the requester disputes
ENDS = [
    (Finding.EQUAL, NET + DEPOSIT, 0, 0),
    (Finding.CLOSE, NET, DEPOSIT, 0),
    (Finding.UNSERVED, NET + DEPOSIT, 0, 0),
    (Finding.DIFFERENT, 0, DEPOSIT + GROSS + BOND * 70 // 100, BOND),
]


@pytest.mark.parametrize(("finding", "worker", "requester", "lost"), ENDS)
def test_dispute_of_the_requester_ends(
    scene: Scene, finding: Finding, worker: int, requester: int, lost: int
) -> None:
    """Who keeps inputs back in its own dispute (UNSERVED) loses it."""
    receipt = scene.bound()
    assert scene.dispute(receipt).code is Code.DONE
    before = scene.funds(WORKER), scene.funds(REQUESTER)
    assert scene.verdict(receipt, *[finding] * 3).code is Code.DONE
    assert (scene.funds(WORKER) - before[0], scene.funds(REQUESTER) - before[1]) == (
        worker,
        requester,
    )
    assert scene.pledge(WORKER) == (PLEDGE - lost, 0)
    assert_sound(scene.chain.ledger._state)


def test_unserved_audit_costs_the_auditor_nothing(scene: Scene) -> None:
    receipt = scene.bound()
    auditor = scene.auditor()
    scene.audit(LIE)
    scene.settle(receipt)
    before = scene.funds(WORKER)
    scene.verdict(receipt, *[Finding.UNSERVED] * 3)
    assert scene.funds(WORKER) - before == NET
    assert scene.pledge(auditor) == (PLEDGE, 0)


def test_committee_that_does_not_decide_takes_from_nobody(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.verdict(receipt, Finding.EQUAL, Finding.DIFFERENT)
    assert scene.settle(receipt).code is Code.CASE_OPEN
    scene.chain.add(step_ms=300_000)
    assert scene.judge(receipt, 2, Finding.EQUAL).code is Code.TOO_LATE
    before = scene.funds(REQUESTER)
    assert scene.settle(receipt, sender=70).returned == GROSS
    assert scene.funds(REQUESTER) - before == GROSS + DEPOSIT
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    assert scene.chain.ledger.view.cases() == []


def test_divided_committee_is_over_when_all_have_spoken(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    findings = (Finding.EQUAL, Finding.EQUAL, Finding.DIFFERENT, Finding.DIFFERENT)
    assert scene.verdict(receipt, *findings).returned == GROSS


def test_refund_gives_all_back_when_a_case_was_left_alone(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.chain.add(step_ms=800_000)
    before = scene.funds(REQUESTER)
    assert scene.chain.send(70, Refund(scene.lock.job)).code is Code.DONE
    assert scene.funds(REQUESTER) - before == GROSS + DEPOSIT
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    assert_sound(scene.chain.ledger._state)


def test_dispute_is_the_requesters_in_time_on_what_was_bound(scene: Scene) -> None:
    receipt = scene.bound()
    other = LIE.receipt(scene.chain, scene.lock)
    assert scene.dispute(other).code is Code.NOT_COMMITTED
    assert scene.dispute(receipt, batch=3).code is Code.BAD_RECEIPT
    assert scene.dispute(receipt, unit=1).code is Code.UNKNOWN_UNIT
    assert scene.dispute(receipt, job=bytes(32)).code is Code.UNKNOWN_JOB
    scene.chain.add(step_ms=60_000)
    assert scene.dispute(receipt).code is Code.TOO_LATE


def test_judge_is_a_jurors_once(scene: Scene) -> None:
    receipt = scene.bound()
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.UNKNOWN_CASE
    scene.dispute(receipt)
    other = LIE.receipt(scene.chain, scene.lock)
    assert scene.judge(other, 0, Finding.EQUAL).code is Code.NOT_JUROR, "signed of another"
    assert scene.judge(receipt, 4, Finding.EQUAL).code is Code.NOT_JUROR
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.DONE
    assert scene.judge(receipt, 0, Finding.DIFFERENT).code is Code.ALREADY_VOTED


def test_outcome_needs_more_than_two_thirds_of_the_weight() -> None:
    def jurors(*found: tuple[int, int]) -> list[Juror]:
        return [Juror(bytes(32), bytes(32), weight, finding) for weight, finding in found]

    equal, close, different, unserved = (int(one) for one in Finding)
    assert outcome_of(jurors((2, equal), (1, 0))) is None
    assert outcome_of(jurors((21, equal), (9, different))) is Finding.EQUAL
    assert outcome_of(jurors((2, equal), (3, close), (1, 0))) is Finding.CLOSE
    assert outcome_of(jurors((7, different), (3, equal))) is Finding.DIFFERENT
    assert outcome_of(jurors((3, unserved), (1, equal))) is Finding.UNSERVED
    assert outcome_of(jurors((2, unserved), (1, different))) is None


def test_committee_is_drawn_by_stake_without_the_parties() -> None:
    members = small_genesis(stakes=(1_000, *[10] * 9)).first_validators()
    seen = [draw_jurors(members, bytes([i]), apart=set()) for i in range(64)]
    heavy = signer_of(32).public_key
    assert all(len({one.operator for one in drawn}) == 7 for drawn in seen)
    assert sum(drawn[0].operator == heavy for drawn in seen) > 50
    apart = draw_jurors(members, b"seed", apart={heavy})
    assert heavy not in {one.operator for one in apart}
    few = small_genesis().first_validators()
    assert len(draw_jurors(few, b"seed", apart=set())) == 4


def test_case_says_what_jurors_need(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt, batch=1)
    case = scene.chain.ledger.view.case(scene.lock.job, 0)
    assert case is not None
    assert case.batch == receipt.batches[1]
    assert case.class_id == receipt.class_id
    assert scene.chain.ledger.view.cases() == [(scene.lock.job, 0)]
    assert msgspec.structs.replace(case, jurors=()).challenger == signer_of(REQUESTER).public_key
