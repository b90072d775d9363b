"""Audits of work nobody compares: who is drawn, what waits for what, who pays the auditor."""

import msgspec
import pytest

from prsm.consensus.ledger.audits import Draw, drawn_batch, is_contradicted
from prsm.consensus.ledger.invariants import assert_sound
from prsm.consensus.ledger.records import JobStatus
from prsm.protocol.genesis import TREASURY
from prsm.protocol.receipts import Feed, receipt_hash, sign_feed
from prsm.protocol.transactions.audits import Audit, Pledge, Redeem
from prsm.protocol.transactions.payloads import Commit, Refund
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import Chain, signer_of
from prsm.testnet.jobs import (
    REQUESTER,
    Work,
    commit_of,
    lock_of,
    open_job,
    row_of,
    settle_of,
    unit_of,
)
from tests.tools.audited import (
    AUDITORS,
    BOND,
    GROSS,
    PLEDGE,
    PRICE,
    WORKER,
    Scene,
    crowd_in,
    genesis_of,
)

WINDOW_MS = 60_000


@pytest.fixture
def scene() -> Scene:
    return Scene().begin()


def test_bond_is_held_until_settled_and_redeemed_after(scene: Scene) -> None:
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    receipt = scene.bound()
    assert scene.pledge(WORKER) == (PLEDGE, BOND)
    assert scene.chain.send(WORKER, Redeem(PLEDGE)).code is Code.NO_PLEDGE
    assert scene.chain.send(WORKER, Redeem(PLEDGE - BOND)).code is Code.DONE
    scene.audit()
    assert scene.settle(receipt).code is Code.DONE
    assert scene.pledge(WORKER) == (BOND, 0)
    assert scene.chain.send(WORKER, Redeem(BOND)).code is Code.DONE
    assert scene.pledge(WORKER) == (0, 0)
    assert_sound(scene.chain.ledger._state)


def test_commit_without_the_bond_is_refused() -> None:
    scene = Scene()
    open_job(scene.chain, scene.lock)
    assert scene.chain.send(WORKER, Pledge(BOND - 1)).code is Code.DONE
    receipt = Work(WORKER).receipt(scene.chain, scene.lock)
    assert scene.chain.send(WORKER, commit_of(scene.lock, receipt)).code is Code.NO_PLEDGE
    assert scene.chain.send(WORKER, Pledge(1)).code is Code.DONE
    assert scene.chain.send(WORKER, commit_of(scene.lock, receipt)).code is Code.DONE


def test_commit_of_one_of_one_is_final(scene: Scene) -> None:
    """Or a worker would commit again until it is not drawn."""
    scene.bound()
    other = Work(WORKER, {0: "other"}).receipt(scene.chain, scene.lock)
    assert scene.chain.send(WORKER, commit_of(scene.lock, other)).code is Code.ALREADY_COMMITTED


def test_free_work_is_settled_at_once() -> None:
    lock = lock_of("free", unit_of(workers=(WORKER,), price=0))
    scene = Scene(lock=lock)
    open_job(scene.chain, lock)
    receipt = Work(WORKER).receipt(scene.chain, lock)
    assert scene.chain.send(WORKER, commit_of(lock, receipt)).code is Code.DONE
    assert scene.chain.ledger.view.sampling(lock.job, 0) is None
    assert scene.settle(receipt, sender=70).code is Code.DONE


def test_draw_waits_for_a_later_block_and_settlement_for_the_audit(scene: Scene) -> None:
    receipt = Work(WORKER).receipt(scene.chain, scene.lock)
    scene.chain.send(WORKER, commit_of(scene.lock, receipt))
    assert scene.sampling().draw is None
    assert scene.settle(receipt).code is Code.TOO_EARLY
    draw = scene.sampling().draw
    assert draw is not None
    assert draw.is_drawn
    assert len(draw.auditors) == 3
    assert scene.settle(receipt).code is Code.TOO_EARLY, "drawn, and nobody was heard"
    assert scene.audit().code is Code.DONE
    assert scene.settle(receipt, sender=70).code is Code.DONE


def test_drawn_work_is_paid_after_the_window_if_nobody_audits(scene: Scene) -> None:
    receipt = scene.bound()
    scene.chain.add(step_ms=WINDOW_MS - 4_000)
    assert scene.settle(receipt).code is Code.TOO_EARLY
    scene.chain.add(step_ms=3_000)
    assert scene.audit().code is Code.TOO_LATE
    assert scene.settle(receipt, sender=70).code is Code.DONE


