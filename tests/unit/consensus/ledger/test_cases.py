"""Cases: who opens one, who sits, and who loses what."""

import msgspec
import pytest

from prsm.consensus.ledger.audit_records import Juror
from prsm.consensus.ledger.cases import draw_jurors, outcome_of
from prsm.consensus.ledger.context import CaseClosed, CaseOpened
from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.codec import encode
from prsm.protocol.genesis import TREASURY
from prsm.protocol.transactions.audits import Dispute, Finding, Pledge, Redeem
from prsm.protocol.transactions.payloads import Refund
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of, small_genesis
from prsm.testnet.jobs import REQUESTER, Work, commit_of
from tests.tools.audited import AUDITORS, BOND, GROSS, PLEDGE, WORKER, Scene, genesis_of

DEPOSIT = 1_000_000
LIE = Work(WORKER, dict.fromkeys(range(3), "lie"))
NET = GROSS * 95 // 100
JURORS = 4
SEATS = DEPOSIT * 30 // 100 // JURORS  # what a juror gets, where the losing side's part suffices
BOND_SEATS = BOND * 30 // 100 // JURORS  # the bond is small here: a part of it is all there is


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
    assert scene.funds(WORKER) - before == NET + DEPOSIT - 3 * SEATS
    assert scene.pledge(auditor) == (PLEDGE - DEPOSIT, 0)
    assert scene.chain.ledger.view.faults(signer_of(WORKER).public_key) == []


