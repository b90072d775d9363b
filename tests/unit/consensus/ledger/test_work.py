"""Settlement: the truth table of opinions, who is paid what, and every refusal."""

from collections.abc import Callable

import msgspec
import pytest

from prsm.consensus.ledger.context import Closed, Settled
from prsm.consensus.ledger.records import Job, JobStatus, Verdict
from prsm.consensus.ledger.tally import tally
from prsm.protocol.codec import encode
from prsm.protocol.genesis import TREASURY
from prsm.protocol.receipts import BatchResult, WorkReceipt, sign_receipt
from prsm.protocol.transactions.payloads import (
    Commit,
    Lock,
    Refund,
    Settle,
    Share,
    unit_batches_max,
)
from prsm.protocol.transactions.results import Code
from prsm.testnet.chain import START_MS, Chain, signer_of, small_genesis
from prsm.testnet.jobs import (
    REQUESTER,
    Work,
    commit_of,
    lock_of,
    open_job,
    settle_by,
    settle_of,
    unit_of,
)

ALL, ROWS, PRICE = (0, 1, 2), 10, 1_000
GROSS = ROWS * PRICE
NET, TAX = GROSS * 95 // 100, GROSS * 5 // 100


def fresh(lock: Lock | None = None) -> tuple[Chain, Lock]:
    chain, terms = Chain(small_genesis()), lock or lock_of()
    open_job(chain, terms)
    return chain, terms


def worker(number: int) -> bytes:
    return signer_of(number).public_key


def job_of(chain: Chain, lock: Lock) -> Job:
    job = chain.ledger.view.job(lock.job)
    assert job is not None
    return job


def verdict_of(chain: Chain, lock: Lock, unit: int = 0) -> Verdict:
    verdict = job_of(chain, lock).verdicts[unit]
    assert verdict is not None
    return verdict