@pytest.mark.parametrize(("sooner_ms", "code"), [(1, Code.TOO_EARLY), (0, Code.DONE)])
def test_window_of_an_audit_ends_at_its_millisecond(
    scene: Scene, sooner_ms: int, code: Code
) -> None:
    receipt = scene.bound()
    now_ms, until_ms = scene.chain.ledger.tip.time_ms, scene.sampling().until_ms
    scene.chain.add(step_ms=until_ms - now_ms - 1_000 - sooner_ms)  # the settlement's own second
    assert scene.settle(receipt, sender=70).code is code


def test_undrawn_work_is_accepted_by_its_requester_at_once() -> None:
    scene = Scene(chain=Chain(genesis_of(audit_bps=0))).begin()
    receipt = scene.bound()
    assert scene.settle(receipt, sender=70).code is Code.TOO_EARLY
    assert scene.settle(receipt, sender=WORKER).code is Code.TOO_EARLY
    assert scene.settle(receipt).code is Code.DONE


def test_nobody_audits_work_that_was_not_drawn() -> None:
    """The deposit stays free: such a word would pay nobody."""
    scene = Scene(chain=Chain(genesis_of(audit_bps=0))).begin()
    scene.bound()
    draw = scene.sampling().draw
    assert draw is not None
    assert not draw.is_drawn
    word = Audit(scene.lock.job, 0, 0, bytes(32), bytes(32), bytes(32))
    for number in AUDITORS:
        assert scene.chain.send(number, word).code is Code.NOT_DRAWN
        assert scene.pledge(number) == (PLEDGE, 0)


def test_auditor_is_paid_out_of_the_treasurys_part(scene: Scene) -> None:
    receipt = scene.bound()
    auditor = scene.auditor()
    before = scene.funds(auditor)
    fee = scene.audit().fee
    assert scene.pledge(auditor) == (PLEDGE, 1_000_000)
    result = scene.settle(receipt)
    tax = GROSS * 5 // 100
    drawn = scene.funds(auditor) - before + fee
    assert 0 < drawn == min(tax, 4 * PRICE)
    amounts = {entry.account: entry.amount for entry in result.paid}
    assert amounts[signer_of(auditor).public_key] == drawn
    assert amounts.get(TREASURY, 0) == tax - drawn
    assert scene.pledge(auditor) == (PLEDGE, 0)
    job = scene.chain.ledger.view.job(scene.lock.job)
    assert job is not None
    assert job.verdicts[0] is not None
    assert (job.verdicts[0].auditor, job.verdicts[0].reward) == (
        signer_of(auditor).public_key,
        drawn,
    )


def test_audit_is_for_the_drawn_of_the_drawn_batch_once(scene: Scene) -> None:
    scene.bound()
    draw, batch = scene.sampling().draw, scene.sampling().batch
    assert draw is not None
    assert batch is not None
    undrawn = next(n for n in AUDITORS if signer_of(n).public_key not in draw.auditors)
    assert scene.audit(sender=undrawn).code is Code.NOT_DRAWN
    assert scene.audit(sender=REQUESTER).code is Code.NOT_DRAWN
    other = Audit(scene.lock.job, 0, (batch + 1) % 3, bytes(32), bytes(32), bytes(32))
    assert scene.chain.send(scene.auditor(), other).code is Code.NOT_DRAWN
    absent = msgspec.structs.replace(other, batch=9)
    assert scene.chain.send(scene.auditor(), absent).code is Code.NOT_DRAWN
    assert scene.audit().code is Code.DONE
    assert scene.audit().code is Code.ALREADY_AUDITED
    ghost = msgspec.structs.replace(other, unit=1)
    assert scene.chain.send(scene.auditor(), ghost).code is Code.UNKNOWN_UNIT


def test_audit_of_what_is_not_bound_compared_or_settled_is_refused(scene: Scene) -> None:
    word = Audit(scene.lock.job, 0, 0, bytes(32), bytes(32), bytes(32))
    assert scene.chain.send(AUDITORS[0], word).code is Code.NOT_COMMITTED
    receipt = scene.bound()
    assert scene.audit().code is Code.DONE
    assert scene.settle(receipt).code is Code.DONE
    assert scene.chain.send(AUDITORS[0], word).code is Code.JOB_CLOSED
    units = (
        unit_of(workers=(WORKER,), price=0, span=(0, 1)),
        unit_of(workers=(WORKER, 61), span=(1, 2)),
    )
    lock = lock_of("two", *units)
    open_job(scene.chain, lock)
    first = Work(WORKER).receipt(scene.chain, lock)
    assert scene.chain.send(WORKER, commit_of(lock, first)).code is Code.DONE
    assert scene.chain.send(REQUESTER, settle_of(lock, 0, [first])).code is Code.DONE
    for unit, code in enumerate((Code.UNIT_SETTLED, Code.NOT_SAMPLED, Code.UNKNOWN_UNIT)):
        other = msgspec.structs.replace(word, job=lock.job, unit=unit)
        assert scene.chain.send(AUDITORS[0], other).code is code
        assert scene.chain.ledger.view.sampling(lock.job, unit) is None
    assert scene.chain.ledger.view.sampling(bytes(32), 0) is None