# finding -> what worker and requester gain beside what is locked, when the requester disputes
ENDS = [
    (Finding.EQUAL, NET + DEPOSIT - 3 * SEATS, 0, 0),
    (Finding.CLOSE, NET, DEPOSIT, 0),
    (Finding.UNSERVED, NET + DEPOSIT - 3 * SEATS, 0, 0),
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


def seats(scene: Scene) -> list[int]:
    """What the operators own beside their bonds."""
    return [scene.funds(32 + number) for number in range(JURORS)]


# finding of three jurors -> what each of them gets when the requester disputes
PAYS = [
    (Finding.EQUAL, SEATS),
    (Finding.CLOSE, GROSS * 5 // 100 // JURORS),
    (Finding.UNSERVED, SEATS),
    (Finding.DIFFERENT, BOND_SEATS),
]


@pytest.mark.parametrize(("finding", "pay"), PAYS)
def test_jurors_are_paid_out_of_what_the_other_side_loses(
    scene: Scene, finding: Finding, pay: int
) -> None:
    """Where nobody loses, out of the treasury's part of the price, and never more than that."""
    receipt = scene.bound()
    scene.dispute(receipt)
    before = seats(scene)
    scene.verdict(receipt, *[finding] * 3)
    assert [now - then for now, then in zip(seats(scene), before, strict=True)] == [
        *[pay] * 3,
        0,  # not heard: three of four decide
    ]
    assert_sound(scene.chain.ledger._state)


def test_juror_that_found_otherwise_is_not_paid(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    before = seats(scene)
    found = (Finding.DIFFERENT, Finding.EQUAL, Finding.CLOSE, Finding.EQUAL)
    scene.verdict(receipt, *found)
    gained = [now - then for now, then in zip(seats(scene), before, strict=True)]
    assert gained == [0, SEATS, SEATS, SEATS], "EQUAL and CLOSE both say that the worker is right"


def test_jurors_of_a_caught_liar_take_nothing_from_who_caught_it(scene: Scene) -> None:
    """They share the treasury's part of the bond; the auditor has its 70 %."""
    lied = scene.bound(LIE)
    auditor = scene.auditor()
    scene.audit()
    scene.settle(lied)
    scene.sealed(lied, *[Finding.DIFFERENT] * 3)
    before, treasury = scene.funds(auditor), scene.chain.ledger.view.account(TREASURY)
    result = [scene.judge(lied, number, Finding.DIFFERENT) for number in range(3)][-1]
    assert scene.funds(auditor) - before == BOND * 70 // 100
    gained = scene.chain.ledger.view.account(TREASURY) - treasury
    fees = 3 * result.fee
    assert gained == fees + BOND * 30 // 100 - 3 * BOND_SEATS


# what jurors found until the time was over -> is the worker paid?
UNDECIDED = [
    ((), True),
    ((Finding.EQUAL,), True),
    ((Finding.UNSERVED, Finding.UNSERVED), True),
    ((Finding.EQUAL, Finding.DIFFERENT), True),
    ((Finding.DIFFERENT,), False),
    ((Finding.DIFFERENT, Finding.DIFFERENT), False),
]


@pytest.mark.parametrize(("findings", "is_paid"), UNDECIDED)
def test_undecided_case_pays_unless_most_who_spoke_are_against(
    scene: Scene, findings: tuple[Finding, ...], is_paid: bool
) -> None:
    """Nobody loses a bond or a deposit, and no juror is paid: there is no verdict."""
    receipt = scene.bound()
    scene.dispute(receipt)
    jurors = seats(scene)
    scene.sealed(receipt, *findings, *[Finding.DIFFERENT] * (4 - len(findings)))
    for number, finding in enumerate(findings):
        assert scene.judge(receipt, number, finding).code is Code.DONE
    assert scene.settle(receipt).code is Code.CASE_OPEN
    scene.chain.add(step_ms=300_000)
    assert scene.judge(receipt, 3, Finding.DIFFERENT).code is Code.TOO_LATE
    worker, requester = scene.funds(WORKER), scene.funds(REQUESTER)
    result = scene.settle(receipt, sender=70)
    assert (result.code, result.returned) == (Code.DONE, 0 if is_paid else GROSS)
    assert scene.funds(WORKER) - worker == (NET if is_paid else 0)
    assert scene.funds(REQUESTER) - requester == DEPOSIT + (0 if is_paid else GROSS)
    assert seats(scene) == jurors
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    assert scene.chain.ledger.view.cases() == []
    assert scene.chain.ledger.view.faults(signer_of(WORKER).public_key) == []
    assert scene.chain.made[-1].outcome.events[-1] == CaseClosed(scene.lock.job, 0, 0)
    assert_sound(scene.chain.ledger._state)


def test_undecided_case_of_an_auditor_frees_its_deposit(scene: Scene) -> None:
    receipt = scene.bound()
    auditor = scene.auditor()
    scene.audit(LIE)
    scene.settle(receipt)
    scene.chain.add(step_ms=300_000)
    assert scene.settle(receipt, sender=WORKER).paid, "the case is not opened again"
    assert scene.pledge(auditor) == (PLEDGE, 0)


def test_undecided_case_ends_by_the_receipt_it_is_about(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.chain.add(step_ms=300_000)
    other = LIE.receipt(scene.chain, scene.lock)
    assert scene.settle(other).code is Code.NOT_COMMITTED
    view = scene.chain.ledger.view
    now = scene.chain.ledger.tip.time_ms
    worker = signer_of(WORKER).public_key
    assert view.may_settle(scene.lock.job, 0, sender=worker, time_ms=now)
    assert not view.may_settle(scene.lock.job, 0, sender=worker, time_ms=now - 300_000)


@pytest.mark.parametrize("last", [Finding.DIFFERENT, Finding.UNSERVED, Finding.EQUAL])
def test_divided_committee_is_over_when_all_have_spoken(scene: Scene, last: Finding) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    findings = (Finding.EQUAL, Finding.UNSERVED, Finding.DIFFERENT, last)
    result = scene.verdict(receipt, *findings)
    assert (result.code, result.returned) == (Code.DONE, 0)
    assert scene.settle(receipt).code is Code.JOB_CLOSED


def test_slashed_account_is_not_drawn_any_more(scene: Scene) -> None:
    """One whose pledge is gone would keep a place among the auditors and could not speak."""
    receipt = scene.bound()
    auditor = signer_of(scene.auditor()).public_key
    poor = scene.auditor()
    scene.chain.send(poor, Redeem(PLEDGE - DEPOSIT))
    scene.audit(LIE)
    scene.settle(receipt)
    scene.verdict(receipt, *[Finding.EQUAL] * 3)
    assert scene.pledge(poor) == (0, 0)
    listed = {entry.account for entry in scene.chain.ledger.view.pledgers()}
    assert auditor not in listed
    assert len(listed) == 4


def test_auditor_is_no_juror_of_its_own_case() -> None:
    """An operator may be drawn as an auditor; then it does not judge what it said itself."""
    scene = Scene().begin()
    for number in AUDITORS:
        scene.chain.send(number, Redeem(PLEDGE))
    assert scene.chain.send(32, Pledge(PLEDGE)).code is Code.DONE
    receipt = scene.bound()
    assert scene.audit(LIE, sender=32).code is Code.DONE
    scene.settle(receipt)
    case = scene.chain.ledger.view.case(scene.lock.job, 0)
    assert case is not None
    assert signer_of(32).public_key not in {one.operator for one in case.jurors}
    assert len(case.jurors) == 3


def test_refund_gives_all_back_when_a_case_was_left_alone(scene: Scene) -> None:
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.chain.add(step_ms=800_000)
    before = scene.funds(REQUESTER)
    assert scene.chain.send(70, Refund(scene.lock.job)).code is Code.DONE
    assert scene.funds(REQUESTER) - before == GROSS + DEPOSIT
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    assert_sound(scene.chain.ledger._state)


def test_refund_waits_until_a_worker_could_settle_after_its_case() -> None:
    """Or whoever sends the refund first would decide whether an undecided case is paid."""
    chain = Chain(genesis_of(case_window_ms=700_000))
    scene = Scene(chain=chain).begin()
    receipt = scene.bound()
    scene.dispute(receipt)
    case = chain.ledger.view.case(scene.lock.job, 0)
    assert case is not None
    end = case.until_ms
    assert end > scene.lock.deadline_ms
    chain.add(step_ms=end - chain.ledger.tip.time_ms)
    assert chain.send(70, Refund(scene.lock.job)).code is Code.TOO_EARLY
    assert scene.settle(receipt, sender=WORKER).returned == 0


def test_dispute_is_the_requesters_in_time_on_what_was_bound(scene: Scene) -> None:
    early = Scene().begin()
    shown = Work(WORKER).receipt(early.chain, early.lock)
    assert early.chain.send(WORKER, commit_of(early.lock, shown)).code is Code.DONE
    assert early.dispute(shown).code is Code.TOO_EARLY, "no later block has drawn"
    receipt = scene.bound()
    other = LIE.receipt(scene.chain, scene.lock)
    assert scene.dispute(other).code is Code.NOT_COMMITTED
    assert scene.dispute(receipt, batch=3).code is Code.BAD_RECEIPT
    stranger = Dispute(scene.lock.job, 0, 0, encode(receipt))
    assert scene.chain.send(70, stranger).code is Code.NOT_REQUESTER
    assert scene.dispute(receipt, unit=1).code is Code.UNKNOWN_UNIT
    assert scene.dispute(receipt, job=bytes(32)).code is Code.UNKNOWN_JOB
    scene.chain.add(step_ms=60_000)
    assert scene.dispute(receipt).code is Code.TOO_LATE


def test_judge_is_a_jurors_once(scene: Scene) -> None:
    receipt = scene.bound()
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.UNKNOWN_CASE
    scene.dispute(receipt)
    scene.sealed(receipt, Finding.EQUAL)
    other = LIE.receipt(scene.chain, scene.lock)
    assert scene.judge(other, 0, Finding.EQUAL).code is Code.NOT_JUROR, "signed of another"
    assert scene.judge(receipt, 4, Finding.EQUAL).code is Code.NOT_JUROR
    assert scene.settle(receipt).code is Code.CASE_OPEN


def test_outcome_needs_more_than_two_thirds_of_the_weight() -> None:
    def jurors(*found: tuple[int, int]) -> list[Juror]:
        return [Juror(bytes(32), bytes(32), weight, finding, None) for weight, finding in found]

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