# Opinions of workers 65, 66, 67 -> paid (net, by number), and who is at fault; None: undecided.
TRUTH = [
    ("two equal", [Work(65), Work(66)], {65: NET, 66: NET}, ()),
    ("three equal", [Work(65), Work(66), Work(67)], {65: NET, 66: NET, 67: NET}, ()),
    (
        "third sides with the first",
        [Work(65), Work(66, {1: "lie"}), Work(67)],
        {65: NET, 67: NET},
        (66,),
    ),
    (
        "third sides with the second",
        [Work(65, {0: "lie"}), Work(66), Work(67)],
        {66: NET, 67: NET},
        (65,),
    ),
    (
        "third covers what differs",
        [Work(65), Work(66, {1: "x"}), Work(67, only=(1,))],
        {65: NET, 67: 4 * PRICE * 95 // 100},
        (66,),
    ),
    (
        "each of two lies in another batch",
        [Work(65, {0: "x"}), Work(66, {1: "y"}), Work(67)],
        {67: NET},
        (65, 66),
    ),
    ("third lies with nobody", [Work(65), Work(66), Work(67, {2: "z"})], {65: NET, 66: NET}, (67,)),
    (
        "the first pair differs everywhere, third decides",
        [Work(65, dict.fromkeys(ALL, "x")), Work(66), Work(67)],
        {66: NET, 67: NET},
        (65,),
    ),
    ("two differ", [Work(65), Work(66, {0: "lie"})], None, ()),
    ("three different", [Work(65, {0: "a"}), Work(66, {0: "b"}), Work(67, {0: "c"})], None, ()),
    (
        "third misses a batch that differs",
        [Work(65), Work(66, {0: "x", 1: "y"}), Work(67, only=(1,))],
        None,
        (),
    ),
    ("a batch nobody did", [Work(65, only=(0, 1)), Work(66, only=(0, 1))], None, ()),
    ("a batch one did", [Work(65), Work(66, only=(0, 2))], None, ()),
    (
        "equal outputs of other inputs",
        [Work(65), Work(66, dict.fromkeys(ALL, "flow"), flow="other")],
        None,
        (),
    ),
]


@pytest.mark.parametrize(
    ("works", "paid", "faulty"), [row[1:] for row in TRUTH], ids=[row[0] for row in TRUTH]
)
def test_settle_pays_by_the_truth_table(
    works: list[Work], paid: dict[int, int] | None, faulty: tuple[int, ...]
) -> None:
    chain, lock = fresh()
    locked = chain.ledger.view.supply().locked
    assert locked == 3 * GROSS
    before = {number: chain.ledger.view.account(worker(number)) for number in (65, 66, 67)}
    receipts = [work.receipt(chain, lock) for work in works]
    fees = dict.fromkeys((65, 66, 67), 0)
    for work, receipt in zip(works, receipts, strict=True):
        fees[work.worker] += chain.send(work.worker, commit_of(lock, receipt)).fee
    result = chain.send(REQUESTER, settle_of(lock, 0, receipts))
    if paid is None:
        assert result.code is Code.UNDECIDED
        assert (result.paid, result.returned) == ((), 0)
        assert chain.ledger.view.supply().locked == locked
        assert job_of(chain, lock).is_open
        return
    assert result.code is Code.DONE
    assert result.detail == 3
    for number in (65, 66, 67):
        gained = chain.ledger.view.account(worker(number)) - before[number] + fees[number]
        assert gained == paid.get(number, 0)
        assert bool(chain.ledger.view.faults(worker(number))) is (number in faulty)
    amounts = {entry.account: entry.amount for entry in result.paid}
    gross = sum(paid.values()) * 100 // 95
    assert amounts.pop(TREASURY) == gross - sum(paid.values())
    assert amounts == {worker(number): amount for number, amount in paid.items()}
    assert result.returned == locked - gross
    assert chain.ledger.view.supply().locked == 0
    job = job_of(chain, lock)
    assert job.status is JobStatus.SETTLED
    verdict = job.verdicts[0]
    assert verdict is not None
    assert verdict.height == chain.ledger.height
    assert {o.worker for o in verdict.opinions if o.wrong} == {worker(n) for n in faulty}
    assert chain.made[-1].outcome.events == (
        Settled(lock.job, 0, result.paid, tuple(worker(n) for n in faulty)),
        Closed(lock.job, is_refund=False),
    )


def test_settle_records_what_the_liar_signed() -> None:
    chain, lock = fresh()
    liar = Work(66, {0: "x", 2: "y"})
    settle_by(chain, lock, Work(65), liar, Work(67))
    [fault] = chain.ledger.view.faults(worker(66))
    assert fault.batches == (0, 2)
    assert fault.job == lock.job
    [opinion] = [o for o in verdict_of(chain, lock).opinions if o.worker == worker(66)]
    assert opinion.receipt_hash == fault.receipt_hash
    assert opinion.committed_height < fault.height
    assert chain.ledger.view.committed(lock.job, 0, worker(66)) is None  # it has served


def refused(chain: Chain, lock: Lock, receipts: list[WorkReceipt]) -> Code:
    """Commit the receipts by whoever may, settle in the next block, say the code."""
    for number in (65, 66, 67):
        for receipt in receipts:
            if receipt.worker == worker(number):
                chain.send(number, commit_of(lock, receipt))
    return chain.send(REQUESTER, settle_of(lock, 0, receipts)).code


def batches_of(receipt: WorkReceipt, **changes: object) -> tuple[BatchResult, ...]:
    return (msgspec.structs.replace(receipt.batches[0], **changes), *receipt.batches[1:])


CHANGES: list[tuple[str, Callable[[WorkReceipt], dict[str, object]], Code]] = [
    ("another network", lambda _: {"chain_id": bytes(8)}, Code.FOREIGN_RECEIPT),
    ("another job", lambda _: {"job": bytes(32)}, Code.FOREIGN_RECEIPT),
    ("another unit", lambda _: {"unit": 1}, Code.FOREIGN_RECEIPT),
    ("another kind", lambda _: {"kind": 2}, Code.BAD_RECEIPT),
    ("another model", lambda _: {"model": bytes(36)}, Code.BAD_RECEIPT),
    ("another split", lambda _: {"stages": 2}, Code.BAD_RECEIPT),
    ("another stage", lambda _: {"stage": 1}, Code.BAD_RECEIPT),
    ("another price", lambda _: {"price_per_row": 999_999}, Code.BAD_RECEIPT),
    ("more rows", lambda r: {"batches": batches_of(r, rows=400)}, Code.BAD_RECEIPT),
    ("a batch twice", lambda r: {"batches": (r.batches[0], *r.batches)}, Code.BAD_RECEIPT),
    ("batches in another order", lambda r: {"batches": r.batches[::-1]}, Code.BAD_RECEIPT),
    (
        "a batch too many",
        lambda r: {"batches": (*r.batches, batches_of(r, index=3)[0])},
        Code.BAD_RECEIPT,
    ),
]


@pytest.mark.parametrize(
    ("change", "code"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_settle_refuses_a_receipt_of_other_terms(
    change: Callable[[WorkReceipt], dict[str, object]], code: Code
) -> None:
    chain, lock = fresh()
    honest = Work(65).receipt(chain, lock)
    other = Work(66).receipt(chain, lock)
    changed = sign_receipt(msgspec.structs.replace(other, **change(other)), signer_of(66))
    assert refused(chain, lock, [honest, changed]) is code
    assert chain.ledger.view.faults(worker(66)) == []


def test_settle_refuses_a_stranger_a_twin_and_a_forgery() -> None:
    chain, lock = fresh()
    honest = Work(65).receipt(chain, lock)
    stranger = sign_receipt(msgspec.structs.replace(honest, worker=worker(70)), signer_of(70))
    twin = Work(65, {0: "x"}).receipt(chain, lock)
    forged = msgspec.structs.replace(Work(66).receipt(chain, lock), signature=honest.signature)
    assert refused(chain, lock, [honest, stranger]) is Code.FOREIGN_RECEIPT
    assert refused(chain, lock, [honest, honest]) is Code.WORKER_TWICE
    assert refused(chain, lock, [honest, twin]) is Code.WORKER_TWICE
    assert refused(chain, lock, [honest, forged]) is Code.BAD_RECEIPT_SIGNATURE
    loose = Settle(job=lock.job, unit=0, receipts=(encode(honest), b"\x00"), feeds=())
    assert chain.send(REQUESTER, loose).code is Code.BAD_RECEIPT


def test_settle_needs_commitments_of_an_earlier_block() -> None:
    chain, lock = fresh()
    first, second = Work(65).receipt(chain, lock), Work(66).receipt(chain, lock)
    settle = settle_of(lock, 0, [first, second])
    assert chain.send(REQUESTER, settle).code is Code.NOT_COMMITTED
    chain.send(65, commit_of(lock, first))
    same_block = chain.add(
        chain.order(66, commit_of(lock, second)), chain.order(REQUESTER, settle)
    ).receipts()
    assert [entry.code for entry in same_block] == [Code.DONE, Code.NOT_COMMITTED]
    assert chain.send(REQUESTER, settle).code is Code.DONE
    assert chain.send(REQUESTER, settle).code is Code.JOB_CLOSED


def test_settle_refuses_a_receipt_committed_for_another_unit() -> None:
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2))
    chain, _ = fresh(lock)
    receipts = [Work(number).receipt(chain, lock) for number in (65, 66)]
    for number, receipt in zip((65, 66), receipts, strict=True):
        row = msgspec.structs.replace(commit_of(lock, receipt).rows[0], unit=1)
        chain.send(number, Commit(rows=(row,)))
    assert chain.send(REQUESTER, settle_of(lock, 0, receipts)).code is Code.NOT_COMMITTED


def test_settle_refuses_a_replay_in_another_job() -> None:
    chain, lock = fresh()
    settle_by(chain, lock, Work(65), Work(66))
    again = lock_of("again")
    open_job(chain, again)
    old = [Work(number).receipt(chain, lock) for number in (65, 66)]
    assert chain.send(REQUESTER, settle_of(again, 0, old)).code is Code.FOREIGN_RECEIPT


def test_settle_names_unknown_and_settled() -> None:
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2))
    chain, _ = fresh(lock)
    receipts = [Work(number).receipt(chain, lock) for number in (65, 66)]
    assert chain.send(REQUESTER, settle_of(lock, 2, receipts)).code is Code.UNKNOWN_UNIT
    ghost = msgspec.structs.replace(settle_of(lock, 0, receipts), job=bytes(32))
    assert chain.send(REQUESTER, ghost).code is Code.UNKNOWN_JOB
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    assert chain.send(REQUESTER, settle_of(lock, 0, receipts)).code is Code.UNIT_SETTLED
    late = Work(67).receipt(chain, lock)
    assert chain.send(67, commit_of(lock, late)).code is Code.UNIT_SETTLED
    assert job_of(chain, lock).is_open
    assert settle_by(chain, lock, Work(65), Work(66), unit=1).code is Code.DONE
    assert job_of(chain, lock).status is JobStatus.SETTLED