def test_who_pledges_after_the_commitment_is_not_drawn() -> None:
    """Or a worker with a second account would look who is first and put itself there."""
    scene = Scene()
    scene.chain.send(WORKER, Pledge(PLEDGE))
    open_job(scene.chain, scene.lock)
    scene.bound()
    for number in AUDITORS:
        scene.chain.send(number, Pledge(PLEDGE))
    draw = scene.sampling().draw
    assert draw is not None
    assert draw.is_drawn
    assert draw.auditors == ()
    assert len(scene.chain.ledger.view.pledgers()) == 5


def test_who_was_drawn_stays_drawn_whoever_pledges_more(scene: Scene) -> None:
    """Or a worker that sees it was drawn would put its auditors out of a full list."""
    scene.bound()
    crowd_in(scene.chain, 2 * PLEDGE)
    before = scene.sampling().draw
    auditor = scene.auditor()
    for number in (REQUESTER, 70, 71):
        assert scene.chain.send(number, Pledge(3 * PLEDGE)).code is Code.DONE
    assert scene.sampling().draw == before
    assert scene.audit(sender=auditor).code is Code.DONE


def test_pledge_below_the_least_is_not_listed_and_redeeming_unlists(scene: Scene) -> None:
    assert scene.chain.send(70, Pledge(999_999)).code is Code.DONE
    listed = [entry.account for entry in scene.chain.ledger.view.pledgers()]
    assert listed == sorted(signer_of(n).public_key for n in (WORKER, *AUDITORS))
    assert scene.chain.send(66, Redeem(PLEDGE - 1)).code is Code.DONE
    assert signer_of(66).public_key not in {
        entry.account for entry in scene.chain.ledger.view.pledgers()
    }


def test_beacons_and_audits_leave_nothing_in_the_state(scene: Scene) -> None:
    receipt = scene.bound()
    scene.audit()
    scene.settle(receipt)
    left = {key[:1] for key in scene.chain.ledger._state}
    assert not left & {b"B", b"A", b"K", b"w", b"u"}


def test_refund_waits_for_who_was_bound_in_time(scene: Scene) -> None:
    """A deadline set so that the window ends after it takes nothing from the worker."""
    scene.chain.add(step_ms=590_000)
    receipt = scene.bound()
    scene.chain.add(step_ms=20_000)
    assert scene.chain.ledger.tip.time_ms > scene.lock.deadline_ms
    assert scene.chain.send(REQUESTER, Refund(scene.lock.job)).code is Code.TOO_EARLY
    scene.chain.add(step_ms=40_000)
    assert scene.settle(receipt, sender=WORKER).code is Code.DONE
    job = scene.chain.ledger.view.job(scene.lock.job)
    assert job is not None
    assert job.status is JobStatus.SETTLED


def test_refund_of_a_worker_that_shows_nothing_frees_its_bond(scene: Scene) -> None:
    scene.bound()
    scene.audit()
    scene.chain.add(step_ms=700_000)
    result = scene.chain.send(REQUESTER, Refund(scene.lock.job))
    assert (result.code, result.returned) == (Code.DONE, GROSS)
    assert scene.pledge(WORKER) == (PLEDGE, 0)
    assert all(scene.pledge(number) == (PLEDGE, 0) for number in AUDITORS)


def test_contradiction_is_excused_by_the_workers_own_feed(scene: Scene) -> None:
    """The requester fed the auditor something else than the worker."""
    receipt = scene.bound()
    audited = scene.audit(Work(WORKER, flow="other"))
    assert audited.code is Code.DONE
    found = scene.sampling()
    assert found.audited is not None
    assert found.draw is not None
    batch = drawn_batch(receipt, found.draw)
    feed = Feed(scene.lock.job, 0, batch.index, batch.input_root, batch.side_root, bytes(64))
    signed = sign_feed(feed, signer_of(REQUESTER), chain_id=scene.chain.genesis.chain_id)
    assert is_contradicted(found.audited, batch, ())
    assert not is_contradicted(found.audited, batch, (signed,))
    settle = settle_of(scene.lock, 0, [receipt], [signed])
    result = scene.chain.send(WORKER, settle)
    assert result.code is Code.DONE
    assert signer_of(WORKER).public_key in {entry.account for entry in result.paid}


