"""Findings are sealed before any is shown, and count as they were sealed or not at all."""

import pytest

from prsm.consensus.ledger.invariants import assert_sound
from prsm.protocol.transactions.audits import Finding, Judge, sealed
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of
from tests.tools.audited import GROSS, Scene, genesis_of

DEPOSIT = 1_000_000
SEAT = DEPOSIT * 30 // 100 // 4
OPERATORS = range(32, 36)


@pytest.fixture
def scene() -> Scene:
    return Scene().begin()


def gains(scene: Scene, before: list[int]) -> list[int]:
    return [scene.funds(n) - then for n, then in zip(OPERATORS, before, strict=True)]


def test_nothing_is_shown_while_a_juror_may_still_seal(scene: Scene) -> None:
    """Or the last would repeat what the others found."""
    receipt = scene.bound()
    scene.dispute(receipt)
    for number in range(3):
        assert scene.seal(receipt, number, Finding.EQUAL).code is Code.DONE
        assert scene.judge(receipt, number, Finding.EQUAL).code is Code.TOO_EARLY
    case = scene.chain.ledger.view.case(scene.lock.job, 0)
    assert case is not None
    assert all(one.finding == 0 for one in case.jurors)
    assert scene.seal(receipt, 3, Finding.EQUAL).code is Code.DONE
    assert scene.judge(receipt, 2, Finding.EQUAL).code is Code.DONE, "all have sealed"
    assert scene.judge(receipt, 2, Finding.EQUAL).code is Code.ALREADY_VOTED


def test_sealing_ends_with_three_quarters_of_the_window(scene: Scene) -> None:
    receipt = scene.bound()
    opened = scene.dispute(receipt)
    assert opened.code is Code.DONE
    begun = scene.chain.ledger.tip.time_ms
    case = scene.chain.ledger.view.case(scene.lock.job, 0)
    assert case is not None
    assert (case.opens_ms - begun, case.until_ms - begun) == (225_000, 300_000)
    scene.seal(receipt, 0, Finding.EQUAL)
    scene.chain.add(step_ms=case.opens_ms - 2_001 - scene.chain.ledger.tip.time_ms)
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.TOO_EARLY
    assert scene.seal(receipt, 1, Finding.EQUAL).code is Code.DONE, "a millisecond before"
    assert scene.seal(receipt, 2, Finding.EQUAL).code is Code.TOO_LATE
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.DONE


def test_finding_that_was_not_sealed_is_not_heard(scene: Scene) -> None:
    """Neither from who sealed another, nor from who sealed none, nor a copy of another's seal."""
    receipt = scene.bound()
    scene.dispute(receipt)
    before = [scene.funds(n) for n in OPERATORS]
    scene.sealed(receipt, Finding.DIFFERENT, Finding.EQUAL)
    assert scene.judge(receipt, 0, Finding.EQUAL).code is Code.NOT_SEALED
    assert scene.judge(receipt, 2, Finding.EQUAL).code is Code.NOT_SEALED
    assert scene.judge(receipt, 1, Finding.EQUAL).code is Code.DONE
    assert gains(scene, before) == [0, 0, 0, 0]


def test_seal_is_a_jurors_once_and_signed(scene: Scene) -> None:
    receipt = scene.bound()
    assert scene.seal(receipt, 0, Finding.EQUAL).code is Code.UNKNOWN_CASE
    scene.dispute(receipt)
    assert scene.seal(receipt, 0, Finding.EQUAL, by=1).code is Code.NOT_JUROR
    assert scene.seal(receipt, 4, Finding.EQUAL).code is Code.NOT_JUROR
    assert scene.seal(receipt, 0, Finding.EQUAL).code is Code.DONE
    assert scene.seal(receipt, 0, Finding.DIFFERENT).code is Code.ALREADY_VOTED


def test_copied_seal_opens_as_nothing(scene: Scene) -> None:
    """A hash covers the juror and its signature, so repeating another's is no finding."""
    receipt = scene.bound()
    one, other = (scene.found(receipt, n, Finding.EQUAL) for n in (0, 1))
    assert sealed(one) != sealed(other)
    forged = Judge(one.job, one.unit, one.operator, Finding.DIFFERENT, one.signature)
    assert sealed(forged) != sealed(one), "a seal opens as one finding"


def test_juror_is_paid_for_what_it_opened_only(scene: Scene) -> None:
    """Three of four seal and open; the fourth sealed too, but the verdict is there without it."""
    receipt = scene.bound()
    scene.dispute(receipt)
    before = [scene.funds(n) for n in OPERATORS]
    scene.sealed(receipt, *[Finding.EQUAL] * 4)
    for number in (3, 1, 0):
        assert scene.judge(receipt, number, Finding.EQUAL).code is Code.DONE
    assert gains(scene, before) == [SEAT, SEAT, 0, SEAT]
    assert_sound(scene.chain.ledger._state)


def test_case_is_over_when_all_who_sealed_have_opened(scene: Scene) -> None:
    """Two of four never seal: nobody waits for the end of the window, and nobody loses."""
    receipt = scene.bound()
    scene.dispute(receipt)
    scene.sealed(receipt, Finding.DIFFERENT, Finding.DIFFERENT)
    assert scene.judge(receipt, 1, Finding.DIFFERENT).code is Code.DONE
    assert scene.chain.ledger.view.cases()
    result = scene.judge(receipt, 0, Finding.DIFFERENT)
    assert (result.code, result.returned) == (Code.DONE, GROSS), "outweighed, without a fault"
    assert scene.chain.ledger.view.cases() == []
    assert scene.chain.ledger.view.faults(signer_of(65).public_key) == []


def test_committee_of_nobody_leaves_the_case_to_its_end() -> None:
    """A window of nothing has no time for seals: the next settlement ends the case."""
    scene = Scene(chain=Chain(genesis_of(case_window_ms=0))).begin()
    receipt = scene.bound()
    assert scene.dispute(receipt).code is Code.DONE
    assert scene.seal(receipt, 0, Finding.EQUAL).code is Code.TOO_LATE
    assert scene.settle(receipt).code is Code.DONE