@pytest.mark.parametrize(("flow", "code"), [("stray", Code.CHAIN_BROKEN), ("flow", Code.DONE)])
def test_settle_refuses_a_stage_that_did_not_read_the_stage_before(flow: str, code: Code) -> None:
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2))
    chain, _ = fresh(lock)
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    works = [Work(number, flow=flow) for number in (65, 66)]
    assert settle_by(chain, lock, *works, unit=1).code is code


def test_settle_of_a_stage_is_not_held_up_by_the_stage_after_it() -> None:
    """Or a requester would feed the later stage garbage to keep the earlier one unpaid."""
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2))
    chain, _ = fresh(lock)
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    assert settle_by(chain, lock, *strayed, unit=1).code is Code.DONE
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE


def test_settle_of_another_model_is_no_part_of_the_chain() -> None:
    other = bytes.fromhex("01551220") + bytes(32)
    lock = lock_of("two", unit_of(0, stages=2), unit_of(1, stages=2, model=other))
    chain, _ = fresh(lock)
    assert settle_by(chain, lock, Work(65), Work(66)).code is Code.DONE
    strayed = [Work(number, flow="stray") for number in (65, 66)]
    assert settle_by(chain, lock, *strayed, unit=1).code is Code.DONE


def test_settle_splits_among_shares_and_leaves_the_rounding_to_the_worker() -> None:
    shares = (Share(account=worker(70), bps=333), Share(account=worker(65), bps=1_000))
    lock = lock_of("shares", unit_of(price=7), rows=(1, 1, 1), shares=shares)
    chain, _ = fresh(lock)
    result = settle_by(chain, lock, Work(65), Work(66))
    # 21 each: treasury 1 (1.05), first share 0 (0.69), second 2 (2.1), 18 to the worker.
    amounts = {entry.account: entry.amount for entry in result.paid}
    assert amounts == {TREASURY: 2, worker(65): 18 + 4, worker(66): 18}
    assert result.returned == 21