def test_audit_of_another_batch_says_nothing(scene: Scene) -> None:
    receipt = scene.bound()
    scene.audit(Work(WORKER, dict.fromkeys(range(3), "lie")))
    audited = scene.sampling().audited
    assert audited is not None
    draw = Draw(is_drawn=True, number=audited.batch + 1, auditors=())
    assert not is_contradicted(audited, drawn_batch(receipt, draw), ())


@pytest.fixture
def open_ended() -> Scene:
    """A unit of twelve batches of which its worker may leave some out."""
    unit = unit_of(workers=(WORKER,), price=PRICE, span=(2, 12))
    lock = lock_of("open", unit, rows=[1] * 20)
    return Scene(lock=msgspec.structs.replace(lock, is_open_ended=True)).begin()


@pytest.mark.parametrize("did", [(13,), (2, 7, 13), tuple(range(2, 14))])
def test_the_ledger_draws_among_the_batches_an_open_ended_unit_is_bound_to(
    did: tuple[int, ...], open_ended: Scene
) -> None:
    """No peer is asked which they are, so none can lie: one audit is heard, of that batch."""
    lie = Work(WORKER, dict.fromkeys(did, "lie"), only=did)
    receipt = open_ended.bound(lie)
    found = open_ended.sampling()
    assert found.draw is not None
    assert found.batch == did[found.draw.number % len(did)]
    for batch in {*range(20)} - {found.batch}:
        payload = Audit(open_ended.lock.job, 0, batch, bytes(32), bytes(32), bytes(32))
        assert open_ended.chain.send(open_ended.auditor(), payload).code is Code.NOT_DRAWN
    assert open_ended.audit(Work(WORKER, only=did)).code is Code.DONE
    assert open_ended.settle(receipt).code is Code.DONE
    case = open_ended.chain.ledger.view.case(open_ended.lock.job, 0)
    assert case is not None
    assert case.batch.index == found.batch


def test_a_receipt_has_the_batches_it_was_bound_with(open_ended: Scene) -> None:
    """Who names others, so that a good one is drawn, has a receipt that nobody takes."""
    chain, lock = open_ended.chain, open_ended.lock
    receipt = Work(WORKER, {3: "lie"}, only=(2, 3)).receipt(chain, lock)
    good = Work(WORKER, only=(2,)).receipt(chain, lock)
    row = row_of(lock, good, receipt_hash(receipt))
    assert chain.send(WORKER, Commit((row,))).code is Code.DONE
    chain.add()
    assert open_ended.sampling().batch == 2
    assert open_ended.dispute(receipt, 3).code is Code.NOT_COMMITTED
    chain.add(step_ms=61_000)
    assert open_ended.settle(receipt).code is Code.NOT_COMMITTED
    assert open_ended.settle(good).code is Code.NOT_COMMITTED


@pytest.mark.parametrize("bits", [b"", bytes(2), b"\1", b"\1\0\0", b"\1\x10", bytes(128)])
def test_a_commitment_names_at_least_one_batch_and_only_those_of_its_unit(
    bits: bytes, open_ended: Scene
) -> None:
    receipt = Work(WORKER, only=(2,)).receipt(open_ended.chain, open_ended.lock)
    row = row_of(open_ended.lock, receipt, receipt_hash(receipt))
    assert row.batches == b"\1\0"
    other = msgspec.structs.replace(row, batches=bits)
    assert open_ended.chain.send(WORKER, Commit((other,))).code is Code.BAD_RECEIPT
    assert open_ended.chain.send(WORKER, Commit((row,))).code is Code.DONE


def test_where_the_lock_says_which_batches_a_commitment_names_none(scene: Scene) -> None:
    receipt = Work(WORKER).receipt(scene.chain, scene.lock)
    row = row_of(scene.lock, receipt, receipt_hash(receipt))
    assert row.batches == b""
    other = msgspec.structs.replace(row, batches=b"\7")
    assert scene.chain.send(WORKER, Commit((other,))).code is Code.BAD_RECEIPT