def test_commit_is_for_workers_of_open_units_once() -> None:
    chain, lock = fresh()
    receipt = Work(65).receipt(chain, lock)
    assert chain.send(70, commit_of(lock, receipt)).code is Code.NOT_WORKER
    row = commit_of(lock, receipt).rows[0]
    for change, code in (({"job": bytes(32)}, Code.UNKNOWN_JOB), ({"unit": 1}, Code.UNKNOWN_UNIT)):
        changed = Commit(rows=(msgspec.structs.replace(row, **change),))
        assert chain.send(65, changed).code is code
    assert chain.send(65, Commit(rows=(row, row))).code is Code.ALREADY_COMMITTED
    assert chain.send(65, Commit(rows=(row,))).code is Code.DONE
    assert chain.send(65, Commit(rows=(row,))).code is Code.ALREADY_COMMITTED


def test_commit_of_anothers_hash_takes_nothing_from_it() -> None:
    """A worker that copies a waiting commitment delays its owner by the grace, and is bound."""
    chain, lock = fresh()
    first, second, third = (Work(number).receipt(chain, lock) for number in (65, 66, 67))
    assert chain.send(66, commit_of(lock, first)).code is Code.DONE
    assert chain.send(65, commit_of(lock, first)).code is Code.DONE
    assert chain.send(66, commit_of(lock, second)).code is Code.ALREADY_COMMITTED
    assert chain.send(67, commit_of(lock, third)).code is Code.DONE
    settle = settle_of(lock, 0, [first, third])
    assert chain.send(70, settle).code is Code.LEFT_OUT
    chain.add(step_ms=chain.genesis.parameters.settle_grace_ms)
    assert chain.send(70, settle).code is Code.DONE


def test_commit_is_replaced_only_while_nobody_else_is_bound() -> None:
    """Later its owner might have been shown what it copies."""
    chain, lock = fresh()
    early, late = Work(65, {0: "x"}).receipt(chain, lock), Work(65).receipt(chain, lock)
    assert chain.send(65, commit_of(lock, early)).code is Code.DONE
    assert chain.send(65, commit_of(lock, late)).code is Code.DONE
    assert chain.send(66, commit_of(lock, Work(66).receipt(chain, lock))).code is Code.DONE
    assert chain.send(65, commit_of(lock, early)).code is Code.ALREADY_COMMITTED
    receipts = [late, Work(66).receipt(chain, lock)]
    assert chain.send(70, settle_of(lock, 0, [early, receipts[1]])).code is Code.NOT_COMMITTED


def test_settle_by_anyone_even_after_the_deadline_until_refunded() -> None:
    chain, lock = fresh()
    chain.add(step_ms=700_000)
    receipts = [Work(number).receipt(chain, lock) for number in (65, 66)]
    for number, receipt in zip((65, 66), receipts, strict=True):
        chain.send(number, commit_of(lock, receipt))
    assert chain.send(71, settle_of(lock, 0, receipts)).code is Code.DONE
    assert chain.send(REQUESTER, Refund(job=lock.job)).code is Code.JOB_CLOSED


def test_refund_waits_for_who_was_bound_in_time_and_no_longer() -> None:
    """Nobody audits a unit of three opinions: it waits for the grace alone."""
    chain, lock = fresh(lock_of("soon", deadline_ms=START_MS + 2_000))
    for number in (65, 66):  # one at the deadline, one after it
        chain.add(chain.order(number, commit_of(lock, Work(number).receipt(chain, lock))))
    assert chain.ledger.tip.time_ms == lock.deadline_ms + 1_000
    end_ms = lock.deadline_ms + chain.genesis.parameters.settle_grace_ms
    left_ms = end_ms - 1 - chain.ledger.tip.time_ms
    assert chain.send(REQUESTER, Refund(lock.job), step_ms=left_ms).code is Code.TOO_EARLY
    assert chain.send(REQUESTER, Refund(lock.job), step_ms=1).code is Code.DONE


def test_largest_settlement_fits_one_transaction() -> None:
    """As many batches as a unit may have, receipts of the widest integers: the bound holds."""
    count = unit_batches_max(3)
    lock = lock_of("large", unit_of(price=1, span=(0, count)), rows=(70_000,) * count)
    chain, _ = fresh(lock)
    result = settle_by(chain, lock, Work(65), Work(66), Work(67))
    assert result.code is Code.DONE
    assert result.detail == count > 300


def test_tally_of_nothing_is_undecided() -> None:
    assert tally([], unit_of()) == {}
